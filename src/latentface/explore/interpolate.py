"""The methods that invent nothing: bilinear and bicubic enlargement.

A face in a photograph is turned upright as it is enlarged, which is bilinear in both.
"""

import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import Degradation
from latentface.explore.result import MethodSettings


def bilinear(low: Tensor, *, degradation: Degradation, settings: MethodSettings) -> Tensor:
    """Enlarge low (B, 3, h, w) by bilinear interpolation, (B, 3, H, W)."""
    return _interpolated(low, degradation, "bilinear")


def bicubic(low: Tensor, *, degradation: Degradation, settings: MethodSettings) -> Tensor:
    """Enlarge low (B, 3, h, w) by bicubic interpolation, (B, 3, H, W)."""
    return _interpolated(low, degradation, "bicubic")


def _interpolated(low: Tensor, degradation: Degradation, mode: str) -> Tensor:
    if degradation.mask is not None:  # a face in a photograph: what is outside must not shine in
        return degradation.fit(low)
    # antialias makes PyTorch use a = -0.5, as Pillow does; when enlarging it filters nothing away.
    return F.interpolate(low, size=degradation.high_size, mode=mode, align_corners=False, antialias=True)
