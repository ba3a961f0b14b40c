"""NIQE (Mittal, Soundararajan, Bovik 2013): how far a picture's statistics are from undistorted photographs'.

The published method: 36 statistics of each 96 px block of the rounded luma (in [0, 255], at full and half size), and
the distance between their mean and covariance and those of a pristine model. One 128 px face has one block and no
covariance, so faces are scored at 256 px (4 blocks); `pooled` takes the blocks of all faces at native size instead.
Neither figure is comparable with those published for other sizes.
"""

from functools import lru_cache
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import correlate
from scipy.special import gamma
from torch import Tensor

from latentface.errors import InputError
from latentface.io.pictures import check_batch
from latentface.metrics.luma import luma
from latentface.metrics.weights import locate

BLOCK = 96  # px, the size that the pristine model was made with
SIDE = 256  # px: what faces of every size, truth included, are brought to
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # the neighbours whose products are modelled, section 2.2


class Niqe:
    """NIQE against a pristine model.

    Args:
        mean: (36,); covariance: (36, 36), both of the pristine statistics; window: (7, 7), the Gaussian of the local moments.
    """

    def __init__(self, mean: np.ndarray, covariance: np.ndarray, window: np.ndarray) -> None:
        self.mean = np.asarray(mean, dtype=np.float64).ravel()
        self.covariance = np.asarray(covariance, dtype=np.float64)
        self.window = np.asarray(window, dtype=np.float64)

    @classmethod
    def load(cls, *, fetch: bool = True) -> Self:
        """Load the published pristine model (MATLAB's, as BasicSR keeps it).

        Raises MissingDataError: it is not at hand and cannot be fetched.
        """
        with np.load(locate("niqe", fetch=fetch), allow_pickle=False) as file:
            return cls(file["mu_pris_param"], file["cov_pris_param"], file["gaussian_window"])

    def score(self, pictures: Tensor, side: int | None = SIDE) -> Tensor:
        """Return each picture's NIQE, (B,) from 0 up, lower is better; NaN where nearly all blocks are flat.

        Args:
            pictures: (B, 3, H, W) in [0, 1].
            side: everything is brought to (side, side) bicubically, antialiased, first; None: scored as it is.

        Raises InputError: fewer than two 96 px blocks.
        """
        check_batch(pictures)
        if side is not None and tuple(pictures.shape[-2:]) != (side, side):
            pictures = F.interpolate(pictures.float(), (side, side), mode="bicubic", antialias=True)
        height, width = pictures.shape[-2:]
        if (height // BLOCK) * (width // BLOCK) < 2:
            raise InputError(
                f"NIQE needs at least two {BLOCK} px blocks, got pictures of {height} x {width}; leave side at {SIDE}, or pool the blocks of many faces"
            )
        return torch.tensor([self._distance(self._block_features(y)) for y in _levels(pictures)], dtype=torch.float32)

    def pooled(self, pictures: Tensor) -> float:
        """Return one NIQE for all pictures, from their blocks at native size, cut from the middle; NaN as `score`.

        Args:
            pictures: (B, 3, H, W) in [0, 1], sides of 96 px or more; comparable between sets of about equal B.

        Raises InputError: a side is below 96 px, or there are fewer than two blocks.
        """
        check_batch(pictures)
        height, width = pictures.shape[-2:]
        if min(height, width) < BLOCK:
            raise InputError(
                f"pooled NIQE needs sides of at least {BLOCK} px, got {height} x {width}; use niqe, which enlarges"
            )
        top, left = (height % BLOCK) // 2, (width % BLOCK) // 2
        features = np.concatenate([self._block_features(y[top:, left:]) for y in _levels(pictures)])
        if len(features) < 2:
            raise InputError(f"pooled NIQE needs at least two blocks, got {len(features)}; give more pictures")
        return self._distance(features)

    def _block_features(self, y: np.ndarray) -> np.ndarray:
        rows, columns = y.shape[0] // BLOCK, y.shape[1] // BLOCK
        y = y[: rows * BLOCK, : columns * BLOCK]
        scales = []
        for side in (BLOCK, BLOCK // 2):
            mean = correlate(y, self.window, mode="nearest")
            deviation = np.sqrt(np.abs(correlate(y * y, self.window, mode="nearest") - mean * mean))
            normal = (y - mean) / (deviation + 1)  # equation 1
            blocks = normal.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)
            scales.append([_statistics(block) for block in blocks])
            y = _half(y)
        return np.concatenate(scales, axis=1)  # (rows * columns, 36)

    def _distance(self, features: np.ndarray) -> float:
        whole = features[~np.isnan(features).any(1)]
        if len(whole) < 2:
            return float("nan")
        difference = self.mean - np.nanmean(features, axis=0)
        covariance = (self.covariance + np.cov(whole, rowvar=False)) / 2
        return float(np.sqrt(difference @ np.linalg.pinv(covariance) @ difference))  # equation 10


def _levels(pictures: Tensor) -> np.ndarray:
    """Return the luma as whole levels, (B, H, W) float64 in [16, 235], as MATLAB's uint8 pictures have it."""
    y = luma(pictures.detach().cpu().double().clamp(0, 1))[:, 0]
    return (y * 255).round().numpy()


def _half(y: np.ndarray) -> np.ndarray:
    """MATLAB's imresize(y, 0.5): bicubic (a = -0.5) stretched by 2, edges mirrored; both sides even."""
    at = np.abs(np.arange(-3.5, 4) / 2)
    inner = 1.5 * at**3 - 2.5 * at**2 + 1
    outer = -0.5 * at**3 + 2.5 * at**2 - 4 * at + 2
    weights = np.where(at <= 1, inner, outer)
    weights /= weights.sum()
    for _ in range(2):  # down, turn, down, turn
        padded = np.pad(y, ((3, 3), (0, 0)), mode="symmetric")
        y = sum(w * padded[k : k + len(y) : 2] for k, w in enumerate(weights)).T
    return y


def _statistics(block: np.ndarray) -> list[float]:
    """Return the 18 statistics of a block of normalised luma: its own fit's, then its neighbours' products'."""
    shape, left, right = _fit(block)
    statistics = [shape, (left + right) / 2]
    for shift in SHIFTS:
        shape, left, right = _fit(block * np.roll(block, shift, axis=(0, 1)))
        mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)  # equation 8
        statistics += [shape, float(mean), left, right]
    return statistics


@lru_cache(maxsize=1)
def _shapes() -> tuple[np.ndarray, np.ndarray]:
    shapes = np.arange(0.2, 10.001, 0.001)
    return shapes, gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))


def _fit(values: np.ndarray) -> tuple[float, float, float]:
    """Fit an asymmetric generalised Gaussian by moments (Lasmar 2009): shape, left and right scale; NaN for a flat block."""
    below, above = values[values < 0], values[values > 0]
    if not (below.size and above.size):
        return float("nan"), float("nan"), float("nan")
    left, right = np.sqrt(np.mean(below**2)), np.sqrt(np.mean(above**2))
    ratio = left / right
    moment = np.mean(np.abs(values)) ** 2 / np.mean(values**2)
    moment *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, moments = _shapes()
    shape = shapes[np.argmin((moments - moment) ** 2)]
    spread = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return float(shape), float(left * spread), float(right * spread)
