"""Mosaics: pictures in which each true pixel was repeated k times a side, taken at their true size.

A picture's change from one row or column to the next is measured at each border between them. In a mosaic it lies on
the borders of the true pixels, a + k n with n = 0, 1, 2 ..., and between them there is none, or a JPEG's errors. k need
not be whole, and the first and last true pixels may be cut.
"""

# N the picture's side, k repeats, e (N - 1,) the change at each border: e[i] lies between pixels i and i + 1

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentface.io.photo import Photo
from latentface.io.pictures import LUMA

LEAST_REPEATS = 2.0
LEAST_PIXELS = 8  # true pixels a side of a mosaic, at least
SEEN = 512  # rows and columns that are measured at most
STRONG = 24 / 255  # a change of luma above it counts as this much
MARGIN = 0.005  # share of the change that may lie in an even margin, on each side
SHARE = 0.3  # of the change, above chance's share, that must lie on the borders
BLOCKS, BLOCK_SHARE = 8.0, 0.8  # px: a JPEG's own blocks, and the share that is asked of them
WEAKEST, NOISE, CLEAR = 0.15, 0.85, 1.0  # quantiles: the weak borders' change, against the strong places' between them
PEAKS, LOWEST = 12, 0.25  # periods that are tried, and how weak one may be beside the strongest


@dataclass(frozen=True, slots=True, eq=False)
class Mosaic:
    """Where a mosaic's true pixels begin and end; `repeats`: how many times each stands along a side, on average."""

    repeats: float
    rows: NDArray[np.int64]  # (h + 1,)
    columns: NDArray[np.int64]  # (w + 1,)


def true_size(photo: Photo) -> Photo:
    """Return a mosaic with one pixel for each true one, the mean of its repeats; any other picture as it is.

    A true pixel at the border counts where at least half of it is seen. `repeats` is then k, and a JPEG's tables, which
    say nothing of means, are left out.
    """
    found = find_mosaic(photo.pixels)
    if found is None:
        return photo
    alpha = None
    if photo.alpha is not None:
        alpha = _means(photo.alpha[:, :, None], found)[:, :, 0]
    return replace(photo, pixels=_means(photo.pixels, found), alpha=alpha, tables=None, repeats=found.repeats)


def _means(pixels: NDArray[Any], mosaic: Mosaic) -> NDArray[Any]:
    """Return the mean of each true pixel's repeats (h, w, C)."""
    rows, columns = mosaic.rows, mosaic.columns
    inside = pixels[rows[0] : rows[-1], columns[0] : columns[-1]].astype(np.float64)
    sums = np.add.reduceat(np.add.reduceat(inside, rows[:-1] - rows[0], 0), columns[:-1] - columns[0], 1)
    means: NDArray[Any] = sums / (np.diff(rows)[:, None, None] * np.diff(columns)[:, None])
    return means.round().astype(pixels.dtype)


