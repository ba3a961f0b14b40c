"""A photograph as a file: enlarged in strips, and refused where it is broken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import photo_scene
import pytest
import torch
from tiny import tiny_prior

from latentface.errors import PictureError
from latentface.io import photo as photofile
from latentface.io.photo import Photo


@pytest.mark.parametrize("factor", [1.0, 2.0, 2.7])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "I;16"])
def test_enlarging_in_strips_is_enlarging(factor: float, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = Photo.read(photo_scene.encoded(photo_scene.scene(tiny_prior(32))), "scene.png")
    if mode in ("L", "LA", "I;16"):
        photo = replace(photo, pixels=photo.pixels[:, :, :1])
    if mode == "I;16":
        photo = replace(photo, pixels=photo.pixels.astype(np.uint16) * 257)
    if mode in ("RGBA", "LA"):
        photo = replace(photo, alpha=np.tile(np.arange(120, dtype=np.uint8) + 120, (80, 1)))
    whole = photo.enlarged(factor)
    monkeypatch.setattr(photofile, "STRIP_PIXELS", 4000)
    strips = photo.enlarged(factor)
    assert np.abs(strips.pixels.astype(int) - whole.pixels).max() <= (1 if mode in ("RGB", "L") else 3)
    assert (whole.alpha is None) == (mode not in ("RGBA", "LA"))
    if whole.alpha is not None:
        assert strips.alpha is not None
        assert np.abs(strips.alpha.astype(int) - whole.alpha).max() <= 1


def test_broken_files() -> None:
    with pytest.raises(PictureError, match="broken or cut off"):
        Photo.read(photo_scene.encoded(torch.rand(3, 50, 50))[:900], "cut.png")
    with pytest.raises(PictureError, match="not a picture"):
        Photo.read(b"hello", "a.png")
    with pytest.raises(PictureError, match=r"pillow-heif|broken|not a picture"):
        Photo.read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a.heic")
