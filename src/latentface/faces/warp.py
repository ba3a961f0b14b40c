"""The degradation of faces in photographs: high faces compared in the photograph's own pixels, nothing resampled twice.

Each face has a box of photograph pixels around its aligned square; the boxes of a batch are padded to a common size.
A pixel of the photograph is a weighted mean of the high face's pixels under an antialiased kernel that stands along the
photograph's axes, so an upright face on whole pixels gives exactly `Downscale`. Pixels outside the square, outside the
photograph or in the padding are masked: 0 in `forward`, ignored by `adjoint`.
"""

# B faces, R high side, (h, w) the common box, N = B h w low pixels, M = B R R high pixels

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from latentface.degradation import KERNELS, PRIOR_SIGMA, checked_side
from latentface.errors import InputError, UnknownNameError
from latentface.faces.align import Similarity
from latentface.faces.linear import apply, solve, to_torch
from latentface.faces.place import Placed, fitting_rows, place

# What a face hardly shows must not be torn out of it: a photograph's finest diagonal stripes fall between the high pixels
# of a face that is tilted by 45 degrees, and A+ of their noise is endless. At a factor of 1.05 and 44 degrees, 8 rounds
# come to 49 dB with this and to 33 dB without; up to 40 degrees it makes no difference.
STEADY = 0.01


