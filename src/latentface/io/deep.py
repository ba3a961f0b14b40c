"""Pictures of more than 8 bits a channel: read with OpenCV, whose decoders keep the depth of colours, and written.

Pillow reads 16-bit grey, but takes 16-bit colours for 8-bit ones and refuses colours of floats.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, TiffImagePlugin

from latentface.errors import PictureError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
RANGES = (255, 1023, 4095)  # white of whole numbers that fill a small part of their bits: of 8, 10 and 12 bits
LINEAR_FLOATS = 16.0  # floats up to here are light, and their brightest is white; beyond they are grey levels
STRIP_BYTES = 1 << 23


@dataclass(frozen=True, slots=True)
class Tiff:
    """How a TIFF says that its pixels are stored: bits of a sample, 1 unsigned, 2 signed, 3 floats."""

    width: int
    height: int
    bits: int
    kind: int
    samples: int
    white: int | None  # MaxSampleValue
    inverted: bool  # 0 is white
    premultiplied: bool
    whole: bool  # the file holds the pixels that it announces
    tags: TiffImagePlugin.ImageFileDirectory_v2

    @classmethod
    def of(cls, data: bytes, page: int = 0) -> Tiff | None:
        """Read a page's directory of a TIFF; None where the bytes are none, or it is broken."""
        if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
        try:
            tags = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if data[2] == 43 or data[3] == 43 else data[:8])
            file = io.BytesIO(data)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for _ in range(page + 1):
                    file.seek(tags.next)
                    tags.load(file)
                first: dict[int, Any] = {
                    tag: value[0] if isinstance(value := tags.get(tag), tuple) else value for tag in _NEEDED
                }
            width, height, bits, samples = (int(first[tag] or 1) for tag in (256, 257, 258, 277))
            places = zip(_all(tags, 273, 324), _all(tags, 279, 325), strict=True)  # of strips or tiles
            sizes = [size for place, size in places if place + size <= len(data)]
            bytes_needed = 1 if first[259] not in (None, 1) else width * height * samples * bits // 8
            return cls(
                width=width,
                height=height,
                bits=bits,
                kind=int(first[339] or 1),
                samples=samples,
                white=None if not first[281] else int(first[281]),
                inverted=first[262] == 0,
                premultiplied=first[338] == 1,
                whole=len(sizes) == len(_all(tags, 273, 324)) and sum(sizes) >= bytes_needed,
                tags=tags,
            )
        except Exception:  # a broken directory, which Pillow tells of
            return None

    @property
    def words(self) -> str:
        """What it is, for messages."""
        kind = {1: "", 2: "signed ", 3: "floating-point "}.get(self.kind, "unusual ")
        return f"a TIFF of {self.samples} {kind}{self.bits}-bit channels"


_NEEDED = (256, 257, 258, 259, 262, 277, 281, 338, 339)


def _all(tags: TiffImagePlugin.ImageFileDirectory_v2, *either: int) -> tuple[int, ...]:
    """Return all values of the first of some tags that is there."""
    value = next((tags[tag] for tag in either if tag in tags), ())
    return value if isinstance(value, tuple) else (value,)


def decode_deep(data: bytes, page: int = 0) -> NDArray[Any] | None:
    """Return deep pixels (H, W, C), RGB order, as stored; None where OpenCV cannot read them, or not as deep ones."""
    import cv2

    log = cv2.utils.logging
    level = log.getLogLevel()
    log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        stored = np.frombuffer(data, np.uint8)
        if page:
            made = next(iter(cv2.imdecodemulti(stored, cv2.IMREAD_UNCHANGED, range=(page, page + 1))[1]), None)
        else:
            made = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError):
        return None
    finally:
        log.setLogLevel(level)
    if made is None or made.dtype == np.uint8:
        return None
    made = made.reshape(*made.shape[:2], -1)
    order = [2, 1, 0, 3] if made.shape[2] >= 3 else [0, 1]
    pixels: NDArray[Any] = made[:, :, order[: made.shape[2]]]
    return pixels


