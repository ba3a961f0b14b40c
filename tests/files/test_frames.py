"""Animations and files of several pages: how many pictures there are, and each by its number."""

from __future__ import annotations

import io
import zlib

import pytest
from PIL import Image

from latentface.errors import PictureError
from latentface.io.frames import frame_count
from latentface.io.pictures import open_picture

COLOURS = ("red", "lime", "blue")


def encoded(kind: str, count: int = 3, **extra: object) -> bytes:
    frames = [Image.new("RGB", (8, 6), colour) for colour in COLOURS[:count]]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], **extra)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "word"), [("GIF", "frame"), ("WEBP", "frame"), ("PNG", "frame"), ("TIFF", "page")])
def test_each_is_counted_and_read(kind, word):
    data = encoded(kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert frame_count(data) == (3, word)
    assert frame_count(encoded(kind, 1))[0] == 1
    for k, colour in enumerate(COLOURS):
        middle = open_picture(data, frame=k).convert("RGB").getpixel((4, 3))
        assert middle == Image.new("RGB", (1, 1), colour).getpixel((0, 0))
    with pytest.raises(PictureError):
        open_picture(data, frame=3)


@pytest.mark.parametrize("data", [b"", b"no picture", encoded("GIF")[:40], b"MM\x00*\xff\xff\xff\xff"])
def test_of_a_broken_file_there_is_one(data):
    assert frame_count(data)[0] == 1


def test_a_header_that_lies_about_the_frames():
    data = bytearray(encoded("PNG"))
    at = data.index(b"acTL")
    data[at + 4 : at + 8] = (2**30).to_bytes(4, "big")
    data[at + 12 : at + 16] = zlib.crc32(data[at : at + 12]).to_bytes(4, "big")
    assert frame_count(bytes(data))[0] in (3, 4)


def test_libtiff_is_silent(capfd):
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "TIFF", compression="tiff_lzw")
    data = bytearray(file.getvalue())
    data[1000:1100] = b"\xff" * 100
    with pytest.raises(PictureError):
        open_picture(bytes(data))
    assert capfd.readouterr().err == ""
