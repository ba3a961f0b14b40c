"""The methods that invent nothing: bilinear and bicubic enlargement, in the common signature.

A face in a photograph is turned upright as it is enlarged, which is bilinear in both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import Degradation
from latentface.explore.result import Exploration, MethodSettings, OnStep, check_faces, finish
from latentface.prior.prior import Prior


@dataclass(frozen=True, kw_only=True, slots=True)
class InterpolationSettings(MethodSettings):
    """Interpolation has nothing to set but the projection."""


def bilinear(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: InterpolationSettings = InterpolationSettings(),
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Exploration:
    """Enlarge by bilinear interpolation; the prior and the seeds are not used."""
    return _interpolate("bilinear", low, degradation, settings, tuple(seeds))


def bicubic(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: InterpolationSettings = InterpolationSettings(),
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Exploration:
    """Enlarge by bicubic interpolation; the prior and the seeds are not used."""
    return _interpolate("bicubic", low, degradation, settings, tuple(seeds))


def _interpolate(
    mode: str, low: Tensor, degradation: Degradation, settings: InterpolationSettings, seeds: tuple[int, ...]
) -> Exploration:
    began = time.perf_counter()
    check_faces(low, degradation, seeds)
    if degradation.mask is not None:  # a face in a photograph: what is outside must not shine in
        high = degradation.fit(low)
    else:
        # antialias makes PyTorch use a = -0.5, as Pillow does; when enlarging it filters nothing away.
        high = F.interpolate(low, size=degradation.high_size, mode=mode, align_corners=False, antialias=True)
    return finish(
        high, low, degradation, method=mode, settings=settings, seeds=seeds, seconds=time.perf_counter() - began
    )
