"""What a file is that was given for weights of ours and is none: told by its first bytes, and nothing in it is run."""

import io
import zipfile
import zlib
from pathlib import Path

from PIL import Image

LOOKED_AT = 1 << 20  # bytes of a file, and of a checkpoint's index
STYLEGAN = (b"dnnlib", b"torch_utils.persistence", b"training.networks", b"g_ema", b"G_ema")  # NVIDIA's, rosinality's
STYLEGAN_FILE = (
    "a StyleGAN {}; make a prior of latentface of it first: latentface models convert FILE -o NAME.safetensors"
)


def kind_of(path: str | Path) -> str | None:
    """Return what a file is, in words, where that is clear and it is no safetensors file; else None.

    Raises OSError: it cannot be read.
    """
    if Path(path).is_dir():
        return "a folder"
    with open(path, "rb") as file:
        head = file.read(LOOKED_AT)
    if not head:
        return "an empty file"
    if head[8:9] == b"{":  # safetensors: 8 bytes of length, then JSON
        return None
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return STYLEGAN_FILE.format("pickle") if _names_stylegan(head) else "a Python pickle"
    if head[:4] == b"PK\x03\x04":
        return _zipped(path)
    if picture := _picture(head):
        return picture
    return _text(head)


def _names_stylegan(data: bytes) -> bool:
    return any(word in data for word in STYLEGAN)


def _zipped(path: str | Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            index = next((n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"), None)
            if index is None:
                return "a zip archive"
            with archive.open(index) as file:
                stylegan = _names_stylegan(file.read(LOOKED_AT))
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, EOFError):
        return "a broken zip archive"
    return STYLEGAN_FILE.format("checkpoint of PyTorch") if stylegan else "a checkpoint of PyTorch"


def _picture(head: bytes) -> str | None:
    try:
        with Image.open(io.BytesIO(head), formats=("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")) as picture:
            return f"a picture ({picture.format})"
    except Exception:  # whatever Pillow raises on what is no picture
        return None


def _text(head: bytes) -> str | None:
    start = head[:4096]
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself (git lfs pull brings it)"
    if start.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not the file itself"
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(start):  # not merely cut inside a letter
            return None
        text = start[: error.start].decode("utf-8")
    return "a text file" if text.isprintable() or all(c.isprintable() or c.isspace() for c in text) else None
