"""Cut the square that a table speaks of out of a picture file, and bring it to the high size.

CelebA's aligned pictures are 178 x 218 px; which square of them is "the face" differs between papers and moves every
figure, so a crop has a name and stands in the protocol line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from latentface.errors import PictureError
from latentface.io.pictures import open_picture, rgb_array
from latentface.io.sources import Entry, read_entry

if TYPE_CHECKING:
    from torch import Tensor

CELEBA_SIZE = (178, 218)


@dataclass(frozen=True, kw_only=True, slots=True)
class Crop:
    """Which square of a picture is the face.

    Attributes:
        name, summary: for the protocol line.
        box: (left, top, right, bottom) in px of a picture of `size`; None: the central square of any picture.
        size: (width, height) that the box belongs to.
        through: a side in px that the box is first brought to with the Lanczos filter; None: none.
    """

    name: str
    summary: str
    box: tuple[float, float, float, float] | None = None
    size: tuple[int, int] | None = None
    through: int | None = None

    def __call__(self, picture: Image.Image, resolution: int, name: str = "the picture") -> np.ndarray:
        """Return the square as uint8 (R, R, 3); what is left of the way to R px is bicubic, with antialiasing.

        Raises PictureError: the picture has another size than the box belongs to.
        """
        if picture.mode not in ("RGB", "L"):
            picture = Image.fromarray((rgb_array(picture) * 255).round().astype(np.uint8))
        picture = picture.convert("RGB")
        box = self.box
        if box is None:
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            box = (left, top, left + side, top + side)
        elif self.size is not None and picture.size != self.size:
            raise PictureError(
                f"{name}: it is {picture.width} x {picture.height} px, but the crop {self.name!r} is for {self.size[0]} x "
                f"{self.size[1]}; use the aligned pictures (img_align_celeba), or the plain folder without a name before it"
            )
        if self.through is not None:
            side = max(self.through, resolution)
            picture = picture.resize((side, side), Image.Resampling.LANCZOS, box=box)
            box = (0, 0, side, side)
        if picture.size != (resolution, resolution) or box != (0, 0, resolution, resolution):
            picture = picture.resize((resolution, resolution), Image.Resampling.BICUBIC, box=box)
        return np.asarray(picture)


CROPS: dict[str, Crop] = {
    c.name: c
    for c in (
        Crop(name="centre", summary="the picture's central square"),
        Crop(
            name="ffhq",
            summary="FFHQ's alignment for CelebA's mean landmarks, box (12.5, 39.5, 164.5, 191.5) of 178 x 218 px",
            box=(12.5, 39.5, 164.5, 191.5),
            size=CELEBA_SIZE,
            through=128,
        ),
        Crop(
            name="square178",
            summary="178 px square, box (0, 20, 178, 198) of 178 x 218 px",
            box=(0, 20, 178, 198),
            size=CELEBA_SIZE,
        ),
        Crop(
            name="center148",
            summary="148 px central square, box (15, 35, 163, 183) of 178 x 218 px",
            box=(15, 35, 163, 183),
            size=CELEBA_SIZE,
        ),
    )
}


def read_face(entry: Entry, resolution: int, crop: Crop = CROPS["centre"]) -> Tensor:
    """Read a picture file and return its face, float32 RGB (3, R, R) in [0, 1] at 8 bits' precision.

    Raises PictureError: it cannot be read, or the crop does not belong to it.
    """
    import torch

    array = crop(open_picture(read_entry(entry), entry.label), resolution, entry.label)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))).float() / 255
