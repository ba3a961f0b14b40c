"""Files <-> tensors: the one place where pictures are decoded, encoded and laid out side by side.

A tensor picture is float32 RGB (3, H, W) in [0, 1]. Reading applies the EXIF turn, lays transparent pictures on white,
takes the first frame of an animation, and keeps the precision of 16-bit files. Writing is atomic: a file is there whole
or not at all.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from latentface.errors import InputError, OutputError, PictureError
from latentface.io.atomic import atomic_path, read_bytes
from latentface.io.deep import Tiff, write_deep_png, write_deep_tiff
from latentface.io.libtiff import silence_libtiff
from latentface.io.metadata import Metadata

if TYPE_CHECKING:
    from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # of R, G, B in Y: ITU-R BT.601, full range
PICTURE_SUFFIXES = frozenset(
    {
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".mpo", ".webp", ".avif", ".avifs"),
        *(".bmp", ".dib", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
        *(".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c"),
    }
)
MAX_PIXELS = 150_000_000  # 150 megapixels: 1.8 GB as float32 RGB, more than any camera's file, less than a bomb
DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})  # Pillow's, one channel of more than 8 bits
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
MOST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # px
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "HEIF")


def open_picture(data: bytes, name: str = "the picture", frame: int = 0, *, turn: bool = True) -> Image.Image:
    """Decode a picture file's bytes into a loaded Pillow image (any mode), turned as EXIF says; of several frames that one.

    Raises PictureError: empty, no picture, truncated, or more than `MAX_PIXELS` pixels.
    """
    if not data:
        raise PictureError(f"{name}: the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of sizes and odd metadata; sizes are checked just below
            Image.init()
            silence_libtiff()
            picture = Image.open(io.BytesIO(data), formats=[kind for kind in _FORMATS if kind in Image.OPEN])
            if frame:
                picture.seek(frame)
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise PictureError(
                    f"{name}: {width} x {height} pixels are more than the limit of {MAX_PIXELS // 1_000_000} megapixels; shrink or cut it first"
                )
            picture.load()
            if turn:
                ImageOps.exif_transpose(picture, in_place=True)  # a copy would lose a TIFF's tags
            return picture
    except PictureError:
        raise
    except UnidentifiedImageError:
        tiff = Tiff.of(data)
        if tiff is not None and not tiff.whole:
            raise PictureError(f"{name}: the file is broken or cut off (a part of its pixels is missing)") from None
        if tiff is not None:
            raise PictureError(
                f"{name}: {tiff.words}, which cannot be read; save it with 8 or 16 bits a channel"
            ) from None
        raise PictureError(
            f"{name}: this is not a picture that can be read (PNG, JPEG, WebP, AVIF, TIFF, BMP and GIF are)"
        ) from None
    except Image.DecompressionBombError:
        raise PictureError(
            f"{name}: its header announces more than the limit of {MAX_PIXELS // 1_000_000} megapixels"
        ) from None
    except MemoryError:
        raise PictureError(f"{name}: there is not enough memory to open it; shrink or cut it first") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more on broken files
        raise PictureError(f"{name}: the file is broken or cut off ({error})") from None


def finite_grey(picture: Image.Image, dtype: type[np.floating[Any]]) -> np.ndarray:
    """Return a picture of one deep channel as (H, W) in [0, 1]: 16 bits by 65535, floats by their maximum if above 1."""
    grey = np.asarray(picture, dtype=dtype)
    grey = np.nan_to_num(grey, posinf=float(np.max(grey[np.isfinite(grey)], initial=1.0)), neginf=0.0)
    top = 65535.0 if picture.mode != "F" else max(1.0, float(grey.max(initial=0.0)))
    return (grey / top).clip(0.0, 1.0)


def rgb_array(picture: Image.Image) -> np.ndarray:
    """Return any Pillow image as a float32 array (H, W, 3) in [0, 1]; transparency is laid on white."""
    if picture.mode in DEEP_MODES:
        grey = finite_grey(picture, np.float32)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        picture = Image.alpha_composite(white, layer)
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0


def read_picture(source: str | Path | bytes, name: str | None = None) -> Tensor:
    """Read a picture file (or its bytes) as float32 RGB (3, H, W) in [0, 1].

    Raises PictureError: it is missing, empty, no picture, broken, or larger than `MAX_PIXELS`.
    """
    import torch

    if isinstance(source, bytes):
        data, label = source, name or "the picture"
    else:
        label = name or str(source)
        data = read_bytes(source)
    array = rgb_array(open_picture(data, label))
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def check_batch(pictures: Tensor, name: str = "pictures") -> Tensor:
    """Return `pictures` if it is a finite floating (B, 3, H, W) tensor in about [0, 1].

    Raises InputError: another shape, integers, NaN or infinite values, or values far outside [0, 1].
    """
    import torch

    if not isinstance(pictures, torch.Tensor) or pictures.ndim != 4 or pictures.shape[1] != 3 or 0 in pictures.shape:
        got = tuple(pictures.shape) if isinstance(pictures, torch.Tensor) else type(pictures).__name__
        raise InputError(f"{name}: got {got}, expected a tensor (B, 3, H, W)")
    if not pictures.is_floating_point():
        raise InputError(
            f"{name}: got {pictures.dtype}, expected floating-point values in [0, 1]; divide 8-bit values by 255"
        )
    if not bool(torch.isfinite(pictures).all()):
        raise InputError(f"{name}: it holds NaN or infinite values, expected finite ones in [0, 1]")
    low, high = float(pictures.detach().min()), float(pictures.detach().max())
    if low < -0.5 or high > 1.5:
        raise InputError(
            f"{name}: values run from {low:.3g} to {high:.3g}, expected [0, 1]; divide 8-bit values by 255"
        )
    return pictures


def to_tensor(picture: str | Path | bytes | Image.Image | np.ndarray[Any, Any] | Tensor) -> Tensor:
    """Return any picture as float32 RGB (3, H, W) in [0, 1].

    Accepts a path, a file's bytes, a Pillow image, an array (H, W, 3) of bytes or of floats in [0, 1], or a tensor
    (3, H, W) or (1, 3, H, W). Raises PictureError: a file that cannot be read. InputError: another shape or type, NaN.
    """
    import torch

    if isinstance(picture, (str, Path, bytes)):
        return read_picture(picture)
    if isinstance(picture, Image.Image):
        return torch.from_numpy(rgb_array(picture).transpose(2, 0, 1).copy())
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] != 3:
            raise InputError(f"the array is {picture.shape}, expected (H, W, 3)")
        values = picture.astype(np.float32) / (255.0 if picture.dtype == np.uint8 else 1.0)
        picture = torch.from_numpy(values.transpose(2, 0, 1).copy())
    if not isinstance(picture, torch.Tensor):
        raise InputError(f"got {type(picture).__name__}, expected a path, bytes, a Pillow image, an array or a tensor")
    if picture.dtype == torch.uint8:
        picture = picture.float() / 255
    batch = picture if picture.ndim == 4 else picture[None]
    if len(batch) != 1:
        raise InputError(f"the tensor is {tuple(picture.shape)}, expected one picture (3, H, W)")
    return check_batch(batch, "picture")[0].float()


def to_uint8(picture: Tensor) -> np.ndarray:
    """Round a tensor picture (3, H, W) in [0, 1] to a uint8 array (H, W, 3)."""
    array = picture.detach().cpu().float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(array)


def to_pillow(picture: Tensor) -> Image.Image:
    """Round a tensor picture (3, H, W) in [0, 1] to an 8-bit Pillow image."""
    return Image.fromarray(to_uint8(picture))


def shallow(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return uint8 or uint16 values as uint8."""
    return pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def check_ending(path: str | Path) -> str:
    """Return the format, as Pillow names it, that a file's ending asks for. Raises InputError: it is not written."""
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise InputError(f"{path}: pictures are written as {', '.join(FORMATS)}; give the name one of these endings")
    return FORMATS[ending]


