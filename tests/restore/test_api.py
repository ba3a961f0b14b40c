"""What Python calls: every kind of picture, several of them, devices, and the formats of what is saved."""

from __future__ import annotations

import io

import numpy as np
import photo_scene
import pytest
import torch
from PIL import Image
from tiny import tiny_faces, tiny_prior

import latentface
from latentface.degradation import Downscale
from latentface.errors import InputError, PictureError, UnknownNameError, WeightsError
from latentface.explore.result import psnr_each
from latentface.io.pictures import read_picture, to_tensor
from latentface.restore import upscaler as module
from latentface.restore.faceresult import Upscaled
from latentface.restore.photoresult import PhotoUpscaled
from latentface.restore.upscaler import Upscaler, upscale

BYTES = np.random.default_rng(0).integers(40, 216, (4, 4, 3), dtype=np.uint8)
EXACT = torch.from_numpy(BYTES.transpose(2, 0, 1).copy()).float() / 255


def encoded(values: np.ndarray = BYTES, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, format="PNG", **options)
    return file.getvalue()


def test_three_lines(prior, tmp_path):
    (tmp_path / "tiny.png").write_bytes(encoded())
    face = latentface.upscale(tmp_path / "tiny.png", factor=4, prior=prior, steps=3)
    assert face.save(tmp_path / "large.png") == tmp_path / "large.png"
    assert face.high.shape == (3, 16, 16)
    saved = read_picture(tmp_path / "large.png")
    assert float(psnr_each(Downscale(4, 16).forward(saved[None]), EXACT[None])[0]) > 45
    assert face.image.size == (16, 16)
    assert "invented" in Image.open(tmp_path / "large.png").text["Comment"]


def test_every_kind_of_input_is_the_same_picture(prior, tmp_path):
    (tmp_path / "a.png").write_bytes(encoded())
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    turned = Image.open(io.BytesIO(encoded(np.ascontiguousarray(np.rot90(BYTES)), exif=exif)))
    kinds = [str(tmp_path / "a.png"), tmp_path / "a.png", encoded(), io.BytesIO(encoded()), Image.fromarray(BYTES)]
    kinds += [turned, BYTES, BYTES / 255, EXACT, EXACT[None], EXACT.double(), to_tensor(BYTES).mul(255).round().byte()]
    results = upscale(kinds, prior=prior, steps=1)
    assert len(results) == len(kinds)
    for result in results:
        torch.testing.assert_close(result.low, EXACT, atol=1e-7, rtol=0)
        torch.testing.assert_close(result.high, results[0].high, atol=1e-3, rtol=0)
    assert turned.getexif()[0x0112] == 6  # the caller's picture stays as it was
    with (tmp_path / "a.png").open("rb") as file:
        assert torch.equal(upscale(file, prior=prior, steps=1).high, results[0].high)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (np.zeros((3, 4, 5)), InputError),
        (np.full((4, 4, 3), 200), InputError),
        (torch.full((3, 4, 4), float("nan")), InputError),
        (torch.zeros(8, 4, 3), InputError),
        (torch.zeros(3, 4, 4, dtype=torch.int64), InputError),
        (BYTES.astype(np.float32), InputError),
        (io.StringIO("text"), InputError),
        ({"a": 1}, InputError),
        (7, InputError),
        ("no-such-file.png", PictureError),
        (b"", PictureError),
    ],
)
def test_other_inputs_are_refused(prior, bad, error):
    with pytest.raises(error):
        upscale(bad, prior=prior, steps=1)