def read_deep(data: bytes, name: str, most: int, page: int = 0) -> tuple[NDArray[np.uint16], str | None] | None:
    """Return the pixels (H, W, C) of a deep PNG or TIFF with white at 65535, and a remark on how they were read.

    A TIFF is turned as its orientation says, a PNG is not. C is 1, 2, 3 or 4: grey or RGB, with alpha. None where Pillow
    gives all that the file has, and for a PNG's further frames. Raises PictureError: more than `most` pixels.
    """
    if data[:8] == PNG_SIGNATURE:
        if page or len(data) < 33 or data[24] != 16 or data[25] not in (2, 4, 6):
            return None
        width, height = struct.unpack(">II", data[16:24])
        _check_size(width, height, name, most)
        try:
            Image.open(io.BytesIO(data), formats=["PNG"]).verify()  # libpng writes to stderr of what is broken
        except Exception:  # Pillow tells of it
            return None
        pixels = decode_deep(data)
        if pixels is None or pixels.dtype != np.uint16:
            return None
        return (pixels[:, :, [0, 3]] if data[25] == 4 and pixels.shape[2] == 4 else pixels), None
    tiff = Tiff.of(data, page)
    if tiff is None or tiff.bits not in (16, 32, 64) or not tiff.whole:
        return None
    _check_size(tiff.width, tiff.height, name, most)
    stored = decode_deep(data, page)
    if stored is None or stored.shape[2] != tiff.samples:
        return None
    pixels, remark = in_range(stored, tiff)
    if tiff.inverted:
        pixels = 65535 - pixels
    if tiff.premultiplied and pixels.shape[2] in (2, 4):
        cover = np.maximum(pixels[:, :, -1:], 1).astype(np.float32) / 65535
        pixels[:, :, :-1] = np.minimum(pixels[:, :, :-1] / cover, 65535).round()
    return pixels, remark


def turned(pixels: NDArray[Any], orientation: object) -> NDArray[Any]:
    """Return pixels (H, W, C) as EXIF's orientation, 1 to 8, shows them."""
    pixels = pixels.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else pixels
    pixels = pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


def in_range(stored: NDArray[Any], tiff: Tiff) -> tuple[NDArray[np.uint16], str | None]:
    """Return stored values with white at 65535: by the white that the file states, else by the values' own range.

    Floats up to 1 are as they are, and up to 16 their brightest is white. Whole numbers have the full range of their
    bits, unless none reaches beyond 12 of 16 bits; of 32 and 64 bits nobody fills the range.
    """
    if stored.dtype == np.uint16 and tiff.white is None and int(stored.max(initial=0)) > RANGES[-1]:
        return stored, None
    finite = np.isfinite(stored)
    most = float(stored.max(initial=0, where=finite))
    whole = stored.dtype.kind in "ui"
    full = float(2 ** (tiff.bits - (tiff.kind == 2)) - 1)
    if whole and tiff.white is not None and tiff.white >= most:
        white = float(tiff.white)
    elif whole and tiff.bits <= 16:
        white = next((float(top) for top in RANGES if most <= top), full)
    elif whole or most > LINEAR_FLOATS:
        white = next((float(top) for top in (*RANGES, 65535) if most <= top), most)
    else:
        white = max(1.0, most)
    scale = np.float64(65535 / white)
    pixels = np.empty(stored.shape, np.uint16)
    for top in range(0, len(stored), 256):  # a few rows at a time: float64 takes four times the memory
        with np.errstate(invalid="ignore"):
            rows = np.nan_to_num(stored[top : top + 256].astype(np.float64), posinf=most, neginf=0.0)
        pixels[top : top + 256] = (rows * scale).clip(0, 65535).round()
    told = whole and most > 0 and white not in (full, tiff.white)
    return pixels, f"its values end at {most:.0f}, so that {white:.0f} is taken for white" if told else None


