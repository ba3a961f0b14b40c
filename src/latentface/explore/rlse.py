"""Regularized latent space exploration (Shi, Zhang, Li, Ge; ICASSP 2022), the method of this package.

From a random latent code, 100 times: make a face Y, shrink it, compare with the input x by a pixel loss and by the
discriminator semantic loss, and move. What the poster leaves open was chosen on validation faces: docs/method.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentface.degradation import Degradation, faces_of
from latentface.errors import InputError, UnknownNameError
from latentface.explore import losses
from latentface.explore.engine import SCHEDULES, Adam, Iterate, Variables, draws_of, search
from latentface.explore.metric import metric_for
from latentface.explore.queue import Stopping, Task, search_queue
from latentface.explore.result import Exploration, MethodSettings, OnStep, check_faces, finish
from latentface.explore.space import Space, style_rows
from latentface.prior.prior import Prior

SEMANTIC_TIMES = ("always", "early", "late")


@dataclass(frozen=True, kw_only=True, slots=True)
class RlseSettings(MethodSettings):
    """Settings of RLSE; docs/method.md says where each default comes from.

    Attributes:
        steps: iterations (the poster's 100); rate: Adam's, times the schedule.
        space, tied, whitened, radius, constraint, noise: see `Space`.
        together: share of the steps in which a face's style rows move as one; afterwards each is free ("w first").
        betas: Adam's, how long it remembers gradients and their squares.
            Where a search begins at a given w_plus, `from_w_plus` says what becomes of these two.
        pixel_weight, pixel_norm: of the pixel loss, in [0, 1] units: "l2", "l1", or "prior", a mean square in the prior's own
            metric (see `explore.metric`; aligned faces only).
        semantic_weight: of the discriminator semantic loss; 0 switches it off.
        semantic_layers: which of D's blocks (0 the shallowest), None for all; semantic_norm, reach: see the loss.
        semantic_when: "always", or fading "early" to nothing or growing "late" from nothing, linearly.
        geocross: weight of PULSE's distance between style rows; latent_weight: of half the mean square of the latent, its
            negative log-likelihood a number, which pulls toward the mean face where no constraint holds the length.
        candidates: draws a face, the best of which by pixel loss is the start; costs as many passes without gradient.
        stop: a face whose sum of losses fell by less than this share in its last 10 steps leaves, and the next takes its
            place (see `explore.queue`); None, the poster's setting, for never.
        semantic_model: "trained" D, or the controls "random" (an untrained D) and "pyramid" (no network).
        semantic_ratio: None, or how large the semantic loss's gradient in the shrunk face is against the pixel loss's,
            face by face and step by step; the weight is then only what switches it on.
    """

    steps: int = 100
    rate: float = 0.4
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "pulse"
    space: str = "w_plus"
    tied: bool = True
    whitened: bool = False
    radius: float = 1.0
    together: float = 0.25
    constraint: str = "sphere"
    noise: str = "constant"
    pixel_weight: float = 100.0
    pixel_norm: str = "l2"
    semantic_weight: float = 20.0
    semantic_layers: tuple[int, ...] | None = None
    semantic_norm: str = "l1"
    semantic_reach: str = "bilinear"
    semantic_when: str = "always"
    semantic_model: str = "trained"
    geocross: float = 0.0
    latent_weight: float = 0.0
    candidates: int = 16
    semantic_ratio: float | None = None
    stop: float | None = None

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)
        if self.semantic_when not in SEMANTIC_TIMES:
            raise UnknownNameError("time of the semantic loss", self.semantic_when, SEMANTIC_TIMES)
        if self.semantic_model not in ("trained", "random", "pyramid"):
            raise UnknownNameError("semantic model", self.semantic_model, ("trained", "random", "pyramid"))
        if self.pixel_norm not in ("l1", "l2", "prior"):
            raise UnknownNameError("pixel norm", self.pixel_norm, ("l1", "l2", "prior"))
        if self.steps < 1 or self.candidates < 1:
            raise InputError(f"steps is {self.steps} and candidates {self.candidates}; both must be at least 1")
        if not (
            all(v > 0 for v in (self.rate, self.pixel_weight))
            and all(v >= 0 for v in (self.semantic_weight, self.geocross, self.latent_weight))
        ):
            raise InputError(
                "rate and pixel_weight must be positive, semantic_weight, geocross and latent_weight not negative"
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas is {self.betas}; expected two numbers from 0 up and below 1")
        if not 0 <= self.together <= 1:
            raise InputError(f"together is {self.together}; expected a share of the steps, 0 to 1")
        if self.semantic_ratio is not None and not self.semantic_ratio > 0:
            raise InputError(
                f"semantic_ratio is {self.semantic_ratio}; expected a positive number, or None for a fixed weight"
            )
        if self.stop is not None:
            Stopping(stop=self.stop)


def rlse(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: RlseSettings = RlseSettings(),
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    start: Tensor | None = None,
    places: int | None = None,
) -> Exploration:
    """Explore the prior's latent space for faces that shrink to `low`.

    Args:
        low: (B, 3, h, w) in [0, 1]; seeds: one number a face.
        start: w (B, D) or w_plus (B, L, D) to start from instead of a random code.
        places: with `settings.stop`, how many faces are in work at a time; None for all.

    Raises:
        InputError: shapes, values or seeds that cannot be used. WeightsError: a semantic loss without a discriminator.
    """
    began = time.perf_counter()
    seeds = tuple(seeds)
    check_faces(low, degradation, seeds, prior.resolution)
    if places is not None and places < 1:
        raise InputError(f"places is {places}; at least 1 face must be in work")
    low = low.to(prior.device, prior.dtype)
    space = Space(
        prior,
        settings.space,
        tied=settings.tied,
        whitened=settings.whitened,
        radius=settings.radius,
        constraint=settings.constraint,
        noise=settings.noise,
    )
    if start is not None and start.ndim == 3:
        settings = from_w_plus(settings)
    variables = space.draw(seeds)
    draws = settings.candidates if start is None and settings.candidates > 1 else 0
    if start is not None:
        variables["latent"] = space.latent_of(style_rows(prior, start, len(low)))
    elif settings.candidates > 1:
        at_once = places or len(low)  # what a search's memory holds, the draws must not exceed
        parts = []
        for i in range(0, len(low), at_once):
            rows = list(range(i, min(i + at_once, len(low))))
            parts.append(best_of(space, *faces_of(low, degradation, rows), seeds[i : i + at_once], settings.candidates))
        variables = {k: torch.cat([part[k] for part in parts]) for k in parts[0]}
    fixed = {k: v for k, v in variables.items() if k not in space.searched(variables)}
    moved = space.searched(variables)
    rates, schedule = dict.fromkeys(moved, settings.rate), SCHEDULES[settings.schedule]
    if settings.stop is None:
        found = search(
            low,
            moved,
            objective(space, low, degradation, settings, fixed),
            steps=settings.steps,
            rates=rates,
            schedule=schedule,
            optimiser=Adam(moved, settings.betas),
            constrain=space.constraint_on(moved),
            on_step=on_step,
        )
    else:

        def prepare(rows: Tensor) -> Task:
            own, operator = faces_of(low, degradation, rows.tolist())
            evaluate = objective(space, own, operator, settings, {k: v[rows] for k, v in fixed.items()})
            return Task(own, evaluate, space.constraint_on({k: v[rows] for k, v in moved.items()}))

        found = search_queue(
            low,
            degradation.fit(low),
            moved,
            prepare,
            places=places or len(low),
            stopping=Stopping(stop=settings.stop),
            steps=settings.steps,
            rates=rates,
            schedule=schedule,
            betas=settings.betas,
            on_step=on_step,
        )
    if prior.fast_dtype is not None:  # the steps' pictures are half a grey level off
        found.high = exact(space, {**found.variables, **fixed})
    made = float(found.history["consistency_db"].isfinite().sum(0).float().mean())
    return finish(
        found.high,
        low,
        degradation,
        method="rlse",
        settings=settings,
        seeds=seeds,
        seconds=time.perf_counter() - began,
        latent={**found.variables, **fixed, "w_plus": space.w_plus(found.variables["latent"])},
        history=found.history,
        best_step=found.best_step,
        passes=made + draws / 3,
    )


@torch.no_grad()
def exact(space: Space, variables: Variables) -> Tensor:
    """Return the pictures (B, 3, R, R) of variables in the prior's own floating type, one face at a time."""
    w_plus, noise = space.w_plus(variables["latent"]), space.noise_maps_of(variables)
    rows = range(len(w_plus))
    maps = [[m if m is None or len(m) == 1 else m[i : i + 1] for m in noise] for i in rows]
    return torch.cat([space.prior.synthesis(w_plus[i : i + 1], maps[i]) for i in rows])


def from_w_plus(settings: RlseSettings) -> RlseSettings:
    """Return the settings as a search from a given w_plus (L, D) a face uses them.

    There the style rows are free at once, for where the start is near the answer, w was searched already; and Adam's memory
    is shorter, for such a search has few steps and what it remembers of the first is soon wrong.
    """
    return replace(settings, together=0.0, betas=(0.8, 0.99))


def objective(
    space: Space, low: Tensor, degradation: Degradation, settings: RlseSettings, fixed: Variables
) -> Callable[[Variables, float | Tensor], Iterate]:
    """Return what a search of these faces minimises, given the variables and its progress, a number or one a face."""
    prior = space.prior
    pixel = pixel_loss(prior, low, degradation, settings)
    semantic = semantic_loss(prior, low, degradation, settings)

    def evaluate(now: Variables, t: float | Tensor) -> Iterate:
        everything = {**now, **fixed}
        latent = everything["latent"]
        if settings.together:
            latent = moving_together(latent, t < settings.together)
        w_plus = space.w_plus(latent)
        high = prior.synthesis(w_plus, space.noise_maps_of(everything), fast=True)
        low_again = degradation.forward(high)
        terms = {"pixel": settings.pixel_weight * pixel(low_again)}
        if semantic is not None:
            value = semantic(low_again, high)
            weight: float | Tensor = settings.semantic_weight
            seen = high if settings.semantic_reach == "projected" else low_again
            if settings.semantic_ratio is not None:
                weight = settings.semantic_ratio * balance(terms["pixel"], value, seen)
            fade = {"always": 1.0, "early": 1.0 - t, "late": t}[settings.semantic_when]
            terms["semantic"] = weight * (fade.to(value) if isinstance(fade, Tensor) else fade) * value
        if settings.geocross:
            terms["geocross"] = settings.geocross * losses.geocross(w_plus)
        if settings.latent_weight:
            terms["latent"] = settings.latent_weight * losses.latent_prior(latent)
        return Iterate(high, low_again, terms)

    return evaluate


def pixel_loss(
    prior: Prior, low: Tensor, degradation: Degradation, settings: RlseSettings
) -> Callable[[Tensor], Tensor]:
    """Return the loss that the settings name, a function of the face shrunk, (B, 3, h, w) -> (B,)."""
    if settings.pixel_norm == "prior":
        metric = metric_for(prior, degradation)
        return lambda low_again: metric(low_again, low, degradation.sigma)
    return lambda low_again: losses.pixel(low_again, low, settings.pixel_norm, degradation)


def semantic_loss(
    prior: Prior, low: Tensor, degradation: Degradation, settings: RlseSettings
) -> losses.DiscriminatorSemantic | losses.LaplacianPyramid | None:
    """Return the loss that the settings name, with its targets computed, or None."""
    if settings.semantic_weight == 0:
        return None
    if settings.semantic_model == "pyramid":
        if degradation.mask is not None:  # its levels would run over what lies beside a face, and over its padding
            raise InputError(
                "the control 'pyramid' takes aligned faces only; a photograph's have pixels that do not count"
            )
        return losses.LaplacianPyramid(low)
    judge = prior.needed_judge()
    if settings.semantic_model == "random":
        judge = judge.untrained()
    return losses.DiscriminatorSemantic(
        judge,
        low,
        degradation,
        layers=settings.semantic_layers,
        norm=settings.semantic_norm,
        reach=settings.semantic_reach,
    )


def moving_together(latent: Tensor, together: bool | Tensor) -> Tensor:
    """Return the latent (B, L, D) with its value unchanged, and each row's gradient the mean over the rows.

    Rows that start alike so stay alike: w_plus is searched as w. `together` says whether, for all faces or each (B,).
    """
    mean = latent.mean(1, keepdim=True)
    joined = latent.detach() + (mean - mean.detach())
    if isinstance(together, Tensor):
        return torch.where(together.view(-1, 1, 1), joined, latent)
    return joined if together else latent


def balance(first: Tensor, second: Tensor, at: Tensor) -> Tensor:
    """Return how many times longer the gradient of `first` (B,) in `at` (B, ...) is than that of `second`, (B,)."""
    long, short = (
        torch.autograd.grad(loss.sum(), at, retain_graph=True)[0].flatten(1).norm(dim=1) for loss in (first, second)
    )
    ratio: Tensor = long / short.clamp_min(1e-12)
    return ratio


@torch.no_grad()
def best_of(space: Space, low: Tensor, degradation: Degradation, seeds: Sequence[int], count: int) -> Variables:
    """Draw `count` starts a face and return, for each face, the one whose picture is nearest to `low`."""
    best: Variables | None = None
    best_loss = low.new_full((len(low),), float("inf"))
    for drawn_seeds in draws_of(seeds, count):
        candidate = space.draw(drawn_seeds)
        high = space.prior.synthesis(space.w_plus(candidate["latent"]), space.noise_maps_of(candidate), fast=True)
        loss = losses.pixel(degradation.forward(high), low, degradation=degradation)
        better = loss < best_loss
        best_loss = torch.where(better, loss, best_loss)
        if best is None:
            best = candidate
        else:
            best = {k: torch.where(better.view(-1, *([1] * (v.ndim - 1))), v, best[k]) for k, v in candidate.items()}
    assert best is not None
    return best