def find_mosaic(pixels: NDArray[Any]) -> Mosaic | None:
    """Return the lattice of a mosaic (H, W, C) of bytes or 16-bit numbers; None for any other picture."""
    least = LEAST_PIXELS * LEAST_REPEATS
    if min(pixels.shape[:2]) < least:
        return None
    top = float(np.iinfo(pixels.dtype).max)
    found = []
    for axis in (0, 1):
        step = max(1, pixels.shape[1 - axis] // SEEN)
        part = pixels[:, ::step] if axis == 0 else pixels[::step].transpose(1, 0, 2)
        luma = part.astype(np.float32) @ np.array(LUMA, np.float32) / top if part.shape[2] == 3 else part[:, :, 0] / top
        lines = borders(np.square(np.minimum(np.abs(np.diff(luma, axis=0)), STRONG)).mean(1, dtype=np.float64))
        if lines is None:
            return None
        found.append(lines)
    (rows, high), (columns, wide) = found
    if abs(high - wide) > 0.05 * max(high, wide):
        return None
    return Mosaic(_average(high, wide, pixels.shape[:2], rows, columns), rows, columns)


def _average(
    high: float, wide: float, size: tuple[int, ...], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> float:
    """Return k: a whole number where both sides are near it, or the picture's side over the true one where that fits."""
    k = (high + wide) / 2
    if max(abs(high - round(k)), abs(wide - round(k))) < 0.02:
        return float(round(k))
    whole = size[1] / (len(columns) - 1)
    uncut = abs(whole - size[0] / (len(rows) - 1)) < 0.02 * k and abs(whole - k) < 0.02 * k
    return whole if uncut else k


def borders(change: NDArray[np.float64]) -> tuple[NDArray[np.int64], float] | None:
    """Return the borders of the true pixels along a side, and k, given the change e at each border of two pixels.

    The first and last borders are the picture's own, where at least half of a true pixel is seen there. None: no mosaic.
    """
    total = change.cumsum()
    if total[-1] <= 0:
        return None
    first, last = np.searchsorted(total / total[-1], (MARGIN, 1 - MARGIN))
    seen = change[first : last + 1]  # without even margins
    best: tuple[float, float, float] | None = None
    for period in _periods(np.sqrt(seen)):
        k, start, share = _fitted(seen, *period)
        if share >= (BLOCK_SHARE if abs(k - BLOCKS) < 0.1 else SHARE) and (best is None or share > best[2]):
            best = k, start, share
    if best is None:
        return None
    k, start, _ = best
    return _whole(change, (start + first + 1) % k, k), k


def _periods(change: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return (k, first border) of the strongest periods in a side's change, the longest first."""
    even = np.minimum(change, np.quantile(change, 0.95)) - change.mean()
    padded = 8 << max(4, math.ceil(math.log2(len(even))))
    waves = np.fft.rfft(even * np.hanning(len(even)), padded)
    size = np.abs(waves)
    size[: math.ceil(padded * (LEAST_PIXELS - 1) / len(even))] = 0
    inner = size[1:-1]
    peaks = np.flatnonzero((inner >= size[:-2]) & (inner > size[2:]) & (inner >= LOWEST * size.max())) + 1
    if size[-1] >= LOWEST * size.max():  # two pixels: the last of the waves
        peaks = np.append(peaks, len(size) - 1)
    best = sorted(peaks[np.argsort(-size[peaks])[:PEAKS]])
    return [(padded / p, (-np.angle(waves[p]) / (2 * math.pi) * padded / p) % (padded / p)) for p in best]


def _fitted(change: NDArray[np.float64], k: float, start: float) -> tuple[float, float, float]:
    """Return the k and start whose borders start + k n fit the change best, and the share of it on them; 0 for no mosaic.

    The share is that above chance's, at most 1. It is 0 where some borders change hardly more than what lies between.
    """
    for reach in (max(1.0, k / 4), 1.0):
        n, lines = _lines(change, k, start, reach)
        weight = np.sqrt(change[lines])
        if len(n) < LEAST_PIXELS - 1 or not weight.sum() > 0:
            return k, start, 0.0
        middle, place = np.average(n, weights=weight), np.average(lines, weights=weight)
        spread = (weight * (n - middle) ** 2).sum()
        if not spread > 0:
            return k, start, 0.0
        k = float((weight * (n - middle) * (lines - place)).sum() / spread)
        start = float(place - k * middle)
        if k < LEAST_REPEATS - 0.02:
            return k, start, 0.0
    _, lines = _lines(change, k, start, 0.75)
    on = np.zeros(len(change), bool)
    on[lines] = True
    if len(lines) < LEAST_PIXELS - 1 or on.sum() < len(lines) or on.all():
        return k, start, 0.0
    share = (change[on].sum() / change.sum() - on.mean()) / (1 - on.mean())
    clear = np.quantile(change[on], WEAKEST) > CLEAR * np.quantile(change[~on], NOISE)
    return k, start, float(share) if clear else 0.0


def _lines(
    change: NDArray[np.float64], k: float, start: float, reach: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers n of the borders start + k n along a side, and the place of the most change within `reach` of each."""
    n = np.arange(math.ceil(-start / k - 1e-6), math.floor((len(change) - 1 - start) / k + 1e-6) + 1)
    lines = []
    for x in start + k * n:
        low, high = max(0, math.ceil(x - reach)), min(len(change) - 1, math.floor(x + reach))
        lines.append(low + int(np.argmax(change[low : high + 1])))
    return n, np.array(lines, np.int64)


def _whole(change: NDArray[np.float64], start: float, k: float) -> NDArray[np.int64]:
    """Return all borders along a side; its ends are borders where at least half of a true pixel is seen there."""
    side = len(change) + 1
    lines = _lines(change, k, start - 1, 0.75)[1] + 1
    lines = lines[(lines > 0) & (lines < side)]
    if lines[0] >= k / 2 - 0.01:
        lines = np.insert(lines, 0, 0)
    if side - lines[-1] >= k / 2 - 0.01:
        lines = np.append(lines, side)
    return lines
