"""A picture as a file: its pixels in their own depth and colours, its transparency, and what else the file says.

Grey stays grey, also where it is stored as R = G = B; 16 bits stay 16 bits, and alpha stays alpha. What else the file says
(`Metadata`) goes into the file that is made of it. Pixels are bytes: a photograph of 100 megapixels takes 300 MB here, and
1.2 GB only while its faces are looked for.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from latentface.errors import InputError, PictureError
from latentface.io.atomic import read_bytes
from latentface.io.deep import Tiff, read_deep, turned
from latentface.io.metadata import Metadata, text_of
from latentface.io.pictures import (
    DEEP_MODES,
    LUMA,
    MAX_PIXELS,
    finite_grey,
    open_picture,
    shallow,
    write_picture,
)
from latentface.io.srgb import as_srgb

if TYPE_CHECKING:
    from torch import Tensor

MAX_RESULT = 600_000_000  # pixels of an enlarged photograph: 1.8 GB of bytes
STRIP_PIXELS = 16_000_000  # of an enlarged photograph at a time: Pillow's own take more than half as much again
REACH = 3  # rows of the photograph beyond a strip's own that bicubic interpolation looks at, and one to spare
HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
ORIENTATION = 0x0112  # of EXIF
SEEN = 8  # of 255: colours under a lower opacity are nobody's


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A decoded picture.

    Attributes:
        name: for messages.
        pixels: (H, W, 3) or, of a grey one, (H, W, 1); uint8, or uint16 where the file has more bits. Colours that alpha
            hides are those of their neighbours.
        alpha: (H, W) uint8, or None.
        metadata: what the file says besides.
        tables: the JPEG's quantisation tables, or None.
        remark: what a user should know of how it was read, or None.
        repeats: how many pixels of the file's side stand for one here: above 1 for a mosaic, see `faces.mosaic`.
    """

    name: str
    pixels: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None
    metadata: Metadata = field(default_factory=Metadata)
    tables: tuple[tuple[int, ...], ...] | None = None
    remark: str | None = None
    repeats: float = 1.0

    @classmethod
    def read(cls, data: bytes, name: str = "the photograph", frame: int = 0) -> Self:
        """Decode a file's bytes; of several frames or pages that one.

        Raises PictureError: empty, no picture, broken, too large, or HEIC without the plug-in that reads it.
        """
        register_heic(data, name)
        deep = read_deep(data, name, MAX_PIXELS, frame)
        if deep is None:
            return cls._decoded(open_picture(data, name, frame), name)
        made, remark = deep
        try:
            said = open_picture(data, name, frame, turn=False)
        except PictureError:  # OpenCV reads TIFFs that Pillow does not
            said = _without_pixels(data)
        try:
            made = turned(made, said.getexif().get(ORIENTATION)) if said.format == "PNG" else made
            ImageOps.exif_transpose(said, in_place=True)
        except Exception:  # whatever a broken EXIF makes Pillow raise: the picture matters more
            said.info.pop("exif", None)
        return replace(cls._decoded(said, name, made), remark=remark)

    @classmethod
    def of(cls, picture: str | Path | bytes | BinaryIO | Image.Image, name: str = "the picture") -> Self:
        """Return a path, a file's bytes, an open file or a Pillow image as one. Raises PictureError: it cannot be read."""
        if isinstance(picture, str | Path):
            return cls.read(read_bytes(picture), str(picture))
        if isinstance(picture, bytes):
            return cls.read(picture, name)
        if isinstance(picture, Image.Image):
            turned = picture.copy()  # the caller's stays as it is
            turned.info = dict(picture.info)
            ImageOps.exif_transpose(turned, in_place=True)
            return cls._decoded(turned, name, text=text_of(picture))
        return cls.read(picture.read(), str(getattr(picture, "name", name)))

    @classmethod
    def of_layers(cls, layers: NDArray[Any], name: str = "the picture") -> Self:
        """Return (H, W, C) of bytes or 16-bit numbers as one: grey or RGB, followed by alpha where C is 2 or 4."""
        pixels, alpha = _parted(layers)
        pixels = _without_colours(pixels)
        return cls(name, pixels if alpha is None else _filled(pixels, alpha), alpha)

    @classmethod
    def _decoded(
        cls,
        picture: Image.Image,
        name: str,
        deep: NDArray[np.uint16] | None = None,
        text: Mapping[str, str] | None = None,
    ) -> Self:
        """Make one of a turned Pillow image, or of its `deep` pixels with alpha."""
        try:
            pixels, alpha = _arrays(picture) if deep is None else _parted(deep)
        except ValueError:  # Pillow opens some that it cannot convert, such as Lab
            raise PictureError(
                f"{name}: its colours ({picture.mode}) cannot be read; save it as RGB, PNG for example"
            ) from None
        pixels = as_srgb(pixels, picture.info, 255 if pixels.dtype == np.uint8 else 65535)
        pixels = _without_colours(pixels)
        if alpha is not None:
            pixels = _filled(pixels, alpha)
        text = text_of(picture) if text is None else text
        said = Metadata.of(picture, grey=pixels.shape[2] == 1, text=text)
        return cls(name, pixels, alpha, said, _tables(picture))

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
        """Return it as float32 RGB (3, H, W) in [0, 1], as if nothing were transparent: what faces are looked for in."""
        import torch

        array = torch.from_numpy(self.pixels.transpose(2, 0, 1).astype(np.float32) / self.top)
        return array.expand(3, -1, -1) if self.grey else array

    def enlarged(self, factor: float) -> Photo:
        """Return it enlarged by bicubic interpolation, floor(factor * side) a side, with exactly that factor.

        Raises InputError: the result would have more than `MAX_RESULT` pixels.
        """
        (width, height), box = self._enlarging(factor)
        pixels = np.empty((height, width, self.pixels.shape[2]), self.pixels.dtype)
        step = max(1, STRIP_PIXELS // width)
        for top in range(0, height, step):
            bottom = min(top + step, height)
            first = max(0, math.floor(top / factor) - REACH)
            last = min(self.size[0], math.ceil(bottom / factor) + REACH)
            part = (0.0, top / factor - first, box[2], min(bottom / factor, box[3]) - first)
            pixels[top:bottom] = resized(self.pixels[first:last], (width, bottom - top), part)
        return replace(self, pixels=pixels, alpha=self.enlarged_alpha(factor))

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

    def drawn(self, picture: Tensor) -> Photo:
        """Return a square RGB picture (3, S, S) in [0, 1], made of this one, in its depth, colours and transparency."""
        side = picture.shape[-1]
        blank = np.empty((side, side, self.pixels.shape[2]), self.pixels.dtype)
        made = replace(self, pixels=blank, alpha=self.enlarged_alpha(side / self.size[0]))
        made.put((0, 0, side, side), picture)
        return made

    def layers(self) -> NDArray[Any]:
        """Return (H, W, C): grey or RGB, then alpha if there is any. Grey with a profile of RGB becomes three channels."""
        pixels = self.pixels
        if self.grey and self.metadata.icc is not None and self.metadata.icc[16:20] == b"RGB ":
            pixels = np.repeat(pixels, 3, axis=2)
        if self.alpha is None:
            return pixels
        alpha = self.alpha if self.top == 255 else self.alpha.astype(np.uint16) * 257
        return np.dstack([pixels, alpha])

    def image(self) -> Image.Image:
        """Return it as a Pillow image of its own mode, L, LA, RGB, RGBA or I;16; other deep ones as 8-bit."""
        layers = self.layers()
        return Image.fromarray(layers[:, :, 0]) if layers.shape[2] == 1 else Image.fromarray(shallow(layers))

    @property
    def located(self) -> bool:
        """Whether its file says where it was taken."""
        return self.metadata.located

    def without_location(self) -> Photo:
        """Return it without the place where it was taken."""
        return replace(self, metadata=self.metadata.without_location())

    def save(self, path: str | Path, text: Mapping[str, str] | None = None, quality: int = 92) -> None:
        """Write it with what its file says besides, as `write_picture` does. Raises OutputError, InputError."""
        write_picture(path, self.layers(), text, quality=quality, metadata=self.metadata)


def resized(pixels: NDArray[Any], size: tuple[int, int], box: tuple[float, float, float, float]) -> NDArray[Any]:
    """Return a box (left, top, right, bottom) of pixels (H, W, 1 or 3), resized to (W, H) by bicubic interpolation."""
    if pixels.dtype == np.uint8:
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        return np.asarray(picture.resize(size, Image.Resampling.BICUBIC, box)).reshape(size[1], size[0], -1)
    made = np.empty((size[1], size[0], pixels.shape[2]), pixels.dtype)
    for k in range(pixels.shape[2]):
        layer = Image.fromarray(pixels[:, :, k].astype(np.float32)).resize(size, Image.Resampling.BICUBIC, box)
        made[:, :, k] = np.asarray(layer).round().clip(0, 65535)
    return made


def _parted(layers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Return pixels (H, W, 1 or 3), and alpha where some of it is transparent."""
    if layers.shape[2] in (1, 3):
        return np.ascontiguousarray(layers), None
    alpha = shallow(layers[:, :, -1])
    return np.ascontiguousarray(layers[:, :, :-1]), None if bool((alpha == 255).all()) else alpha


def _without_colours(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels (H, W, C) as (H, W, 1) where R = G = B everywhere; a few pixels are looked at first."""
    parts = (pixels[::17, ::17], pixels)
    grey = all(bool((part[:, :, k] == part[:, :, 0]).all()) for part in parts for k in range(1, part.shape[2]))
    return np.ascontiguousarray(pixels[:, :, :1]) if grey else pixels


def _filled(pixels: NDArray[Any], alpha: NDArray[np.uint8]) -> NDArray[Any]:
    """Return pixels (H, W, C) whose hidden ones have the colours about them: means over ever larger squares."""
    import torch
    import torch.nn.functional as F

    seen = torch.from_numpy(alpha >= SEEN)[None, None]
    if not bool(seen.any()) or bool(seen.all()):
        return pixels

    def fill(colours: Tensor, seen: Tensor) -> Tensor:
        if bool(seen.all()):
            return colours
        share = F.avg_pool2d(seen.float(), 2, ceil_mode=True)
        mean = F.avg_pool2d(colours * seen, 2, ceil_mode=True) / share.clamp_min(0.01)
        around = F.interpolate(fill(mean, share > 0), colours.shape[2:], mode="bilinear")
        return torch.where(seen, colours, around)

    colours = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32))
    made = fill(colours, seen)[0].permute(1, 2, 0).numpy()
    return np.where((alpha >= SEEN)[:, :, None], pixels, made.round().astype(pixels.dtype))


