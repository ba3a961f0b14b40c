"""What a method returns, what it tells while it runs, and what every method's settings share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from latentface.degradation import Degradation, counted_share, project
from latentface.errors import InputError, UnknownNameError
from latentface.explore.optim import SCHEDULES

if TYPE_CHECKING:
    from latentface.prior.prior import Prior


COUNTS = ("steps", "candidates", "candidate_blocks", "codes", "micro_batch", "memory")
POSITIVE = ("rate", "pixel_weight")
NOT_NEGATIVE = ("geocross", "eps", "betas")


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodSettings:
    """What every method's settings have.

    Attributes:
        project: end in the pictures that shrink exactly to the input: Y + A+ (x - A Y), clamped and repeated.
    """

    project: bool = False
    choices: ClassVar[Mapping[str, Collection[str]]] = {}  # a setting's name -> what it may be

    def __post_init__(self) -> None:
        known = {"schedule": SCHEDULES, **self.choices}
        for one in fields(self):
            name, value = one.name, getattr(self, one.name)
            if name in known and value not in known[name]:
                raise UnknownNameError(name.replace("_", " "), value, known[name])
            if name == "betas" and not (len(value) == 2 and max(value) < 1):
                raise InputError(f"betas is {value}; expected two numbers from 0 up and below 1")
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and not isinstance(number, bool):
                    _check_number(name, number)

    @property
    def in_w(self) -> bool:
        """Whether the search moves w or w_plus, so that it can begin at one that is given."""
        return True

    @property
    def aligned_only(self) -> bool:
        """Whether it takes aligned faces alone, as a loss that is measured for squares does."""
        return False

    def from_start(self) -> Self:
        """Return the settings that a search from a given w_plus uses."""
        return self

    def of_few_steps(self) -> Self:
        """Return the settings that a search of few steps, most of them at exits, uses."""
        return self

    def at_once(self, prior: Prior) -> int | None:
        """Return how many faces fit in one search, None where memory asks for no limit of the method's own."""
        return None

    def made_first(self, prior: Prior, degradation: Degradation) -> str:
        """Return in words what will be made of the prior before the first step, once; empty where nothing will."""
        return ""


def _check_number(name: str, value: float) -> None:
    """Check a setting by what its name says that it is. Raises InputError."""
    if name in COUNTS and not value >= 1:
        raise InputError(f"{name} is {value}; expected at least 1")
    if name in POSITIVE and not value > 0:
        raise InputError(f"{name} is {value}; expected more than 0")
    if name == "together" and not 0 <= value <= 1:
        raise InputError(f"together is {value}; expected a share from 0 to 1")
    if name == "stop" and not 0 < value < 1:
        raise InputError(f"stop is {value}; expected a share between 0 and 1, such as 0.02, or None for never")
    if (name.endswith(("_weight", "_rate", "_rates")) or name in NOT_NEGATIVE) and not value >= 0:
        raise InputError(f"{name} is {value}; expected 0 or more")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a search, for `on_step`; return True from there to stop.

    Attributes:
        number: from 1 to `total`; losses: each (B,), weighted as they are summed; consistency_db: (B,) of this iterate.
        preview: call it for the best pictures so far, (B, 3, H, W) in [0, 1].
        share: of the whole search's time that this step takes, about; None: 1 / total.
        faces: the rows of the batch that the tensors are of, where a batch is searched in parts.
    """

    number: int
    total: int
    losses: Mapping[str, Tensor]
    consistency_db: Tensor
    preview: Callable[[], Tensor]
    share: float | None = None
    faces: slice = field(default_factory=partial(slice, None))

    @property
    def part(self) -> float:
        """Share of the whole search's time that this step takes, about."""
        return 1 / self.total if self.share is None else self.share


OnStep = Callable[[Step], bool | None]


@dataclass(frozen=True, slots=True)
class Exploration:
    """What a method found, a face a row.

    Attributes:
        high: (B, 3, H, W), float32; in [0, 1] after a projection, else as the generator gave it, clamped.
        latent: codes, noise maps, features or weights by name, as the method has them; each (B, ...).
        low_again: (B, 3, h, w), `high` shrunk again; consistency_db: (B,), its PSNR against the input.
        history: each loss by step, (S, B), with "consistency_db"; best_step: (B,), counted from 1 (0: no search).
        seeds: one a face; seconds: wall-clock time of the call; passes: of the generator, a face.
    """

    high: Tensor
    latent: Mapping[str, Tensor]
    low_again: Tensor
    consistency_db: Tensor
    history: Mapping[str, Tensor]
    best_step: Tensor
    seeds: tuple[int, ...]
    seconds: float
    method: str
    settings: Any
    passes: float = 0.0


def psnr_each(a: Tensor, b: Tensor, degradation: Degradation | None = None) -> Tensor:
    """PSNR in dB of each pair of pictures in [0, 1], (B,); 150 dB at most, so that equal pictures have a number.

    With the degradation, over the low pixels that count.
    """
    error = (a - b.to(a)).square().mean((1, 2, 3))
    if degradation is not None and degradation.mask is not None:
        error = error / torch.as_tensor(counted_share(degradation)).to(error)
    return -10 * torch.log10(error.clamp_min(1e-15))


def finish(
    high: Tensor,
    low: Tensor,
    degradation: Degradation,
    method: str,
    settings: Any,
    seeds: tuple[int, ...],
    seconds: float,
    *,
    latent: Mapping[str, Tensor] | None = None,
    history: Mapping[str, Tensor] | None = None,
    best_step: Tensor | None = None,
    passes: float = 0.0,
) -> Exploration:
    """Clamp, project where the settings say so, measure, and return the exploration."""
    high = high.detach().clamp(0, 1)
    if settings.project:
        high = project(degradation, high, low)
    again = degradation.forward(high)
    return Exploration(
        high=high,
        latent=latent or {},
        low_again=again,
        consistency_db=psnr_each(again, low, degradation),
        history=history or {},
        best_step=best_step if best_step is not None else torch.zeros(len(high), dtype=torch.long),
        seeds=seeds,
        seconds=seconds,
        method=method,
        settings=settings,
        passes=passes,
    )


def check_faces(low: Tensor, degradation: Degradation, seeds: tuple[int, ...], high_side: int | None = None) -> None:
    """Check that what every method is given belongs together.

    Raises:
        InputError: another size than the degradation makes, a seed missing, or a degradation of another size than the prior.
    """
    if tuple(low.shape[-2:]) != tuple(degradation.low_size):
        raise InputError(f"low is {tuple(low.shape[-2:])}, but the degradation makes {tuple(degradation.low_size)}")
    if len(seeds) != len(low):
        raise InputError(f"got {len(seeds)} seeds for {len(low)} faces; give one a face")
    if any(not -(2**63) <= s < 2**63 for s in seeds):
        raise InputError(f"seeds are {seeds}; expected whole numbers that fit 64 bits")
    if high_side is not None and tuple(degradation.high_size) != (high_side, high_side):
        raise InputError(
            f"the degradation starts from {tuple(degradation.high_size)}, but the prior makes {high_side} px"
        )
