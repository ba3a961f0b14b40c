"""Aligned face or photograph: the astronaut whole and cut out, at many sizes and places."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_faces, tiny_prior

from latentface.faces import Similarity, crop, detect
from latentface.faces import kind as module
from latentface.faces.align import FFHQ_LANDMARKS, ffhq_fit
from latentface.faces.detect import Face
from latentface.faces.kind import aligned_square
from latentface.io.photo import Photo
from latentface.io.pictures import to_tensor
from latentface.prior.prior import Prior
from latentface.restore.settings import UpscaleSettings
from latentface.restore.upscaler import Kind, Upscaler


@pytest.fixture(scope="module")
def astronaut() -> torch.Tensor:
    data = pytest.importorskip("skimage.data")
    return to_tensor(data.astronaut())


@pytest.fixture(scope="module")
def square(astronaut: torch.Tensor) -> Similarity:
    return ffhq_fit(detect(astronaut)[0].landmarks)


def cut(photo: torch.Tensor, place: Similarity, size: int) -> torch.Tensor:
    return crop(photo, place, size)[0].clamp(0, 1)


def is_aligned(picture: torch.Tensor) -> bool:
    return aligned_square(picture) is not None


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


def know(monkeypatch: pytest.MonkeyPatch, faces: list[Face], size: int) -> None:
    """Let the detector see these faces of a picture of `size` px, of whatever size it gets it."""

    def detect(picture: torch.Tensor, **_: object) -> list[Face]:
        zoom = picture.shape[-1] / size
        return [Face(tuple(v * zoom for v in f.box), f.landmarks * zoom, f.score) for f in faces]

    monkeypatch.setattr(module, "detect", detect)


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
        know(monkeypatch, faces, size)
        assert is_aligned(torch.rand(3, size, size)) is aligned
    monkeypatch.setattr(module, "detect", lambda picture, **_: [flat])
    assert not is_aligned(torch.rand(3, size, size))


@pytest.mark.parametrize(("size", "aligned"), [(2, True), (12, True), (13, False), (32, False), (64, False)])
def test_a_square_without_a_face(size: int, aligned: bool) -> None:
    assert is_aligned(torch.full((3, size, size), 0.5)) is aligned


# -- the command line's question ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prior() -> SimpleNamespace:
    return SimpleNamespace(resolution=128, alignment="ffhq")


def test_pictures(astronaut: torch.Tensor, square: Similarity) -> None:
    small, large = tiny_prior(128), tiny_prior(256)
    small.alignment = large.alignment = "ffhq"

    def taken(prior: Prior, picture: torch.Tensor, kind: Kind = "auto") -> tuple[tuple[int, int], bool]:
        photo, aligned = Upscaler(prior).taken(Photo.read(png(picture), "a.png"), kind)
        return photo.size, aligned

    face = cut(astronaut, square, 96)
    assert taken(small, face) == ((96, 96), True)
    assert taken(small, face, "photo") == ((96, 96), False)
    assert taken(small, cut(astronaut, square, 128)) == ((128, 128), False)  # as large as the prior's faces
    assert taken(large, cut(astronaut, square, 128)) == ((128, 128), True)
    assert taken(small, tiny_faces(1, 8)[0]) == ((8, 8), True)


@pytest.mark.parametrize("size", [24, 48])
def test_a_column_or_a_row_more_changes_nothing(astronaut: torch.Tensor, square: Similarity, size: int) -> None:
    loose = Similarity.square(square.centre, 1.6 * square.scale, square.degrees)
    for place, expected in ((square, (0, 0, size)), (loose, None)):
        picture = cut(astronaut, place, size)
        assert aligned_square(picture) == expected
        assert aligned_square(torch.cat([picture, picture[:, :, -1:]], 2)) == expected
        assert aligned_square(torch.cat([picture, picture[:, -1:]], 1)) == expected
    wide = torch.cat([picture, picture], 2)
    assert aligned_square(wide) is None


def test_a_nearly_square_face_is_cut_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = np.array(FFHQ_LANDMARKS)
    marks = np.insert(marks, 2, marks.mean(0), axis=0) * 32
    know(monkeypatch, [Face((0, 0, 32, 32), marks + np.array([2, 0]), 0.9)], 34)
    assert aligned_square(torch.rand(3, 32, 34)) == (2, 0, 32)
    prior = tiny_prior(128)
    prior.alignment = "ffhq"
    pixels = np.random.default_rng(0).integers(0, 256, (32, 34, 3), np.uint8)
    photo, aligned = Upscaler(prior).taken(Photo("a", pixels, alpha=pixels[:, :, 0]))
    assert aligned
    assert np.array_equal(photo.pixels, pixels[:, 2:])
    assert np.array_equal(photo.alpha, pixels[:, 2:, 0])
    assert Upscaler(prior).taken(Photo("a", pixels), "aligned")[0].size == (32, 32)  # by hand: the middle


def test_by_hand_an_aligned_face_is_found_in_a_photograph_of_it(astronaut: torch.Tensor, square: Similarity) -> None:
    """What stood for an aligned face is found in the photograph, about as large as it, and searched from there."""
    wide = Similarity.square(square.centre, square.scale * 97 / 96, square.degrees)
    picture = cut(astronaut, wide, 97)[:, :96]
    large = tiny_prior(128)
    large.alignment = "ffhq"
    up = Upscaler(large, settings=UpscaleSettings(steps=1, method="pulse", detail="full", noise=0.0))
    found = up.find(Photo.read(png(picture), "a.png"), aligned=False)
    assert not found.left
    assert len(found.jobs) == 1
    place = found.jobs[0].home
    assert place.scale == pytest.approx(96, rel=0.06)
    assert place.centre == pytest.approx((48.5, 48.5), abs=3)
    result = next(up.finish([found]))
    assert result.record["faces_upscaled"] == 1
