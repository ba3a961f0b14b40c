"""Landmarks of aligned faces: read from a table, turned into heatmaps for FSRNet's prior net."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from latentface.errors import MissingDataError
from latentface.io.sources import Entry
from latentface.supervised.fsrnet import LANDMARKS

COLUMNS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
MIRRORED = (1, 0, 2, 4, 3)  # which landmark stands in whose place after a horizontal flip
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
    unknown = [[float("nan")] * 2] * len(LANDMARKS)
    found = torch.tensor([known.get(entry.stem, unknown) for entry in entries], dtype=torch.float32)
    if not len(entries) or bool(found.isnan().all()):
        raise MissingDataError(
            f"{table}: it knows not one of the {len(entries)} pictures by the name in its column image"
        )
    return (found + 0.5) * (resolution / TABLE_SIDE)


def mirror(landmarks: Tensor, flip: Tensor, resolution: int) -> Tensor:
    """Return landmarks (B, 5, 2) of pictures of which those where `flip` (B,) is true were flipped."""
    turned = landmarks[:, MIRRORED].clone()
    turned[:, :, 0] = resolution - turned[:, :, 0]
    return torch.where(flip[:, None, None], turned, landmarks)


def heatmaps(landmarks: Tensor, resolution: int, stride: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Return Gaussian heatmaps (B, 5, R/stride, R/stride) of height 1, and (B,) whether a face's landmarks are known.

    Args:
        landmarks: (B, 5, 2) in px of the resolution R, NaN where unknown.
        sigma: standard deviation in px of the heatmap.
    """
    known = ~landmarks.isnan().any(2).any(1)
    where = landmarks.nan_to_num(0) / stride
    axis = torch.arange(resolution // stride, device=landmarks.device) + 0.5
    across = torch.exp(-(axis - where[:, :, 0:1]).square() / (2 * sigma**2))  # (B, 5, R/stride)
    down = torch.exp(-(axis - where[:, :, 1:2]).square() / (2 * sigma**2))
    return down[:, :, :, None] * across[:, :, None, :], known