def check_writable(path: str | Path, height: int, width: int) -> None:
    """Check that a picture of that size can be written as the name's ending says. Raises InputError."""
    kind = check_ending(path)
    most = MOST_SIDE.get(kind)
    if most is not None and max(height, width) > most:
        raise InputError(
            f"{path}: {kind} holds at most {most} px a side, and the result has {width} x {height}; take png or tiff, or a smaller factor (-f)"
        )


def write_picture(
    path: str | Path,
    picture: Tensor | Image.Image | np.ndarray[Any, Any],
    text: Mapping[str, str] | None = None,
    *,
    quality: int = 92,
    metadata: Metadata | None = None,
) -> None:
    """Write a picture in the format of the name's ending, atomically.

    The text goes into a PNG's chunks and the XMP of others. JPEG has no alpha: it is laid on white.

    Args:
        picture: (3, H, W) in [0, 1], a Pillow image, or an array (H, W, C) of grey or RGB, with alpha or without; uint16 is
            written in 16 bits as PNG and TIFF.
        quality: 1 to 100, of JPEG and WebP.

    Raises InputError: an ending that is not written, a quality out of range. OutputError: it cannot be written.
    """
    kind = check_ending(path)
    if not isinstance(quality, int) or not 1 <= quality <= 100:
        raise InputError(f"quality is {quality}; expected a whole number from 1 to 100")
    options = (metadata or Metadata()).options(kind, text or {})
    with atomic_path(path) as temporary:
        if isinstance(picture, np.ndarray) and picture.dtype == np.uint16 and kind in ("PNG", "TIFF"):
            (write_deep_png if kind == "PNG" else write_deep_tiff)(temporary, picture, options)
            return
        if isinstance(picture, np.ndarray):
            layers = shallow(picture)
            image = Image.fromarray(layers[:, :, 0] if layers.shape[2] == 1 else layers)
        else:
            image = picture if isinstance(picture, Image.Image) else to_pillow(picture)
        if kind in ("JPEG", "WEBP"):
            options["quality"] = quality
        if kind == "JPEG" and image.mode not in ("L", "RGB"):
            image = on_white(image)
        try:
            image.save(temporary, format=kind, **options)
        except (ValueError, struct.error) as error:  # too much of something for the format
            raise OutputError(f"{path}: it cannot be written as {kind} ({error}); take another format") from None


def on_white(picture: Image.Image) -> Image.Image:
    """Return a Pillow image of any mode as L or RGB, transparency laid on white."""
    if picture.mode != "LA":
        return Image.fromarray((rgb_array(picture) * 255).round().astype(np.uint8))
    white = Image.new("L", picture.size, 255)
    white.paste(picture.getchannel("L"), mask=picture.getchannel("A"))
    return white
