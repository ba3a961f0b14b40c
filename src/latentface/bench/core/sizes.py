"""Which size a table compares at, and what lies between it and the prior's own pictures.

A table has one high size R: truths are brought to R px, low pictures are shrunk from there, and interpolation and the
supervised baselines enlarge to R px. A prior may make larger pictures. Its searches then invert the same kernel from
the prior's own size straight to the low one, as `upscale` does, and the faces found are shrunk by area to R px before
they are kept and compared. Shrinking by area and then by the kernel is not quite the kernel alone; the difference is
far below a search's own error (docs/decisions.md, "From the code").
"""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import Downscale, shrinking
from latentface.errors import InputError
from latentface.explore.result import Exploration, OnStep, Step, psnr_each
from latentface.prior.prior import Prior

MOST = 512  # px, where no size is asked for: no set of faces at hand has more detail of its own


def high_side(prior: Prior, asked: int | None = None) -> int:
    """Return the high size R of a table: as asked for, else the prior's, 512 px at most. Raises InputError."""
    side = min(prior.resolution, MOST) if asked is None else asked
    if not 2 <= side <= prior.resolution:
        raise InputError(
            f"the high size is {side} px; expected 2 to {prior.resolution} px, the size of what the prior {prior.name} "
            "makes: use another --high-size or prior"
        )
    return side


def by_area(pictures: Tensor, side: int) -> Tensor:
    """Shrink pictures (B, 3, H, H) to `side` px by the mean over areas: exact where the factor is whole."""
    return pictures if pictures.shape[-1] == side else F.interpolate(pictures, size=(side, side), mode="area")


def searched_from(prior: Prior, degradation: Downscale) -> Downscale:
    """Return what a search with a prior inverts, where a table shrinks by `degradation` (R to low px).

    The same kernel from the prior's own size. A face that the table does not shrink at all is compared at R px, so a
    search of it inverts the area.
    """
    d = degradation
    if d.high == prior.resolution:
        return d
    return shrinking(d.low, prior.resolution, "box" if d.low == d.high else d.kernel, d.sigma)


def compared_at(found: Exploration, low: Tensor, degradation: Downscale) -> Exploration:
    """Return what was found as the table sees it: shrunk by area to R px, its agreement measured from there."""
    side = degradation.high
    if found.high.shape[-1] == side:
        return found
    high = by_area(found.high, side)
    again = degradation.forward(high)
    return replace(found, high=high, low_again=again, consistency_db=psnr_each(again, low))


def previews_at(on_step: OnStep | None, side: int) -> OnStep | None:
    """Return a callback that shows steps to `on_step` with their pictures shrunk by area to `side` px."""
    if on_step is None:
        return None

    def told(step: Step) -> bool | None:
        return on_step(replace(step, preview=lambda: by_area(step.preview(), side)))

    return told