def _arrays(picture: Image.Image) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Return a picture's pixels (H, W, 1 or 3) and its alpha (H, W), where some of it is transparent."""
    if picture.mode in DEEP_MODES:
        return (finite_grey(picture, np.float64) * 65535).round().astype(np.uint16)[:, :, None], None
    alpha = None
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("LA" if picture.mode in ("L", "LA", "La", "1") else "RGBA")
        alpha = np.array(layer.getchannel("A"))
        picture = layer.convert("L" if layer.mode == "LA" else "RGB")
        alpha = None if bool((alpha == 255).all()) else alpha
    picture = picture.convert("L") if picture.mode in ("L", "1") else picture.convert("RGB")
    pixels = np.array(picture)
    return pixels.reshape(picture.height, picture.width, -1), alpha


def _tables(picture: Image.Image) -> tuple[tuple[int, ...], ...] | None:
    """Return a JPEG's quantisation tables, luma's first; None for other files."""
    tables = getattr(picture, "quantization", None)
    return tuple(tuple(int(v) for v in tables[k]) for k in sorted(tables)) if tables else None


def _without_pixels(data: bytes) -> Image.Image:
    """Return an image of one pixel that says what a TIFF says besides its pixels, turned."""
    picture, tiff = Image.new("L", (1, 1)), Tiff.of(data)
    tags = {} if tiff is None else tiff.tags
    picture.info["exif"] = b"Exif\0\0" + data
    for name, tag in (("icc_profile", 34675), ("xmp", 700)):
        if isinstance(value := tags.get(tag), bytes):
            picture.info[name] = value
    return picture


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
