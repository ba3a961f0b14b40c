"""Geometry: similarities, the FFHQ and CelebA rules, crops at borders."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from latentface.errors import InputError, UnknownNameError
from latentface.faces import Similarity, crop
from latentface.faces.align import align, celeba_transform, ffhq_transform, fit_similarity

MEAN = np.array([[48.2, 61.0], [81.0, 61.0], [64.6, 80.6], [50.2, 95.2], [78.2, 95.2]])  # of FFHQ crops of 128 px


def some_similarity(seed: int) -> Similarity:
    rng = np.random.default_rng(seed)
    return Similarity.square(tuple(rng.uniform(-50, 300, 2)), rng.uniform(2, 400), rng.uniform(-180, 180))


@pytest.mark.parametrize("seed", range(5))
def test_similarity_inverse_shift_and_scale(seed: int) -> None:
    t = some_similarity(seed)
    points = np.random.default_rng(seed).uniform(-10, 10, (7, 2))
    np.testing.assert_allclose(t.inverse().apply(t.apply(points)), points, atol=1e-9)
    np.testing.assert_allclose(t.shifted(3, -2).apply(points), t.apply(points) + np.array([3, -2]), atol=1e-9)
    np.testing.assert_allclose(t.apply(points), points @ t.matrix[:, :2].T + t.matrix[:, 2])
    np.testing.assert_allclose(t.scaled(3).apply(points), 3 * t.apply(points), atol=1e-8)
    np.testing.assert_allclose(t.pixels(64).apply(points * 64), t.apply(points), atol=1e-8)
    np.testing.assert_allclose(t.apply([0.5, 0.5]), t.centre)


def test_similarity_refuses_nothing_and_nan() -> None:
    with pytest.raises(InputError, match="scale above 0"):
        Similarity(0.0, 0.0, 1.0, 1.0)
    with pytest.raises(InputError, match="finite"):
        Similarity(1.0, math.nan, 1.0, 1.0)


def test_ffhq_rule_on_the_mean_landmarks_is_nearly_the_whole_crop() -> None:
    square = ffhq_transform(MEAN)
    assert square.scale == pytest.approx(131.2, abs=0.01)  # 2.5 % larger than the 128 px of the crop
    assert square.centre == pytest.approx((64.56, 64.42), abs=0.01)
    assert abs(square.degrees) < 0.5


def test_ffhq_rule_equals_its_published_code() -> None:
    points = MEAN + np.random.default_rng(0).normal(0, 5, MEAN.shape)
    eye_avg, mouth_avg = points[:2].mean(0), points[3:].mean(0)
    eye_to_eye, eye_to_mouth = points[1] - points[0], mouth_avg - eye_avg
    x = eye_to_eye - np.flipud(eye_to_mouth) * [-1, 1]
    x /= np.hypot(*x)
    x *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    y = np.flipud(x) * [-1, 1]
    c = eye_avg + eye_to_mouth * 0.1
    quad = np.stack([c - x - y, c + x - y, c + x + y, c - x + y])
    np.testing.assert_allclose(ffhq_transform(points).corners, quad, atol=1e-9)


@pytest.mark.parametrize("rule", [ffhq_transform, celeba_transform])
@pytest.mark.parametrize("seed", range(3))
def test_rules_follow_the_face(rule, seed: int) -> None:
    move = some_similarity(seed)
    expected = move.apply(rule(MEAN).corners)
    np.testing.assert_allclose(rule(move.apply(MEAN)).corners, expected, atol=1e-6)


def test_celeba_square_of_celeba_landmarks() -> None:
    points = MEAN * 152 / 128 + (12.5, 39.5)  # the crop's place in CelebA's aligned pictures
    np.testing.assert_allclose(celeba_transform(points).corners, [(0, 20), (178, 20), (178, 198), (0, 198)], atol=0.1)


def test_fit_similarity_recovers_it() -> None:
    t = some_similarity(3)
    np.testing.assert_allclose(fit_similarity(MEAN, t.apply(MEAN)).matrix, t.matrix, atol=1e-8)


def test_errors_name_what_was_got() -> None:
    with pytest.raises(InputError, match=r"\(4, 2\).*left eye"):
        ffhq_transform(MEAN[:4])
    with pytest.raises(InputError, match="coincide"):
        ffhq_transform(np.zeros((5, 2)))
    with pytest.raises(InputError, match="coincide"):
        celeba_transform(np.ones((5, 2)))
    with pytest.raises(UnknownNameError, match="'ffhq'"):
        align(MEAN, "fhq")


def test_crop_upright_equals_the_reference_resampler() -> None:
    photo = torch.rand(3, 60, 70, generator=torch.Generator().manual_seed(0))
    picture, mask = crop(photo, Similarity(48, 0, 10, 8), 16)
    reference = F.interpolate(photo[None, :, 8:56, 10:58], 16, mode="bicubic", antialias=True)[0].clamp(0, 1)
    assert bool(mask.all())
    torch.testing.assert_close(picture[:, 3:-3, 3:-3], reference[:, 3:-3, 3:-3], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("side", "degrees"), [(40, 30), (240, -70), (130, 180)])
def test_crop_of_a_colour_ramp_is_the_ramp(side: float, degrees: float) -> None:
    y, x = torch.meshgrid(torch.arange(400) + 0.5, torch.arange(420) + 0.5, indexing="ij")
    photo = torch.stack([x / 420, y / 400, torch.full_like(x, 0.5)])
    t = Similarity.square((210.0, 200.0), side, degrees)
    picture, mask = crop(photo, t, 24)
    grid = np.stack(np.meshgrid((np.arange(24) + 0.5) / 24, (np.arange(24) + 0.5) / 24), -1)
    place = torch.from_numpy(t.apply(grid)).float()
    assert bool(mask.all())
    torch.testing.assert_close(picture[0] * 420, place[..., 0], atol=0.2, rtol=0)
    torch.testing.assert_close(picture[1] * 400, place[..., 1], atol=0.2, rtol=0)


def test_crop_beyond_the_border_is_flat_and_masked() -> None:
    photo = torch.rand(3, 50, 50, generator=torch.Generator().manual_seed(1))
    picture, mask = crop(photo, Similarity(40, 0, -20, 5), 32)
    assert mask.float().mean() == pytest.approx(0.5, abs=0.05)
    outside = picture[:, ~mask[0]]
    assert torch.equal(outside, outside[:, :1].expand_as(outside))
    with pytest.raises(InputError, match="outside the photograph of 50 x 50"):
        crop(photo, Similarity(40, 0, 500, 5), 32)
