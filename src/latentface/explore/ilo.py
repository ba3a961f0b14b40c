"""ILO: intermediate layer optimization (Daras, Dean, Jalal, Dimakis; ICML 2021).

First style rows and noise maps are searched as in PULSE; then the generator is cut after 4 px and the features there
become a variable beside them, then after 8 px, and so on: each stage leaves the range of the generator a little further.

Shape legend: B faces, L style rows, D width of w, k stage (0 the first).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentface.degradation import Degradation
from latentface.errors import InputError
from latentface.explore import losses
from latentface.explore.engine import Adam, Found, Iterate, Variables, follow, later, search
from latentface.explore.result import Exploration, MethodSettings, OnStep, check_faces, finish
from latentface.explore.space import Space, style_rows
from latentface.prior.family import Entry
from latentface.prior.prior import Prior


@dataclass(frozen=True, kw_only=True, slots=True)
class IloSettings(MethodSettings):
    """Settings of ILO; the defaults are the published ones, in [0, 1] units.

    Attributes:
        steps: of each stage; stage k > 0 searches the features after the k-th block. A prior has one stage a block at
            most; further ones are left out.
        rate: of Adam in every stage, times a cosine ramp; feature_rate: of the features, None for the same.
        tied: start with all style rows alike.
        noise: "searched" (the first 5 + 2k maps, the others drawn) or "constant".
        pixel_weight: of the mean square: 4 in [0, 1] is the published 1 in [-1, 1].
        geocross: of the geodesic distance between the rows, gaussianised, that the stage still uses.
    """

    steps: tuple[int, ...] = (50, 50, 25, 25)
    rate: float = 0.1
    feature_rate: float | None = None
    tied: bool = False
    noise: str = "searched"
    pixel_weight: float = 4.0
    geocross: float = 0.01

    def __post_init__(self) -> None:
        if not self.steps or min(self.steps) < 1:
            raise InputError(f"steps are {self.steps}; expected at least 1 for each stage")
        if self.noise not in ("searched", "constant"):
            raise InputError(f"noise is {self.noise!r}; expected 'searched' or 'constant'")
        if min(self.rate, self.pixel_weight) <= 0 or self.geocross < 0 or (self.feature_rate or 0) < 0:
            raise InputError("rate and pixel_weight must be positive, geocross and feature_rate not negative")


def ilo(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: IloSettings = IloSettings(),
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    start: Tensor | None = None,
) -> Exploration:
    """Search w_plus, then features deeper and deeper in the generator, for faces that shrink to `low`.

    Args:
        low: (B, 3, h, w) in [0, 1]; seeds: one number a face.
        start: w (B, D) or w_plus (B, L, D) to start from instead of random rows.

    Returns:
        The last stage's best. `latent` has the last `features` and `rgb` after the block of `entered` px (B,), 0 where
        the search ended in the first stage.

    Raises:
        InputError: shapes, values or seeds that cannot be used.
    """
    began = time.perf_counter()
    seeds = tuple(seeds)
    check_faces(low, degradation, seeds, prior.resolution)
    low = low.to(prior.device, prior.dtype)
    noise = "drawn" if settings.noise == "searched" else "constant"
    space = Space(prior, "w_plus", tied=settings.tied, constraint="sphere", noise=noise)
    variables = space.draw(seeds)
    if start is not None:
        variables["latent"] = space.latent_of(style_rows(prior, start, len(low)))
    entry: Entry | None = None
    plan = settings.steps[: len(prior.layers)]
    found: Found | None = None
    for k, steps in enumerate(plan):
        if k:
            entry = _cut(space, variables, entry, prior.layers[k - 1])
        told = later(on_step, sum(plan[:k]), sum(plan))
        stage = _stage(space, low, degradation, settings, k, steps, variables, entry, told)
        variables = {**variables, **{n: v for n, v in stage.variables.items() if n != "features"}}
        if entry is not None:
            entry = (entry[0], stage.variables["features"], entry[2])
        found = stage if found is None else follow(found, stage)
        if stage.stopped:
            break
    assert found is not None
    latent = {**variables, "w_plus": space.w_plus(variables["latent"])}
    latent["entered"] = torch.full((len(low),), 0 if entry is None else entry[0])
    if entry is not None:
        latent |= {"features": entry[1]} | ({} if entry[2] is None else {"rgb": entry[2]})
    return finish(
        found.high,
        low,
        degradation,
        method="ilo",
        settings=settings,
        seeds=seeds,
        seconds=time.perf_counter() - began,
        latent=latent,
        history=found.history,
        best_step=found.best_step,
        passes=found.steps,
    )


def ramp(t: float) -> float:
    """The rate's factor at t in [0, 1) of a stage: up over the first 5 %, down by half a cosine over the last 75 %."""
    return (0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / 0.75))) * min(1.0, t / 0.05)


def _stage(
    space: Space,
    low: Tensor,
    degradation: Degradation,
    settings: IloSettings,
    k: int,
    steps: int,
    variables: Variables,
    entry: Entry | None,
    on_step: OnStep | None,
) -> Found:
    """Search stage k from where the last one ended."""
    prior = space.prior
    used = 0 if entry is None else 2 * k - 1  # the first style row, and the first noise map, behind the cut
    maps = [f"noise{i}" for i in range(used, min(5 + 2 * k, prior.num_ws - 1)) if f"noise{i}" in variables]
    moved = {n: variables[n] for n in ("latent", *maps)}
    fixed = {n: v for n, v in variables.items() if n not in moved}
    on_sphere = space.constraint_on(moved)
    rates = dict.fromkeys(moved, settings.rate)
    if entry is not None:
        moved["features"] = entry[1]
        rates["features"] = settings.rate if settings.feature_rate is None else settings.feature_rate

    def evaluate(now: Variables, t: float) -> Iterate:
        w_plus, noise = space.w_plus(now["latent"]), space.noise_maps_of({**now, **fixed})
        if entry is None:
            high = prior.synthesis(w_plus, noise)
        else:
            high = prior.enter(w_plus, (entry[0], now["features"], entry[2]), noise)
        low_again = degradation.forward(high)
        terms = {"pixel": settings.pixel_weight * losses.pixel(low_again, low, "l2", degradation)}
        if settings.geocross:
            terms["geocross"] = settings.geocross * losses.geocross(now["latent"][:, used:])
        return Iterate(high, low_again, terms)

    def constrain(now: Variables) -> None:
        if on_sphere is not None:
            on_sphere({n: v for n, v in now.items() if n != "features"})

    return search(
        low,
        moved,
        evaluate,
        steps=steps,
        rates=rates,
        schedule=ramp,
        optimiser=Adam(moved),  # afresh in each stage, as in the authors' code
        constrain=constrain,
        on_step=on_step,
    )


@torch.no_grad()
def _cut(space: Space, variables: Variables, entry: Entry | None, side: int) -> Entry:
    """Return side, features and RGB skip after the block of `side` px, given where the last stage entered."""
    w_plus, noise = space.w_plus(variables["latent"]), space.noise_maps_of(variables)
    return space.prior.leave(w_plus, side, noise, enter=entry)
