"""Aligned face or photograph? A square picture is an aligned face where the landmarks found in it stand as a prior's do."""

import math

import torch.nn.functional as F
from torch import Tensor

from latentface.errors import InputError
from latentface.faces.align import align, ffhq_fit
from latentface.faces.detect import Face, detect
from latentface.faces.similarity import Similarity

# How far an aligned face's own square may be from the picture's; crops and portraits are farther off.
LEAST_SIDE, MOST_SIDE = 0.78, 1.18
OFF_CENTRE = 0.06  # of the picture's side
TURNED = 12.0  # degrees
SMALL = 32  # px: up to here the detector sees a face better in the picture enlarged twice
TINY = 12  # px: up to here it may miss an aligned face
NEARLY = 16  # a picture is nearly square where its sides differ by at most 1 px, or by this part of them

Square = tuple[int, int, int]  # left, top, side


def square_of(face: Face, alignment: str) -> Similarity:
    """Return a face's oriented square as a prior of that alignment wants it. Raises InputError for landmarks without one."""
    return ffhq_fit(face.landmarks) if alignment == "ffhq" else align(face.landmarks, alignment)


def nearly_square(height: int, width: int) -> Square | None:
    """Return the middle square (left, top, side) of a picture that is nearly one; None for any other."""
    side = min(height, width)
    if abs(height - width) > max(1, side // NEARLY):
        return None
    return (width - side) // 2, (height - side) // 2, side


def aligned_square(picture: Tensor, alignment: str = "ffhq") -> Square | None:
    """Return the square (left, top, side) of a picture (3, H, W) in [0, 1] that is an aligned face; None: a photograph.

    It is the whole picture, or of a nearly square one all but a few rows or columns. Up to `TINY` px a picture without a
    face counts as one.
    """
    middle = nearly_square(*picture.shape[-2:])
    if middle is None:
        return None
    zoom = 2 if middle[2] <= SMALL else 1
    seen = picture
    if zoom > 1:
        seen = F.interpolate(picture[None], scale_factor=zoom, mode="bicubic", align_corners=False)[0].clamp(0, 1)
    faces = detect(seen, min_face=2)
    if not faces:
        return middle if middle[2] <= TINY else None
    fitting = (_fitting(face, zoom, picture.shape[-1], picture.shape[-2], alignment) for face in faces)
    return next((square for square in fitting if square is not None), None)


def _fitting(face: Face, zoom: int, width: int, height: int, alignment: str) -> Square | None:
    """Return the square of a picture as which a face stands as aligned; None where there is none."""
    try:
        place = square_of(face, alignment)
    except InputError:
        return None
    side = min(width, height)
    x, y = (v / zoom for v in place.centre)
    left = min(max(0, round(x - side / 2)), width - side)
    top = min(max(0, round(y - side / 2)), height - side)
    fits = (
        LEAST_SIDE <= place.scale / zoom / side <= MOST_SIDE
        and math.hypot((x - left) / side - 0.5, (y - top) / side - 0.5) <= OFF_CENTRE
        and abs(place.degrees) <= TURNED
    )
    return (left, top, side) if fits else None
