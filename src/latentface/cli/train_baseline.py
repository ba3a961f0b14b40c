"""`latentface train vdsr|esrgan|fsrnet`: the supervised baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from latentface.bench.core.progress import duration
from latentface.cli.console import Talk

Data = Annotated[list[str], Parameter(consume_multiple=True)]
Output = Annotated[Path, Parameter(name=["--output", "-o"])]
Flag = Annotated[bool, Parameter(negative="")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")]
Size = Literal["small", "published"]
Precision = Literal["fp32", "bf16"]


def vdsr(
    *,
    data: Data,
    output: Output,
    factor: int,
    resolution: int = 128,
    size: Size = "small",
    steps: int | None = None,
    minutes: float | None = None,
    pairs: int | None = None,
    validation: str | None = None,
    resume: Flag = False,
    device: str = "auto",
    precision: Precision = "fp32",
    licence: str | None = None,
    quiet: Quiet = False,
) -> int:
    """Train VDSR: a deep residual network on the enlarged luma.

    Parameters
    ----------
    data
        Folders or zips of aligned faces; the small ones are made from them.
    output
        The weights' file (.safetensors); beside it a folder with checkpoint and curves.
    factor
        Enlargement of the side, a power of two.
    resolution
        Of the large faces; by default the embedded prior's.
    size
        "small", for minutes on a CPU, or "published".
    steps
        Budget in steps, from the run's first beginning.
    minutes
        Budget in minutes of training.
    pairs
        Use the first so many pictures only.
    validation
        Held-out pictures; by default some of the data.
    resume
        Go on exactly where the run with the same output stopped.
    device
        auto, cpu, cuda.
    precision
        fp32, or bf16: several times as fast where the processor has it in silicon.
    licence
        What the card says of the weights' use.
    quiet
        Say nothing but errors.
    """
    return _train(
        "vdsr",
        data,
        output,
        factor,
        resolution,
        size,
        steps,
        minutes,
        pairs,
        validation,
        resume,
        device,
        precision,
        licence,
        quiet,
    )


def fsrnet(
    *,
    data: Data,
    output: Output,
    factor: int,
    resolution: int = 128,
    size: Size = "small",
    steps: int | None = None,
    minutes: float | None = None,
    pairs: int | None = None,
    validation: str | None = None,
    landmarks: Path | None = None,
    resume: Flag = False,
    device: str = "auto",
    precision: Precision = "fp32",
    licence: str | None = None,
    quiet: Quiet = False,
) -> int:
    """Train FSRNet, with the heatmaps of five landmarks as its facial prior.

    Parameters
    ----------
    data
        Folders or zips of aligned faces; the small ones are made from them.
    output
        The weights' file (.safetensors); beside it a folder with checkpoint and curves.
    factor
        Enlargement of the side, a power of two.
    resolution
        Of the large faces; by default the embedded prior's.
    size
        "small", for minutes on a CPU, or "published".
    steps
        Budget in steps, from the run's first beginning.
    minutes
        Budget in minutes of training.
    pairs
        Use the first so many pictures only.
    validation
        Held-out pictures; by default some of the data.
    landmarks
        A table of landmarks; by default landmarks.csv beside the data.
    resume
        Go on exactly where the run with the same output stopped.
    device
        auto, cpu, cuda.
    precision
        fp32, or bf16: several times as fast where the processor has it in silicon.
    licence
        What the card says of the weights' use.
    quiet
        Say nothing but errors.
    """
    return _train(
        "fsrnet", data, output, factor, resolution, size, steps, minutes, pairs, validation, resume, device, precision, licence, quiet, landmarks=landmarks
    )  # fmt: skip


def esrgan(
    *,
    data: Data,
    output: Output,
    factor: int,
    resolution: int = 128,
    size: Size = "small",
    stage: Literal["pixel", "gan"] = "pixel",
    init: Path | None = None,
    features: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    pairs: int | None = None,
    validation: str | None = None,
    resume: Flag = False,
    device: str = "auto",
    precision: Precision = "fp32",
    licence: str | None = None,
    quiet: Quiet = False,
) -> int:
    """Train ESRGAN: the pixel stage (L1), then the GAN stage from its file.

    Parameters
    ----------
    data
        Folders or zips of aligned faces; the small ones are made from them.
    output
        The weights' file (.safetensors); beside it a folder with checkpoint and curves.
    factor
        Enlargement of the side, a power of two.
    resolution
        Of the large faces; by default the embedded prior's.
    size
        "small", for minutes on a CPU, or "published".
    stage
        "pixel" or "gan".
    init
        The pixel stage's file, for the GAN stage.
    features
        A prior (name or file) whose discriminator's features are the GAN stage's perceptual loss.
    steps
        Budget in steps, from the run's first beginning.
    minutes
        Budget in minutes of training.
    pairs
        Use the first so many pictures only.
    validation
        Held-out pictures; by default some of the data.
    resume
        Go on exactly where the run with the same output stopped.
    device
        auto, cpu, cuda.
    precision
        fp32, or bf16: several times as fast where the processor has it in silicon.
    licence
        What the card says of the weights' use.
    quiet
        Say nothing but errors.
    """
    return _train(
        "esrgan", data, output, factor, resolution, size, steps, minutes, pairs, validation, resume, device, precision, licence, quiet,
        stage=stage, init=init, prior=features,
    )  # fmt: skip


def _train(
    kind: str,
    data: list[str],
    output: Path,
    factor: int,
    resolution: int,
    size: Size,
    steps: int | None,
    minutes: float | None,
    pairs: int | None,
    validation: str | None,
    resume: bool,
    device: str,
    precision: Precision,
    licence: str | None,
    quiet: bool,
    *,
    stage: str = "pixel",
    init: Path | None = None,
    landmarks: Path | None = None,
    prior: str | None = None,
) -> int:
    from latentface.devices import pick_device
    from latentface.prior.registry import load_prior
    from latentface.train.supervised import SupervisedSettings, SupervisedTick, train_supervised

    talk = Talk(quiet)
    chosen = pick_device(device)
    judge = load_prior(prior, chosen).needed_judge() if prior is not None else None
    talk.say(f"training {kind} on {chosen}; the weights go to {output}, curves to {output}.train")
    with talk.progress("training", 1.0, counted=False) as bar:

        def tick(t: SupervisedTick) -> None:
            bar.update(
                bar.task_ids[0],
                completed=t.done,
                description=f"step {t.step:,}, {t.pictures_per_second:.0f} pictures/s",
            )
            if t.checked:
                talk.say(
                    f"step {t.step:,}: PSNR {t.psnr:.2f} dB, {t.gain:+.2f} over bicubic, {duration(t.seconds_left)} left"
                )

        path = train_supervised(
            kind,
            data,
            output,
            factor=factor,
            resolution=resolution,
            size=size,
            stage=stage,
            steps=steps,
            minutes=minutes,
            pairs=pairs,
            validation=[validation] if validation else None,
            landmarks=landmarks,
            init=init,
            features=judge.features if judge is not None else None,
            features_name=f"residual blocks of the discriminator of {judge.name}" if judge is not None else "",
            settings=SupervisedSettings(precision=precision),
            resume=resume,
            device=chosen,
            card={"licence": licence} if licence else None,
            on_tick=tick,
            say=talk.say,
        )
    print(path)
    return 0