def _check_size(width: int, height: int, name: str, most: int) -> None:
    if width * height > most:
        raise PictureError(
            f"{name}: {width} x {height} pixels are more than the limit of {most // 1_000_000} megapixels; shrink or cut it first"
        )


def write_deep_png(path: Path, pixels: NDArray[np.uint16], options: Mapping[str, Any]) -> None:
    """Write pixels (H, W, C) as a 16-bit PNG of grey, grey and alpha, RGB or RGBA; `options`: of Pillow's `save`."""
    height, width, channels = pixels.shape
    kind = (0, 4, 2, 6)[channels - 1]
    small = io.BytesIO()  # Pillow writes what the file says besides its pixels
    Image.new("L" if channels < 3 else "RGB", (1, 1)).save(small, "PNG", **options)
    before, after = _png_chunks(small.getvalue())
    with open(path, "wb") as file:
        file.write(PNG_SIGNATURE)
        PngImagePlugin.putchunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        file.write(before)
        packer, above = zlib.compressobj(6), np.zeros((1, width * channels * 2), np.uint8)
        step = max(1, STRIP_BYTES // above.size)
        for top in range(0, height, step):
            rows = pixels[top : top + step].astype(">u2").reshape(-1, width * channels).view(np.uint8)
            lines = np.full((len(rows), above.size + 1), 2, np.uint8)  # filter 2: the difference to the row above
            lines[:, 1:] = rows - np.concatenate([above, rows[:-1]])
            above = rows[-1:]
            PngImagePlugin.putchunk(file, b"IDAT", packer.compress(lines.tobytes()))
        PngImagePlugin.putchunk(file, b"IDAT", packer.flush())
        file.write(after)
        PngImagePlugin.putchunk(file, b"IEND")


def _png_chunks(data: bytes) -> tuple[bytes, bytes]:
    """Return a PNG's chunks between its header and its pixels, and between these and its end."""
    parts, place, seen = [b"", b""], 8, 0
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        if kind == b"IDAT":
            seen = 1
        elif kind not in (b"IHDR", b"IEND"):
            parts[seen] += data[place:end]
        place = end
    return parts[0], parts[1]


def write_deep_tiff(path: Path, pixels: NDArray[np.uint16], options: Mapping[str, Any]) -> None:
    """Write pixels (H, W, C) as an uncompressed 16-bit TIFF; `options`: "exif" (tags), "icc_profile", "dpi".

    Grey with alpha is written as RGBA: few read the other.
    """
    pixels = pixels[:, :, [0, 0, 0, 1]] if pixels.shape[2] == 2 else pixels
    height, width, channels = pixels.shape
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    exif = options.get("exif", Image.Exif())
    for tag in exif:
        tags[tag] = exif.get_ifd(tag) if tag in (0x8769, 0x8825, 0xA005) else exif[tag]
    row = width * channels * 2
    step = max(1, STRIP_BYTES // row)
    sizes = [min(step, height - top) * row for top in range(0, height, step)]
    for tag, value in (
        *((256, width), (257, height), (258, (16,) * channels), (259, 1), (262, 1 if channels == 1 else 2)),
        *((273, tuple(sum(sizes[:i]) for i in range(len(sizes)))), (277, channels), (278, step), (279, tuple(sizes))),
        *((284, 1), (339, (1,) * channels)),
    ):
        tags[tag] = value
    if channels == 4:
        tags[338] = 2
    if "icc_profile" in options:
        tags[34675] = options["icc_profile"]
    if "dpi" in options:
        x, y = options["dpi"]
        tags[282], tags[283], tags[296] = x, y, 2
    with open(path, "wb") as file:
        file.write(b"II*\0" + struct.pack("<L", 8))
        tags.save(file)
        for top in range(0, height, step):
            file.write(pixels[top : top + step].astype("<u2").tobytes())
