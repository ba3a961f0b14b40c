"""The Frechet distance between two sets of features, each taken as a Gaussian, gathered batch by batch.

d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), as in Heusel 2017. It is "FID" only on Inception's features; here it
is taken on whatever features are given, which must be named beside the figure.
"""

from typing import Self

import torch
from torch import Tensor

from latentface.errors import InputError


class FrechetAccumulator:
    """Mean (D,) and covariance of a stream of features of width D, in float64; nothing else is kept."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        self._scatter = torch.zeros(width, width, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add a batch of features (B, D). Raises InputError: another shape, NaN or infinite values."""
        if features.ndim != 2 or features.shape[1] != len(self.mean) or not bool(torch.isfinite(features).all()):
            raise InputError(f"got features {tuple(features.shape)}, expected finite ones (B, {len(self.mean)})")
        if not len(features):
            return
        rows = features.detach().cpu().double()
        total = self.count + len(rows)
        mean = rows.mean(0)
        step = mean - self.mean  # Chan's formula
        scatter = (rows - mean).T @ (rows - mean)
        self._scatter = self._scatter + scatter + torch.outer(step, step) * (self.count * len(rows) / total)
        self.mean = self.mean + step * (len(rows) / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance, (D, D). Raises InputError before two features were added."""
        if self.count < 2:
            raise InputError(f"a covariance needs at least two pictures, got {self.count}; add more")
        return self._scatter / (self.count - 1)

    def distance(self, other: Self) -> float:
        """Return the squared Frechet distance to another set, from 0 up; biased upwards for sets of few pictures.

        The trace of the root is taken from the symmetric C1^(1/2) C2 C1^(1/2), so singular covariances do no harm.
        Raises InputError: fewer than two pictures in a set, or the widths differ.
        """
        a, b = self.covariance, other.covariance
        if a.shape != b.shape:
            raise InputError(f"got features of width {len(a)} and {len(b)}, expected one width")
        values, vectors = torch.linalg.eigh(a)
        root = vectors * values.clamp_min(0).sqrt() @ vectors.T
        cross = torch.linalg.eigvalsh(root @ b @ root).clamp_min(0).sqrt().sum()
        distance = (self.mean - other.mean).square().sum() + a.trace() + b.trace() - 2 * cross
        return max(0.0, float(distance))
