"""`latentface train`: priors, their judges, encoders, exits and active subspaces, and the supervised baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from latentface.cli.console import Talk
from latentface.errors import InputError
from latentface.train.companions import (
    EncoderRun,
    EncoderSettings,
    ExitSettings,
    ExitsRun,
    JudgeRun,
    JudgeSettings,
    SubspaceRun,
)
from latentface.train.settings import (
    BaselineRun,
    EsrganRun,
    FsrnetRun,
    GanSettings,
    NamedGanSettings,
    Place,
    PmrfRun,
    PriorRun,
    SupervisedSettings,
)
from latentface.words import duration

if TYPE_CHECKING:
    from latentface.prior.architecture import Architecture
    from latentface.prior.prior import Prior
    from latentface.train.run import OnTick, Tick

app = App(name="train", help="Train priors and baselines on your own pictures.")
FLAT = Parameter(name="*")
Where = Annotated[Place, FLAT]
# What stands where nothing is named.
HERE, GAN, JUDGE = Place(), NamedGanSettings(), JudgeSettings()
FLOW: dict[str, Any] = {"validation_pictures": 16, "checks": 10}  # each look at them takes several passes
ENCODER, ENCODER_RUN, EXITS_RUN, SUBSPACE_RUN = EncoderSettings(), EncoderRun(), ExitsRun(), SubspaceRun()


@contextmanager
def watched(
    talk: Talk, words: Callable[[Tick], str], more: Callable[[Tick], str], when: str = "saved"
) -> Iterator[OnTick]:
    """Give what shows a training: a bar with `words`, and a line with `more` each time that it was checked or saved."""
    with talk.progress("training", 1.0, counted=False) as bar:

        def tick(t: Tick) -> None:
            bar.update(bar.task_ids[0], completed=t.done, description=words(t))
            if getattr(t, when):
                talk.say(f"{more(t)}, {duration(t.seconds_left)} left")

        yield tick


@app.command
def prior(*, run: Annotated[PriorRun, FLAT], gan: Annotated[NamedGanSettings, FLAT] = GAN, place: Where = HERE) -> int:
    """Train a face generator and its discriminator."""
    from latentface.devices import pick_device
    from latentface.prior.formats import ALIGNMENTS
    from latentface.train.session import saved_settings, train_prior

    if run.alignment is not None and run.alignment not in ALIGNMENTS:
        raise InputError(f"--alignment is {run.alignment!r}; expected one of {', '.join(ALIGNMENTS)}")
    talk, chosen = Talk(place.quiet), pick_device(place.device)
    named = dict(gan.named)
    if run.rate is not None:
        named |= {"g_rate": run.rate, "d_rate": run.rate}
    settings: GanSettings | None
    if run.resume:
        named.pop("seed", None)
        settings = replace(saved_settings(run.output), **named) if named else None
    else:
        settings = GanSettings(**{"precision": "bf16" if chosen.type == "cuda" else "fp32", **named})
    architecture = _architecture(run)
    talk.say(f"training on {chosen}; the prior goes to {run.output}, samples and curves to {run.output}.train")

    def words(t: Tick) -> str:
        return f"{t.figures['pictures']:,} pictures, {t.speed:.0f}/s"

    def more(t: Tick) -> str:
        shown = t.figures
        return (
            f"{shown['pictures']:,} pictures, {t.speed:.1f}/s, G {shown['g_loss']:.2f}, D {shown['d_loss']:.2f}, "
            f"augmentation {shown['augment_p']:.2f}"
        )

    with watched(talk, words, more) as tick:
        path = train_prior(
            run.data,
            run.output,
            arch=architecture,
            settings=settings,
            init=run.init,
            resume=run.resume,
            pictures=run.pictures,
            minutes=run.minutes,
            device=chosen,
            save_seconds=run.save_every * 60,
            vision_weights=run.vision_weights,
            card={k: v for k in ("alignment", "licence") if (v := getattr(run, k)) is not None},
            on_tick=tick,
            say=talk.say,
        )
    print(path)
    return 0


def _architecture(run: PriorRun) -> Architecture | None:
    """Return the networks that are asked for; None: those of the checkpoint, or of the file that --init names."""
    from latentface.prior.architecture import Architecture
    from latentface.prior.formats import architecture_of, read_card
    from latentface.train.grow import grown_architecture

    own = run.resolution is None and run.channels is None
    if run.resume and not own:
        raise InputError("the checkpoint names its own architecture; leave --resolution and --channels out")
    if own and (run.resume or run.init is not None):
        return None
    channels = table_of(run.channels) if run.channels else {}
    if run.init is not None:
        its = architecture_of(read_card(run.init), run.init)
        if not isinstance(its, Architecture):
            raise InputError(
                f"{run.init}: only a StyleGAN2 grows, and this is a {its.family}; start anew without --init"
            )
        return grown_architecture(its, run.resolution or max(channels, default=its.resolution), channels)
    try:
        return Architecture(
            resolution=run.resolution or 128,
            channels=channels,
            z_dim=run.latent,
            w_dim=run.latent,
            mapping_layers=run.mapping_layers,
        )
    except ValueError as error:
        raise InputError(f"the architecture cannot be built: {error}") from None


def table_of(text: str) -> dict[int, int]:
    try:
        return {int(k): int(v) for k, v in (pair.split(":") for pair in text.split(","))}
    except ValueError:
        raise InputError(f'--channels is {text!r}; expected a table such as "4:128,8:128,16:64"') from None


@app.command
def encoder(
    *,
    run: Annotated[EncoderRun, FLAT] = ENCODER_RUN,
    settings: Annotated[EncoderSettings, FLAT] = ENCODER,
    place: Where = HERE,
) -> int:
    """Train the encoder that `upscale --start encoder` begins from, on the prior's own faces: no pictures needed."""
    from latentface.devices import pick_device
    from latentface.explore.start.encoder import EncoderShape
    from latentface.prior.exits import beside
    from latentface.prior.registry import EMBEDDED, load_prior
    from latentface.train.encoder import painter_of, train_encoder

    talk = Talk(place.quiet)
    loaded = load_prior(run.prior or EMBEDDED, pick_device(place.device))
    shape = EncoderShape(
        rows=painter_of(loaded).num_ws,
        width=loaded.w_dim,
        parts=run.parts,
        hidden=run.hidden,
        blocks=run.blocks,
        rank=run.rank,
    )
    target = run.output or beside(_file_of(loaded), "encoder")
    talk.say(f"training on {loaded.device}; the encoder goes to {target}, samples and log to {target}.train")

    def words(t: Tick) -> str:
        return f"step {t.step:,}, {t.speed:.0f} faces/s"

    def more(t: Tick) -> str:
        psnr, consistency = (t.figures.get(name, float("nan")) for name in ("psnr", "consistency"))
        return f"{words(t)}, PSNR {psnr:.2f} dB, shrinks back to {consistency:.2f} dB"

    with watched(talk, words, more) as tick:
        path = train_encoder(
            loaded,
            target,
            steps=run.steps,
            minutes=run.minutes,
            settings=settings,
            shape=shape,
            resume=run.resume,
            save_seconds=run.save_every * 60,
            on_tick=tick,
            say=talk.say,
        )
    print(path)
    return 0


