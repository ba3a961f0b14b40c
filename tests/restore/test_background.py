"""What surrounds the faces by an ESRGAN file: sizes, depths and channels, strips without seams, and files that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import photo_scene
import pytest
import torch
from latentface.photosettings import PhotoSettings
from tiny import tiny_prior

from latentface.errors import InputError, WeightsError
from latentface.io.photo import Photo
from latentface.io.pictures import LUMA
from latentface.restore import background as photobackground
from latentface.restore.background import Background
from latentface.restore.photo import PhotoUpscaler
from latentface.restore.settings import UpscaleSettings
from latentface.supervised.esrgan import RrdbNet, RrdbShape
from latentface.supervised.formats import write_baseline


def esrgan_file(path: Path, ups: int = 2, sight: bool = True) -> Path:
    """Write a random ESRGAN as others do; without `sight` it enlarges each pixel by itself, by its nearest neighbour."""
    torch.manual_seed(1)
    net = RrdbNet(RrdbShape(blocks=1, features=8, growth=4, tail=(8,) * ups))
    with torch.no_grad():
        for name, value in net.named_parameters():
            if not sight:
                value.zero_()
                if name.endswith("weight") and "body" not in name:
                    value[:3, :3, 1, 1] = torch.eye(3)
            elif name == "conv_last.bias":
                value.fill_(0.5)
    names = {f"conv_ups.{i}": f"conv_up{i + 1}" for i in range(ups)}
    tensors = {}
    for name, value in net.state_dict().items():
        stem, _, end = name.rpartition(".")
        tensors[f"{names.get(stem, stem)}.{end}"] = value
    torch.save({"params_ema": tensors}, path)
    return path


@pytest.fixture
def photo() -> Photo:
    return Photo.read(photo_scene.encoded(photo_scene.scene(tiny_prior(16))), "scene.png")


@pytest.mark.parametrize("factor", [1.0, 2.0, 2.5, 4.0, 5.3])
def test_it_has_the_size_of_the_plain_enlargement_and_shows_the_same(
    tmp_path: Path, photo: Photo, factor: float
) -> None:
    background = Background.read(esrgan_file(tmp_path / "x.pth", sight=False))
    made, plain = background.enlarged(photo, factor), photo.enlarged(factor)
    assert made.pixels.shape == plain.pixels.shape
    assert made.pixels.dtype == np.uint8
    # A network that repeats pixels, resized: the same picture as the plain one, in its place.
    assert np.abs(made.pixels.astype(float) - plain.pixels)[4:-4, 4:-4].mean() < 1.5


@pytest.mark.parametrize("factor", [2.0, 3.3])
def test_strips_have_no_seams(tmp_path: Path, photo: Photo, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    background = Background.read(esrgan_file(tmp_path / "x.pth"))
    whole = background.enlarged(photo, factor).pixels.astype(int)
    monkeypatch.setattr(photobackground, "STRIP", 24)
    assert np.abs(background.enlarged(photo, factor).pixels - whole).max() <= 1


def test_grey_deep_and_transparent_ones_keep_their_kind(tmp_path: Path, photo: Photo) -> None:
    background = Background.read(esrgan_file(tmp_path / "x.pth", sight=False))
    grey = np.tensordot(photo.pixels.astype(float), np.array(LUMA), 1)[:, :, None]
    made = background.enlarged(replace(photo, pixels=grey.round().astype(np.uint8)), 2.0)
    assert made.pixels.shape == (160, 240, 1)
    deep = background.enlarged(replace(photo, pixels=(grey * 257).round().astype(np.uint16)), 2.0)
    assert deep.pixels.dtype == np.uint16
    assert np.abs(deep.pixels / 257 - made.pixels).max() < 1.5
    assert len(np.unique(deep.pixels)) > 1000
    cover = np.zeros(photo.size, np.uint8)
    cover[:, 60:] = 255
    alpha = background.enlarged(replace(photo, alpha=cover), 2.0).alpha
    assert alpha is not None
    assert (alpha[:, 0].max(), alpha[:, -1].min()) == (0, 255)


def test_a_photograph_with_faces_on_it(tmp_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_scene.know(monkeypatch)
    prior = tiny_prior(32)
    prior.alignment = "ffhq"
    background = Background.read(esrgan_file(tmp_path / "x.pth"))
    upscaler = PhotoUpscaler(
        prior, UpscaleSettings(steps=2), PhotoSettings(min_face=4, noise=0.0), background=background
    )
    result = next(upscaler.upscale([photo]))
    assert result.record["background"] == background.record
    assert result.record["background"]["factor"] == 4
    assert len(result.record["background"]["sha256"]) == 64
    plain = result.enlarged()
    drawn = result.render(on=plain)
    assert np.array_equal(drawn.pixels, result.render().pixels)
    assert np.array_equal(drawn.pixels[:10], plain.pixels[:10])  # no face is there
    assert not np.array_equal(drawn.pixels, plain.pixels)
    assert not np.array_equal(plain.pixels, photo.enlarged(2.0).pixels)
    assert background.seconds_a_megapixel() > 0


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    shape = RrdbShape(blocks=1, features=8, growth=4, tail=(8,))
    own = tmp_path / "own.safetensors"
    write_baseline(own, "esrgan", shape, RrdbNet(shape).state_dict(), {"resolution": 64, "stage": "gan"})
    with pytest.raises(InputError, match="trained on aligned faces of 64 px"):
        Background.read(own)
    with pytest.raises(WeightsError, match="no such file"):
        Background.read(tmp_path / "no.pth")
