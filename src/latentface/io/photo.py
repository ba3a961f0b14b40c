"""A photograph as a file: its pixels in their own depth and colours, its transparency, and what else the file says.

Grey stays grey, 16-bit grey stays 16-bit, alpha stays alpha. EXIF (with the turn applied), the ICC profile and the
resolution go from the photograph into the file that is made of it. Pixels are bytes: a photograph of 100 megapixels takes
300 MB here, and 1.2 GB only while its faces are looked for.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from latentface.errors import InputError, PictureError
from latentface.io.atomic import read_bytes
from latentface.io.pictures import DEEP_MODES, LUMA, finite_grey, open_picture, to_tensor, to_uint8, write_picture

if TYPE_CHECKING:
    from torch import Tensor

MAX_RESULT = 600_000_000  # pixels of an enlarged photograph: 1.8 GB of bytes
STRIP_PIXELS = 16_000_000  # of an enlarged photograph at a time: Pillow's own take more than half as much again
REACH = 3  # rows of the photograph beyond a strip's own that bicubic interpolation looks at, and one to spare
HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
# EXIF tags that an enlarged, turned picture makes untrue: orientation, sizes, and the strips of TIFF.
UNTRUE = (0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x0111, 0x0112, 0x0115, 0x0116, 0x0117, 0x011C, 0x0152, 0x0153)
EXIF_IFD, GPS_IFD, PIXEL_SIZE = 0x8769, 0x8825, (0xA002, 0xA003)


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A decoded photograph.

    Attributes:
        name: for messages.
        pixels: (H, W, 3) or, of a grey one, (H, W, 1); uint8, or uint16 where the file was 16-bit grey.
        alpha: (H, W) uint8, or None. exif, icc, dpi: as the file has them, or None.
        tables: the JPEG's quantisation tables, or None.
        repeats: how many pixels of the file's side stand for one here: above 1 for a mosaic, see `faces.mosaic`.
    """

    name: str
    pixels: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None
    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    tables: tuple[tuple[int, ...], ...] | None = None
    repeats: float = 1.0

    @classmethod
    def read(cls, data: bytes, name: str = "the photograph") -> Self:
        """Decode a file's bytes.

        Raises PictureError: empty, no picture, broken, too large, or HEIC without the plug-in that reads it.
        """
        register_heic(data, name)
        return cls._decoded(open_picture(data, name), name)

    @classmethod
    def of(cls, picture: object, name: str = "the picture") -> Self:
        """Return a path, a file's bytes, a file object, a Pillow image, an array (H, W, 3) or a tensor (3, H, W) as one.

        Raises PictureError: a file that cannot be read. InputError: another type or shape.
        """
        if isinstance(picture, str | Path):
            return cls.read(read_bytes(picture), str(picture))
        if isinstance(picture, bytes):
            return cls.read(picture, name)
        if isinstance(picture, Image.Image):
            turned = picture.copy()  # the caller's stays as it is
            turned.info = dict(picture.info)
            ImageOps.exif_transpose(turned, in_place=True)
            return cls._decoded(turned, name)
        if callable(getattr(picture, "read", None)):
            return cls.read(picture.read(), str(getattr(picture, "name", name)))  # type: ignore[attr-defined]
        return cls(name=name, pixels=to_uint8(to_tensor(picture)))  # type: ignore[arg-type]

    @classmethod
    def _decoded(cls, picture: Image.Image, name: str) -> Self:
        try:
            pixels, alpha = _arrays(picture)
        except ValueError:  # Pillow opens some that it cannot convert, such as Lab
            raise PictureError(
                f"{name}: its colours ({picture.mode}) cannot be read; save it as RGB, PNG for example"
            ) from None
        icc, dpi = _profile(picture, pixels.shape[2]), _dpi(picture.info.get("dpi"))
        return cls(name, pixels, alpha, exif=_exif(picture), icc=icc, dpi=dpi, tables=_tables(picture))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])

    @property
    def grey(self) -> bool:
        """Whether it has one channel."""
        return bool(self.pixels.shape[2] == 1)

    @property
    def top(self) -> int:
        """The value of white: 255 or 65535."""
        return 255 if self.pixels.dtype == np.uint8 else 65535

    def tensor(self) -> Tensor:
        """Return it as float32 RGB (3, H, W) in [0, 1], transparency laid on white: what faces are looked for in."""
        import torch

        array = self.pixels.transpose(2, 0, 1).astype(np.float32) / self.top
        if self.alpha is not None:
            cover = self.alpha.astype(np.float32) / 255
            array = array * cover + (1 - cover)
        return torch.from_numpy(array).expand(3, -1, -1) if self.grey else torch.from_numpy(array)

    def enlarged(self, factor: float) -> Photo:
        """Return it enlarged by bicubic interpolation, floor(factor * side) a side, with exactly that factor.

        Raises InputError: the result would have more than `MAX_RESULT` pixels.
        """
        (width, height), box = self._enlarging(factor)
        pixels = np.empty((height, width, self.pixels.shape[2]), self.pixels.dtype)
        alpha = None if self.alpha is None else np.empty((height, width), np.uint8)
        step = max(1, STRIP_PIXELS // width)
        for top in range(0, height, step):
            bottom = min(top + step, height)
            first = max(0, math.floor(top / factor) - REACH)
            last = min(self.size[0], math.ceil(bottom / factor) + REACH)
            part = (0.0, top / factor - first, box[2], min(bottom / factor, box[3]) - first)
            made = self._rows(first, last).resize((width, bottom - top), Image.Resampling.BICUBIC, part)
            if self.top != 255:
                pixels[top:bottom, :, 0] = np.asarray(made).round().clip(0, self.top)
                continue
            layers = np.asarray(made).reshape(bottom - top, width, -1)
            pixels[top:bottom] = layers[:, :, : pixels.shape[2]]
            if alpha is not None:
                alpha[top:bottom] = layers[:, :, -1]
        if alpha is not None and self.top != 255:
            alpha = self.enlarged_alpha(factor)
        return replace(self, pixels=pixels, alpha=alpha)

    def _rows(self, first: int, last: int) -> Image.Image:
        """Return some rows as a Pillow image; deep grey as floats."""
        layers = self.pixels[first:last, :, 0] if self.grey else self.pixels[first:last]
        if self.top != 255:
            return Image.fromarray(layers.astype(np.float32))
        picture = Image.fromarray(layers)
        if self.alpha is not None:  # Pillow weighs colours by alpha, so that what nobody sees does not shine in
            picture.putalpha(Image.fromarray(self.alpha[first:last]))
        return picture

    def enlarged_size(self, factor: float) -> tuple[int, int]:
        """Return (H, W) of the enlarged photograph. Raises InputError where that is too much."""
        height, width = (max(1, math.floor(side * factor + 1e-6)) for side in self.size)
        if height * width > MAX_RESULT:
            raise InputError(
                f"{self.name}: {self.size[1]} x {self.size[0]} px times {factor:g} are {height * width // 1_000_000} megapixels, more than the limit of {MAX_RESULT // 1_000_000}; use a smaller factor (-f)"
            )
        return height, width

    def enlarged_alpha(self, factor: float) -> NDArray[np.uint8] | None:
        """Return the transparency enlarged by bicubic interpolation; None where there is none."""
        if self.alpha is None:
            return None
        size, box = self._enlarging(factor)
        return np.array(Image.fromarray(self.alpha).resize(size, Image.Resampling.BICUBIC, box))

    def _enlarging(self, factor: float) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
        """Return (W, H) of the enlarged photograph, and the box of this one that it shows."""
        height, width = self.enlarged_size(factor)
        return (width, height), (0.0, 0.0, min(width / factor, self.size[1]), min(height / factor, self.size[0]))

    def region(self, box: tuple[int, int, int, int]) -> Tensor:
        """Return the pixels of a box (left, top, width, height) as float32 RGB (3, h, w) in [0, 1], without alpha."""
        import torch

        x, y, w, h = box
        array = self.pixels[y : y + h, x : x + w].transpose(2, 0, 1).astype(np.float32) / self.top
        return torch.from_numpy(array).expand(3, -1, -1).clone()

    def cover(self, box: tuple[int, int, int, int]) -> Tensor | None:
        """Return the opacity of a box (left, top, width, height), float32 (1, h, w) in [0, 1]; None without alpha."""
        import torch

        x, y, w, h = box
        if self.alpha is None:
            return None
        return torch.from_numpy(self.alpha[None, y : y + h, x : x + w].astype(np.float32) / 255)

    def put(self, box: tuple[int, int, int, int], picture: Tensor) -> None:
        """Write RGB (3, h, w) in [0, 1] into a box, in place; of a grey photograph its luma."""
        x, y, w, h = box
        array = picture.detach().cpu().double().clamp(0, 1).numpy()
        if self.grey:
            array = np.tensordot(np.array(LUMA), array, 1)[None]
        self.pixels[y : y + h, x : x + w] = (array * self.top).round().astype(self.pixels.dtype).transpose(1, 2, 0)

    def image(self) -> Image.Image:
        """Return it as a Pillow image of its own mode: L, LA, RGB, RGBA or I;16 (16-bit grey cannot carry alpha)."""
        picture = Image.fromarray(self.pixels[:, :, 0] if self.grey else self.pixels)
        if self.alpha is not None and self.top == 255:
            picture.putalpha(Image.fromarray(self.alpha))
        return picture

    @property
    def located(self) -> bool:
        """Whether its EXIF says where it was taken."""
        return self.exif is not None and GPS_IFD in _loaded(self.exif)

    def without_location(self) -> Photo:
        """Return it without the place where it was taken."""
        if not self.located:
            return self
        assert self.exif is not None
        exif = _loaded(self.exif)
        del exif[GPS_IFD]
        return replace(self, exif=exif.tobytes() if len(exif) else None)

    def save(self, path: str | Path, text: Mapping[str, str] | None = None, quality: int = 92) -> None:
        """Write it with EXIF, ICC profile and resolution, as `write_picture` does. Raises OutputError, InputError."""
        extra = {"exif": self.exif, "icc_profile": self.icc, "dpi": self.dpi}
        write_picture(path, self.image(), text, quality=quality, **{k: v for k, v in extra.items() if v is not None})


def _arrays(picture: Image.Image) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Return a picture's pixels (H, W, 1 or 3) and its alpha (H, W), where some of it is transparent."""
    if picture.mode in DEEP_MODES:
        grey = finite_grey(picture, np.float64)
        return (grey * 65535).round().astype(np.uint16)[:, :, None], None
    alpha = None
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("LA" if picture.mode in ("L", "LA", "La", "1") else "RGBA")
        alpha = np.array(layer.getchannel("A"))
        picture = layer.convert("L" if layer.mode == "LA" else "RGB")
        alpha = None if bool((alpha == 255).all()) else alpha
    picture = picture.convert("L") if picture.mode in ("L", "1") else picture.convert("RGB")
    pixels = np.array(picture)
    return pixels.reshape(picture.height, picture.width, -1), alpha


def _exif(picture: Image.Image) -> bytes | None:
    """Return a turned picture's EXIF without what is not true any more; None where there is none, or a broken one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif = picture.getexif()
            for tag in UNTRUE:
                exif.pop(tag, None)
            inner = exif.get_ifd(EXIF_IFD)
            for tag in PIXEL_SIZE:
                inner.pop(tag, None)
            if not inner:
                exif.pop(EXIF_IFD, None)
            return exif.tobytes() if len(exif) else None
    except Exception:  # whatever a broken EXIF makes Pillow raise: the picture matters more
        return None


def _loaded(exif: bytes) -> Image.Exif:
    loaded = Image.Exif()
    loaded.load(exif)
    return loaded


def _profile(picture: Image.Image, channels: int) -> bytes | None:
    """Return the ICC profile if it is one for these channels; a profile for CMYK would falsify RGB."""
    icc = picture.info.get("icc_profile")
    wanted = b"GRAY" if channels == 1 else b"RGB "
    return icc if isinstance(icc, bytes) and icc[16:20] == wanted else None


def _dpi(dpi: object) -> tuple[float, float] | None:
    try:
        x, y = (float(v) for v in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 1 <= x < 1e6 and 1 <= y < 1e6 else None


def _tables(picture: Image.Image) -> tuple[tuple[int, ...], ...] | None:
    """Return a JPEG's quantisation tables, luma's first; None for other files."""
    tables = getattr(picture, "quantization", None)
    return tuple(tuple(int(v) for v in tables[k]) for k in sorted(tables)) if tables else None


def register_heic(data: bytes, name: str) -> None:
    """Let Pillow read HEIC where its plug-in is installed. Raises PictureError where it is not."""
    if data[4:8] != b"ftyp" or data[8:12] not in HEIC_BRANDS:
        return
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        if b"avif" not in data[:64]:
            raise PictureError(
                f"{name}: this is a HEIC picture, which needs pillow-heif; install it with: pip install 'latentface[heic]'"
            ) from None
