"""ILO: intermediate layer optimization (Daras, Dean, Jalal, Dimakis; ICML 2021).

First style rows and noise maps are searched as in PULSE; then the generator is cut after 4 px and the features there
become a variable beside them, then after 8 px, and so on: each stage leaves the range of the generator a little further.

Shape legend: B faces, L style rows, D width of w, k stage (0 the first).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from latentface.degradation import Degradation
from latentface.errors import InputError
from latentface.explore import losses
from latentface.explore.engine import Iterate, Problem
from latentface.explore.result import MethodSettings
from latentface.explore.space import Space, Variables
from latentface.prior.blocks import Entry
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

    choices: ClassVar = {"noise": ("searched", "constant")}

    def __post_init__(self) -> None:
        MethodSettings.__post_init__(self)
        if not self.steps:
            raise InputError("steps is empty; expected a number for each stage")


def ilo(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: IloSettings,
    seeds: Sequence[int],
    start: Tensor | None,
) -> Problem:
    """State the first stage for inputs low (B, 3, h, w), from `start`, w (B, D) or w_plus (B, L, D), or random rows.

    Each stage begins at the last one's best. The exploration's `latent` has the last `features` and `rgb` after the block
    of `entered` px (B,), 0 where the search ended in the first stage.
    """
    noise = "drawn" if settings.noise == "searched" else "constant"
    space = Space(prior, tied=settings.tied, constraint="sphere", noise=noise)
    variables = space.draw(seeds)
    if start is not None:
        variables["latent"] = space.latent_of(start)
    return _stage(space, low, degradation, settings, 0, variables, None)


def ramp(t: float) -> float:
    """Return the rate's factor at t in [0, 1) of a stage: up over the first 5 %, down by half a cosine over the last 75 %."""
    return (0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / 0.75))) * min(1.0, t / 0.05)


def _stage(
    space: Space,
    low: Tensor,
    degradation: Degradation,
    settings: IloSettings,
    k: int,
    variables: Variables,
    entry: Entry | None,
) -> Problem:
    """State stage k, from where the last one ended: its variables, and for k > 0 where the generator is entered."""
    prior = space.prior
    plan = settings.steps[: len(prior.layers)]
    # The first style row, and the first noise map, behind the cut.
    used = 0 if entry is None else prior.generator.synthesis.rows_below(entry[0])
    maps = [f"noise{i}" for i in range(used, min(5 + 2 * k, prior.num_ws - 1)) if f"noise{i}" in variables]
    moved = {n: variables[n] for n in ("latent", *maps)}
    fixed = {n: v for n, v in variables.items() if n not in moved}
    on_sphere = space.constraint_on(moved)
    rates = dict.fromkeys(moved, settings.rate)
    if entry is not None:
        moved["features"] = entry[1]
        rates["features"] = settings.rate if settings.feature_rate is None else settings.feature_rate

    def objective(now: Variables, t: float) -> Iterate:
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

    def ended(found: Variables) -> tuple[Variables, Entry | None]:
        rows = {**variables, **{n: v for n, v in found.items() if n != "features"}}
        return rows, None if entry is None else (entry[0], found["features"], entry[2])

    @torch.no_grad()
    def following(found: Variables) -> Problem:
        rows, reached = ended(found)
        w_plus, noise = space.w_plus(rows["latent"]), space.noise_maps_of(rows)
        cut = prior.leave(w_plus, prior.layers[k], noise, enter=reached)
        return _stage(space, low, degradation, settings, k + 1, rows, cut)

    def latent(found: Variables) -> Variables:
        rows, reached = ended(found)
        kept = {**space.with_w_plus(rows), "entered": torch.full((len(low),), 0 if reached is None else reached[0])}
        if reached is not None:
            kept |= {"features": reached[1]} | ({} if reached[2] is None else {"rgb": reached[2]})
        return kept

    return Problem(
        variables=moved,
        losses=objective,
        steps=plan[k],
        rates=rates,
        schedule=ramp,
        constrain=constrain,
        latent=latent,
        then=following if k + 1 < len(plan) else None,
        remaining=sum(plan[k + 1 :]),
    )
