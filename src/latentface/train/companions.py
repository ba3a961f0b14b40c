"""What trainings of a prior's companions are asked: its exits, its judge, its encoder and its active subspace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from cyclopts import Parameter

from latentface.errors import InputError
from latentface.train.settings import FLAG, HIDDEN, PRECISIONS, QUIETLY, Precision, PriorName, check_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latentface.prior.prior import Prior

FACES, DIRECTIONS = 64, 16  # of an active subspace
COARSE = 8  # px of the second comparison of exits, times 2: what a search of a tiny face sees


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
    parts: int = 256
    """Numbers that the input is first made."""
    hidden: int = 384
    """Width of the network."""
    blocks: int = 4
    """Residual blocks of it."""
    rank: int = 64
    """Directions in which the style rows may differ."""


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
        wander: share of faces whose style rows wander from one code, as searches find them; the others' are one w.
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
    kept: Annotated[int, QUIETLY] = 4096
    """Faces that are painted first, fit the first layers, and are three quarters of each batch."""
    wander: Annotated[float, HIDDEN] = 0.5
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
        check_precision(self.precision, PRECISIONS)
        if not 0 <= self.wander <= 1:
            raise InputError(f"wander is {self.wander}; expected a share from 0 to 1")
        if self.kept < 64:
            raise InputError(f"kept is {self.kept}; expected at least 64 faces")
        if self.largest_factor < 2 or min(self.noise, self.low_weight, self.latent_weight) < 0:
            raise InputError(
                f"largest_factor {self.largest_factor}, noise {self.noise}, low_weight {self.low_weight}, latent_weight {self.latent_weight}; expected >= 2 and >= 0"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SubspaceRun:
    """What is asked of the measuring of an active subspace: of which prior, on how much, and where it goes."""

    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None
    """The subspace's file; by default NAME.subspace.safetensors beside the prior, where `upscale` looks for it."""
    prior: PriorName = None
    """A name (see `latentface models list`) or a file; by default ffhq1024."""
    judge: str | None = None
    """The judge that the searches ask: a prior's or a judge's file; by default the prior's own."""
    faces: int = FACES
    """Samples of the prior, a search of 13 steps each: some two seconds a face at an exit of 128 px."""
    directions: int = DIRECTIONS
    """Directions that are kept for each style row."""
    seed: int = 0
    """Of everything random."""


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
    resolutions: Annotated[tuple[int, ...] | None, Parameter(consume_multiple=True, negative="")] = None
    """Train exits of so many px alone, such as 32, and keep the prior's others."""
    seed: int = 0
    """Of everything random."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExitSettings:
    """How exits are trained; `for_prior` leaves out those that a small prior cannot have.

    Attributes:
        resolutions: of the exits; widths: channels of their heads.
        looks: at kept samples a step, batches of `batch` of them, below 128 px of more; kept: bytes of pictures that are kept for each exit.
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
    def for_prior(cls, prior: Prior, resolutions: Sequence[int] | None = None, **changes: Any) -> Self:
        """Return the usual settings with these exits, or those below the prior's resolution; the first, where there is none."""
        usual = dict(zip(cls().resolutions, cls().widths, strict=True))
        chosen = resolutions or [r for r in usual if r < prior.resolution] or [min(usual)]
        widths = tuple(usual.get(r, max(usual.values())) for r in chosen)
        return cls(resolutions=tuple(chosen), widths=widths, **changes)


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
        check_precision(self.precision, PRECISIONS)