class Warp:
    """The linear operator from B high faces (B, 3, R, R) to their boxes in photographs (B, 3, h, w).

    A Warp of one face takes any batch, all of them that face. Results of a face depend neither on the others nor on
    the padding.

    Args:
        transforms: a face each, the unit square -> its photograph (`latentface.faces.align`).
        size: R, the prior's resolution.
        photos: (H, W) of the photograph, or one pair a face.
        kernel: one of `latentface.degradation.KERNELS`.
        sigma: standard deviation of the photographs' noise, in units of the full grey range.
        margin: how many photograph pixels to stay away from the square's border.

    Raises:
        InputError: no face, a face as large as R (within 2 %) or larger, or outside its photograph, or a negative sigma.
        UnknownNameError: a kernel that does not exist.
    """

    def __init__(
        self,
        transforms: Sequence[Similarity],
        size: int,
        photos: tuple[int, int] | Sequence[tuple[int, int]],
        *,
        kernel: str = "bicubic",
        sigma: float = 0.0,
        margin: float = 0.0,
    ) -> None:
        if kernel not in KERNELS:
            raise UnknownNameError("kernel", kernel, KERNELS)
        pairs = _size_pairs(photos, len(transforms))
        self._set(
            [place(t, size, p, kernel, margin) for t, p in zip(transforms, pairs, strict=True)], size, kernel, sigma
        )

    def _set(self, faces: Sequence[Placed], size: int, kernel: str, sigma: float) -> None:
        if not faces:
            raise InputError("a Warp needs at least one face")
        if not (math.isfinite(sigma) and sigma >= 0):
            raise InputError(f"sigma is {sigma}; expected a number from 0 up (in units of the full grey range)")
        self.faces, self.size, self.kernel, self.sigma = tuple(faces), size, kernel, sigma
        self._low = (max(f.box[3] for f in faces), max(f.box[2] for f in faces))
        self.mask = torch.zeros(len(faces), 1, *self._low, dtype=torch.bool)  # (B, 1, h, w): the pixels that count
        for mask, face in zip(self.mask, faces, strict=True):
            mask[0, : face.box[3], : face.box[2]] = face.mask
        self._cache: dict[tuple[str, int, torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    @classmethod
    def join(cls, warps: Sequence[Warp]) -> Warp:
        """Return one Warp of all faces of several, in order, for a common batch; sizes, kernels and sigmas must agree."""
        kinds = {(w.size, w.kernel, w.sigma) for w in warps}
        if len(kinds) != 1:
            raise InputError(
                f"cannot join Warps of different (size, kernel, sigma): {sorted(kinds)}; expected one kind"
            )
        return cls._of([face for w in warps for face in w.faces], *kinds.pop())

    @classmethod
    def _of(cls, faces: Sequence[Placed], size: int, kernel: str, sigma: float) -> Warp:
        warp = cls.__new__(cls)
        warp._set(faces, size, kernel, sigma)
        return warp

    def select(self, indices: Sequence[int]) -> Warp:
        """Return a Warp of these faces, in this order; a face may come several times, for several samples."""
        return self._of([self.faces[i] for i in indices], self.size, self.kernel, self.sigma)

    def with_sigma(self, sigma: float) -> Warp:
        """Return the same Warp for another noise level. Raises InputError for a negative one."""
        return self._of(self.faces, self.size, self.kernel, sigma)

    def __len__(self) -> int:
        return len(self.faces)

    def __repr__(self) -> str:
        return f"Warp({len(self)} faces, size={self.size}, low={self._low}, kernel={self.kernel!r}, sigma={self.sigma})"

    @property
    def low_size(self) -> tuple[int, int]:
        """(h, w), the common box."""
        return self._low

    @property
    def high_size(self) -> tuple[int, int]:
        """(R, R)."""
        return self.size, self.size

    @property
    def transforms(self) -> tuple[Similarity, ...]:
        """The faces' transforms."""
        return tuple(f.transform for f in self.faces)

    @property
    def factors(self) -> tuple[float, ...]:
        """High pixels to a photograph's pixel, a face each."""
        return tuple(self.size / f.transform.scale for f in self.faces)

    def cut(self, photos: Tensor | Sequence[Tensor]) -> Tensor:
        """Cut the faces' low pictures (B, 3, h, w) out of one photograph (3, H, W), or of one a face; masked pixels are 0."""
        each = [photos] * len(self) if isinstance(photos, Tensor) else list(photos)
        if len(each) != len(self):
            raise InputError(f"got {len(each)} photographs for {len(self)} faces; expected one, or one a face")
        low = each[0].new_zeros(len(self), 3, *self._low)
        for out, face, photo in zip(low, self.faces, each, strict=True):
            x, y, w, h = face.box
            out[:, :h, :w] = photo[:, y : y + h, x : x + w] * face.mask.to(photo)
        return low

    def fit(self, pictures: Tensor, size: int | None = None) -> Tensor:
        """Bring low pictures (B, 3, h, w) into the aligned frame (B, 3, size, size), bilinearly, from valid pixels only.

        None: R. For what wants an upright face: a discriminator's features, a start from the nearest thumbnails, a baseline.
        Where no valid pixel is near, the face's mean colour stands. Linear and differentiable.
        """
        self._check(pictures, self._low, "low")
        mask = self.mask.to(pictures) if len(self) > 1 else self.mask.to(pictures).expand(len(pictures), -1, -1, -1)
        mean = (pictures * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
        side = checked_side(size, self.size)
        matrix, back = self._matrices("fit", pictures, side)
        return mean + apply(matrix, back, (pictures - mean) * mask, (side, side), len(self))

    def forward(self, high: Tensor) -> Tensor:
        """Return A Y; (B, 3, R, R) -> (B, 3, h, w), 0 where masked; differentiable."""
        self._check(high, self.high_size, "high")
        return apply(*self._matrices("rows", high), high, self._low, len(self))

    def adjoint(self, low: Tensor) -> Tensor:
        """Return A^T x; (B, 3, h, w) -> (B, 3, R, R); differentiable."""
        self._check(low, self._low, "low")
        return apply(*self._matrices("rows", low)[::-1], low, self.high_size, len(self))

    def pinv(self, low: Tensor) -> Tensor:
        """Return A+ x = A^T (A A^T)^-1 x, by conjugate gradients; masked pixels of x are ignored; differentiable."""
        return self.adjoint(self._solve(low, 0.0))

    def correct(self, residual: Tensor) -> Tensor:
        """Return A^T (A A^T + d)^-1 r with d = (sigma / PRIOR_SIGMA)^2, at least `STEADY`.

        At sigma 0 this is nearly A+ r, and `project`, which repeats it, comes to the same.
        """
        return self.adjoint(self._solve(residual, max(STEADY, (self.sigma / PRIOR_SIGMA) ** 2)))

    def _solve(self, low: Tensor, damping: float) -> Tensor:
        self._check(low, self._low, "low")
        mask = self.mask.to(low.device)
        gram = self._matrices("gram", low)[0]
        return solve(gram, low * mask, damping, len(self))

    def _check(self, picture: Tensor, size: tuple[int, int], what: str) -> None:
        if tuple(picture.shape[-2:]) != size or (len(self) > 1 and len(picture) != len(self)):
            raise InputError(
                f"the {what} pictures are {tuple(picture.shape)}, expected {(len(self), 3, *size)}; for a part of the faces use select()"
            )

    def _matrices(self, name: str, like: Tensor, side: int = 0) -> tuple[Tensor, Tensor]:
        """The block-diagonal matrix over all faces, and its transpose, for this dtype and device; `side`: of "fit"."""
        key = (name, side, like.dtype, like.device)
        if key not in self._cache:
            builders: dict[str, Callable[[int], sparse.csr_matrix]] = {
                "rows": self._padded_rows,
                "gram": self._gram,
                "fit": partial(self._padded_fit, side=side),
            }
            matrix = sparse.block_diag([builders[name](i) for i in range(len(self))], format="csr")
            self._cache[key] = to_torch(matrix, like), to_torch(matrix.T.tocsr(), like)
        return self._cache[key]

    def _padding(self, face: Placed) -> sparse.csr_matrix:
        """The (h * w, height * width) matrix that puts a face's own box into the common one."""
        (h, w), (_, _, width, height) = self._low, face.box
        target = (np.arange(height)[:, None] * w + np.arange(width)).ravel()
        ones = np.ones(len(target))
        return sparse.csr_matrix((ones, (target, np.arange(len(target)))), shape=(h * w, len(target)))

    def _padded_rows(self, i: int) -> sparse.csr_matrix:
        return self._padding(self.faces[i]) @ self.faces[i].rows

    def _padded_fit(self, i: int, side: int) -> sparse.csr_matrix:
        return fitting_rows(self.faces[i], side) @ self._padding(self.faces[i]).T

    def _gram(self, i: int) -> sparse.csr_matrix:
        """A A^T, with 1 on the diagonal of masked pixels: some hundred numbers a row, so a round costs little."""
        rows = self._padded_rows(i)
        masked = (~self.mask[i].flatten()).double().numpy()
        return (rows @ rows.T + sparse.diags(masked)).tocsr()


def _size_pairs(photos: tuple[int, int] | Sequence[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    sizes = np.asarray(photos, dtype=np.int64)
    if sizes.shape == (2,):
        sizes = np.broadcast_to(sizes, (count, 2))
    if sizes.shape != (count, 2):
        raise InputError(
            f"photos: got sizes of shape {sizes.shape} for {count} faces; expected (H, W), or one pair a face"
        )
    return [(int(h), int(w)) for h, w in sizes]
