"""Photographs on their side: where faces are looked for, and where they then are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentface.faces.align import FFHQ_LANDMARKS, ffhq_fit
from latentface.faces.detect import Face
from latentface.faces.similarity import Similarity
from latentface.faces.turned import detect_turned

PLACE = Similarity.square((22.5, 31.5), 20.0)
SIZE = (50, 80)  # (H, W) of the upright photograph


def a_face(score: float = 0.9, degrees: float = 0.0) -> Face:
    marks = np.array(FFHQ_LANDMARKS)
    marks = np.insert(marks, 2, marks.mean(0), axis=0)
    place = Similarity.square(PLACE.centre, PLACE.scale, degrees)
    x, y = place.centre
    return Face((x - 6, y - 8, x + 6, y + 8), place.apply(marks), score)


class Looker:
    """Finds given faces in pictures with these marks in the corner: how a photograph was turned shows in its pixels."""

    def __init__(self, faces: dict[int, list[Face]]) -> None:
        self.faces, self.calls = faces, 0
        self.upright = torch.arange(float(SIZE[0] * SIZE[1])).reshape(1, *SIZE).expand(3, -1, -1)

    def __call__(self, photo: torch.Tensor, *, min_face: float) -> list[Face]:
        self.calls += 1
        assert min_face == 12
        by = next(k for k in range(4) if torch.equal(torch.rot90(self.upright, -k, (1, 2)), photo))
        return self.faces.get(by, [])


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_photographs_faces_are_found_and_brought_back(quarters: int) -> None:
    look = Looker({0: [a_face()]})
    turned = torch.rot90(look.upright, quarters, (1, 2))  # needs as many quarters clockwise to stand upright
    (face,), degrees = detect_turned(turned, look, min_face=12)
    assert degrees == 90 * quarters
    found = ffhq_fit(face.landmarks)
    assert found.degrees % 360 == pytest.approx(-90 * quarters % 360)
    # What lies at the face's middle in the upright photograph lies there in the turned one.
    x, y = found.centre
    assert turned[0, int(y), int(x)] == look.upright[0, 31, 22]
    left, top, right, bottom = face.box
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((x, y))
    assert {round(right - left), round(bottom - top)} == {12, 16}


def test_upright_faces_are_not_looked_for_again() -> None:
    look = Looker({0: [a_face()], 1: [a_face(0.99)]})
    assert detect_turned(look.upright, look, min_face=12)[1] == 0
    assert look.calls == 1


@pytest.mark.parametrize(
    ("upright", "turned", "degrees"),
    [
        ([], a_face(0.78), 90),
        ([], a_face(0.7), 0),  # not clear
        ([], a_face(0.9, degrees=80), 0),  # does not stand in the turned one either
        ([a_face(0.6)], a_face(0.9), 90),
        ([a_face(0.79)], a_face(0.8), 0),  # hardly better
        ([a_face(0.9, degrees=-75)], a_face(0.9), 90),  # found lying
    ],
)
def test_a_turn_must_be_clearly_better(upright: list[Face], turned: Face, degrees: int) -> None:
    look = Looker({0: upright, 1: [turned]})
    faces, told = detect_turned(look.upright, look, min_face=12)
    assert told == degrees
    assert len(faces) == (1 if degrees else len(upright))