@app.command
def exits(*, run: Annotated[ExitsRun, FLAT] = EXITS_RUN, place: Where = HERE) -> int:
    """Train a MobileStyleGAN prior's exits, by default of 128, 256 and 512 px, on the prior's own faces: no pictures needed.

    With them most steps of a search are made at an exit, at a fraction of the time.
    """
    from latentface.devices import pick_device
    from latentface.prior.exits import beside
    from latentface.prior.registry import DEFAULT, load_prior
    from latentface.train.exits import train_exits

    talk = Talk(place.quiet)
    loaded = load_prior(run.prior or DEFAULT, pick_device(place.device), say=talk.say)
    target = run.output or beside(_file_of(loaded))
    talk.say(f"training on {loaded.device}; the exits go to {target}, the checkpoint to {target}.train")

    def words(t: Tick) -> str:
        return f"step {t.step:,}, loss {t.loss:.3f}"

    def more(t: Tick) -> str:
        psnr = (f"{r} px {fine:.1f} dB ({coarse:.1f} shrunk)" for r, (fine, coarse) in t.figures["psnr"].items())
        return f"{words(t)}, {', '.join(psnr) or 'not measured yet'}"

    with watched(talk, words, more) as tick:
        path = train_exits(
            loaded,
            target,
            steps=run.steps,
            minutes=run.minutes,
            settings=ExitSettings.for_prior(loaded, run.resolutions, seed=run.seed),
            resume=run.resume,
            on_tick=tick,
            say=talk.say,
        )
    print(path)
    return 0


@app.command
def judge(
    *, run: Annotated[JudgeRun, FLAT], settings: Annotated[JudgeSettings, FLAT] = JUDGE, place: Where = HERE
) -> int:
    """Train the judge that a search's semantic loss asks: it tells a prior's samples from photographs."""
    from latentface.devices import pick_device
    from latentface.prior.exits import beside
    from latentface.prior.judge import Judge
    from latentface.prior.registry import DEFAULT, EMBEDDED, find_prior, load_prior
    from latentface.train.judge import train_judge

    talk = Talk(place.quiet)
    loaded = load_prior(run.prior or DEFAULT, pick_device(place.device), "none", say=talk.say)
    name, file = find_prior(EMBEDDED if run.init in (None, "none") else run.init, talk.say)
    start = Judge.read(file, name=name)
    target = run.output or beside(_file_of(loaded), "judge")
    talk.say(f"training on {loaded.device}; the judge goes to {target}, samples and log to {target}.train")

    def words(t: Tick) -> str:
        return f"step {t.step:,}, loss {t.loss:.2f}"

    def more(t: Tick) -> str:
        sharp, soft = (t.figures.get(name, float("nan")) for name in ("auc", "auc_blurred"))
        return f"{words(t)}, area under the curve {sharp:.3f}, blurred {soft:.3f}"

    with watched(talk, words, more) as tick:
        path = train_judge(
            loaded,
            run.data,
            target,
            start=start.untrained() if run.init == "none" else start,
            steps=run.steps,
            minutes=run.minutes,
            settings=settings,
            licence=run.licence,
            resume=run.resume,
            save_seconds=run.save_every * 60,
            on_tick=tick,
            say=talk.say,
        )
    print(path)
    return 0


