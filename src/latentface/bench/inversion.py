"""Invertibility of a prior: how well its latent spaces hold faces that it never saw, at full resolution.

A search of the package's own engine with a degradation that changes nothing, Downscale(R, R): Adam on the mean square,
from the mean w (or, in z, from the best of several draws), without any constraint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from latentface.bench.variants import Variant
from latentface.degradation import Degradation
from latentface.errors import InputError
from latentface.explore.registry import Method
from latentface.explore.result import Exploration, MethodSettings, OnStep
from latentface.explore.rlse import RlseSettings, rlse
from latentface.prior.prior import Prior

SPACES = ("z", "w", "w_plus")
# The best of .1, .2, .4, .6 and .9 for w_plus (.2 and .4 for w) on 6 training faces of a prior of 128 px, 500 steps.
RATES = {"z": 0.2, "w": 0.4, "w_plus": 0.4}


@dataclass(frozen=True, kw_only=True, slots=True)
class InversionSettings(MethodSettings):
    """Settings of an inversion.

    Attributes:
        space: "z", "w" or "w_plus"; steps: iterations; rate: Adam's, on half a cosine.
        together: share of the steps in which w_plus moves as one w, before each row is free.
        perceptual: weight of D's features beside the mean square in [0, 1] units times 100; 0: the mean square alone.
        candidates: draws in z, of which the best is the start; w and w_plus start from the mean w.
    """

    space: str = "w_plus"
    steps: int = 500
    rate: float = 0.4
    together: float = 0.1
    perceptual: float = 0.0
    candidates: int = 32

    def __post_init__(self) -> None:
        if self.steps < 1 or self.candidates < 1:
            raise InputError(f"steps is {self.steps} and candidates {self.candidates}; both must be at least 1")


METHOD = Method(
    name="invert",
    summary="the nearest face that a prior can make",
    source="Abdal, Qin, Wonka; ICCV 2019, with the mean square",
    module=__name__,
    settings_class="InversionSettings",
)


def inversions(steps: int, perceptual: float = 0.0) -> list[Variant]:
    """Return the inversions in z, w and w_plus, named `invert-SPACE`."""
    return [
        Variant(
            name=f"invert-{space}",
            method=METHOD,
            settings=METHOD.settings(space=space, steps=steps, rate=RATES[space], perceptual=perceptual),
            preset="equal",
        )
        for space in SPACES
    ]


def invert(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: InversionSettings = InversionSettings(),
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Exploration:
    """Search the prior for the faces nearest to `low`, (B, 3, R, R) in [0, 1].

    Raises:
        InputError: as `rlse`.
    """
    in_z = settings.space == "z"
    found = rlse(
        prior,
        low,
        degradation=degradation,
        settings=RlseSettings(
            steps=settings.steps,
            rate=settings.rate,
            schedule="cosine",
            together=settings.together,
            space=settings.space,
            constraint="none",
            noise="constant",
            pixel_weight=100.0,
            pixel_norm="l2",
            semantic_weight=settings.perceptual,
            geocross=0.0,
            candidates=settings.candidates if in_z else 1,
        ),
        seeds=seeds,
        on_step=on_step,
        start=None if in_z else prior.w_mean.expand(len(low), -1),
    )
    return replace(found, method=METHOD.name, settings=settings)
