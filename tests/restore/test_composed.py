"""A photograph composed of faces that the embedded prior made, searched by the real detector: each comes back in its place."""

from __future__ import annotations

import numpy as np
import photo_scene
import pytest
import torch
from latentface.photosettings import PhotoSettings
from torch import Tensor

from latentface.errors import WeightsError
from latentface.faces import Patch, Similarity, Warp, compose, detect
from latentface.faces.align import ffhq_fit
from latentface.io.photo import Photo
from latentface.prior.prior import Prior
from latentface.prior.registry import load_prior
from latentface.restore.photo import PhotoUpscaler
from latentface.restore.settings import UpscaleSettings

SIDES = (56.3, 44.8, 38.9, 33.3, 28.5, 24.3)  # px: factors from 1.1 to 2.6
DEGREES = (0.0, 20.0, -8.0, 25.0, 15.0, -12.0)
CENTRES = ((60.2, 59.6), (150.4, 60.7), (239.6, 60.1), (60.4, 149.7), (149.9, 150.3), (240.3, 149.8))
PLACES = tuple(map(Similarity.square, CENTRES, SIDES, DEGREES))
SIZE = (210, 300)


@pytest.fixture(scope="module")
def prior() -> Prior:
    try:
        return load_prior("celeba128")
    except WeightsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def faces(prior: Prior) -> Tensor:
    """Six faces (6, 3, R, R), near enough to the prior's mean that each is a face."""
    with torch.no_grad():
        z = torch.randn(len(PLACES), prior.z_dim, generator=torch.Generator().manual_seed(4))
        w = prior.mapping(z)
        return prior.synthesis(prior.w_mean + 0.6 * (w - prior.w_mean)).clamp(0, 1)


def composed(faces: Tensor, places: tuple[Similarity, ...], size: tuple[int, int], feather: float) -> Tensor:
    coarse = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(1))
    background = torch.nn.functional.interpolate(0.3 + 0.4 * coarse[None], size=size, mode="bicubic")[0].clamp(0, 1)
    return compose(background, [Patch(f, p) for f, p in zip(faces, places, strict=True)], feather)


def own_place(face: Tensor) -> tuple[np.ndarray, float]:
    """Where a face stands in its own square, in shares of the side, and its turn: a prior's faces are not all upright."""
    large = torch.nn.functional.interpolate(face[None], scale_factor=2, mode="bicubic")[0].clamp(0, 1)
    fit = ffhq_fit(detect(large)[0].landmarks)
    return np.array(fit.centre) / large.shape[-1], fit.degrees


def test_each_face_is_found_within_half_a_pixel(faces: Tensor) -> None:
    found = [ffhq_fit(face.landmarks) for face in detect(composed(faces, PLACES, SIZE, 0.12))]
    assert len(found) == len(PLACES)
    for face, place in zip(faces, PLACES, strict=True):
        seen = min(found, key=lambda t: np.hypot(*np.subtract(t.centre, place.centre)))
        centre, turn = own_place(face)
        assert np.hypot(*np.subtract(seen.centre, place.apply(centre))) < 0.5
        assert seen.scale == pytest.approx(place.scale, rel=0.06)
        assert seen.degrees == pytest.approx(place.degrees + turn, abs=9)  # a pixel between the smallest one's eyes


def test_it_comes_back_and_shrinks_to_the_photograph(prior: Prior, faces: Tensor) -> None:
    """Found, searched for two steps, projected and pasted: inside each mask at least 40 dB, also in the picture itself."""
    picture = composed(faces, PLACES, SIZE, 0.0)
    photo = Photo.read(photo_scene.encoded(picture), "composed.png")
    upscaler = PhotoUpscaler(prior, UpscaleSettings(steps=2), PhotoSettings(noise=0.0))
    result = next(upscaler.upscale([photo]))
    assert len(result.faces) == len(PLACES)
    for face in result.faces:
        warp = Warp([face.transform], prior.resolution, photo.size)
        low = warp.cut(photo.tensor())
        assert decibels(warp.forward(face.high[None]), low, warp.mask) >= 40
        assert face.consistency_db >= 40
    assert result.render().size == (420, 600)


def test_given_places_come_back_exactly(prior: Prior, faces: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = composed(faces, PLACES, SIZE, 0.0)
    photo_scene.know(monkeypatch, PLACES)
    photo = Photo.read(photo_scene.encoded(picture), "composed.png")
    result = next(PhotoUpscaler(prior, UpscaleSettings(steps=2), PhotoSettings(noise=0.0)).upscale([photo]))
    assert len(result.faces) == len(PLACES)
    for face, place, truth in zip(result.faces, PLACES, faces, strict=True):
        assert np.abs(face.transform.corners - place.corners).max() < 0.01
        warp = Warp([place], prior.resolution, photo.size)
        low = warp.cut(photo.tensor())
        assert decibels(warp.forward(truth[None]), low, warp.mask) > 50  # the photograph is this face, in bytes
        assert decibels(warp.forward(face.high[None]), low, warp.mask) >= 40


def decibels(a: Tensor, b: Tensor, mask: Tensor) -> float:
    return float(-10 * ((a - b) * mask).square().sum().div(3 * mask.sum()).clamp_min(1e-15).log10())
