"""How many pictures a file holds: frames of an animation (GIF, WebP, APNG, AVIF), pages of a TIFF, pictures of a HEIF."""

import io
import warnings

from PIL import Image

from latentface.io.libtiff import silence_libtiff

# Not MPO: a photograph of a phone has a preview or a depth map as its second picture.
FRAMED = ("GIF", "WEBP", "PNG", "AVIF", "TIFF", "HEIF")
PAGED = ("TIFF", "HEIF")


def frame_count(data: bytes) -> tuple[int, str]:
    """Return how many frames or pages a file's bytes hold, and which of the two words fits; 1 where it cannot be told.

    Each is read by `open_picture(data, frame=k)`, counted from 0.
    """
    silence_libtiff()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.init()
            with Image.open(io.BytesIO(data), formats=[kind for kind in FRAMED if kind in Image.OPEN]) as picture:
                count = int(getattr(picture, "n_frames", 1))
                if picture.format == "PNG":  # a number in its header; the others' frames are counted
                    count = max(1, min(count, data.count(b"fcTL") + 1))
                return count, "page" if picture.format in PAGED else "frame"
    except Exception:  # whatever a broken file makes Pillow raise: who reads the picture says what is wrong
        return 1, "frame"