class Named:
    """A path of somebody's own."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


def test_further_kinds_are_read_by_their_numbers(prior, tmp_path):
    (tmp_path / "a.png").write_bytes(encoded())
    grey = BYTES[:, :, :1]
    clear = np.full((4, 4, 1), 255, np.uint8)
    deep = BYTES.astype(np.uint16) * 257
    for same in (
        Named(tmp_path / "a.png"),
        bytearray(encoded()),
        memoryview(encoded()),
        np.dstack([BYTES, clear]),
        deep,
        deep.astype(">u2"),
        torch.from_numpy(deep.transpose(2, 0, 1).copy()),
        np.asfortranarray(BYTES),
        EXACT.half(),
        EXACT.clone().requires_grad_(),
        torch.cat([EXACT, torch.ones(1, 4, 4)]),
    ):
        result = upscale(same, prior=prior, steps=1, kind="aligned")
        torch.testing.assert_close(result.low, EXACT, atol=4e-4 if same is not EXACT else 0, rtol=0)
    shown = torch.from_numpy(grey.transpose(2, 0, 1).copy()).float().expand(3, -1, -1) / 255
    for same in (grey, grey[:, :, 0], shown[0], shown[:1], np.dstack([grey, clear])):
        result = upscale(same, prior=prior, steps=1, kind="aligned")
        torch.testing.assert_close(result.low, shown, atol=1e-7, rtol=0)
    half = upscale(np.dstack([BYTES, clear // 2]), prior=prior, steps=1, kind="aligned")
    torch.testing.assert_close(half.low, EXACT, atol=1e-6, rtol=0)  # alpha does not change colours, and is kept
    assert half.image.mode == "RGBA"


def test_lists_generators_and_batches(prior):
    alone = upscale(BYTES, prior=prior, steps=1)
    for several in ([BYTES, EXACT], (p for p in (BYTES, EXACT)), torch.stack([EXACT] * 2), np.stack([BYTES] * 2)):
        results = upscale(several, prior=prior, steps=1)
        assert len(results) == 2
        for result in results:
            assert torch.equal(result.high, alone.high)
    assert upscale([], prior=prior) == []
    with pytest.raises(PictureError, match=r"pictures\[1\]: the picture: the file is empty"):
        upscale([BYTES, b""], prior=prior, steps=1)
    with pytest.raises(InputError, match=r"pictures\[0\]: got NoneType, expected a path"):
        upscale([None], prior=prior, steps=1)
    with pytest.raises(InputError, match="2 pictures"):
        Upscaler(prior)(torch.stack([EXACT] * 2))


def test_photographs_of_arrays_keep_grey_depth_and_alpha(prior, monkeypatch):
    photo_scene.know(monkeypatch, [])
    grey = np.arange(12 * 9, dtype=np.uint16).reshape(9, 12) * 600
    made = upscale(grey, prior=prior, kind="photo")
    assert made.image.mode == "I;16"
    assert np.array_equal(made.photo.pixels[:, :, 0], grey)
    coloured = np.full((9, 12, 3), (0.2, 0.4, 0.6))
    for colours, mode in ((coloured, "RGBA"), (np.zeros((9, 12, 3)), "LA")):
        clear = upscale(np.dstack([colours, np.full((9, 12), 0.5)]), prior=prior, kind="photo")
        assert clear.image.mode == mode
    deep = (coloured * 65535).astype(np.uint16)
    assert np.array_equal(upscale(deep, prior=prior, kind="photo").photo.pixels, deep)


def test_results_print_in_a_line(prior, monkeypatch):
    assert repr(upscale(BYTES, prior=prior, steps=1)).startswith("<face of 16 x 16 px from 4 x 4 px; ")
    photo_scene.know(monkeypatch, [])
    made = upscale(BYTES, prior=prior, kind="photo")
    assert repr(made) == "<photograph of 8 x 8 px: no face was found: nothing was improved>"


def test_numbers_of_numpy_and_words_of_others(prior):
    made = upscale(BYTES, prior=prior, factor=np.int64(2), steps=np.int32(1), seed=np.int16(3))
    assert made.record["seed"] == 3
    with pytest.raises(InputError, match="factor is '4'; expected a number"):
        upscale(BYTES, prior=prior, factor="4")


def test_kinds_of_pictures(prior, monkeypatch):
    assert isinstance(upscale(BYTES, prior=prior, steps=1, kind="auto"), Upscaled)
    assert isinstance(upscale(BYTES, prior=prior, steps=1, kind="aligned"), Upscaled)
    photo_scene.know(monkeypatch, [])
    photo = upscale(BYTES, prior=prior, steps=1, kind="photo")
    assert isinstance(photo, PhotoUpscaled)
    assert photo.image.size == (8, 8)
    assert isinstance(upscale(np.zeros((9, 12, 3), np.uint8), prior=prior, steps=1), PhotoUpscaled)
    with pytest.raises(InputError, match="square"):
        upscale(np.zeros((9, 12, 3), np.uint8), prior=prior, steps=1, kind="aligned")
    with pytest.raises(UnknownNameError, match="portrait"):
        upscale(BYTES, prior=prior, steps=1, kind="portrait")


def test_priors_are_found_or_told(tmp_path, prior_file):
    with pytest.raises(UnknownNameError, match="prior 'celeba46'"):
        upscale(EXACT, prior="celeba46")
    with pytest.raises(WeightsError, match="no such file"):
        upscale(EXACT, prior="no/such.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(prior_file.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="broken"):
        upscale(EXACT, prior=tmp_path / "cut.safetensors")


def test_a_loaded_prior_goes_to_the_device_that_is_named(prior, monkeypatch):
    with pytest.raises(InputError, match="try auto or cpu"):
        upscale(EXACT, prior=prior, device="meta")
    assert Upscaler(prior, device="cpu").prior is prior
    assert Upscaler(prior).prior is prior  # auto: where it was loaded to
    asked = []
    monkeypatch.setattr(module, "pick_device", lambda name: torch.device("meta"))
    monkeypatch.setattr(type(prior), "to", lambda self, where: asked.append(where) or self)
    Upscaler(prior, device="cuda")
    assert asked == [torch.device("meta")]


def test_inside_inference_mode(prior):
    outside = upscale(EXACT, prior=prior, steps=3)
    fresh = tiny_prior(16)  # nothing of it was prepared before
    with torch.inference_mode():
        inside = upscale(EXACT.clone(), prior=fresh, steps=3)
    assert torch.equal(inside.high, outside.high)
    assert torch.equal(upscale(EXACT, prior=fresh, steps=3).high, outside.high)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.png", "PNG"),
        ("x.jpg", "JPEG"),
        ("x.JPEG", "JPEG"),
        ("x.webp", "WEBP"),
        ("x.tif", "TIFF"),
        ("x.tiff", "TIFF"),
    ],
)
def test_a_name_s_ending_is_the_format(prior, tmp_path, monkeypatch, name, kind):
    photo_scene.know(monkeypatch, [])
    for result in (upscale(BYTES, prior=prior, steps=1), upscale(BYTES, prior=prior, steps=1, kind="photo")):
        with Image.open(result.save(tmp_path / name)) as saved:
            assert saved.format == kind
            assert saved.size == result.image.size


@pytest.mark.parametrize(
    ("name", "quality"), [("x.foo", 92), ("x", 92), ("x.jpg", 0), ("x.webp", 101), ("x.jpg", "high")]
)
def test_other_endings_and_qualities_are_refused_before_anything_is_written(
    prior, tmp_path, monkeypatch, name, quality
):
    photo_scene.know(monkeypatch, [])
    for result in (upscale(BYTES, prior=prior, steps=1), upscale(BYTES, prior=prior, steps=1, kind="photo")):
        with pytest.raises(InputError):
            result.save(tmp_path / "new" / name, quality=quality)
    assert list(tmp_path.iterdir()) == []


def test_a_lower_quality_makes_a_smaller_file(prior, tmp_path):
    face = upscale(tiny_faces(1, 4)[0], prior=prior, steps=1)
    sizes = [face.save(tmp_path / f"{q}.jpg", quality=q).stat().st_size for q in (20, 95)]
    assert sizes[0] < sizes[1]
