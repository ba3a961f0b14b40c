"""A finished aligned face: the large picture, its samples, and the record of how it was made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from latentface.io.photo import Photo
from latentface.io.pictures import to_uint8
from latentface.io.records import text_chunks


def spread_of(samples: Tensor) -> Tensor:
    """Return the deviation of samples (N, 3, H, W) over colours, (3, H, W); 0.25 is white; black for one."""
    if len(samples) < 2:
        return torch.zeros_like(samples[0])
    return (samples.var(0).mean(0).sqrt() * 4).clamp(0, 1).expand(3, -1, -1)


@dataclass(frozen=True, slots=True, repr=False)
class Upscaled:
    """An enlarged face.

    Attributes:
        high: (3, H, W) in [0, 1]; low: (3, h, w), the input; samples: (N, 3, H, W).
        seen: (3, s, s), what was searched with: the input, or a soft one shrunk to the side that holds its detail.
        consistency_db: PSNR of `high`, shrunk again, against `seen`; best_step: of the first sample.
        record: everything about how it was made, as plain JSON types.
        reason: why what was found is no face, so that `high` is the plain enlargement; None: it is one.
        photo: the picture that the face came in, whose depth, transparency and metadata the written result has.
    """

    high: Tensor
    low: Tensor
    seen: Tensor
    samples: Tensor
    consistency_db: float
    best_step: int
    record: Mapping[str, Any]
    reason: str | None = None
    photo: Photo | None = None

    def __repr__(self) -> str:
        """Say in a line what it is, for people at a prompt."""
        return f"<{self.summary}>"

    @property
    def summary(self) -> str:
        """What was done, in words."""
        (h, w), (height, width) = self.low.shape[-2:], self.high.shape[-2:]
        return f"face of {width} x {height} px from {w} x {h} px; {self.reason or f'{self.consistency_db:.1f} dB'}"

    @property
    def spread(self) -> Tensor:
        """See `spread_of`."""
        return spread_of(self.samples)

    def save(self, path: str | Path, quality: int = 92) -> Path:
        """Write `high` with the record, in the format of the name's ending. Raises InputError, OutputError."""
        self.drawn(self.high).save(path, text_chunks(self.record), quality)
        return Path(path)

    @property
    def image(self) -> Image.Image:
        """`high` as a Pillow image, which notebooks display."""
        return self.drawn(self.high).image()

    def drawn(self, face: Tensor) -> Photo:
        """Return one of its faces (3, S, S) as the picture that is written."""
        return Photo("the face", to_uint8(face)) if self.photo is None else self.photo.drawn(face)