@app.command
def subspace(*, run: Annotated[SubspaceRun, FLAT] = SUBSPACE_RUN, place: Where = HERE) -> int:
    """Measure a prior's active subspace on its own faces: no pictures needed, minutes.

    It is the directions of w along which the loss of a search changes most. With it few steps come nearer to the input.
    """
    from latentface.devices import pick_device
    from latentface.prior.exits import beside
    from latentface.prior.registry import DEFAULT, load_prior
    from latentface.train.subspace import train_subspace

    talk = Talk(place.quiet)
    loaded = load_prior(run.prior or DEFAULT, pick_device(place.device), run.judge, say=talk.say)
    target = run.output or beside(_file_of(loaded), "subspace")
    talk.say(f"measuring on {loaded.device}; the subspace goes to {target}")
    with talk.progress("measuring", run.faces) as bar:
        path = train_subspace(
            loaded,
            target,
            faces=run.faces,
            directions=run.directions,
            seed=run.seed,
            on_face=lambda done: bar.update(bar.task_ids[0], completed=done),
        )
    print(path)
    return 0


def _file_of(prior: Prior) -> Path:
    assert prior.path is not None  # it was read from a file
    return prior.path


@app.command
def vdsr(*, run: Annotated[BaselineRun, FLAT], place: Where = HERE) -> int:
    """Train VDSR: a deep residual network on the enlarged luma."""
    return _baseline("vdsr", run, place)


@app.command
def fsrnet(*, run: Annotated[FsrnetRun, FLAT], place: Where = HERE) -> int:
    """Train FSRNet, with the heatmaps of landmarks as its facial prior."""
    return _baseline("fsrnet", run, place, landmarks=run.landmarks)


@app.command
def pmrf(*, run: Annotated[PmrfRun, FLAT], place: Where = HERE) -> int:
    """Train PMRF: a flow from a trained baseline's answers to faces."""
    return _baseline("pmrf", run, place, init=run.mean)


@app.command
def esrgan(*, run: Annotated[EsrganRun, FLAT], place: Where = HERE) -> int:
    """Train ESRGAN: the pixel stage (L1), then the GAN stage from its file."""
    from latentface.devices import pick_device
    from latentface.metrics.lpips import load_distance
    from latentface.prior.registry import load_prior

    trunk: dict[str, Any] = {}
    if run.features == "vgg16":
        distance = load_distance("lpips-vgg").to(pick_device(place.device))
        # The deep layers, as the paper; the first two cost a third of a step and say what the L1 says.
        deep = slice(2, None)
        trunk = {
            "features": lambda pictures: distance.features(pictures)[deep],
            "features_name": "VGG16 after relu3_3, relu4_3 and relu5_3",
        }
    elif run.features is not None:
        judge = load_prior(run.features, pick_device(place.device)).needed_judge()
        name = f"residual blocks of the discriminator of {judge.name}"
        trunk = {"features": judge.features, "features_name": name}
    return _baseline("esrgan", run, place, stage=run.stage, init=run.init, **trunk)


def _baseline(kind: str, run: BaselineRun, place: Place, **own: Any) -> int:
    from latentface.devices import pick_device
    from latentface.train.supervised import train_supervised

    talk, chosen = Talk(place.quiet), pick_device(place.device)
    talk.say(f"training {kind} on {chosen}; the weights go to {run.output}, curves to {run.output}.train")

    def words(t: Tick) -> str:
        return f"step {t.step:,}, {t.speed:.0f} pictures/s"

    def more(t: Tick) -> str:
        return f"step {t.step:,}: PSNR {t.figures['psnr']:.2f} dB, {t.figures['gain_db']:+.2f} over bicubic"

    with watched(talk, words, more, when="checked") as tick:
        path = train_supervised(
            kind,
            run.data,
            run.output,
            factor=run.factor,
            resolution=run.resolution,
            size=run.size,
            steps=run.steps,
            minutes=run.minutes,
            pairs=run.pairs,
            validation=[run.validation] if run.validation else None,
            settings=SupervisedSettings(precision=run.precision, **(FLOW if kind == "pmrf" else {})),
            resume=run.resume,
            device=chosen,
            card={"licence": run.licence} if run.licence else None,
            on_tick=tick,
            say=talk.say,
            **own,
        )
    print(path)
    return 0
