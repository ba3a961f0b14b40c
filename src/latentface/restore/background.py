"""What surrounds the faces, enlarged by Real-ESRGAN or somebody's ESRGAN file instead of by bicubic interpolation.

The network makes a picture of its own factor, strip by strip, and each strip is resized to the factor that was asked for:
memory follows a strip, and not the picture that the network would make of the whole photograph.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentface.errors import InputError
from latentface.io.photo import Photo
from latentface.io.pictures import LUMA

if TYPE_CHECKING:
    import torch

    from latentface.supervised.baseline import Baseline

STRIP = 192  # rows of the photograph at a time: one row of tiles
OVERLAP = 16  # rows and columns around a strip and a tile that the network only looks at
TRIAL = 64  # px a side of the picture that tells the time


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """An ESRGAN that was made for photographs; `record` names it in the JSON."""

    model: Baseline
    record: dict[str, Any]

    @classmethod
    def read(cls, path: str | Path, device: str | torch.device = "cpu", *, fetch: bool = True) -> Background:
        """Read an ESRGAN file (.pth, .pt, .safetensors, or .param with .bin), or a network by its name, "realesrgan".

        Raises WeightsError: broken, or another network. UnsafeFileError. InputError: a network for aligned faces.
        MissingDataError: the named one is not at hand, and cannot or (`fetch`) may not be fetched.
        """
        from latentface.io.atomic import read_bytes, sha256
        from latentface.supervised.formats import load_baseline
        from latentface.supervised.rivals import RIVALS, open_rival

        if str(path) in RIVALS:
            named = open_rival(str(path), device, fetch=fetch)
            return cls(named, {"name": str(path), "file": named.title, "factor": named.factor})
        model = load_baseline(path, device)
        if model.kind != "esrgan" or model.resolution is not None:
            raise InputError(
                f"{path}: {model.title} was trained on aligned faces of {model.resolution} px; expected an ESRGAN file for photographs, such as Real-ESRGAN's"
            )
        name = Path(path).name
        return cls(model, {"file": name, "sha256": sha256(read_bytes(path)), "factor": model.factor})

    def seconds_a_megapixel(self) -> float:
        """Return how long a megapixel of a photograph takes here, by a small trial."""
        import torch

        picture = torch.rand(3, TRIAL, TRIAL, generator=torch.Generator().manual_seed(0))
        self.model.upscale(picture[:, :8, :8])  # the first call pays for warming up
        began = time.perf_counter()
        self.model.upscale(picture)
        return (time.perf_counter() - began) * 1e6 / TRIAL**2

    def enlarged(self, photo: Photo, factor: float) -> Photo:
        """Return a photograph enlarged; transparency goes bicubically. Raises InputError: too large."""
        height, width = photo.enlarged_size(factor)
        pixels = np.empty((height, width, photo.pixels.shape[2]), photo.pixels.dtype)
        step = max(1, math.floor(STRIP * factor))
        for top in range(0, height, step):
            bottom = min(top + step, height)
            pixels[top:bottom] = self._strip(photo, factor, top, bottom, width)
        return replace(photo, pixels=pixels, alpha=photo.enlarged_alpha(factor))

    def _strip(self, photo: Photo, factor: float, top: int, bottom: int, width: int) -> NDArray[Any]:
        """Return rows `top` to `bottom` of the result, (rows, width, C)."""
        own = self.model.factor
        shrink = own / factor  # the network's pixels to one of the result
        reach = math.ceil(2 * max(1.0, shrink) / own) + 1  # rows of the photograph that the resizing looks at
        first = max(0, math.floor(top / factor) - reach)
        last = min(photo.size[0], math.ceil(bottom / factor) + reach)
        start, end = max(0, first - OVERLAP), min(photo.size[0], last + OVERLAP)
        picture = photo.region((0, start, photo.size[1], end - start))
        large = self.model.upscale(picture, tile=STRIP, overlap=OVERLAP)[:, (first - start) * own :]
        large = large[:, : (last - first) * own].clamp(0, 1)  # (3, rows of the network, columns)
        right, edge = min(width * shrink, float(large.shape[2])), float(large.shape[1])
        box = (0.0, top * shrink - first * own, right, min(bottom * shrink - first * own, edge))
        size = (width, bottom - top)
        if photo.grey or photo.top != 255:
            layers = np.tensordot(np.array(LUMA, np.float32), large.numpy(), 1)[None] if photo.grey else large.numpy()
            parts = [Image.fromarray(layer * photo.top).resize(size, Image.Resampling.BICUBIC, box) for layer in layers]
            resized = np.dstack([np.asarray(part) for part in parts])
            return resized.round().clip(0, photo.top).astype(photo.pixels.dtype)
        coloured = (large * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        return np.asarray(Image.fromarray(coloured).resize(size, Image.Resampling.BICUBIC, box))
