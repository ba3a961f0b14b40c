"""Small pictures as a warm start sees them: every size and every face of a photograph becomes one upright small picture.

A bank and an encoder are made of the prior's own faces and asked about pictures of any size. Both look at EYE x EYE
pixels: the input brought upright and enlarged bilinearly to the prior's size (`Degradation.fit`), then shrunk. A face of
the prior is brought there by one small matrix, as if it had been shrunk to the input's size and had come the same way.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from latentface.degradation import Degradation, enlargements, resampling_matrix, resize

EYE = 16  # px
LEAST_SIDE = 2


def seen(low: Tensor, degradation: Degradation) -> Tensor:
    """Return low pictures (B, 3, h, w) as they are looked at, (B, 3, EYE, EYE); a row depends on its picture alone."""
    return torch.cat([resize(one, EYE) for one in degradation.fit(low).split(1)])


def low_sides(degradation: Degradation, count: int) -> tuple[int, ...]:
    """Return how many pixels of the input each of `count` faces is wide: the side, or a photograph's own scale."""
    high = degradation.high_size[0]
    return tuple(min(high, max(LEAST_SIDE, round(high / f))) for f in enlargements(degradation, count))


@lru_cache(maxsize=256)
def sight_matrix(side: int, source: int, high: int) -> Tensor:
    """Return M (EYE, source), float64: M Y M^T is how a face Y of `source` px looks when it was shrunk to `side` px.

    Args:
        high: the prior's size, to which the input is enlarged before it is shrunk to EYE.
    """
    matrix = torch.eye(source, dtype=torch.float64)
    if side < source:
        matrix = resampling_matrix(side, source, "bicubic")
    for size, mode in ((high, "bilinear"), (EYE, "bicubic")):
        if size != matrix.shape[0]:
            matrix = resampling_matrix(size, matrix.shape[0], mode) @ matrix
    return matrix


def blur(pictures: Tensor, side: int, high: int) -> Tensor:
    """Return faces (B, 3, s, s) as they look at EYE px after having been shrunk to `side` px, (B, 3, EYE, EYE)."""
    m = sight_matrix(side, pictures.shape[-1], high).to(pictures)
    return m @ pictures @ m.t()


def octaves(sides: Sequence[int], high: int) -> Tensor:
    """Return log2 of the enlargement, (B,): the number by which an encoder knows how small its input was."""
    return torch.tensor([math.log2(high / side) for side in sides])
