"""Aligned face or photograph? A square picture is an aligned face where the landmarks found in it stand as a prior's do."""

import math

from torch import Tensor

from latentface.errors import InputError
from latentface.faces.align import align, ffhq_fit
from latentface.faces.detect import Face, detect
from latentface.faces.similarity import Similarity

# How far an aligned face's own square may be from the picture's; crops and portraits are farther off.
LEAST_SIDE, MOST_SIDE = 0.78, 1.18
OFF_CENTRE = 0.06  # of the picture's side
TURNED = 12.0  # degrees
TINY = 32  # px: up to here the detector may miss an aligned face


def square_of(face: Face, alignment: str) -> Similarity:
    """Return a face's oriented square as a prior of that alignment wants it. Raises InputError for landmarks without one."""
    return ffhq_fit(face.landmarks) if alignment == "ffhq" else align(face.landmarks, alignment)


def is_aligned(picture: Tensor, alignment: str = "ffhq") -> bool:
    """Say whether a square picture (3, s, s) in [0, 1] is an aligned face; one without a face is, up to 32 px."""
    side = picture.shape[-1]
    if picture.shape[-2] != side:
        return False
    faces = detect(picture, min_face=2)
    return any(_fits(face, side, alignment) for face in faces) if faces else side <= TINY


def _fits(face: Face, side: int, alignment: str) -> bool:
    try:
        square = square_of(face, alignment)
    except InputError:
        return False
    x, y = square.centre
    return (
        LEAST_SIDE <= square.scale / side <= MOST_SIDE
        and math.hypot(x / side - 0.5, y / side - 0.5) <= OFF_CENTRE
        and abs(square.degrees) <= TURNED
    )
