"""Regularized latent space exploration (Shi, Zhang, Li, Ge; ICASSP 2022), the method of this package.

With G the generator, A the shrinking, D_k the discriminator's k-th residual block and x the input:

    w* = argmin  lambda_p |A G(w) - x|^2  +  lambda_s sum_k |D_k(A G(w)) - D_k(x)|        (pixel + semantic)

over style rows w on the spheres of a gaussianised W, by Adam, for 100 steps from the best of 16 random codes. What the
poster leaves open was chosen on validation faces: docs/method.md.

Shape legend: B faces, L style rows, D width of w.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self

from torch import Tensor

from latentface.degradation import Degradation
from latentface.explore import losses
from latentface.explore.engine import Iterate, Problem, best_of, draws_of
from latentface.explore.optim import SCHEDULES, Adam
from latentface.explore.result import MethodSettings
from latentface.explore.space import Space, Variables
from latentface.prior.metric import metric_for, metric_is_kept
from latentface.prior.prior import Prior


@dataclass(frozen=True, kw_only=True, slots=True)
class RlseSettings(MethodSettings):
    """Settings of RLSE.

    Attributes:
        steps: iterations, the poster's 100; rate: Adam's, times the schedule; betas: Adam's.
        together: share of the steps in which a face's style rows move as one ("w first"); afterwards each is free.
        candidates: draws a face; the best by pixel loss is the start.
        pixel_weight: of the pixel loss in [0, 1] units; pixel_norm: "l2", or "prior" for a mean square in the prior's own
            metric (`prior.metric`, aligned faces only).
        semantic_weight: of the discriminator semantic loss, 0 for none; semantic_layers: which of D's blocks, 0 the
            shallowest, None for all.
        subspace: whether Adam's axes are the directions of the prior's active subspace first, where the prior has one
            (`prior.subspace`); None: in searches of few steps, most of them at exits.
        stop: end a batch none of whose faces improved by this share in 10 steps; None, the poster's setting, for never.
    """

    steps: int = 100
    rate: float = 0.4
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "pulse"
    together: float = 0.25
    candidates: int = 16
    pixel_weight: float = 100.0
    pixel_norm: str = "l2"
    semantic_weight: float = 20.0
    semantic_layers: tuple[int, ...] | None = None
    subspace: bool | None = None
    stop: float | None = None

    choices: ClassVar = {"pixel_norm": ("l2", "prior")}

    @property
    def aligned_only(self) -> bool:
        """The prior's metric is measured for squares."""
        return self.pixel_norm == "prior"

    def from_start(self) -> Self:
        """Free the style rows at once and shorten Adam's memory: near the answer, w was searched already."""
        return replace(self, together=0.0, betas=(0.8, 0.99))

    def of_few_steps(self) -> Self:
        """Move along the prior's active subspace first, where nothing else is asked for."""
        return replace(self, subspace=True) if self.subspace is None else self

    def made_first(self, prior: Prior, degradation: Degradation) -> str:
        """The prior's metric, where it is not kept yet."""
        if self.pixel_norm != "prior" or metric_is_kept(prior, degradation):
            return ""
        return f"measuring once how the prior's faces vary at {degradation.low_size[0]} px: about 30 s on a CPU"


def rlse(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: RlseSettings,
    seeds: Sequence[int],
    start: Tensor | None,
) -> Problem:
    """State the problem for inputs low (B, 3, h, w), from `start`, w (B, D) or w_plus (B, L, D), or the best of random codes."""
    space = Space(prior, tied=True, constraint="sphere")
    pixel = pixel_loss(prior, low, degradation, settings)
    semantic = losses.semantic(prior, low, degradation, settings.semantic_layers) if settings.semantic_weight else None
    if start is None:
        variables = best_draw(space, low, degradation, seeds, settings.candidates)
    else:
        settings = settings.from_start() if start.ndim == 3 else settings
        variables = {"latent": space.latent_of(start)}

    def objective(now: Variables, t: float) -> Iterate:
        w_plus = space.w_plus(moving_together(now["latent"], t < settings.together))
        high = prior.synthesis(w_plus, fast=True)
        low_again = degradation.forward(high)
        terms = {"pixel": settings.pixel_weight * pixel(low_again)}
        if semantic is not None:
            terms["semantic"] = settings.semantic_weight * semantic(low_again)
        return Iterate(high, low_again, terms)

    return Problem(
        variables=variables,
        losses=objective,
        steps=settings.steps,
        rates={"latent": settings.rate},
        schedule=SCHEDULES[settings.schedule],
        optimiser=partial(Adam, betas=settings.betas, bases=bases_of(prior, settings)),
        constrain=space.constraint_on(variables),
        stop=settings.stop,
        latent=space.with_w_plus,
        paint=space.paint if prior.fast_dtype is not None else None,
        draws=settings.candidates if start is None and settings.candidates > 1 else 0,
    )


def bases_of(prior: Prior, settings: RlseSettings) -> dict[str, Tensor]:
    """Return Adam's first axes for a latent (B, L, D), (L, D, K), by the variable's name; {} where they are its own.

    Rows that move as one have their own axes: other axes for each row would move them apart.
    """
    wanted = settings.subspace and not settings.together
    return {"latent": prior.subspace} if wanted and prior.subspace is not None else {}


def pixel_loss(prior: Prior, low: Tensor, degradation: Degradation, settings: RlseSettings) -> losses.Loss:
    """Return the pixel loss, a function of the face shrunk, (B, 3, h, w) -> (B,)."""
    if settings.pixel_norm == "prior":
        metric = metric_for(prior, degradation)
        return lambda low_again: metric(low_again, low, degradation.sigma)
    return lambda low_again: losses.pixel(low_again, low, settings.pixel_norm, degradation)


def moving_together(latent: Tensor, together: bool) -> Tensor:
    """Return the latent (B, L, D) with its value unchanged, and each row's gradient the mean over the rows.

    Rows that start alike so stay alike: w_plus is searched as w.
    """
    if not together:
        return latent
    mean = latent.mean(1, keepdim=True)
    return latent.detach() + (mean - mean.detach())


def best_draw(space: Space, low: Tensor, degradation: Degradation, seeds: Sequence[int], count: int) -> Variables:
    """Return the best of `count` random starts of each face by pixel loss."""
    draws = (space.draw(own) for own in draws_of(seeds, count))
    if count == 1:
        return next(draws)
    return best_of(
        draws,
        lambda start: space.prior.synthesis(space.w_plus(start["latent"]), space.noise_maps_of(start), fast=True),
        lambda high: losses.pixel(degradation.forward(high), low, degradation=degradation),
    )
