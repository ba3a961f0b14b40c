"""Several pictures enlarged in one search, as the command line does it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from latentface.io.photo import Photo
from latentface.restore.aligned import AlignedFace
from latentface.restore.job import OnJobs
from latentface.restore.upscaler import Upscaler


def faces_of(upscaler: Upscaler, lows: Sequence[Tensor], on_step: OnJobs | None = None) -> list:
    """Return the results of aligned faces (3, h, w), or the errors in their places, in order."""
    return list(upscaler.finish([AlignedFace.find(upscaler.engine, low) for low in lows], on_step))


def photographs_of(upscaler: Upscaler, photos: Sequence[Photo], on_step: OnJobs | None = None) -> list:
    """Return the results of photographs, or the errors in their places, in order."""
    return list(upscaler.finish([upscaler.find(photo, aligned=False) for photo in photos], on_step))
