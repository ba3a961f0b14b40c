"""Means with 95 % intervals by paired bootstrap: every method is resampled with the same faces."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval and how many faces are behind it; NaN where there is nothing to say."""

    mean: float
    low: float
    high: float
    n: int


NOTHING = Estimate(float("nan"), float("nan"), float("nan"), 0)


def resampled(count: int, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """Return indices (resamples, count) of faces drawn with replacement: the same ones for the same count, always."""
    return np.random.default_rng(20220).integers(0, count, (resamples, count))


def estimate(values: Array, draws: NDArray[np.int64] | None = None) -> Estimate:
    """Return the mean of values (N,), NaN standing for a face without a figure, with its percentile interval.

    Efron and Tibshirani 1993, section 13.3. One face has no interval. `draws`: indices (resamples, N), shared between
    methods so that their intervals are paired.
    """
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values)
    n = int(known.sum())
    if n == 0:
        return NOTHING
    mean = float(values[known].mean())
    if n == 1:
        return Estimate(mean, float("nan"), float("nan"), 1)
    draws = resampled(len(values)) if draws is None else draws
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw may hit only faces without a figure
        means = np.nanmean(np.where(known, values, np.nan)[draws], axis=1)
    low, high = np.nanquantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean, float(low), float(high), n)


def difference(a: Array, b: Array) -> Estimate:
    """Return the mean of a - b over the faces that both have, with its paired interval."""
    return estimate(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))
