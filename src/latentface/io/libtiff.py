"""The C library libtiff, through which Pillow reads TIFF files: it writes to the terminal unless it is told not to."""

import contextlib
import ctypes
from functools import cache

from PIL import _imaging


@cache
def silence_libtiff() -> None:
    """Let libtiff say nothing: what it finds wrong, Pillow raises as an error. Without effect where it is out of reach."""
    with contextlib.suppress(OSError, AttributeError):  # it is linked into Pillow, without a name of its own
        library = ctypes.CDLL(_imaging.__file__)
        for handler in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
