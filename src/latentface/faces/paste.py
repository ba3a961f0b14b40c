"""Bring finished faces home: inverse warp, a feathered border, and a fair share where faces overlap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentface.degradation import resize
from latentface.errors import InputError
from latentface.faces.place import SMALL
from latentface.faces.resample import resample
from latentface.faces.similarity import Similarity

FEATHER = 0.12  # of the square's side: FFHQ's squares have some 15 % of hair and background on each side of the face
SHARE_POWER = 8  # how sharply overlapping faces are parted at the line where both are equally far from their middles


def pasted_side(side: float, size: int) -> int:
    """Return how many of a face's `size` px are needed to paste it at `side` px: twice as many, as a power of two.

    Shrunk to these first, a face of 1024 px goes home in a tenth of the time.
    """
    return min(size, max(SMALL, 1 << math.ceil(math.log2(max(1.0, 2 * side)))))


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A finished face (3, R, R) in [0, 1] and its transform, the unit square -> the photograph before enlarging."""

    face: Tensor
    transform: Similarity


def paste_faces(
    background: Tensor,
    patches: Sequence[Patch],
    factor: float = 1.0,
    feather: float = FEATHER,
    *,
    in_place: bool = False,
) -> Tensor:
    """Return the background with all faces pasted; their order does not matter.

    A face fades out smoothly over `feather` of its side at the square's border. Where squares overlap, a pixel goes to
    the face whose middle is nearer, in units of that face's size, so no face is hidden by the margin of a larger one.
    Pixels outside all squares keep their bits.

    The background (3, F * H, F * W) is the photograph enlarged by `factor` F; `in_place` changes it itself, where
    memory is short. The feather is 0 (a hard edge) to 0.5. Raises InputError: a background that is no picture, a factor
    or feather out of range.
    """
    if background.ndim != 3 or background.shape[0] != 3:
        raise InputError(f"background: got {tuple(background.shape)}, expected a picture (3, H, W)")
    if not (math.isfinite(factor) and factor > 0):
        raise InputError(f"factor is {factor}; expected a number above 0")
    if not 0 <= feather <= 0.5:
        raise InputError(f"feather is {feather}; expected 0 to 0.5 of the face's side")
    out = background if in_place else background.clone()
    homes = [p.transform.scaled(factor) for p in patches]
    boxes = [_box(home, out.shape[1], out.shape[2]) for home in homes]
    for i, patch in enumerate(patches):
        left, top, width, height = box = boxes[i]
        if width <= 0 or height <= 0:
            continue
        own, strength = _weight(homes[i], box, feather)
        total, most, later = strength.clone(), own.clone(), torch.zeros_like(own)
        for j, other in enumerate(boxes):
            if j != i and _meet(box, other):
                theirs, push = _weight(homes[j], box, feather)
                total, most = total + push, torch.maximum(most, theirs)
                if j > i:
                    later = later + push
        # Shares a_i = most * strength_i / total, laid one over the other: b_i = a_i / (1 - the later ones' shares).
        scale = most / total.clamp(min=1e-30)
        alpha = (strength * scale / (1 - later * scale).clamp(min=1e-6)).clamp(0, 1)
        face = patch.face.detach().to(out)
        face = resize(face[None], pasted_side(homes[i].scale, face.shape[-1]))[0]
        picture, _ = resample(face, homes[i].inverse().scaled(face.shape[-1]), box)
        region = out[:, top : top + height, left : left + width]
        region += alpha.to(out) * (picture.clamp(0, 1) - region)
    return out


def compose(background: Tensor, patches: Sequence[Patch], feather: float = 0.0) -> Tensor:
    """Return a photograph (3, H, W) of known faces at known places, as each `Warp` shows them at feather 0."""
    return paste_faces(background, patches, 1.0, feather)


def _box(home: Similarity, height: int, width: int) -> tuple[int, int, int, int]:
    low = np.floor(home.corners.min(0)).clip(0).astype(int)
    high = np.minimum(np.ceil(home.corners.max(0)), (width, height)).astype(int)
    return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])


def _meet(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _weight(home: Similarity, box: tuple[int, int, int, int], feather: float) -> tuple[Tensor, Tensor]:
    """Return a face's feathered mask over a box of pixels (height, width), float64 in [0, 1], and it times nearness."""
    left, top, width, height = box
    x = torch.arange(width, dtype=torch.float64)[None] + left + 0.5
    y = torch.arange(height, dtype=torch.float64)[:, None] + top + 0.5
    back = home.inverse()
    u, v = back.a * x - back.b * y + back.dx, back.b * x + back.a * y + back.dy  # (height, width), unit square
    mask = _fade(u, feather) * _fade(v, feather)
    distance = torch.hypot(u - 0.5, v - 0.5)
    return mask, mask * (distance + 0.05) ** -SHARE_POWER


def _fade(t: Tensor, feather: float) -> Tensor:
    """0 outside [0, 1], 1 well inside, a smoothstep of width `feather` between."""
    edge = torch.minimum(t, 1 - t)
    if feather == 0:
        return (edge >= 0).double()
    step = (edge / feather).clamp(0, 1)
    return step * step * (3 - 2 * step)
