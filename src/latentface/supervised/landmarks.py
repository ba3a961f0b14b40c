"""Landmarks of aligned faces: five out of a table or 68 by a network, turned into heatmaps for FSRNet's prior net.

The 68 are those of iBUG's annotation (Sagonas et al. 2013): jaw, brows, nose, eyes, mouth. The network is carried by the
package faceplugin-face-recognition-js, which does not say who trained it.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.errors import MissingDataError
from latentface.io.sources import Entry
from latentface.metrics.onnx import OnnxNet
from latentface.metrics.weights import locate

COLUMNS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
NETWORK = 68  # landmarks that the network finds
BOX = (24, 32, 80)  # left, top and side in px of a 128 px face: what it looks at, chosen on 300 training faces
INPUT = 64  # px
AGREED = 0.25  # of the distance of the eyes: farther from a table's five, the 68 are not believed


def _runs(*runs: tuple[int, int]) -> list[int]:
    """Return runs of whole numbers, ends included, each backwards where its first is the larger."""
    return [i for a, b in runs for i in (range(a, b + 1) if a <= b else range(a, b - 1, -1))]


# Which landmark stands in whose place after a horizontal flip.
MIRRORED = {
    5: [1, 0, 2, 4, 3],
    NETWORK: _runs(
        *((16, 0), (26, 17), (27, 30), (35, 31)),  # jaw, brows, the nose's ridge and wings
        *((45, 42), (47, 46), (39, 36), (41, 40)),  # eyes, from the outer corner over the upper lid
        *((54, 48), (59, 55), (64, 60), (67, 65)),  # lips, outer and inner
    ),
}
TABLE_SIDE = 128  # px: the pictures' side that the table's numbers are for


def find_table(entries: Sequence[Entry]) -> Path:
    """Return `landmarks.csv` beside or in the folder or zip that holds the first picture.

    Raises MissingDataError: there is none.
    """
    for container in dict.fromkeys(entry.container for entry in entries):
        for folder in (container, container.parent):
            if (folder / "landmarks.csv").is_file():
                return folder / "landmarks.csv"
    raise MissingDataError(
        "FSRNet learns from landmarks, but there is no landmarks.csv beside the pictures; name one with --landmarks"
        f" (columns: image, {', '.join(f'{c}_x, {c}_y' for c in COLUMNS)}, in px of a {TABLE_SIDE} px face)"
    )


def read_landmarks(table: str | Path, entries: Sequence[Entry], resolution: int) -> Tensor:
    """Return (N, 5, 2) landmark positions (x, y) in px of the `resolution`, NaN where the table does not know a picture.

    Positions count from the outer edge of the picture's first pixel, so a pixel's centre is at .5.

    Raises MissingDataError: the table is missing, has other columns, or knows not one of the pictures.
    """
    try:
        with open(table, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            known = {
                Path(row["image"]).stem: [[float(row[f"{c}_{axis}"]) for axis in "xy"] for c in COLUMNS] for row in rows
            }
    except OSError as error:
        raise MissingDataError(f"{table}: the landmarks cannot be read ({error.strerror})") from None
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise MissingDataError(
            f"{table}: the landmarks cannot be used ({type(error).__name__}: {error}); expected the columns image,"
            f" {', '.join(f'{c}_x, {c}_y' for c in COLUMNS)}"
        ) from None
    unknown = [[float("nan")] * 2] * len(COLUMNS)
    found = torch.tensor([known.get(entry.stem, unknown) for entry in entries], dtype=torch.float32)
    if not len(entries) or bool(found.isnan().all()):
        raise MissingDataError(
            f"{table}: it knows not one of the {len(entries)} pictures by the name in its column image"
        )
    return (found + 0.5) * (resolution / TABLE_SIDE)


class LandmarkNet:
    """The network of 68 landmarks, run by OpenCV on the CPU: a grey face of 64 px in, positions out."""

    def __init__(self, network: OnnxNet) -> None:
        self._network = network

    @classmethod
    def load(cls, *, fetch: bool = True) -> Self:
        """Load the published network. Raises MissingDataError: it is not at hand."""
        return cls(OnnxNet(locate("landmarks-68", fetch=fetch)))

    def find(self, pictures: Tensor) -> Tensor:
        """Return (B, 68, 2) positions (x, y) in px, counted as `read_landmarks` does.

        Args:
            pictures: uint8 (B, 3, R, R), aligned faces, the embedded prior's crop.
        """
        side = pictures.shape[-1]
        left, top, box = (round(v * side / TABLE_SIDE) for v in BOX)
        faces = pictures[:, :, top : top + box, left : left + box].float()
        grey = torch.einsum("bchw,c->bhw", faces, torch.tensor([0.299, 0.587, 0.114]))[:, None]
        grey = F.interpolate(grey, (INPUT, INPUT), mode="bilinear", antialias=True)
        found = self._network.rows(grey / 256).view(len(pictures), NETWORK, 2)
        return found * box + torch.tensor([left, top])


def believed(landmarks: Tensor, five: Tensor) -> Tensor:
    """Return 68 landmarks (B, 68, 2), NaN for the faces where they are far from the five (B, 5, 2) that a table knows.

    Far: on the mean over the five more than a quarter of the distance of the eyes. A face that the table does not know is
    believed.
    """
    own = torch.stack(
        [
            landmarks[:, 36:42].mean(1),
            landmarks[:, 42:48].mean(1),
            landmarks[:, 30],
            landmarks[:, 48],
            landmarks[:, 54],
        ],
        1,
    )
    eyes = (five[:, 1] - five[:, 0]).norm(dim=1)
    far = (own - five).norm(dim=2).mean(1) > AGREED * eyes  # false of NaN
    return torch.where(far[:, None, None], float("nan"), landmarks)


def mirror(landmarks: Tensor, flip: Tensor, resolution: int) -> Tensor:
    """Return landmarks (B, L, 2), L 5 or 68, of pictures of which those where `flip` (B,) is true were flipped."""
    turned = landmarks[:, MIRRORED[landmarks.shape[1]]].clone()
    turned[:, :, 0] = resolution - turned[:, :, 0]
    return torch.where(flip[:, None, None], turned, landmarks)


def heatmaps(landmarks: Tensor, resolution: int, stride: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Return Gaussian heatmaps (B, L, R/stride, R/stride) of height 1, and (B,) whether a face's landmarks are known.

    Args:
        landmarks: (B, L, 2) in px of the resolution R, NaN where unknown.
        sigma: standard deviation in px of the heatmap.
    """
    known = ~landmarks.isnan().any(2).any(1)
    where = landmarks.nan_to_num(0) / stride
    axis = torch.arange(resolution // stride, device=landmarks.device) + 0.5
    across = torch.exp(-(axis - where[:, :, 0:1]).square() / (2 * sigma**2))  # (B, L, R/stride)
    down = torch.exp(-(axis - where[:, :, 1:2]).square() / (2 * sigma**2))
    return down[:, :, :, None] * across[:, :, None, :], known
