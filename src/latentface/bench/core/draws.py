"""Faces to be measured, in batches at 8 bits' precision: a prior's samples, and those of data sets."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from latentface.bench.core.sizes import by_area
from latentface.bench.core.tasks import to_8_bit
from latentface.datasets import FaceSet, open_faces
from latentface.errors import PictureError
from latentface.explore.space import drawn
from latentface.io.sources import Entry
from latentface.prior.prior import Prior

Places = list[tuple[FaceSet, Entry]]


def place_faces(sources: Sequence[str | Path], limit: int | None = None, seed: int = 0) -> Places:
    """Return the faces of some sources in an order that the seed decides, the first `limit` of them. Raises as `open_faces`."""
    places = [(faces, entry) for faces in map(open_faces, sources) for entry in faces]
    random.Random(seed).shuffle(places)
    return places[:limit]


def read_places(places: Places, side: int, batch: int, read: Places | None = None) -> Iterator[Tensor]:
    """Yield faces (B, 3, side, side); unreadable ones are left out, the others appended to `read`."""
    for start in range(0, len(places), batch):
        pictures = []
        for faces, entry in places[start : start + batch]:
            try:
                pictures.append(faces.read(entry, side))
            except PictureError:
                continue
            if read is not None:
                read.append((faces, entry))
        if pictures:
            yield to_8_bit(torch.stack(pictures))


@torch.no_grad()
def sample(
    prior: Prior, count: int, truncation: float = 1.0, *, seed: int = 0, batch: int = 16, side: int | None = None
) -> Iterator[Tensor]:
    """Yield `count` samples (B, 3, S, S) on the CPU, S = `side` or the prior's; number i has the seed `seed` + i."""
    for start in range(0, count, batch):
        z = drawn(range(seed + start, seed + min(start + batch, count)), prior.z_dim)
        yield paint(prior, latents(prior, z, truncation), side)


@torch.no_grad()
def latents(prior: Prior, z: Tensor, truncation: float = 1.0) -> Tensor:
    """z (B, z_dim) -> w_plus (B, L, D), drawn toward the mean w when truncation < 1."""
    w_plus = prior.mapping(z.to(prior.device, prior.dtype))
    return w_plus if truncation == 1 else prior.w_mean.lerp(w_plus, truncation)


@torch.no_grad()
def paint(prior: Prior, w_plus: Tensor, side: int | None = None) -> Tensor:
    """w_plus (B, L, D) -> pictures (B, 3, S, S) on the CPU, at 8 bits' precision; shrunk by area to `side` px where it is given."""
    made = prior.synthesis(w_plus).float().cpu().clamp(0, 1)
    return to_8_bit(by_area(made, side or prior.resolution))
