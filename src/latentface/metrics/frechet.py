"""The Frechet distance between two sets of features, each taken as a Gaussian, gathered batch by batch.

d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), as in Heusel 2017. It is "FID" only on Inception's features; here it
is taken on whatever features are given, which must be named beside the figure.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentface.errors import InputError


class FrechetAccumulator:
    """Mean and covariance of a stream of features, in float64; nothing else is kept.

    Args:
        width: D, the length of a feature vector.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self._mean = torch.zeros(width, dtype=torch.float64)
        self._scatter = torch.zeros(width, width, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add a batch of features (B, D). Raises InputError: another shape, NaN or infinite values."""
        if features.ndim != 2 or features.shape[1] != len(self._mean) or not bool(torch.isfinite(features).all()):
            raise InputError(f"got features {tuple(features.shape)}, expected finite ones (B, {len(self._mean)})")
        batch = FrechetAccumulator(len(self._mean))
        rows = features.detach().cpu().double()
        if len(rows):
            batch.count = len(rows)
            batch._mean = rows.mean(0)
            batch._scatter = (rows - batch._mean).T @ (rows - batch._mean)
            self.merge(batch)

    def merge(self, other: FrechetAccumulator) -> None:
        """Add what another accumulator has seen (Chan's formula). Raises InputError if the widths differ."""
        if len(other._mean) != len(self._mean):
            raise InputError(f"got features of width {len(other._mean)}, expected {len(self._mean)}")
        total = self.count + other.count
        if not total:
            return
        step = other._mean - self._mean
        self._scatter = self._scatter + other._scatter + torch.outer(step, step) * (self.count * other.count / total)
        self._mean = self._mean + step * (other.count / total)
        self.count = total

    @property
    def mean(self) -> Tensor:
        """The mean, (D,)."""
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance, (D, D). Raises InputError before two features were added."""
        if self.count < 2:
            raise InputError(f"a covariance needs at least two pictures, got {self.count}; add more")
        return self._scatter / (self.count - 1)

    def distance(self, other: FrechetAccumulator) -> float:
        """Return the squared Frechet distance to another set, from 0 up; biased upwards for sets of few pictures.

        Raises InputError: fewer than two pictures in a set, or the widths differ.
        """
        return frechet_distance(self.mean, self.covariance, other.mean, other.covariance)


def frechet_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) for means (D,) and covariances (D, D).

    The trace of the root is taken from the symmetric C1^(1/2) C2 C1^(1/2), so singular covariances do no harm.

    Raises InputError: the shapes differ.
    """
    if mean_a.shape != mean_b.shape or covariance_a.shape != covariance_b.shape:
        raise InputError(f"got features of width {len(mean_a)} and {len(mean_b)}, expected one width")
    a, b = covariance_a.double(), covariance_b.double()
    values, vectors = torch.linalg.eigh(a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ b @ root).clamp_min(0).sqrt().sum()
    distance = (mean_a.double() - mean_b.double()).square().sum() + a.trace() + b.trace() - 2 * cross
    return max(0.0, float(distance))
