"""Photographs for tests: faces that a tiny prior made, at known places, on a smooth background; and a detector that knows."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from latentface.faces import Face, Patch, Similarity, compose
from latentface.faces.align import FFHQ_LANDMARKS
from latentface.prior.prior import Prior
from latentface.restore import photo as photograph

SIZE = (80, 120)  # (H, W)
PLACES = (
    Similarity.square((30.0, 30.0), 16.0, 0.0),
    Similarity.square((62.3, 41.7), 12.4, 17.0),
    Similarity.square((95.5, 50.25), 9.2, -25.0),
)
TOO_LARGE = Similarity.square((60.0, 40.0), 40.0, 5.0)


def known_faces(prior: Prior, count: int = 3) -> torch.Tensor:
    """Return pictures (count, 3, R, R) of the prior, in [0.1, 0.9]."""
    z = torch.randn(count, prior.z_dim, generator=torch.Generator().manual_seed(5))
    high = prior.synthesis(prior.mapping(z))
    low, top = high.amin((1, 2, 3), keepdim=True), high.amax((1, 2, 3), keepdim=True)
    return 0.1 + 0.8 * (high - low) / (top - low)


def scene(prior: Prior, places: Sequence[Similarity] = PLACES, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """Return a photograph (3, H, W) in [0, 1] of known faces at these places."""
    coarse = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(1))
    background = torch.nn.functional.interpolate(0.3 + 0.4 * coarse[None], size=size, mode="bicubic")[0].clamp(0, 1)
    faces = known_faces(prior, len(places))
    return compose(background, [Patch(f, p) for f, p in zip(faces, places, strict=True)])


def encoded(picture: torch.Tensor, mode: str = "RGB", kind: str = "PNG", **options: object) -> bytes:
    """Return a photograph as a file's bytes."""
    file = io.BytesIO()
    array = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(array)).convert(mode).save(file, kind, **options)
    return file.getvalue()


def know(monkeypatch: pytest.MonkeyPatch, places: Sequence[Similarity] = PLACES) -> None:
    """Let `detect` answer with the faces of these places, the largest first."""

    def detect(photo: torch.Tensor, *, min_face: float = 0.0, **_: object) -> list[Face]:
        faces = []
        for place in sorted(places, key=lambda p: -p.scale):
            x, y = place.centre
            half = place.scale / 4
            marks = np.array(FFHQ_LANDMARKS)
            marks = np.insert(marks, 2, marks.mean(0), axis=0)
            faces.append(Face((x - half, y - half, x + half, y + half), place.apply(marks), 0.9))
        return [f for f in faces if f.size >= min_face]

    monkeypatch.setattr(photograph, "detect", detect)
