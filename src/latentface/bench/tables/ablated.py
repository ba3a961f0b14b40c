"""RLSE with every setting that only an ablation moves; with the defaults it is RLSE, to the last bit.

Shape legend: B faces, L style rows, D width of w.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import Degradation, resize
from latentface.errors import InputError
from latentface.explore import losses
from latentface.explore.engine import Iterate, Problem
from latentface.explore.optim import SCHEDULES, Adam
from latentface.explore.registry import METHODS, Method
from latentface.explore.rlse import RlseSettings, bases_of, best_draw, moving_together, pixel_loss
from latentface.explore.space import Space, Variables
from latentface.prior.prior import Prior

CHOICES = {
    "semantic_norm": ("l1", "l2", "cosine"),
    "semantic_reach": ("bilinear", "pinv", "projected"),
    "semantic_when": ("always", "early", "late"),
    "semantic_model": ("trained", "random", "pyramid"),
}
Semantic = Callable[[Tensor, Tensor], Tensor]  # the face shrunk (B, 3, h, w), the face (B, 3, H, W) -> (B,)


@dataclass(frozen=True, kw_only=True, slots=True)
class AblatedSettings(RlseSettings):
    """Settings of RLSE and what only an ablation moves.

    Attributes:
        space, tied, constraint, noise: see `Space`; whitened, radius: see `WideSpace`.
        semantic_norm: "l1", "l2" (mean square) or "cosine" (1 - cosine similarity of the whole feature).
        semantic_reach: how a small picture reaches D's size: "bilinear"; "pinv", the pseudo-inverse; or "projected": D
            compares the face Y with Y + A+ (x - A Y), the face as it would have to be, which has no gradient.
        semantic_when: "always", or fading "early" to nothing or growing "late" from nothing, linearly.
        semantic_model: "trained" D, or the controls "random" (an untrained D) and "pyramid" (no network).
        semantic_ratio: None, or how long the semantic loss's gradient in the shrunk face is against the pixel loss's, face
            by face and step by step; the weight is then only what switches it on.
        geocross: weight of PULSE's distance between style rows; latent_weight: of half the mean square of the latent.
    """

    space: str = "w_plus"
    tied: bool = True
    whitened: bool = False
    radius: float = 1.0
    constraint: str = "sphere"
    noise: str = "constant"
    semantic_norm: str = "l1"
    semantic_reach: str = "bilinear"
    semantic_when: str = "always"
    semantic_model: str = "trained"
    semantic_ratio: float | None = None
    geocross: float = 0.0
    latent_weight: float = 0.0

    choices: ClassVar = {**CHOICES, "pixel_norm": ("l1", "l2", "prior")}

    def __post_init__(self) -> None:
        RlseSettings.__post_init__(self)
        if self.semantic_ratio is not None and not self.semantic_ratio > 0:
            raise InputError(f"semantic_ratio is {self.semantic_ratio}; expected a positive number, or None")

    @property
    def in_w(self) -> bool:
        """Not in the space z."""
        return self.space != "z"


ABLATED: Method = replace(METHODS["rlse"], module=__name__, settings_class="AblatedSettings")


@dataclass(frozen=True, slots=True)
class WideSpace(Space):
    """A latent space with another Gaussian or another sphere.

    Attributes:
        whitened: gaussianise by W's full covariance instead of its standard deviations.
        radius: of the sphere, as a share of a random code's length: below 1 it is truncation, nearer to the mean face.
    """

    whitened: bool = False
    radius: float = 1.0

    def __post_init__(self) -> None:
        Space.__post_init__(self)
        if not 0 < self.radius < math.inf:
            raise InputError(f"radius is {self.radius}; expected a positive number, 1 for a random code's own length")
        if self.kind == "z" and self.radius != 1:
            raise InputError("a radius is for the spaces w and w_plus: the mapping network takes z's length out")

    def draw(self, seeds: Sequence[int]) -> Variables:
        """Return start variables on the sphere of that radius."""
        drawn = Space.draw(self, seeds)
        return {**drawn, "latent": drawn["latent"] * self.radius}

    def w_plus(self, latent: Tensor) -> Tensor:
        """latent (B, rows, width) -> w_plus (B, L, D)."""
        if self.kind == "z" or not self.whitened:
            return Space.w_plus(self, latent)
        w = self.prior.degaussianise(latent, whitened=True)
        return w if self.kind == "w_plus" else w.expand(-1, self.prior.num_ws, -1)

    def latent_of(self, w: Tensor) -> Tensor:
        """w_plus (B, L, D) -> the latent whose w_plus it is, or is nearest."""
        plain = Space.latent_of(self, w)
        if not self.whitened:
            return plain
        return self.prior.gaussianise(self.prior.degaussianise(plain), whitened=True).contiguous()


def rlse(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: AblatedSettings,
    seeds: Sequence[int],
    start: Tensor | None,
) -> Problem:
    """State the problem for inputs low (B, 3, h, w), from `start`, w (B, D) or w_plus (B, L, D), or the best of random codes."""
    s = settings if start is None or start.ndim == 2 else settings.from_start()
    space = WideSpace(
        prior, s.space, tied=s.tied, constraint=s.constraint, noise=s.noise, whitened=s.whitened, radius=s.radius
    )
    if start is None:
        variables = best_draw(space, low, degradation, seeds, s.candidates)
    else:
        variables = {**space.draw(seeds), "latent": space.latent_of(start)}
    moved = space.searched(variables)
    fixed = {k: v for k, v in variables.items() if k not in moved}
    return Problem(
        variables=moved,
        losses=objective(space, low, degradation, s, fixed),
        steps=s.steps,
        rates=dict.fromkeys(moved, s.rate),
        schedule=SCHEDULES[s.schedule],
        optimiser=partial(
            Adam, betas=s.betas, bases=bases_of(prior, s) if s.space == "w_plus" and not s.whitened else {}
        ),
        constrain=space.constraint_on(moved),
        stop=s.stop,
        latent=lambda found: space.with_w_plus({**found, **fixed}),
        paint=None if prior.fast_dtype is None else lambda found: space.paint({**found, **fixed}),
        draws=s.candidates if start is None and s.candidates > 1 else 0,
    )


def objective(
    space: Space, low: Tensor, degradation: Degradation, settings: AblatedSettings, fixed: Variables
) -> Callable[[Variables, float], Iterate]:
    """Return what a search of these faces minimises."""
    prior = space.prior
    pixel = pixel_loss(prior, low, degradation, settings)
    semantic = semantic_loss(prior, low, degradation, settings) if settings.semantic_weight else None

    def evaluate(now: Variables, t: float) -> Iterate:
        everything = {**now, **fixed}
        w_plus = space.w_plus(moving_together(everything["latent"], t < settings.together))
        high = prior.synthesis(w_plus, space.noise_maps_of(everything), fast=True)
        low_again = degradation.forward(high)
        terms = {"pixel": settings.pixel_weight * pixel(low_again)}
        if semantic is not None:
            value = semantic(low_again, high)
            weight: float | Tensor = settings.semantic_weight
            if settings.semantic_ratio is not None:
                seen = high if settings.semantic_reach == "projected" else low_again
                weight = settings.semantic_ratio * balance(terms["pixel"], value, seen)
            terms["semantic"] = weight * {"always": 1.0, "early": 1.0 - t, "late": t}[settings.semantic_when] * value
        if settings.geocross:
            terms["geocross"] = settings.geocross * losses.geocross(w_plus)
        if settings.latent_weight:
            terms["latent"] = settings.latent_weight * losses.latent_prior(everything["latent"])
        return Iterate(high, low_again, terms)

    return evaluate


def semantic_loss(prior: Prior, low: Tensor, degradation: Degradation, settings: AblatedSettings) -> Semantic:
    """Return the semantic loss, or the control, that the settings name."""
    if settings.semantic_model == "pyramid":
        if degradation.mask is not None:  # its levels would run over what lies beside a face, and over its padding
            raise InputError("the control 'pyramid' takes aligned faces only")
        pyramid = LaplacianPyramid(low)
        return lambda low_again, high: pyramid(low_again)
    judge = prior.needed_judge()
    if settings.semantic_model == "random":
        judge = judge.untrained()
    side = judge.resolution

    def features(large: Tensor) -> list[Tensor]:
        return losses.chosen_blocks(judge.features(large), settings.semantic_layers)

    def enlarged(small: Tensor) -> Tensor:
        if settings.semantic_reach == "pinv":
            return resize(degradation.pinv(small), side)
        return degradation.fit(small, side)

    def distance(given: list[Tensor], wanted: list[Tensor]) -> Tensor:
        pairs = zip(given, wanted, strict=True)
        return torch.stack([feature_distance(a, b, settings.semantic_norm) for a, b in pairs]).sum(0)

    if settings.semantic_reach != "projected":
        with torch.no_grad():
            target = features(enlarged(low))
        return lambda low_again, high: distance(features(enlarged(low_again)), target)

    def projected(low_again: Tensor, high: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = features(resize(high + degradation.correct(low - low_again), side))
        return distance(features(resize(high, side)), wanted)

    return projected


def feature_distance(a: Tensor, b: Tensor, norm: str) -> Tensor:
    """Return the distance of two features (B, C, h, w), (B,)."""
    if norm == "cosine":
        return 1 - F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)
    return ((a - b).abs() if norm == "l1" else (a - b).square()).mean((1, 2, 3))


class LaplacianPyramid:
    """A control for the semantic loss without a network: absolute differences of band-pass levels, (B,)."""

    def __init__(self, low: Tensor) -> None:
        self.wanted = self._levels(low)

    @staticmethod
    def _levels(x: Tensor) -> list[Tensor]:
        out = []
        while min(x.shape[-2:]) > 2:
            small = F.avg_pool2d(x, 2)
            out.append(x - F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False))
            x = small
        return [*out, x]

    def __call__(self, low_again: Tensor) -> Tensor:
        """low_again (B, 3, h, w) -> (B,)."""
        pairs = zip(self._levels(low_again), self.wanted, strict=True)
        return torch.stack([(a - b).abs().mean((1, 2, 3)) for a, b in pairs]).sum(0)


def balance(first: Tensor, second: Tensor, at: Tensor) -> Tensor:
    """Return how many times longer the gradient of `first` (B,) in `at` (B, ...) is than that of `second`, (B,)."""
    long, short = (
        torch.autograd.grad(loss.sum(), at, retain_graph=True)[0].flatten(1).norm(dim=1) for loss in (first, second)
    )
    ratio: Tensor = long / short.clamp_min(1e-12)
    return ratio
