"""Apparent age and sex: what the networks are shown, and that the published ones give plausible, steady figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from latentface.errors import InputError
from latentface.metrics.apparent import AGES, CHIP, EYES, Apparent
from latentface.metrics.identity import CROP_LANDMARKS
from latentface.metrics.weights import FILES


class FakeNet:
    """Keeps what it is shown, and answers with fixed rows."""

    def __init__(self, row: Tensor) -> None:
        self.row = row

    def rows(self, blobs: Tensor) -> Tensor:
        self.blobs = blobs
        return self.row.expand(len(blobs), -1)


def fakes() -> tuple[Any, Any, Apparent]:
    ages = torch.zeros(81)
    ages[0], ages[30] = 0.5, 0.5
    age, sex = FakeNet(ages), FakeNet(torch.tensor([0.25, 0.75]))
    return age, sex, Apparent(age, sex)  # type: ignore[arg-type]


def test_ages_are_means_over_the_classes() -> None:
    age, sex, apparent = fakes()
    ages, male = apparent.look(torch.ones(2, 3, 64, 64))
    assert ages.tolist() == [0.5 * 0.25 + 0.5 * 30] * 2
    assert male.tolist() == [0.75] * 2
    assert (len(AGES), AGES[-1]) == (81, 80)
    assert (age.blobs.shape, sex.blobs.shape) == ((2, 3, 64, 64), (2, 3, 32, 32))
    white = (255 - torch.tensor([122.782, 117.001, 104.298])) / 256
    torch.testing.assert_close(sex.blobs[0, :, 16, 16], white)
    with pytest.raises(InputError, match="64 x 48"):
        apparent.look(torch.ones(1, 3, 64, 48))


@pytest.mark.parametrize("eye", [0, 1])
def test_the_eyes_lie_where_dlib_has_them(eye: int) -> None:
    age, _, apparent = fakes()
    crop = torch.zeros(1, 3, 128, 128)
    x, y = (round(v) for v in CROP_LANDMARKS[eye])
    crop[..., y - 1 : y + 2, x - 1 : x + 2] = 1
    apparent.look(crop)
    at = divmod(int(age.blobs[0, 0].argmax()), 64)
    # dlib's mean positions of the corners of one eye (get_face_chip_details), padded by 0.2 on each side.
    corners = ((0.120575, 0.334085), (0.646060, 0.859567))[eye], ((0.213727, 0.229064), (0.228967, 0.213498))[eye]
    expected = [(sum(v) / 2 + 0.2) / 1.4 for v in corners]
    assert (at[1] / 64, at[0] / 64) == pytest.approx(expected, abs=1.5 / 64)
    assert EYES[eye] == pytest.approx(expected, abs=1e-3)
    assert CHIP % 64 == 0  # the chips are shrunk by whole factors


def test_the_published_networks(need: Callable[[str], Path], real_faces: Callable[[str, int], Tensor]) -> None:
    for name in ("apparent-age", "apparent-sex"):
        need(FILES[name].file)
    faces = real_faces("val.zip", 6)
    apparent = Apparent.load(fetch=False)
    ages, male = apparent.look(faces)
    assert 15 < float(ages.min()) < float(ages.max()) < 80
    assert float(ages.max() - ages.min()) > 20  # the sixth is of an old man, the others are of younger people
    assert int(ages.argmax()) == 5
    assert ((male < 0.1) | (male > 0.9)).all()
    again, same = apparent.look(faces.flip(3))
    assert (again - ages).abs().max() < 12
    assert ((same > 0.5) == (male > 0.5)).all()
    large = torch.nn.functional.interpolate(faces, (320, 320), mode="bicubic").clamp(0, 1)
    assert (apparent.look(large)[0] - ages).abs().max() < 3
