"""How long a face takes here: two steps of the search on noise (of each stage), scaled to all of them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from latentface.bench.core.progress import duration

if TYPE_CHECKING:
    from latentface.restore.engine import Upscaler

MOST_FACES, STEPS, TURN = 4, 2, 10.0  # of the trial; degrees: a photograph's faces stand at an angle


def seconds_a_face(upscaler: Upscaler, low: float, *, photograph: bool = False) -> float:
    """Return the seconds that one sample of a face of `low` px takes; next to nothing where the method does not search."""
    from latentface.degradation import Downscale
    from latentface.explore.registry import total_steps

    steps, whole = total_steps(upscaler.method_settings), upscaler.prior.resolution
    if steps is None or not upscaler.method.searches:
        return 0.01
    draws = getattr(upscaler.method_settings, "candidates", 1) if upscaler.start.kind == "random" else 0
    begins = draws / 3 if draws > 1 else 0.0  # a draw has no gradient
    small = min(max(2, round(low)), whole)
    size = upscaler.exit_side(Downscale(small, whole))
    if size is None:
        return _seconds_a_pass(upscaler, whole, photograph) * (steps + begins)
    coarse = upscaler.coarse_steps
    at_exit = _seconds_a_pass(upscaler, size, photograph) * (coarse + begins)
    return at_exit + _seconds_a_pass(upscaler, whole, photograph) * (steps - coarse)


def _seconds_a_pass(upscaler: Upscaler, size: int, photograph: bool) -> float:
    """Time a few steps at the prior's exit of `size` px, or at its full size, and return the seconds a step and face."""
    import torch

    from latentface.degradation import Degradation, Downscale
    from latentface.explore.registry import with_steps
    from latentface.faces import Similarity, Warp

    settings = upscaler.method_settings
    if hasattr(settings, "candidates"):
        settings = replace(settings, candidates=1)
    if (
        getattr(settings, "pixel_norm", "") == "prior"
    ):  # as long a step; the metric is measured for the faces' own size alone
        settings = replace(settings, pixel_norm="l2")
    faces = min(MOST_FACES, upscaler.batch)
    stages = len(settings.steps) if isinstance(settings.steps, tuple) else 1
    settings = with_steps(settings, STEPS * stages)
    degradation: Degradation = Downscale(max(2, size // 8), size)
    if photograph:
        side = max(2.0, min(size / 2, 64.0))
        place = Similarity.square((side, side), side, TURN)
        degradation = Warp([place] * faces, size, (round(2 * side), round(2 * side)))
    low = torch.rand(faces, 3, *degradation.low_size, generator=torch.Generator().manual_seed(0))
    if degradation.mask is not None:
        low = low * degradation.mask
    times = []
    for _ in range(2):  # the first call pays for warming up
        began = time.perf_counter()
        upscaler.method.function(
            upscaler.prior.at(size),
            low.to(upscaler.prior.device),
            degradation=degradation,
            settings=settings,
            seeds=list(range(faces)),
        )
        times.append(time.perf_counter() - began)
    return min(times) / (faces * STEPS * stages)


def precise_duration(seconds: float) -> str:
    """Write a time for people, tenths of a second too: `0.4 s`, `40 s`, `12 min`."""
    return f"{max(0.1, seconds):.1f} s" if seconds < 9.95 else duration(seconds)
