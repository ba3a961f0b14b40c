"""One face's place in a photograph: its box, which of the box's pixels count, and their weights."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from latentface.errors import InputError
from latentface.faces.resample import Taps, taps
from latentface.faces.similarity import Similarity

# A face of fewer high pixels than the photograph has there has no exact answer, and one of about as many is unstable.
LEAST_FACTOR = 1.02
# Up to so many high pixels a side weights are kept in float64 and A A^T is formed; of more, memory would run out.
SMALL = 128


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a face's box lies, and which of its pixels count."""

    transform: Similarity
    box: tuple[int, int, int, int]  # left, top, width, height in the photograph
    mask: Tensor  # (height, width) bool


def place(transform: Similarity, size: int, photo: tuple[int, int], kernel: str) -> Placed:
    """Build the operator of one face of `size` px in a photograph of (H, W) pixels.

    A pixel counts where its whole area lies in the aligned square. Raises InputError: the face is as large as `size`
    (within 2 %) or larger, smaller than 2 px, or not in the photograph.
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
    x, y = (low + np.arange(count) + 0.5 for low, count in ((left, width), (top, height)))
    areas = [np.stack(np.meshgrid(x + i, y + j), -1) for i in (-0.5, 0.5) for j in (-0.5, 0.5)]
    unit = inverse.apply(np.stack(areas))  # (4, height, width, 2): each pixel's corners in the unit square
    near = 1e-6 / transform.scale
    valid = ((unit >= -near) & (unit <= 1 + near)).all(axis=(0, 3)).ravel()
    if kernel == "box":  # turned, and hardly larger than a high pixel, it may fall between their centres
        parts = taps(inverse.scaled(size), (left, top, width, height), (size, size), kernel)
        valid &= np.concatenate([part.inside.numpy() for part in parts])
    if not valid.any():
        raise InputError(f"no pixel of the photograph lies wholly in the face about {transform.centre}; leave it out")
    return Placed(transform, (left, top, width, height), torch.from_numpy(valid.reshape(height, width)))


def high_rows(face: Placed, size: int, kernel: str, low: tuple[int, int]) -> sparse.csr_matrix:
    """Return the matrix (h * w, size * size) that shows a face of `size` px in its box, which is padded to `low`.

    Rows sum to 1; masked ones are empty.
    """
    parts = taps(face.transform.inverse().scaled(size), face.box, (size, size), kernel)
    (h, w), (_, _, width, height) = low, face.box
    rows = _gather(parts, (height * width, size * size), _weights(size), face.mask.flatten().numpy())
    counts = np.zeros((h, w), np.int64)
    counts[:height, :width] = np.diff(rows.indptr).reshape(height, width)
    pointers = np.concatenate([[0], counts.cumsum()]).astype(np.int32)
    return sparse.csr_matrix((rows.data, rows.indices, pointers), shape=(h * w, size * size))


def fitting_rows(face: Placed, size: int, low: tuple[int, int]) -> sparse.csr_matrix:
    """Return the matrix (size * size, h * w) that brings a face's box, padded to `low`, into its aligned frame, bilinearly.

    Only valid pixels are taken, and rows sum to 1; a row without any is empty.
    """
    left, top, width, height = face.box
    local = face.transform.shifted(-left, -top).pixels(size)
    rows = _gather(
        taps(local, (0, 0, size, size), (height, width), "bilinear"), (size * size, height * width), _weights(size)
    )
    rows.data *= face.mask.flatten().numpy()[rows.indices]
    total = np.asarray(rows.sum(1)).ravel()
    solid = total > 1e-6
    rows.data *= np.repeat(np.divide(1, total, out=np.zeros_like(total), where=solid), np.diff(rows.indptr))
    rows.eliminate_zeros()
    y, x = np.divmod(rows.indices, np.int32(width))
    return sparse.csr_matrix((rows.data, y * np.int32(low[1]) + x, rows.indptr), shape=(size * size, low[0] * low[1]))


def _weights(size: int) -> type:
    """The number format of a face's weights."""
    return np.float64 if size <= SMALL else np.float32


def _gather(
    parts: Iterable[Taps], shape: tuple[int, int], dtype: type, wanted: NDArray[np.bool_] | None = None
) -> sparse.csr_matrix:
    """Put chunks of weights together as one matrix of this shape; rows that are not wanted stay empty."""
    values: NDArray[np.floating] = np.empty(0, dtype)
    indices: NDArray[np.int32] = np.empty(0, np.int32)
    pointers, filled = np.zeros(shape[0] + 1, np.int32), 0
    for part in parts:
        weight = part.weight.numpy()
        here = slice(part.first, part.first + len(weight))
        if not len(values):  # room for all: what is not written takes no memory
            values, indices = (np.empty(shape[0] * weight.shape[1], kind) for kind in (dtype, np.int32))
        kept = weight != 0
        if wanted is not None:
            kept &= wanted[here, None]
        counts = kept.sum(1)
        end = filled + int(counts.sum())
        values[filled:end], indices[filled:end] = weight[kept], part.index.numpy()[kept]
        pointers[part.first + 1 : part.first + 1 + len(weight)] = filled + counts.cumsum()
        filled = end
    return sparse.csr_matrix((values[:filled], indices[:filled], pointers), shape=shape)
