"""How noisy a photograph is about a face: sensor noise by a robust second difference, JPEG's error by its tables or its blocks.

The answer is a standard deviation in units of the full grey range. It sets how hard a search and the projection trust the
photograph's pixels; what cannot be told from a clean, sharp face is 0, and the projection is exact.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.errors import InputError
from latentface.io.pictures import LUMA

REGION, GRID_REGION = 128, 256  # px: the least sides of the regions where noise and blocks are measured
BLOCK = 8  # px: of a block of equal weight here, and of JPEG's
FLAT = 0.2  # share of blocks, the flattest, that tell the noise: elsewhere there are hair and edges
FLATTEST_BIAS = 0.79  # on pure noise the flattest fifth's rms is this part of the true one
LEAST = 1.5 / 255  # clean faces of sharp detail are told as 0.4 to 1.5 grey levels
MOST = 0.2
# Standard deviation of a photograph's DCT coefficient (u, v) in grey levels: FALL * (u + v) ** -SLOPE (256 CelebA faces).
FALL, SLOPE = 130.0, 1.6
CLIP = 8 / 255  # steps beyond this are edges
CLEAR = 3.0  # standard deviations by which the grid must stand out both ways; clean pictures reach 2.6
BLOCKINESS = 3.0  # JPEG's rms error in units of the mean excess step across its block borders: 2.7 to 3.3


def estimate_sigma(
    photo: Tensor, box: tuple[float, float, float, float], tables: Sequence[Sequence[int]] | None = None
) -> float:
    """Return the standard deviation of a photograph's (3, H, W) noise about a face, 0 or from 1.5 / 255 to 0.2.

    Args:
        box: left, top, right, bottom of the face in pixels; a region of at least `REGION` px about it is measured.
        tables: the JPEG file's quantisation tables (the first is luma's), in any order of the 64 numbers; None: not a
            JPEG, or one that was saved as something else: its blocks are looked for.

    Raises InputError: no picture.
    """
    if photo.ndim != 3 or photo.shape[0] != 3 or 0 in photo.shape:
        raise InputError(f"photo: got {tuple(photo.shape)}, expected a picture (3, H, W) in [0, 1]")
    jpeg = jpeg_sigma(tables) if tables else BLOCKINESS * blockiness(region_about(photo, box, GRID_REGION))
    sigma = math.hypot(noise_sigma(region_about(photo, box, REGION)), jpeg)
    return min(sigma, MOST) if sigma >= LEAST else 0.0


def region_about(photo: Tensor, box: tuple[float, float, float, float], least: int) -> Tensor:
    """Return the grey picture (h, w) about a box, twice as large and at least so many px a side where there are so many."""
    out = []
    for low, high, length in ((box[1], box[3], photo.shape[1]), (box[0], box[2], photo.shape[2])):
        side = min(length, max(least, math.ceil(2 * (high - low))))
        start = min(max(0, round((low + high - side) / 2)), length - side)
        out.append(slice(start, start + side))
    weights = photo.new_tensor(LUMA)[:, None, None]
    return (photo[:, out[0], out[1]] * weights).sum(0)


def noise_sigma(grey: Tensor) -> float:
    """Return the standard deviation of white noise in a grey picture (h, w) in [0, 1].

    The second difference both ways (Immerkaer 1996) blots out ramps; the flattest blocks that are neither black nor white
    tell the rest. Noise in flat places is what is measured: a photograph's texture does not count.
    """
    if min(grey.shape) < 2 * BLOCK:
        return 0.0
    step = grey.new_tensor([1.0, -2.0, 1.0]) / math.sqrt(6)  # unit gain on white noise
    response = F.conv2d(grey[None, None], torch.outer(step, step)[None, None])
    energy = F.avg_pool2d(response.square(), BLOCK)[0, 0].flatten()
    mean = F.avg_pool2d(grey[None, None, 1:-1, 1:-1], BLOCK)[0, 0].flatten()
    energy = energy[(mean > 0.03) & (mean < 0.97)]  # clipped noise is no measure
    if len(energy) < 4:
        return 0.0
    flattest = energy.sort().values[: max(2, round(FLAT * len(energy)))]
    return float(flattest.mean().sqrt()) / FLATTEST_BIAS


def blockiness(grey: Tensor) -> float:
    """Return by how much steps across the borders of an 8 px grid exceed those beside them, in [0, 1]; 0 without a grid.

    The grid may start anywhere: of its eight places a side the one that stands out is taken, if it does clearly.
    """
    across, down = _excess(grey), _excess(grey.t())
    return (across[0] + down[0]) / 2 if min(across[1], down[1]) > CLEAR else 0.0


def _excess(grey: Tensor) -> tuple[float, float]:
    """Return the excess of the place that stands out most, and how clearly it does, in standard deviations."""
    if min(grey.shape) < 4 * BLOCK:
        return 0.0, 0.0
    # A ramp's step is the mean of its neighbours' and cancels; a border's does not, and lowers its two neighbours.
    step = (grey[:, 1:] - grey[:, :-1]).abs()
    beyond = (step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2).clamp(-CLIP, CLIP).mean(0)  # (w - 3,)
    places = beyond[: len(beyond) // BLOCK * BLOCK].view(-1, BLOCK).mean(0)
    best = int(places.argmax())
    others = places[[(best + k) % BLOCK for k in range(2, BLOCK - 1)]]
    excess = float(places[best] - others.mean())
    return excess, excess / max(float(others.std()), 1e-9)


def jpeg_sigma(tables: Sequence[Sequence[int]]) -> float:
    """Return the rms error in luma that a JPEG's first table gives a usual photograph, in units of the full grey range.

    A coefficient's error is that of rounding, q / sqrt(12), or the coefficient itself where that is smaller.
    """
    table = np.sort(np.asarray(tables[0], dtype=np.float64).ravel())  # low frequencies have the small numbers
    u, v = np.meshgrid(np.arange(8), np.arange(8))
    order = np.sort((u + v).ravel()).clip(1)
    usual = FALL * order**-SLOPE
    error = np.minimum(table / math.sqrt(12), usual)
    return float(np.sqrt(np.square(error).mean())) / 255
