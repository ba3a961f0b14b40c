"""What one visitor may ask for, so that the others are served too."""

import contextlib
from pathlib import Path

from PIL import Image

from latentface.errors import InputError

FILE_MB, PIXELS, RESULT_PIXELS = 40, 24_000_000, 100_000_000  # of an input, of an input, of a result
STEPS, SAMPLES, FACES = 300, 8, 60
CLEARED = (300, 3000)  # seconds: how often files are deleted, and of which age
WORDS = (
    f"Files of up to {FILE_MB} MB and {PIXELS // 1_000_000} megapixels. One search runs at a time and up to {{queue}} visitors wait; "
    "after {minutes:.0f} minutes a search ends at its best so far. "
    "Your files are deleted within the hour, and no other visitor sees them."
)


def read_limited(path: str | None) -> bytes:
    """Return the bytes of a visitor's file. Raises InputError: there is none, or too many bytes or pixels."""
    if path is None:
        raise InputError("choose a picture first")
    if Path(path).stat().st_size > FILE_MB << 20:
        raise InputError(f"the file is too large; this page takes files of up to {FILE_MB} MB")
    with contextlib.suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # `restore` tells why
        check_pixels(Image.open(path).size)
    return Path(path).read_bytes()


def check_pixels(size: tuple[int, int], factor: float = 1.0) -> None:
    """Check the size of a picture, and that of its enlargement. Raises InputError."""
    pixels = size[0] * size[1]
    for what, count, most in (("picture", pixels, PIXELS), ("result", pixels * factor**2, RESULT_PIXELS)):
        if count > most:
            raise InputError(
                f"the {what} would have {count / 1e6:.0f} megapixels; this page takes up to {most // 1_000_000}: use a smaller picture or factor"
            )
