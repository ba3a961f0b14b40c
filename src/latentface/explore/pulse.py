"""PULSE: photo upsampling via latent space exploration (Menon, Damian, Hu, Ravi, Rudin; CVPR 2020).

Style rows drawn from a gaussianised W, and the first noise maps, move on spheres until the face shrinks to the input;
a geodesic distance keeps the rows together. docs/methods.md sets every number beside the paper's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from latentface.degradation import Degradation
from latentface.errors import InputError, UnknownNameError
from latentface.explore import losses
from latentface.explore.engine import SCHEDULES, Adam, Iterate, Variables, search
from latentface.explore.result import Exploration, MethodSettings, OnStep, check_faces, finish
from latentface.explore.space import Space, style_rows
from latentface.prior.prior import Prior


@dataclass(frozen=True, kw_only=True, slots=True)
class PulseSettings(MethodSettings):
    """Settings of PULSE; the defaults are the published ones.

    Attributes:
        steps, rate, schedule: of the spherical Adam.
        tied: start with all style rows alike; the published search draws each alone.
        noise: "searched", "drawn" or "constant" maps; noise_maps: how many of them are searched. See `Space`.
        pixel_weight: of the mean square in [0, 1] units; geocross: of the distance between style rows of w.
        eps: the mean square below which the pixel loss is flat, 0 for never.
        stop_at_eps: end a face's search at its first iterate within eps, instead of lessening geocross further.
    """

    steps: int = 100
    rate: float = 0.4
    schedule: str = "pulse"
    tied: bool = False
    noise: str = "searched"
    noise_maps: int = 5
    pixel_weight: float = 100.0
    geocross: float = 0.05
    eps: float = 2e-3
    stop_at_eps: bool = False

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)
        if self.steps < 1 or min(self.rate, self.pixel_weight) <= 0 or min(self.geocross, self.eps) < 0:
            raise InputError("steps, rate and pixel_weight must be positive, geocross and eps not negative")
        if self.stop_at_eps and self.eps == 0:
            raise InputError("stop_at_eps needs an eps above 0 (the paper's is 2e-3)")


def pulse(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: PulseSettings = PulseSettings(),
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    start: Tensor | None = None,
) -> Exploration:
    """Search w_plus and noise maps for faces that shrink to `low`; the best iterate of each is returned, never refused.

    Args:
        low: (B, 3, h, w) in [0, 1]; seeds: one number a face, 0 as good as any.
        start: w (B, D) or w_plus (B, L, D) to start from instead of random rows.

    Raises:
        InputError: shapes, values or seeds that cannot be used.
    """
    began = time.perf_counter()
    seeds = tuple(seeds)
    check_faces(low, degradation, seeds, prior.resolution)
    low = low.to(prior.device, prior.dtype)
    space = Space(
        prior,
        "w_plus",
        tied=settings.tied,
        constraint="sphere",
        noise=settings.noise,
        noise_maps=min(settings.noise_maps, prior.num_ws - 2),  # the last map is zero
    )
    variables = space.draw(seeds)
    if start is not None:
        variables["latent"] = space.latent_of(style_rows(prior, start, len(low)))
    moved = space.searched(variables)
    fixed = {k: v for k, v in variables.items() if k not in moved}

    def evaluate(now: Variables, t: float) -> Iterate:
        w_plus = space.w_plus(now["latent"])
        high = prior.synthesis(w_plus, space.noise_maps_of({**now, **fixed}))
        low_again = degradation.forward(high)
        # eps stands inside the weight: below it, only the rows' distance is left to lessen.
        terms = {
            "pixel": settings.pixel_weight * losses.pixel(low_again, low, "l2", degradation).clamp_min(settings.eps)
        }
        if settings.geocross:
            terms["geocross"] = settings.geocross * losses.geocross(w_plus)
        return Iterate(high, low_again, terms)

    def within(iterate: Iterate) -> Tensor:
        return losses.pixel(iterate.low_again.detach(), low, "l2", degradation) <= settings.eps

    found = search(
        low,
        moved,
        evaluate,
        steps=settings.steps,
        rates=dict.fromkeys(moved, settings.rate),
        schedule=SCHEDULES[settings.schedule],
        optimiser=Adam(moved),
        constrain=space.constraint_on(moved),
        on_step=on_step,
        done=within if settings.stop_at_eps else None,
    )
    return finish(
        found.high,
        low,
        degradation,
        method="pulse",
        settings=settings,
        seeds=seeds,
        seconds=time.perf_counter() - began,
        latent={**found.variables, **fixed, "w_plus": space.w_plus(found.variables["latent"])},
        history=found.history,
        best_step=found.best_step,
        passes=found.steps,
    )
