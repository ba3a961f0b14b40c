"""Run a network over a photograph of any size, tile by tile, so that memory follows the tile and not the picture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentface.errors import InputError
from latentface.io.pictures import check_batch


@torch.no_grad()
def upscale_in_tiles(
    network: Callable[[Tensor], Tensor], factor: int, picture: Tensor, *, tile: int = 192, overlap: int = 16
) -> Tensor:
    """Return a picture (3, H, W) in [0, 1] as (3, H factor, W factor) in [0, 1], on the CPU.

    Args:
        network: maps (1, 3, h, w) to (1, 3, h factor, w factor).
        picture: on the network's device, or on the CPU beside a network on the CPU.
        tile: side in px of the part that a tile gives to the result; overlap: px around it that it only looks at. Where
            the network sees no farther than `overlap`, the result equals that of the whole picture at once.

    Raises InputError: the picture or the numbers cannot be used.
    """
    if tile < 1 or overlap < 0:
        raise InputError(f"tile is {tile} and overlap {overlap} px; expected at least 1 and 0")
    check_batch(picture[None] if picture.ndim == 3 else picture, "the picture to enlarge")
    if picture.ndim != 3:
        raise InputError(f"the picture to enlarge: got {tuple(picture.shape)}, expected one picture (3, H, W)")
    _, height, width = picture.shape
    result = torch.empty(3, height * factor, width * factor)
    for top in range(0, height, tile):
        bottom, above = min(top + tile, height), min(overlap, top)
        for left in range(0, width, tile):
            right, before = min(left + tile, width), min(overlap, left)
            part = picture[None, :, top - above : bottom + overlap, left - before : right + overlap]
            high = network(part.contiguous(memory_format=torch.channels_last))[0].clamp(0, 1)
            y, x = above * factor, before * factor
            inner = high[:, y : y + (bottom - top) * factor, x : x + (right - left) * factor]
            result[:, top * factor : bottom * factor, left * factor : right * factor] = inner.cpu()
    return result
