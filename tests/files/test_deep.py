"""More than 8 bits a channel: read exactly, by the range that is stated or used, and written exactly."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from latentface.errors import PictureError
from latentface.io.photo import Photo
from latentface.io.pictures import write_picture
from latentface.io.srgb import as_srgb

DEEP = np.random.default_rng(0).integers(0, 65536, (6, 5, 3), dtype=np.uint16)
TURNS = {  # EXIF's orientations, from the pixels as stored to the picture as shown
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.rot90(np.fliplr(a), 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.fliplr(a), -1),
    8: lambda a: np.rot90(a, 1),
}


def tiff(values: NDArray[Any], **changes: object) -> bytes:
    """Return an uncompressed TIFF of (H, W, C) values as they are; `changes`: tags, such as _262=0."""
    height, width, channels = values.shape
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    made = {256: width, 257: height, 258: (8 * values.itemsize,) * channels, 259: 1, 262: 2 if channels > 2 else 1}
    made |= {273: 0, 277: channels, 278: height, 279: values.nbytes, 339: (kind,) * channels}
    for tag, value in (made | {int(name[1:]): value for name, value in changes.items()}).items():
        tags[tag] = value
    file = io.BytesIO()
    file.write(b"II*\0" + struct.pack("<L", 8))
    tags.save(file)
    return file.getvalue() + values.tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: NDArray[np.uint16], *more: bytes) -> bytes:
    """Return a 16-bit PNG of (H, W, C), with more chunks before its pixels."""
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, (0, 4, 2, 6)[channels - 1], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = (chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("orientation", TURNS)
def test_colours_of_16_bits_are_read_exactly_and_turned(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for data in (png(DEEP, chunk(b"eXIf", exif.tobytes()[6:])), tiff(DEEP, _274=orientation)):
        assert np.array_equal(Photo.read(data).pixels, TURNS[orientation](DEEP))


@pytest.mark.parametrize("ending", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_written_exactly(tmp_path: Path, ending: str, channels: int) -> None:
    values = np.random.default_rng(channels).integers(0, 65536, (60, 70, channels), dtype=np.uint16)
    if channels in (2, 4):
        values[:, :, -1] = 257 * (values[:, :, -1] % 200 + 50)
    write_picture(tmp_path / f"a.{ending}", values)
    read = Photo.read((tmp_path / f"a.{ending}").read_bytes())
    assert np.array_equal(read.layers(), values)
    with Image.open(tmp_path / f"a.{ending}") as picture:  # others read it too
        assert picture.size == (70, 60)
        picture.load()


def test_other_formats_get_8_bits(tmp_path: Path) -> None:
    smooth = np.linspace(0, 65535, 64 * 3).astype(np.uint16).reshape(1, 64, 3).repeat(64, 0)
    write_picture(tmp_path / "a.jpg", smooth, quality=98)
    got = np.asarray(Image.open(tmp_path / "a.jpg"), dtype=np.float64)
    assert np.abs(got - smooth / 257).max() < 8


GREY = DEEP[:, :, :1]


@pytest.mark.parametrize(
    ("values", "changes", "wanted", "remark"),
    [
        ((DEEP / 65535).astype(np.float32), {}, DEEP, None),
        (DEEP / 65535, {}, DEEP, None),
        ((DEEP / 257).astype(np.float32), {}, DEEP, None),  # grey levels
        ((GREY // 257).astype(np.int32), {}, GREY // 257 * 257, "255 is taken for white"),
        (GREY // 16, {}, GREY, "4095 is taken for white"),
        (GREY // 16, {"_281": 4095}, GREY, None),
        (GREY // 2, {}, GREY // 2, None),  # a dark picture
        (GREY, {"_262": 0}, 65535 - GREY, None),  # 0 is white
        ((GREY // 2).astype(np.int16), {}, GREY, None),
        (np.dstack([DEEP // 2, np.full((6, 5), 32768, np.uint16)]), {"_338": 1}, DEEP, None),  # premultiplied
    ],
)
def test_values_are_read_by_their_range(
    values: NDArray[Any], changes: dict[str, Any], wanted: NDArray[Any], remark: str | None
) -> None:
    photo = Photo.read(tiff(values, **changes))
    assert photo.pixels.shape == wanted.shape
    assert np.abs(photo.pixels.astype(int) - wanted).max() <= 16  # 12 bits of 16
    assert (photo.remark or "") == (remark or "") or (remark or "-") in str(photo.remark)


def test_what_is_not_read_is_named() -> None:
    with pytest.raises(PictureError, match="a TIFF of 1 floating-point 16-bit channels, which cannot be read"):
        Photo.read(tiff(GREY.astype(np.float16)))
    with pytest.raises(PictureError, match="broken or cut off"):
        Photo.read(tiff(DEEP.astype(np.float32))[:-4])
    with pytest.raises(PictureError, match="limit of 150 megapixels"):
        Photo.read(tiff(DEEP.astype(np.float32), _256=100_000, _257=100_000, _259=8))


def test_mutated_files_raise_nothing_else() -> None:
    generator = np.random.default_rng(1)
    for data in (tiff((DEEP / 65535).astype(np.float32)), tiff(DEEP), png(DEEP)):
        for _ in range(150):
            changed = bytearray(data)
            for place in generator.integers(0, len(data), generator.integers(1, 6)):
                changed[place] = generator.integers(256)
            with contextlib.suppress(PictureError):
                Photo.read(bytes(changed))


def gama(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def test_a_stated_curve_and_primaries_are_brought_to_srgb() -> None:
    light = np.full((6, 5, 3), (6554, 32768, 65535), np.uint16)
    linear = Photo.read(png(light, gama(1.0))).pixels[0, 0] / 65535
    assert linear == pytest.approx([0.3492, 0.7354, 1.0], abs=0.001)  # sRGB's curve of 0.1, 0.5 and 1
    assert np.array_equal(Photo.read(png(light, gama(1 / 2.2))).pixels, light)
    assert np.array_equal(Photo.read(png(light, chunk(b"sRGB", b"\0"), gama(1.0))).pixels, light)
    p3 = {"chromaticity": (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)}
    red = np.array([[[0.9175, 0.2003, 0.1387], [0.5, 0.5, 0.5]]]) * 65535  # sRGB's red, as Display P3 writes it
    got = as_srgb(red.astype(np.uint16), p3, 65535)[0] / 65535
    assert got[0] == pytest.approx([1, 0, 0], abs=0.01)
    assert got[1] == pytest.approx([0.5, 0.5, 0.5], abs=0.001)
    for nonsense in ((0.0,) * 8, (1.0,) * 8, (float("nan"),) * 8, "x"):
        assert np.array_equal(as_srgb(light, {"chromaticity": nonsense}, 65535), light)


def test_further_pages_keep_their_depth():
    pages = [DEEP, DEEP[::-1], DEEP[:3, :, ::-1]]
    done, data = cv2.imencodemulti(".tiff", [np.ascontiguousarray(page[:, :, ::-1]) for page in pages])
    assert done
    for k, page in enumerate(pages):
        read = Photo.read(data.tobytes(), "pages", k).pixels
        assert read.dtype == np.uint16
        assert np.array_equal(read, page)
