"""RLS: super-resolution through StyleGAN regularized latent search (Gheisari, Genovesio; NeurIPS workshop 2022).

From the mean w, the style rows move to a face that shrinks to the input, held where a normalising flow says that w are
likely, at the usual norm of the flow's normal numbers, and near each other.

Shape legend: B faces, L style rows, D width of w.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from latentface.degradation import Degradation
from latentface.errors import InputError, UnknownNameError
from latentface.explore import losses
from latentface.explore.engine import SCHEDULES, Adam, Iterate, Variables, search
from latentface.explore.flow import Flow, FlowSettings, load_flow, log_prob
from latentface.explore.result import Exploration, MethodSettings, OnStep, check_faces, finish
from latentface.explore.space import style_rows
from latentface.prior.prior import Prior


@dataclass(frozen=True, kw_only=True, slots=True)
class RlsSettings(MethodSettings):
    """Settings of RLS; the defaults are the published ones, in [0, 1] units.

    Attributes:
        steps, rate: of Adam; schedule: the factor on its rate.
        pixel_weight: of the mean absolute difference: 20 in [0, 1] is the published 10 in [-1, 1]; pixel_norm: "l1", or
            "l2" for the mean square.
        density_weight: of -log p(w) in nats, mean over rows; norm_weight: of (|u| - sqrt D)^2, u the flow's numbers;
        cross_weight: of the mean distance between rows.
        flow: the flow's size and training.
    """

    steps: int = 500
    rate: float = 0.5
    schedule: str = "cosine"
    pixel_weight: float = 20.0
    pixel_norm: str = "l1"
    density_weight: float = 0.002
    norm_weight: float = 0.004
    cross_weight: float = 0.5
    flow: FlowSettings = field(default_factory=FlowSettings)

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)
        if self.pixel_norm not in ("l1", "l2"):
            raise UnknownNameError("pixel norm", self.pixel_norm, ("l1", "l2"))
        if self.steps < 1 or min(self.rate, self.pixel_weight) <= 0:
            raise InputError("steps, rate and pixel_weight must be positive")
        if min(self.density_weight, self.norm_weight, self.cross_weight) < 0:
            raise InputError("density_weight, norm_weight and cross_weight must not be negative")


def rls(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: RlsSettings = RlsSettings(),
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    flow: Flow | None = None,
    start: Tensor | None = None,
) -> Exploration:
    """Search w_plus from the mean w for faces that shrink to `low`; the start, and so the result, knows no seed.

    Args:
        low: (B, 3, h, w) in [0, 1]; seeds: one number a face.
        start: w (B, D) or w_plus (B, L, D) to start from instead of the mean w.
        flow: the prior's flow; by default the cached one, trained at first use (about a minute).

    Raises:
        InputError: shapes, values or seeds that cannot be used.
    """
    began = time.perf_counter()
    seeds = tuple(seeds)
    check_faces(low, degradation, seeds, prior.resolution)
    low = low.to(prior.device, prior.dtype)
    regular = bool(settings.density_weight or settings.norm_weight)
    if regular and flow is None:
        flow = load_flow(prior, settings.flow)
    mean = prior.w_mean.to(low).expand(len(low), -1)
    variables = {"w_plus": style_rows(prior, mean if start is None else start, len(low))}

    def evaluate(now: Variables, t: float) -> Iterate:
        w_plus = now["w_plus"]
        high = prior.synthesis(w_plus)
        low_again = degradation.forward(high)
        terms = {"pixel": settings.pixel_weight * losses.pixel(low_again, low, settings.pixel_norm, degradation)}
        if regular and flow is not None:
            terms |= _regularizers(flow, w_plus, settings)
        if settings.cross_weight:
            terms["cross"] = settings.cross_weight * losses.cross(w_plus)
        return Iterate(high, low_again, terms)

    found = search(
        low,
        variables,
        evaluate,
        steps=settings.steps,
        rates={"w_plus": settings.rate},
        schedule=SCHEDULES[settings.schedule],
        optimiser=Adam(variables),
        on_step=on_step,
    )
    return finish(
        found.high,
        low,
        degradation,
        method="rls",
        settings=settings,
        seeds=seeds,
        seconds=time.perf_counter() - began,
        latent=found.variables,
        history=found.history,
        best_step=found.best_step,
        passes=found.steps,
    )


def _regularizers(flow: Flow, w_plus: Tensor, settings: RlsSettings) -> dict[str, Tensor]:
    """What the flow says of w_plus (B, L, D), each (B,)."""
    u, log_det = flow(w_plus)
    return {
        "density": settings.density_weight * -log_prob(u, log_det).mean(1),
        "norm": settings.norm_weight * losses.norm_prior(u),
    }
