"""Invertibility of a prior: how well its latent spaces hold faces that it never saw, at full resolution.

A search of the package's own engine with a degradation that changes nothing, Downscale(R, R), for the mean square and
without any constraint: Adam from the mean w (or, in z, from the best of several draws) finds the face's neighbourhood,
L-BFGS the nearest face in it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentface.bench.core.variants import Variant
from latentface.bench.prior.lbfgs import descend
from latentface.bench.tables.ablated import ABLATED, AblatedSettings, objective
from latentface.degradation import Downscale
from latentface.errors import InputError
from latentface.explore.engine import explore
from latentface.explore.registry import Method
from latentface.explore.result import Exploration, MethodSettings, OnStep, Step, finish
from latentface.explore.space import Space
from latentface.prior.prior import Prior

SPACES = ("z", "w", "w_plus")
RATES = {"z": 0.2, "w": 0.4, "w_plus": 0.4}  # of Adam; measured (docs/decisions.md, "From the code")


@dataclass(frozen=True, kw_only=True, slots=True)
class InversionSettings(MethodSettings):
    """Settings of an inversion.

    Attributes:
        space: "z", "w" or "w_plus"; steps: evaluations in all, of both optimisers.
        first: share of the steps that Adam makes; 1 for Adam alone.
        rate: Adam's, on half a cosine; together: share of Adam's steps in which w_plus moves as one w.
        memory: pairs of steps from which L-BFGS knows the curvature.
        perceptual: weight of D's features beside the mean square in [0, 1] units times 100; 0: the mean square alone.
        candidates: draws in z, of which the best is the start; w and w_plus start from the mean w.
    """

    space: str = "w_plus"
    steps: int = 500
    first: float = 0.1
    rate: float = 0.4
    together: float = 0.2
    memory: int = 100
    perceptual: float = 0.0
    candidates: int = 32

    def __post_init__(self) -> None:
        MethodSettings.__post_init__(self)
        if not 0 < self.first <= 1:
            raise InputError(f"first is {self.first}; expected a share of the steps above 0, up to 1")


METHOD = Method(
    name="invert",
    summary="the nearest face that a prior can make",
    source="Abdal, Qin, Wonka; ICCV 2019, with the mean square",
    module=__name__,
    settings_class="InversionSettings",
)


def inversions(steps: int, perceptual: float = 0.0, spaces: Sequence[str] = SPACES) -> list[Variant]:
    """Return the inversions in some of `SPACES`, named `invert-SPACE`. Raises InputError: another space, or none."""
    if not spaces or not set(spaces) <= set(SPACES):
        raise InputError(f"the spaces are {', '.join(spaces) or 'none'}; expected some of {', '.join(SPACES)}")
    return [
        Inversion(
            name=f"invert-{space}",
            method=METHOD,
            settings=METHOD.settings(space=space, steps=steps, rate=RATES[space], perceptual=perceptual),
            preset="equal",
        )
        for space in SPACES
        if space in spaces
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inversion(Variant):
    """A column of the invertibility table."""

    def explore(
        self, prior: Prior, low: Tensor, degradation: Downscale, seeds: Sequence[int], on_step: OnStep | None
    ) -> Exploration:
        """Search the prior for the faces nearest to `low`, (B, 3, R, R) in [0, 1]. Raises InputError: as `explore`."""
        settings: InversionSettings = self.settings
        in_z = settings.space == "z"
        by_adam = max(1, round(settings.steps * settings.first))
        searching = AblatedSettings(
            steps=by_adam,
            rate=settings.rate,
            schedule="cosine",
            together=settings.together,
            space=settings.space,
            constraint="none",
            pixel_weight=100.0,
            semantic_weight=settings.perceptual,
            candidates=settings.candidates if in_z else 1,
        )
        began = time.perf_counter()
        stopped = False

        def told(step: Step) -> bool:
            nonlocal stopped
            stopped = on_step is not None and bool(on_step(replace(step, total=settings.steps)))
            return stopped

        found = explore(
            ABLATED,
            prior,
            low,
            degradation=degradation,
            settings=searching,
            seeds=seeds,
            on_step=told,
            start=None if in_z else prior.w_mean.expand(len(low), -1),
        )
        if stopped or by_adam == settings.steps:
            return replace(found, method=METHOD.name, settings=settings)
        low = low.to(prior.device, prior.dtype)
        space = Space(prior, settings.space, constraint="none")
        evaluate = objective(space, low, degradation, replace(searching, together=0.0), {})

        def losses(latent: Tensor) -> tuple[Tensor, Tensor]:
            iterate = evaluate({"latent": latent}, 1.0)
            return torch.stack(list(iterate.losses.values())).sum(0), iterate.high

        left = settings.steps - by_adam
        latent, high, step = descend(found.latent["latent"], losses, steps=left, memory=settings.memory)
        return finish(
            high,
            low,
            degradation,
            METHOD.name,
            settings,
            found.seeds,
            time.perf_counter() - began,
            latent=space.with_w_plus({"latent": latent}),
            history=found.history,
            best_step=by_adam + step,
            passes=found.passes + left,
        )
