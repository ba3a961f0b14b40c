"""What Python callers give as a picture: files by any name, Pillow images, arrays and tensors of all usual kinds."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentface.errors import InputError
from latentface.io.photo import Photo
from latentface.io.pictures import check_batch

Picture = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | np.ndarray[Any, Any] | Tensor
)
ACCEPTED = (
    "a path, a file's bytes, an open file, a Pillow image, an array (H, W), (H, W, 3) or (H, W, 4), "
    "or a tensor (H, W), (3, H, W) or (4, H, W)"
)
WHITE = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.bool: 1.0}  # by the type of the numbers; floats run to 1


def picture_list(given: Picture | Iterable[Picture]) -> Iterable[Any] | None:
    """Return the pictures of a list, a generator or a batch of several; None for one picture."""
    if isinstance(given, np.ndarray | Tensor):
        return given if given.ndim == 4 and len(given) != 1 else None
    single = isinstance(given, str | bytes | bytearray | memoryview | os.PathLike | Image.Image | dict)
    if single or hasattr(given, "read") or not isinstance(given, Iterable):
        return None
    return given


def read(picture: Picture) -> tuple[Photo, Tensor | None]:
    """Return a picture as a photograph, and of an opaque array or tensor its exact colours (3, H, W) in [0, 1].

    Numbers are read by their type: bytes to 255, 16 bits to 65535, floats to 1. Raises PictureError: a file that cannot be
    read. InputError: another type, shape or range.
    """
    if isinstance(picture, os.PathLike):
        picture = Path(picture)
    elif isinstance(picture, bytearray | memoryview):
        picture = bytes(picture)
    if isinstance(picture, str | Path | bytes | Image.Image):
        return Photo.of(picture), None
    if isinstance(picture, np.ndarray):
        return _numbers(_channels_first(picture))
    if isinstance(picture, Tensor):
        return _numbers(picture.detach().cpu())
    if callable(getattr(picture, "read", None)):
        if issubclass(type(picture), io.TextIOBase):
            raise InputError("the file was opened as text; open it in binary: open(path, 'rb')")
        return Photo.of(picture), None
    raise InputError(f"got {type(picture).__name__}, expected {ACCEPTED}")


def _channels_first(array: np.ndarray[Any, Any]) -> Tensor:
    """Return an array (H, W), (H, W, C) or (1, H, W, C) as a tensor of the same numbers, channels first."""
    if array.dtype.kind not in "bf" and array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise InputError(
            f"the array's numbers are {array.dtype}, whose white is not known; give uint8, uint16, or floats in [0, 1]"
        )
    if array.ndim not in (2, 3, 4) or (array.ndim > 2 and array.shape[-1] not in (1, 2, 3, 4)):
        raise InputError(f"the array is {array.shape}, expected (H, W), (H, W, 3) or (H, W, 4)")
    array = array.astype(np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("="))
    return torch.from_numpy((np.moveaxis(array, -1, -3) if array.ndim > 2 else array).copy())


def _numbers(given: Tensor) -> tuple[Photo, Tensor | None]:
    """Return a tensor (H, W), (C, H, W) or (1, C, H, W) as a photograph, and as colours (3, H, W) in [0, 1]."""
    layers = given[None] if given.ndim == 2 else given[0] if given.ndim == 4 and len(given) == 1 else given
    if layers.ndim != 3 or layers.shape[0] not in (1, 2, 3, 4) or 0 in layers.shape:
        many = f"{len(given)} pictures; upscale() takes batches, one picture at a time is taken here"
        raise InputError(
            f"the tensor is {tuple(given.shape)}, {many if given.ndim == 4 else 'expected (H, W), (3, H, W) or (4, H, W)'}"
        )
    if layers.dtype not in WHITE and not layers.is_floating_point():
        raise InputError(
            f"the tensor's numbers are {layers.dtype}, whose white is not known; give uint8, uint16, or floats in [0, 1]"
        )
    values = layers.float() / WHITE.get(layers.dtype, 1.0)
    check_batch(values[:, None].expand(-1, 3, -1, -1), "picture")  # each channel as a grey picture
    exact = values.expand(3, -1, -1) if len(values) in (1, 3) else None
    white, kind = (65535, np.uint16) if layers.dtype == torch.uint16 else (255, np.uint8)
    stored = (values.double().clamp(0, 1) * white).round().permute(1, 2, 0).numpy().astype(kind)
    return Photo.of_layers(np.ascontiguousarray(stored)), exact
