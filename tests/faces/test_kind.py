"""Aligned face or photograph: the astronaut whole and cut out, at many sizes and places."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentface.cli.photos import is_photograph
from latentface.photosettings import PhotoSettings
from PIL import Image
from tiny import tiny_faces, tiny_prior

from latentface.faces import Similarity, crop, detect
from latentface.faces import kind as module
from latentface.faces.align import FFHQ_LANDMARKS, ffhq_fit
from latentface.faces.detect import Face
from latentface.faces.kind import is_aligned
from latentface.io.photo import Photo
from latentface.io.pictures import to_tensor
from latentface.restore.photo import PhotoUpscaler
from latentface.restore.settings import UpscaleSettings


@pytest.fixture(scope="module")
def astronaut() -> torch.Tensor:
    data = pytest.importorskip("skimage.data")
    return to_tensor(data.astronaut())


@pytest.fixture(scope="module")
def square(astronaut: torch.Tensor) -> Similarity:
    return ffhq_fit(detect(astronaut)[0].landmarks)


def cut(photo: torch.Tensor, place: Similarity, size: int) -> torch.Tensor:
    return crop(photo, place, size)[0].clamp(0, 1)


def png(picture: torch.Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray((255 * picture).round().byte().permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.getvalue()


def test_the_whole_astronaut_is_a_photograph(astronaut: torch.Tensor) -> None:
    assert astronaut.shape == (3, 512, 512)
    assert not is_aligned(astronaut)
    assert not is_aligned(astronaut[:, :200])


@pytest.mark.parametrize("size", [24, 48, 128])
def test_her_aligned_face_is_one_and_looser_tighter_or_turned_ones_are_not(
    astronaut: torch.Tensor, square: Similarity, size: int
) -> None:
    centre, side, turned = square.centre, square.scale, square.degrees
    assert is_aligned(cut(astronaut, square, size))
    for place in (
        Similarity.square(centre, 1.5 * side, turned),
        Similarity.square(centre, 0.7 * side, turned),
        Similarity.square((centre[0] + 0.15 * side, centre[1]), side, turned),
        Similarity.square(centre, side, turned + 25),
    ):
        assert not is_aligned(cut(astronaut, place, size))


@pytest.mark.parametrize(
    ("place", "aligned"),
    [
        (Similarity.square((0.5, 0.5), 1.0), True),
        (Similarity.square((0.5, 0.5), 0.8), True),
        (Similarity.square((0.5, 0.5), 1.15), True),
        (Similarity.square((0.54, 0.47), 1.0, 8.0), True),
        (Similarity.square((0.5, 0.5), 0.75), False),
        (Similarity.square((0.5, 0.5), 1.22), False),
        (Similarity.square((0.5, 0.57), 1.0), False),
        (Similarity.square((0.5, 0.5), 1.0, 14.0), False),
    ],
)
@pytest.mark.parametrize("size", [30, 200])
def test_the_limits(monkeypatch: pytest.MonkeyPatch, place: Similarity, aligned: bool, size: int) -> None:
    marks = np.array(FFHQ_LANDMARKS)
    marks = place.apply(np.insert(marks, 2, marks.mean(0), axis=0)) * size
    found = Face((0, 0, size, size), marks, 0.9)
    flat = Face((0, 0, 1, 1), np.zeros((5, 2)), 0.9)  # landmarks without a square
    for faces in ([found], [flat, found]):
        monkeypatch.setattr(module, "detect", lambda picture, faces=faces, **_: faces)
        assert is_aligned(torch.rand(3, size, size)) is aligned
    monkeypatch.setattr(module, "detect", lambda picture, **_: [flat])
    assert not is_aligned(torch.rand(3, size, size))


@pytest.mark.parametrize(("size", "aligned"), [(2, True), (24, True), (32, True), (33, False), (64, False)])
def test_a_square_without_a_face(size: int, aligned: bool) -> None:
    assert is_aligned(torch.full((3, size, size), 0.5)) is aligned


# -- the command line's question ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prior() -> SimpleNamespace:
    return SimpleNamespace(resolution=128, alignment="ffhq")


def test_files(astronaut: torch.Tensor, square: Similarity, prior: SimpleNamespace) -> None:
    face = cut(astronaut, square, 96)
    assert not is_photograph(png(face), "a.png", prior)
    assert is_photograph(png(torch.cat([face, face[:, :, -1:]], 2)), "a.png", prior)  # no square
    assert is_photograph(png(cut(astronaut, square, 128)), "a.png", prior)  # as large as the prior's faces
    assert is_photograph(png(astronaut), "a.png", SimpleNamespace(resolution=1024, alignment="ffhq"))
    assert not is_photograph(png(tiny_faces(1, 8)[0]), "a.png", prior)
    assert is_photograph(b"no picture", "a.png", prior)  # whose reader says what is wrong


def test_one_column_more_makes_a_photograph_of_the_same_face(astronaut: torch.Tensor, square: Similarity) -> None:
    """What stood for an aligned face is found in the photograph, about as large as it, and searched from there."""
    wide = Similarity.square(square.centre, square.scale * 97 / 96, square.degrees)
    picture = cut(astronaut, wide, 97)[:, :96]
    large = tiny_prior(128)
    large.alignment = "ffhq"
    settings = UpscaleSettings(steps=1, method="pulse", detail="full")
    photos = PhotoUpscaler(large, settings, photo_settings=PhotoSettings(noise=0.0))
    found = photos.find(Photo.read(png(picture), "a.png"))
    assert not found.left
    assert len(found.jobs) == 1
    place = found.jobs[0].transform
    assert place.scale == pytest.approx(96, rel=0.06)
    assert place.centre == pytest.approx((48.5, 48.5), abs=3)
    result = next(photos.finish([found]))
    assert result.record["faces_upscaled"] == 1
