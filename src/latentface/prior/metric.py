"""The prior's own metric of small pictures: a residual counts by how little the prior's faces vary its way.

The plain mean square is all light and background, along which faces vary most; what tells people apart is faint in it. With
C = E[A J J^T A^T], how the small picture answers a step of unit variance in every style row (J: of the generator, A: of the
shrinking), the Mahalanobis distance r^T (C + noise I)^-1 r weighs each direction by what it says: the metric in which a
step along the gradient is nearly a Gauss-Newton step.

Shape legend: B faces, N = 3 h w numbers of a small picture, K directions in which C is known, P pairs of faces.
"""

import json
import threading
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from latentface.cache import kept, made_of_prior
from latentface.degradation import Degradation, Downscale
from latentface.errors import InputError
from latentface.prior.exits import exit_for
from latentface.prior.layers import rows_alone
from latentface.prior.prior import Prior

VERSION = 1  # raise it when a cached metric would no longer be what measuring makes
PAIRS = 1024  # faces and their neighbours by which C is measured
STEP = 0.15  # to a neighbour, in standard deviations of gaussianised w
NOISE = 0.03  # variance that the prior does not explain, for a step of unit variance: some 32 validation faces at 16 px
AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class PriorMetric:
    """A weighted mean square of residuals.

    Attributes:
        basis: (N, K), orthonormal: the directions in which C is known; damping: (K,), how much shorter a residual becomes
            along each; scale: so that a residual which looks like the prior's own variation counts as in a plain mean square.
        mean_weight: what white noise of variance 1 comes to.
    """

    basis: Tensor
    damping: Tensor
    scale: float
    mean_weight: float

    @classmethod
    def of(cls, directions: Tensor, variances: Tensor, noise: float) -> Self:
        """Return the metric (C + noise I)^-1, scaled, of a C of these directions (N, K) and variances (K,)."""
        variances = variances.double()
        weights = 1 / (variances + noise)
        scale = variances.sum() / (weights * variances).sum()
        unknown = directions.shape[0] - directions.shape[1]
        mean_weight = scale * (weights.sum() + unknown / noise) / directions.shape[0]
        damping = 1 - (noise * weights).sqrt()
        return cls(directions.double(), damping, float(scale / noise), float(mean_weight))

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Return the metric on a device, in a floating type."""
        return replace(self, basis=self.basis.to(device, dtype), damping=self.damping.to(device, dtype))

    def __call__(self, low_again: Tensor, low: Tensor, sigma: float = 0.0) -> Tensor:
        """Small pictures (B, 3, h, w) -> (B,), less what noise of `sigma` alone would give."""
        r = (low_again - low).flatten(1)  # (B, N)
        along = rows_alone(r, self.basis) * self.damping
        whitened = r - rows_alone(along, self.basis.t())
        loss = self.scale * whitened.square().mean(1)
        return (loss - self.mean_weight * sigma**2).clamp_min(0) if sigma else loss


def metric_for(prior: Prior, degradation: Degradation) -> PriorMetric:
    """Return the prior's metric of pictures as this degradation makes them.

    It is measured once, in half a minute, on the prior's faces at the exit where it has one that suits, and kept in
    `metrics/` in LATENTFACE_CACHE or the user's cache folder. Of a prior without a sha256 (made in memory) only the
    metric that was used last is kept. Raises InputError: a photograph's degradation, which has a grid a face.
    """
    if not isinstance(degradation, Downscale):
        raise InputError("the prior's own pixel metric takes aligned faces only; use the preset paper for photographs")
    return _loaded(*_of(prior, degradation))


def _of(prior: Prior, degradation: Downscale) -> tuple[Prior, int, int, str]:
    size = exit_for(prior.exits, degradation, 1) or degradation.high
    return prior.at(size), degradation.low, size, degradation.kernel


def metric_path(prior: Prior, low: int, high: int, kernel: str) -> Path:
    """Return where a metric is cached."""
    return made_of_prior("metrics", prior.sha256, json.dumps([VERSION, PAIRS, STEP, low, high, kernel]))


def metric_is_kept(prior: Prior, degradation: Degradation) -> bool:
    """Return whether the metric was measured before, so that it is at hand at once."""
    return isinstance(degradation, Downscale) and metric_path(*_of(prior, degradation)).is_file()


_loading = threading.Lock()
last_used: list[tuple[object, PriorMetric]] = []  # the one that was used last, hundreds of megabytes, and what it is of


def _loaded(prior: Prior, low: int, high: int, kernel: str) -> PriorMetric:
    path = metric_path(prior, low, high, kernel) if prior.sha256 else None
    of = (path or (weakref.ref(prior), low, high, kernel), prior.device, prior.dtype)
    with _loading:
        if not last_used or last_used[0][0] != of:
            last_used.clear()
            last_used.append((of, _measured(path, prior, Downscale(low, high, kernel))))
        return last_used[0][1]


def _measured(path: Path | None, prior: Prior, degradation: Downscale) -> PriorMetric:
    numbers = 3 * degradation.low**2

    def make() -> dict[str, Tensor]:
        directions, variances = principal(measured_answers(prior, degradation))
        return {"directions": directions.half(), "variances": variances.float()}

    def check(held: dict[str, Tensor]) -> None:
        directions, variances = held["directions"], held["variances"]
        if directions.shape != (numbers, min(numbers, PAIRS)) or variances.shape != directions.shape[1:]:
            raise ValueError("a metric of another size")
        if not bool(directions.isfinite().all() and variances.isfinite().all()):
            raise ValueError("a metric that is not finite")

    held = kept(path, make, check)
    return PriorMetric.of(held["directions"], held["variances"], NOISE).to(prior.device, prior.dtype)


@torch.no_grad()
def measured_answers(prior: Prior, degradation: Downscale) -> Tensor:
    """Return how small pictures of the prior's faces answer random steps of unit variance in w_plus, (P, N) in float64."""
    random = torch.Generator().manual_seed(0)
    answers = []
    for start in range(0, PAIRS, AT_ONCE):
        count = min(AT_ONCE, PAIRS - start)
        z = torch.randn(count, prior.z_dim, generator=random).to(prior.device, prior.dtype)
        step = torch.randn(count, prior.num_ws, prior.w_dim, generator=random).to(prior.device, prior.dtype)
        v = prior.gaussianise(prior.mapping(z))
        here, there = (prior.synthesis(prior.degaussianise(x)) for x in (v, v + STEP * step))
        answers.append(degradation.forward(there - here).flatten(1).cpu().double() / STEP)
    return torch.cat(answers)


def principal(answers: Tensor) -> tuple[Tensor, Tensor]:
    """Return C's directions (N, K), orthonormal, and variances (K,), where C is the mean outer product of answers (P, N)."""
    _, singular, directions = torch.linalg.svd(answers, full_matrices=False)
    return directions.t(), singular.square() / len(answers)
