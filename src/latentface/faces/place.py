"""One face's place in a photograph: its box, the weights of the box's pixels, and which of them count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from latentface.errors import InputError
from latentface.faces.align import Similarity
from latentface.faces.resample import Taps, taps

# A face of fewer high pixels than the photograph has there has no exact answer, and one of about as many is unstable:
# pseudo-inverses of smooth pictures reach 1.3 at a factor of 1.02, 3.5 at 1 and 20 to 46,000 at 0.99.
LEAST_FACTOR = 1.02


@dataclass(frozen=True, slots=True)
class Placed:
    """One face's operator: where its box lies, its rows over the whole box, and which pixels count."""

    transform: Similarity
    box: tuple[int, int, int, int]  # left, top, width, height in the photograph
    rows: sparse.csr_matrix  # (height * width, R * R) float64; masked rows are empty
    mask: Tensor  # (height, width) bool


def place(
    transform: Similarity, size: int, photo: tuple[int, int], kernel: str = "bicubic", margin: float = 0.0
) -> Placed:
    """Build the operator of one face of `size` px in a photograph of (H, W) pixels.

    A pixel counts where its whole area, widened by `margin` pixels on each side, lies in the aligned square.

    Raises:
        InputError: the face is as large as `size` (within 2 %) or larger, smaller than 2 px, or not in the photograph.
    """
    if transform.scale * LEAST_FACTOR > size:
        raise InputError(
            f"the face is {transform.scale:.3g} px in the photograph, as large as the {size} px of the prior or larger; leave it as it is, or use a larger prior"
        )
    if transform.scale < 2:
        raise InputError(f"the face is {transform.scale:.2g} px in the photograph; at least 2 px are needed")
    corners = transform.corners
    left, top = (int(v) for v in np.floor(corners.min(0) + 1e-6).clip(0))
    right, bottom = (int(v) for v in np.minimum(np.ceil(corners.max(0) - 1e-6), (photo[1], photo[0])))
    if right <= left or bottom <= top:
        raise InputError(f"the face about {transform.centre} lies outside the photograph of {photo[1]} x {photo[0]} px")
    width, height = right - left, bottom - top
    inverse = transform.inverse()
    reach = 0.5 + margin
    unit = inverse.apply(  # (4, height, width, 2): the widened pixel's corners in the unit square
        np.stack(
            [
                np.stack(
                    np.meshgrid(left + np.arange(width) + 0.5 + i * reach, top + np.arange(height) + 0.5 + j * reach),
                    -1,
                )
                for i in (-1, 1)
                for j in (-1, 1)
            ]
        )
    )
    near = 1e-6 / transform.scale
    valid = ((unit >= -near) & (unit <= 1 + near)).all(axis=(0, 3)).ravel()
    rows, inside = _gather(taps(inverse.scaled(size), (left, top, width, height), (size, size), kernel), size * size)
    valid &= inside
    if not valid.any():
        raise InputError(f"no pixel of the photograph lies wholly in the face about {transform.centre}; leave it out")
    rows = (sparse.diags(valid.astype(np.float64)) @ rows).tocsr()
    rows.eliminate_zeros()
    return Placed(transform, (left, top, width, height), rows, torch.from_numpy(valid.reshape(height, width)))


def fitting_rows(face: Placed, size: int) -> sparse.csr_matrix:
    """Return the matrix (size * size, height * width) that brings a face's box into its aligned frame, bilinearly.

    Only valid pixels are taken, and rows sum to 1; a row without any is empty.
    """
    left, top, width, height = face.box
    local = face.transform.then(Similarity(1.0, 0.0, -left, -top)).pixels(size)
    rows, _ = _gather(taps(local, (0, 0, size, size), (height, width), "bilinear"), height * width)
    rows = rows @ sparse.diags(face.mask.flatten().double().numpy())
    total = np.asarray(rows.sum(1)).ravel()
    solid = total > 1e-6
    rows = (sparse.diags(np.divide(1.0, total, out=np.zeros_like(total), where=solid)) @ rows).tocsr()
    rows.eliminate_zeros()
    return rows


def _gather(parts: Iterable[Taps], columns: int) -> tuple[sparse.csr_matrix, NDArray[np.bool_]]:
    """Put chunks of weights together as one matrix of so many columns, and their `inside`."""
    values, indices, counts, inside = [], [], [], []
    for part in parts:
        weight = part.weight.numpy()
        kept = weight != 0
        values.append(weight[kept])
        indices.append(part.index.numpy()[kept])
        counts.append(kept.sum(1))
        inside.append(part.inside.numpy())
    pointers = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    matrix = sparse.csr_matrix(
        (np.concatenate(values), np.concatenate(indices), pointers), shape=(len(pointers) - 1, columns)
    )
    return matrix, np.concatenate(inside)
