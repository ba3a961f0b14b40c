"""Mosaics: every true pixel repeated, cut at the border, coded as JPEG; and pictures that are none."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from latentface.faces.mosaic import find_mosaic, true_size
from latentface.io.photo import Photo


def picture(side: int = 20, seed: int = 0) -> np.ndarray:
    """Return a soft coloured picture (side, side, 3) of bytes."""
    coarse = np.random.default_rng(seed).integers(20, 236, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def repeated(true: np.ndarray, k: float) -> np.ndarray:
    """Return each pixel k times a side, by the nearest neighbour, as programs do."""
    side = round(len(true) * k)
    return np.asarray(Image.fromarray(true).resize((side, side), Image.Resampling.NEAREST))


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


@pytest.mark.parametrize("k", [2, 3, 6, 8, 2.5, 7.5, 12])
def test_a_mosaic_is_taken_at_its_true_size(k: float) -> None:
    true = picture()
    small = true_size(Photo("a", repeated(true, k), tables=((1,) * 64,)))
    assert small.repeats == pytest.approx(k)
    assert np.array_equal(small.pixels, true)
    assert small.tables is None


@pytest.mark.parametrize(
    ("top", "left", "first_row", "first_column"), [(0, 0, 0, 0), (3, 1, 0, 0), (4, 5, 1, 1), (2, 4, 0, 1)]
)
def test_cut_true_pixels_count_where_half_is_seen(top: int, left: int, first_row: int, first_column: int) -> None:
    true = picture()
    small = true_size(Photo("a", np.ascontiguousarray(repeated(true, 6)[top:, left:])))
    assert small.repeats == 6
    assert np.array_equal(small.pixels, true[first_row:, first_column:])


@pytest.mark.parametrize(("k", "cut", "quality"), [(6, 0, 75), (6, 2, 85), (8, 0, 60), (10, 3, 60), (16, 5, 50)])
def test_after_jpeg(k: int, cut: int, quality: int) -> None:
    true = picture()
    small = true_size(Photo("a", jpeg(np.ascontiguousarray(repeated(true, k)[cut:, cut:]), quality)))
    assert small.repeats == k
    assert small.size == (20, 20)
    assert np.abs(small.pixels.astype(float) - true).mean() < 5


def test_grey_deep_and_transparent_ones() -> None:
    true = picture()[:, :, :1].astype(np.uint16) * 257
    assert np.array_equal(true_size(Photo("a", true.repeat(4, 0).repeat(4, 1))).pixels, true)
    alpha = picture(seed=1)[:, :, 0]
    photo = Photo("a", repeated(picture(), 4), alpha=alpha.repeat(4, 0).repeat(4, 1))
    assert np.array_equal(true_size(photo).alpha, alpha)


@pytest.mark.parametrize("quality", [None, 95, 50, 10])
def test_other_pictures_stay_as_they_are(quality: int | None) -> None:
    rng = np.random.default_rng(0)
    smooth = [Image.fromarray(picture(s, s)).resize((k * s, k * s), kernel) for s, k, kernel in
              ((20, 5, Image.Resampling.BICUBIC), (24, 8, Image.Resampling.BILINEAR), (90, 1, Image.Resampling.BOX))]  # fmt: skip
    windows = np.full((160, 200, 3), 240, np.uint8)
    for x, y in ((10, 20), (40, 60), (120, 30)):  # edges on a lattice of 10 px, but few
        windows[y : y + 50, x : x + 60] = rng.integers(0, 255, 3)
    for pixels in (*map(np.asarray, smooth), windows, rng.integers(0, 256, (64, 64, 3), np.uint8)):
        photo = Photo("a", pixels if quality is None else jpeg(pixels, quality))
        assert true_size(photo) is photo


def test_small_and_even_pictures_are_none() -> None:
    for pixels in (np.zeros((4, 4, 3), np.uint8), np.full((100, 80, 3), 77, np.uint8), repeated(picture(6), 6)):
        assert find_mosaic(pixels) is None
    unlike = Photo("a", repeated(picture(), 4).repeat(2, 0))  # 8 px high, 4 wide
    assert true_size(unlike) is unlike
    assert replace(unlike, repeats=1.0).repeats == 1
