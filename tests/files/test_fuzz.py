"""A minute of broken pictures: whatever a file holds, reading it ends in a picture or in an error of the tool's own."""

from __future__ import annotations

import io
import os
import random
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from latentface.errors import LatentfaceError
from latentface.io.photo import Photo

SECONDS = float(os.environ.get("LATENTFACE_FUZZ_SECONDS", "60"))
VALUES = (0, 1, 0x7F, 0x80, 0xFF)


def sound_files() -> list[bytes]:
    """Return small pictures of every format that is read, with all that they can carry."""
    values = np.random.default_rng(0).integers(0, 65536, (13, 17, 4), dtype=np.uint16)
    colours = Image.fromarray((values[..., :3] >> 8).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x0132] = 6, "described", "2026:01:01 00:00:00"
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "a face" * 20, zip=True)
    text.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>")
    icc = b"\0\0\0\x80acsp" + bytes(120)
    made = []

    def keep(picture: Image.Image, kind: str, **options: object) -> None:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        made.append(file.getvalue())

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        source = Image.fromarray(values[..., 0]) if mode == "I;16" else colours.convert(mode)
        keep(source, "PNG", pnginfo=text, exif=exif, icc_profile=icc, dpi=(300, 300))
    for mode in ("L", "RGB", "CMYK"):
        keep(colours.convert(mode), "JPEG", exif=exif, icc_profile=icc, comment=b"said")
    keep(colours, "JPEG", progressive=True)
    keep(colours.convert("RGBA"), "WEBP", exif=exif, icc_profile=icc)
    keep(colours, "WEBP", save_all=True, append_images=[colours.rotate(90)])
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits"):
        keep(colours, "TIFF", compression=compression, save_all=True, append_images=[colours])
    keep(colours.convert("P"), "GIF", save_all=True, append_images=[colours.convert("P").rotate(180)])
    for kind in ("BMP", "PPM"):
        keep(colours, kind)
    for ending in (".png", ".tiff"):
        made += [cv2.imencode(ending, part)[1].tobytes() for part in (values[..., :3], values, values[..., 0])]
    made.append(cv2.imencode(".tiff", (values[..., :3] / 65535).astype(np.float32))[1].tobytes())
    return made


def mutated(data: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    """Return a file with some bytes changed, mostly near its start, lost, doubled, or taken from another file."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(min(len(out), 200) if draw.random() < 0.6 else len(out))
        kind = draw.randrange(6)
        if kind < 3:
            out[place] = draw.choice(VALUES) if kind else draw.randrange(256)
        elif kind == 3:
            del out[place : place + draw.randint(1, 40)]
        elif kind == 4:
            out[place:place] = out[place : place + draw.randint(1, 40)]
        else:
            other = draw.choice(others)
            start = draw.randrange(len(other))
            out[place : place + 16] = other[start : start + 16]
        if not out:
            return bytes(out)
    return bytes(out[: draw.randrange(len(out) + 1)] if draw.random() < 0.1 else out)


def test_broken_pictures_raise_nothing_but_the_tools_errors(tmp_path: Path) -> None:
    files = sound_files()
    for data in files:
        assert min(Photo.read(data).size) >= 13
    draw, read, refused = random.Random(0), 0, list[str]()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        data = mutated(draw.choice(files), draw, files)
        try:
            photo = Photo.read(data)
            if max(photo.size) < 400:  # with all that it carried
                photo.save(tmp_path / draw.choice(("x.png", "x.jpg", "x.tif", "x.webp")))
        except LatentfaceError as told:
            refused.append(str(told))
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__}: {error}; file {read + len(refused)}, {data!r}") from error
        else:
            read += 1
    assert not any("\n" in words for words in refused)
    assert min(read, len(refused)) > 20  # neither all broken nor all sound
