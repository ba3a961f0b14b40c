"""Photographs that lie on their side or stand on their head: faces are looked for in all four directions.

A detector finds most faces of a turned photograph too, with a lower score and landmarks that are wrong. So where no face
stands upright with a high score, the turned photograph is searched, and the direction with the highest scores is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentface.errors import InputError
from latentface.faces.align import ffhq_fit
from latentface.faces.detect import Face

CERTAIN = 0.8  # score of an upright face with which a photograph is not turned
CLEAR = 0.75  # score that one face must have at least in a turned photograph
BETTER = 0.05  # and by so much it must be above the best upright face's
UPRIGHT = 60.0  # degrees: a face turned farther does not say where up is

Look = Callable[..., list[Face]]


def detect_turned(photo: Tensor, look: Look, *, min_face: float) -> tuple[list[Face], int]:
    """Find the faces of a photograph (3, H, W) in [0, 1], whichever way up it is.

    Args:
        look: finds upright faces, as `detect` does.

    Returns the faces in the photograph's own coordinates, the largest first, and by how many degrees clockwise it was
    turned to find them: 0, 90, 180 or 270.
    """
    upright = look(photo, min_face=min_face)
    best = _best(upright)
    found, turn = upright, 0
    if best < CERTAIN:
        needed = max(CLEAR, best + BETTER)
        for quarters in (1, 2, 3):
            faces = look(torch.rot90(photo, -quarters, (1, 2)).contiguous(), min_face=min_face)
            if _best(faces) >= needed:
                found, turn, needed = faces, quarters, _best(faces)
    return [_back(face, turn, photo.shape[1], photo.shape[2]) for face in found], 90 * turn


def _best(faces: Sequence[Face]) -> float:
    """Return the highest score of a face that stands upright, 0 without one."""
    return max((face.score for face in faces if _stands(face)), default=0.0)


def _stands(face: Face) -> bool:
    try:
        return abs(ffhq_fit(face.landmarks).degrees) <= UPRIGHT
    except InputError:
        return False


def _back(face: Face, quarters: int, height: int, width: int) -> Face:
    """Return a face of the photograph turned clockwise by quarters in the coordinates of the photograph, of H x W px."""
    if quarters == 0:
        return face
    corners = _points_back(np.reshape(face.box, (2, 2)), quarters, height, width)
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    return replace(
        face, box=(left, top, right, bottom), landmarks=_points_back(face.landmarks, quarters, height, width)
    )


def _points_back(points: NDArray[np.float64], quarters: int, height: int, width: int) -> NDArray[np.float64]:
    x, y = points[:, 0], points[:, 1]
    back = {1: (y, height - x), 2: (width - x, height - y), 3: (width - y, x)}[quarters]
    return np.stack(back, 1)
