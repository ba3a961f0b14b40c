"""Whose face it is, to a recognition network: two of them, since what one network says is no proof.

- MobileFaceNet (foamliu; 112 px RGB, ImageNet mean and std, 128 numbers).
- SFace (Zhong, Deng, Hu, Zhao, Li, Wen; IEEE TIP 2021; OpenCV's file: 112 px RGB, 0 to 255, 128 numbers).

Faces in FFHQ alignment are brought to the networks' own alignment, the same for both, by one fixed similarity
transform, the least-squares fit of CelebA's mean landmarks in a 128 px FFHQ crop onto the ArcFace template: no
detector, so the same for every method. A cosine says how alike two faces are to a network, not who anyone is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.errors import InputError, UnknownNameError
from latentface.io.pictures import check_batch
from latentface.metrics.luma import check_pair
from latentface.metrics.onnx import OnnxNet
from latentface.metrics.weights import locate

CROP, FACE = 128, 112  # px: the side that the landmarks below are given for, and the networks' input
# Eyes, nose, corners of the mouth, left to right in the picture, (x, y) in px.
CROP_LANDMARKS = ((48.2, 61.0), (81.0, 61.0), (64.6, 80.6), (50.2, 95.2), (78.2, 95.2))
FACE_LANDMARKS = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recogniser:
    """How a recognition network takes a picture x in [0, 1]: (x - mean) / deviation, at its input `entry`."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1 / 255, 1 / 255, 1 / 255)
    entry: str = ""


RECOGNISERS: Mapping[str, Recogniser] = {  # by the names of their weights
    "mobilefacenet": Recogniser(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225)),
    "sface": Recogniser(entry="data"),
}


class IdentityNet:
    """A recognition network, run by OpenCV on the CPU.

    Args:
        model: an ONNX file that turns (1, 3, 112, 112) into (1, D); name: which of `RECOGNISERS` it is.

    Raises UnknownNameError: no such network. WeightsError: OpenCV cannot read the file.
    """

    def __init__(self, model: Path, name: str = "mobilefacenet") -> None:
        if name not in RECOGNISERS:
            raise UnknownNameError("recognition network", name, RECOGNISERS)
        self.kind = RECOGNISERS[name]
        self._net = OnnxNet(model, self.kind.entry)

    @classmethod
    def load(cls, name: str = "mobilefacenet", *, fetch: bool = True) -> Self:
        """Load a published network. Raises UnknownNameError; MissingDataError: it is not at hand."""
        return cls(locate(name, fetch=fetch), name)

    def embed(self, pictures: Tensor) -> Tensor:
        """Return the faces' embeddings, (B, 128) of length 1, on the pictures' device; no gradient.

        Args:
            pictures: (B, 3, S, S) in [0, 1], in FFHQ alignment, any S.

        Raises InputError: the pictures are not square.
        """
        faces = align(pictures.detach().cpu().float())
        mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.kind.mean, self.kind.deviation))
        return F.normalize(self._net.rows((faces - mean) / deviation), dim=1).to(pictures.device)

    def cosine(self, result: Tensor, truth: Tensor) -> Tensor:
        """Return the cosine between the embeddings of both faces, (B,) in [-1, 1], higher is better.

        Both are in FFHQ alignment. Raises InputError: the sizes differ or are not square.
        """
        check_pair(result, truth)
        return (self.embed(result) * self.embed(truth)).sum(1)


def align(pictures: Tensor, template: Points = FACE_LANDMARKS, side: int = FACE) -> Tensor:
    """Move faces from FFHQ alignment (B, 3, S, S) to a template, (B, 3, side, side), in [0, 1].

    Bicubic and antialiased to 128 px where S is another, then bilinear through the similarity transform.

    Args:
        template: where the first landmarks of `CROP_LANDMARKS` come to lie, two of them at least, in px.

    Raises InputError: the pictures are not square.
    """
    check_batch(pictures)
    height, width = pictures.shape[-2:]
    if height != width:
        raise InputError(f"got faces of {height} x {width}, expected squares in FFHQ alignment; crop them first")
    if height != CROP:
        pictures = F.interpolate(pictures, (CROP, CROP), mode="bicubic", antialias=True)
    at = torch.arange(side, dtype=torch.float32)
    y, x = torch.meshgrid(at, at, indexing="ij")
    back = torch.tensor(face_to_crop(tuple(template)), dtype=torch.float32)  # (2, 3)
    where = torch.stack([x, y, torch.ones_like(x)], -1) @ back.T  # (side, side, 2), px of the crop
    where = where * (2 / (CROP - 1)) - 1
    faces = F.grid_sample(
        pictures.clamp(0, 1),
        where[None].expand(len(pictures), -1, -1, -1).to(pictures),
        mode="bilinear",
        align_corners=True,
    )
    return faces.clamp(0, 1)


@lru_cache(maxsize=4)
def face_to_crop(template: Points = FACE_LANDMARKS) -> tuple[tuple[float, ...], ...]:
    """Fit (x, y) -> (a x - b y + c, b x + a y + d) from the template to the crop by least squares; rows of (2, 3)."""
    face, crop = np.array(template), np.array(CROP_LANDMARKS[: len(template)])
    zero, one = np.zeros(len(face)), np.ones(len(face))
    of_x = np.stack([face[:, 0], -face[:, 1], one, zero], 1)
    of_y = np.stack([face[:, 1], face[:, 0], zero, one], 1)
    forward = np.linalg.lstsq(np.concatenate([of_x, of_y]), np.concatenate([crop[:, 0], crop[:, 1]]), rcond=None)[0]
    a, b, c, d = (float(v) for v in forward)
    return (a, -b, c), (b, a, d)
