"""Detection on a portrait, on a crowd, in tiles and at borders."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from latentface.errors import InputError
from latentface.faces import detect
from latentface.faces.align import ffhq_transform
from latentface.faces.detect import spans
from latentface.io.pictures import read_picture

SOLVAY = Path(__file__).resolve().parents[2].parent / "shared" / "photos" / "solvay1927.png"


@pytest.fixture(scope="module")
def astronaut() -> torch.Tensor:
    data = pytest.importorskip("skimage.data")
    return torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255


def test_the_astronaut_has_one_face(astronaut: torch.Tensor) -> None:
    faces = detect(astronaut)
    assert len(faces) == 1
    face = faces[0]
    assert face.score > 0.8
    assert face.landmarks.shape == (5, 2)
    expected = [(204, 102), (247, 105), (223, 125), (204, 143), (241, 144)]
    np.testing.assert_allclose(face.landmarks, expected, atol=4)
    square = ffhq_transform(face.landmarks)
    assert 150 < square.scale < 210
    assert abs(square.degrees) < 8


def test_a_turned_and_small_astronaut_at_the_border(astronaut: torch.Tensor) -> None:
    small = F.interpolate(astronaut[None, :, 40:240, 180:380], 50, mode="bicubic", antialias=True)[0].clamp(0, 1)
    faces = detect(small)  # a face of 30 px, whose left side is at the photograph's border
    assert len(faces) == 1
    assert 18 < faces[0].size < 40
    assert faces[0].landmarks[1, 0] == pytest.approx((247 - 180) / 4, abs=1.5)
    assert detect(small, min_face=60) == []


def test_tiles_cover_everything_once() -> None:
    for length in (10, 1280, 1281, 3000, 11547):
        found = spans(length, 1280, 256)
        assert found[0][0] == 0
        assert found[-1][1] == length
        for (b0, e0, c0, c1), (b1, _, d0, _) in pairwise(found):
            assert c1 == d0 > c0
            assert e0 - b1 >= 256 - 1
            assert c1 - b1 >= 127
            assert e0 - c1 >= 127
            assert e0 - b0 <= 1280


def test_a_large_photograph_goes_in_tiles(astronaut: torch.Tensor) -> None:
    photo = torch.full((3, 700, 1700), 0.4)
    photo[:, 100:612, 1000:1512] = astronaut
    faces = detect(photo, min_face=24, refine=False)
    assert len(faces) == 1
    assert faces[0].landmarks[0].tolist() == pytest.approx([1204, 202], abs=5)


def test_solvay_1927() -> None:
    if not SOLVAY.exists():
        pytest.skip(f"{SOLVAY.name} is not at hand")
    faces = detect(read_picture(SOLVAY), min_face=24)
    assert 28 <= len(faces) <= 29
    centres = np.array([f.landmarks.mean(0) for f in faces])
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 1e9 * np.eye(len(faces))
    assert apart.min() > 30
    assert all(f.landmarks[:2, 1].mean() < f.landmarks[3:, 1].mean() for f in faces)


def test_nothing_in_noise_and_on_a_blank_sheet() -> None:
    assert detect(torch.rand(3, 100, 140, generator=torch.Generator().manual_seed(0))) == []
    assert detect(torch.zeros(3, 1, 7)) == []


def test_errors() -> None:
    with pytest.raises(InputError, match="expected a float picture"):
        detect(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="min_face is -1"):
        detect(torch.zeros(3, 8, 8), min_face=-1)
