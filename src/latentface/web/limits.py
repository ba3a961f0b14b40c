"""What one visitor may ask for, so that the others are served too."""

import contextlib
from pathlib import Path

from PIL import Image

from latentface.errors import InputError

FILE_MB, PIXELS, RESULT_PIXELS = 40, 24_000_000, 100_000_000  # of an input, of an input, of a result
STEPS, SAMPLES, FACES = 300, 8, 60
CLEARED, KEPT = 300, 3000  # seconds: how often files are deleted, and after which time


def check_file(path: str | None) -> None:
    """Check a visitor's file before it is read. Raises InputError: there is none, or too many bytes or pixels."""
    if path is None:
        raise InputError("choose a picture first")
    if Path(path).stat().st_size > FILE_MB << 20:
        raise InputError(f"the file is too large; this page takes files of up to {FILE_MB} MB")
    size = (0, 0)
    with contextlib.suppress(Exception):  # what Pillow does not open is decoded, or refused, by `restore`
        size = Image.open(path).size
    check_pixels(size)


def check_pixels(size: tuple[int, int], factor: float = 1.0) -> None:
    """Check the size of a picture, and that of its enlargement. Raises InputError."""
    pixels = size[0] * size[1]
    for what, count, most in (("picture", pixels, PIXELS), ("result", pixels * factor**2, RESULT_PIXELS)):
        if count > most:
            raise InputError(
                f"the {what} would have {count / 1e6:.0f} megapixels; this page takes up to {most // 1_000_000}: use a smaller picture or factor"
            )
