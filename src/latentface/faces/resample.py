"""One antialiased filter for turned grids: every output pixel is a weighted mean of the source's pixels.

The kernel stands along the output's own axes and is stretched by the shrinking factor, as Pillow's and PyTorch's
antialiased resamplers do; without a turn it gives the same numbers as theirs.
"""

# P output pixels, T taps a side of the window, C channels

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from latentface.degradation import KERNELS, kernel_value
from latentface.errors import UnknownNameError
from latentface.faces.similarity import Similarity

RADIUS = {"bicubic": 2.0, "bilinear": 1.0, "box": 0.5, "lanczos": 3.0}
MAX_TAPS = 1 << 17  # a chunk's weights: 1 MiB in float64


@dataclass(frozen=True, slots=True)
class Taps:
    """The weights of output pixels `first` to `first + P`, row by row of the output."""

    first: int
    index: Tensor  # (P, T * T) int64, flat index of the source's pixel, 0 where the weight is 0
    weight: Tensor  # (P, T * T) float64; a row sums to 1, or to 0 where the output's pixel has no source
    inside: Tensor  # (P,) bool: the output pixel's centre lies in the source


def taps(
    transform: Similarity, box: tuple[int, int, int, int], source: tuple[int, int], kernel: str = "bicubic"
) -> Iterator[Taps]:
    """Yield the weights of a box (left, top, width, height) of output pixels, in chunks of at most `MAX_TAPS`.

    The transform goes from edge coordinates of the output to those of the source (H, W), in pixels. Raises
    UnknownNameError: a kernel that is not in `KERNELS`.
    """
    if kernel not in RADIUS:
        raise UnknownNameError("kernel", kernel, KERNELS)
    left, top, width, height = box
    stretch = max(1.0, transform.scale)
    cos, sin = transform.a / transform.scale, transform.b / transform.scale
    half = RADIUS[kernel] * stretch * (abs(cos) + abs(sin))  # of the window along the source's axes
    side = math.ceil(2 * half)
    step = max(1, MAX_TAPS // (side * side))
    offsets = torch.arange(side, dtype=torch.float64)
    for first in range(0, width * height, step):
        flat = torch.arange(first, min(first + step, width * height))
        x, y = left + flat % width + 0.5, top + flat // width + 0.5
        x, y = x.double(), y.double()
        x, y = transform.a * x - transform.b * y + transform.dx, transform.b * x + transform.a * y + transform.dy
        column = torch.floor(x - half + 0.5)[:, None] + offsets  # (P, T), every pixel whose centre is in the window
        row = torch.floor(y - half + 0.5)[:, None] + offsets
        across, down = column + 0.5 - x[:, None], row + 0.5 - y[:, None]
        u = (cos * across[:, None, :] + sin * down[:, :, None]) / stretch  # (P, T, T), along the output's axes
        v = (cos * down[:, :, None] - sin * across[:, None, :]) / stretch
        weight = kernel_value(u, kernel) * kernel_value(v, kernel)
        there = ((row >= 0) & (row < source[0]))[:, :, None] & ((column >= 0) & (column < source[1]))[:, None, :]
        inside = (x >= 0) & (x <= source[1]) & (y >= 0) & (y <= source[0])
        weight = (weight * (there & inside[:, None, None])).flatten(1)
        total = weight.sum(1, keepdim=True)
        solid = total.abs() > 1e-6
        weight = torch.where(solid, weight / torch.where(solid, total, torch.ones_like(total)), 0.0)
        index = (row[:, :, None] * source[1] + column[:, None, :]).flatten(1)
        yield Taps(first, torch.where(weight != 0, index, 0.0).long(), weight, inside & solid[:, 0])


def resample(source: Tensor, transform: Similarity, box: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Return the source (C, H, W) seen through `transform` in a box of output pixels (as `taps`), and the mask.

    The picture (C, height, width) is not clamped, and 0 where it has no source; the mask is (1, height, width).
    """
    channels, height, width = source.shape
    flat = source.reshape(channels, -1)
    out = source.new_zeros(channels, box[3] * box[2])
    mask = torch.zeros(1, box[3] * box[2], dtype=torch.bool, device=source.device)
    for part in taps(transform, box, (height, width)):
        weight, index = part.weight.to(source), part.index.to(source.device)
        here = slice(part.first, part.first + len(index))
        for c in range(channels):
            out[c, here] = (flat[c][index] * weight).sum(1)
        mask[0, here] = part.inside.to(source.device)
    return out.view(channels, box[3], box[2]), mask.view(1, box[3], box[2])
