"""Aligned faces keep what photographs keep: depth, grey, transparency, profile, EXIF; and they are written as asked."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale
from latentface.explore.result import psnr_each
from latentface.io.pictures import read_picture, write_picture
from latentface.restore.faceresult import Upscaled
from latentface.restore.settings import UpscaleSettings
from latentface.restore.upscaler import Upscaler

BYTES = tiny_faces(1, 4, seed=7)[0].mul(255).round().byte().permute(1, 2, 0).numpy()


@pytest.fixture(scope="module")
def up() -> Upscaler:
    return Upscaler(tiny_prior(16), settings=UpscaleSettings(steps=2))


def png(values: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", **options)
    return file.getvalue()


def consistency(path: Path, low: np.ndarray) -> float:
    small = torch.from_numpy(low.transpose(2, 0, 1).astype(np.float32) / np.iinfo(low.dtype).max)[None]
    return float(psnr_each(Downscale(4, 16).forward(read_picture(path)[None]), small.expand(1, 3, -1, -1))[0])


@pytest.mark.parametrize("colours", [1, 3])
def test_grey_in_grey_out_and_it_still_shrinks_to_the_input(up: Upscaler, tmp_path: Path, colours: int) -> None:
    grey = BYTES[:, :, :1].repeat(colours, 2)
    result = up.face(png(grey[:, :, 0] if colours == 1 else grey))
    result.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == result.image.mode == "L"
    assert consistency(tmp_path / "a.png", grey) > 45
    assert torch.equal(result.high[0], result.high[2])
    down = Downscale(4, 16).forward(result.high[None])
    assert result.consistency_db == pytest.approx(float(psnr_each(down, result.low[None])[0]), abs=0.01)


def test_transparency_comes_back_and_what_it_hides_does_not_matter(up: Upscaler, tmp_path: Path) -> None:
    alpha = np.full((4, 4), 255, np.uint8)
    alpha[:2] = 0
    hidden = BYTES.copy()
    hidden[:2] = 0
    one, other = (up.face(png(np.dstack([values, alpha]))) for values in (BYTES, hidden))
    assert torch.equal(one.high, other.high)
    assert float((one.low[:, :2] - one.low[:, 2:3]).abs().max()) < 0.5  # as its neighbours, neither black nor white
    one.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        cover = np.asarray(picture.getchannel("A"))
    assert cover[:6].max() == 0
    assert cover[-6:].min() == 255
    one.save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as picture:
        assert np.asarray(picture)[:4].mean() > 245  # on white


def test_colours_of_16_bits_come_back_in_16_bits(up: Upscaler, tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(13_000, 52_000, (4, 4, 3), dtype=np.uint16)
    write_picture(tmp_path / "low.png", deep)
    result = up.face(tmp_path / "low.png")
    for name in ("a.png", "a.tiff"):
        result.save(tmp_path / name)
        again = up.face(tmp_path / "low.png").photo
        assert again is not None
        assert again.pixels.dtype == np.uint16
    written = type(again).read((tmp_path / "a.tiff").read_bytes())
    assert len(np.unique(written.pixels)) > 300  # of 768
    down = Downscale(4, 16).forward(written.tensor()[None])
    assert float(psnr_each(down, torch.from_numpy(deep.transpose(2, 0, 1) / 65535).float()[None])[0]) > 65


def test_a_pillow_image_is_turned_and_keeps_what_its_file_keeps(up: Upscaler, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x0132] = 6, "2001:02:03 04:05:06"
    data = png(np.ascontiguousarray(np.rot90(BYTES)), exif=exif)
    kept = []
    for picture in (data, Image.open(io.BytesIO(data))):
        result = up.face(picture)
        assert np.abs(result.low.permute(1, 2, 0).numpy() * 255 - BYTES).max() < 0.01
        result.save(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as written:
            kept.append({tag: written.getexif().get(tag) for tag in (0x0112, 0x0132)})
    assert kept == [{0x0112: None, 0x0132: "2001:02:03 04:05:06"}] * 2


def test_records_name_files_and_not_where_they_lie(tmp_path: Path) -> None:
    from latentface.supervised.methods import BUNDLED

    weights = sorted(BUNDLED.glob("vdsr-*-8x.safetensors"))
    if not weights:
        pytest.skip("this checkout has no weights of VDSR for a factor of 8")
    prior = tiny_prior(128)
    result = Upscaler(prior, settings=UpscaleSettings(method=str(weights[0]))).face(np.zeros((16, 16, 3), np.uint8))
    assert isinstance(result, Upscaled)
    assert str(BUNDLED) not in str(result.record)
    assert result.record["method"] == weights[0].name
    assert len(result.record["settings"]["method_settings"]["weights_sha256"]) == 64
