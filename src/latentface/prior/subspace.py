"""The active subspace of a prior: the few directions of its gaussianised W along which the loss of a search changes most.

The directions are the leading eigenvectors of the mean outer product of the loss's gradients, a set for each style row
(Constantine, Dow and Wang 2014, "Active subspace methods in theory and practice"). They are measured on the prior's own
faces (`latentface.train.subspace`). A file (`io.weights`) belongs to one prior, whose sha256 its card names.

Shape legend: L style rows, D width of w, K directions.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentface.errors import WeightsError
from latentface.io.weights import read_card, read_tensors, write_weights

NAME = "directions"


def write_subspace(path: str | Path, directions: Tensor, prior_sha256: str, card: Mapping[str, Any]) -> None:
    """Write directions (L, D, K) atomically, in 8 bits: they are means of few gradients anyway. Raises OutputError."""
    write_weights(path, "subspace", {NAME: directions}, card, {"prior_sha256": prior_sha256}, narrow=[NAME])


def read_subspace(path: str | Path, prior_sha256: str, rows: int, width: int) -> Tensor:
    """Return the directions of a prior with so many style rows of a width, or of its first rows, (L, D, K), orthonormal.

    Raises WeightsError: no such file, broken, no subspace, or another prior's.
    """
    if read_card(path, "subspace").get("prior_sha256") != prior_sha256:
        raise WeightsError(f"{path}: this subspace is another prior's; measure one with: latentface train subspace")
    values = read_tensors(path)
    found = values.get(NAME)
    if found is None or len(values) > 1 or found.ndim != 3:
        raise WeightsError(
            f"{path}: it holds {', '.join(values) or 'nothing'}; expected {NAME} (rows, width, count) alone"
        )
    if not 1 <= len(found) <= rows or found.shape[1] != width or not 1 <= found.shape[2] <= width:
        raise WeightsError(
            f"{path}: its {NAME} are {tuple(found.shape)}; expected at most {rows} rows of {width} numbers and no more directions"
        )
    directions: Tensor
    directions, upper = torch.linalg.qr(found.double())  # 8 bits have turned them a little
    lengths = upper.diagonal(dim1=-2, dim2=-1).abs()
    if not bool(torch.isfinite(directions).all()) or not bool((lengths > 0.1).all()):
        raise WeightsError(f"{path}: its {NAME} are not apart from each other; measure them again")
    return directions.float()
