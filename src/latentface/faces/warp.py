"""The degradation of faces in photographs: high faces compared in the photograph's own pixels, nothing resampled twice.

Each face has a box of photograph pixels around its aligned square; the boxes of a batch are padded to a common size.
A pixel of the photograph is a weighted mean of the high face's pixels under an antialiased kernel that stands along the
photograph's axes, so an upright face on whole pixels gives exactly `Downscale`. Pixels outside the square, outside the
photograph or in the padding are masked: 0 in `forward`, ignored by `adjoint`.

A = W S: the high face is shrunk bicubically to an inner side first, at least `OVERSAMPLING` times the face's in the
photograph, and warped from there by a sparse matrix W, so that weights are in proportion to the photograph's pixels and
not to the prior's. Priors of up to `SMALL` px are not shrunk.
"""

# B faces, R high side, r inner side, (h, w) the common box

import math
from collections.abc import Callable, Hashable, Sequence

import torch
from scipy import sparse
from torch import Tensor

from latentface.degradation import KERNELS, Downscale, checked_side, noise_damping, shrinking
from latentface.errors import InputError, UnknownNameError
from latentface.faces.linear import Sparse, apply, solve, stacked
from latentface.faces.place import LEAST_FACTOR, SMALL, Placed, fitting_rows, high_rows, place
from latentface.faces.similarity import Similarity

OVERSAMPLING = 3
# Finest diagonal stripes fall between the high pixels of a face tilted by 45 degrees: A+ of them is endless.
# It counts at `SMALL` px; with more, A A^T is smaller by the square, but never below the square of 1 / factor.
STEADY = 0.01
ROUGH = 1e-6  # of the squared norms, where `correct` is solved without A A^T at hand: `project` repeats it


class Warp:
    """The linear operator from B high faces (B, 3, R, R) to their boxes in photographs (B, 3, h, w).

    A Warp of one face takes any batch, all of them that face. Results of a face depend neither on the padding nor on the
    others, but for the inner side, which is the largest that one of them needs: `join` takes faces of one inner side.

    Args:
        transforms: a face each, the unit square -> the photograph of (H, W) (`latentface.faces.align`).
        size: R, the prior's resolution; kernel: one of `latentface.degradation.KERNELS`.
        sigma: standard deviation of the photographs' noise, in units of the full grey range.

    Raises InputError: no face, a face as large as R (within 2 %) or larger, or outside its photograph, or a negative
    sigma. UnknownNameError: a kernel that does not exist.
    """

    def __init__(
        self,
        transforms: Sequence[Similarity],
        size: int,
        photo: tuple[int, int],
        *,
        kernel: str = "bicubic",
        sigma: float = 0.0,
    ) -> None:
        if kernel not in KERNELS:
            raise UnknownNameError("kernel", kernel, KERNELS)
        faces = [place(t, size, photo, kernel) for t in transforms]
        self._set(faces, size, kernel, sigma, max((inner_side(t.scale, size) for t in transforms), default=size))

    def _set(self, faces: Sequence[Placed], size: int, kernel: str, sigma: float, inner: int) -> None:
        if not faces:
            raise InputError("a Warp needs at least one face")
        if not (math.isfinite(sigma) and sigma >= 0):
            raise InputError(f"sigma is {sigma}; expected a number from 0 up (in units of the full grey range)")
        self.faces, self.size, self.kernel, self.sigma, self.inner = tuple(faces), size, kernel, sigma, inner
        self.transforms = tuple(f.transform for f in faces)
        self.factors = tuple(size / t.scale for t in self.transforms)  # high pixels to a photograph's pixel
        self.kind: Hashable = ("warp", size, kernel, sigma, inner)  # what faces of one batch have in common
        self.low_size, self.high_size = (max(f.box[3] for f in faces), max(f.box[2] for f in faces)), (size, size)
        self.mask = torch.zeros(len(faces), 1, *self.low_size, dtype=torch.bool)  # (B, 1, h, w): the pixels that count
        for mask, face in zip(self.mask, faces, strict=True):
            mask[0, : face.box[3], : face.box[2]] = face.mask
        self._cache: dict[tuple[str, int, torch.dtype, torch.device], Sparse] = {}

    @classmethod
    def join(cls, parts: Sequence["Warp"]) -> "Warp":
        """Return one Warp of all faces of several, in order, for a common batch.

        Raises InputError: sizes, kernels, sigmas or inner sides do not agree.
        """
        kinds = {(w.size, w.kernel, w.sigma, w.inner) for w in parts}
        if len(kinds) != 1:
            raise InputError(
                f"cannot join Warps of different (size, kernel, sigma, inner side): {sorted(kinds)}; expected one kind"
            )
        return cls.of([face for w in parts for face in w.faces], *kinds.pop())

    @classmethod
    def of(cls, faces: Sequence[Placed], size: int, kernel: str, sigma: float, inner: int) -> "Warp":
        """Return a Warp of placed faces (`faces.place`)."""
        warp = cls.__new__(cls)
        warp._set(faces, size, kernel, sigma, inner)
        return warp

    def select(self, indices: Sequence[int]) -> "Warp":
        """Return a Warp of these faces, in this order; a face may come several times, for several samples."""
        return self.of([self.faces[i] for i in indices], self.size, self.kernel, self.sigma, self.inner)

    def at(self, high: int) -> "Warp":
        """Return the same operator from high faces of another side.

        Raises InputError: a face is as large as `high` (within 2 %) or larger.
        """
        most = max(t.scale for t in self.transforms)
        if most * LEAST_FACTOR > high:
            raise InputError(
                f"a face is {most:.3g} px in the photograph, as large as {high} px or larger; use a larger prior"
            )
        inner = max(inner_side(t.scale, high) for t in self.transforms)
        return self.of(self.faces, high, self.kernel, self.sigma, inner)

    def __len__(self) -> int:
        return len(self.faces)

    def cut(self, photo: Tensor) -> Tensor:
        """Cut the faces' low pictures (B, 3, h, w) out of the photograph (3, H, W); masked pixels are 0."""
        low = photo.new_zeros(len(self), 3, *self.low_size)
        for out, face in zip(low, self.faces, strict=True):
            x, y, w, h = face.box
            out[:, :h, :w] = photo[:, y : y + h, x : x + w] * face.mask.to(photo)
        return low

    def fit(self, pictures: Tensor, size: int | None = None) -> Tensor:
        """Bring low pictures (B, 3, h, w) into the aligned frame (B, 3, size, size), bilinearly, from valid pixels only.

        None: R. For what wants an upright face: a discriminator's features, a start from the nearest thumbnails, a baseline.
        Where no valid pixel is near, the face's mean colour stands. Linear and differentiable.
        """
        self._check(pictures, self.low_size, "low")
        mask = self.mask.to(pictures) if len(self) > 1 else self.mask.to(pictures).expand(len(pictures), -1, -1, -1)
        mean = (pictures * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
        side = checked_side(size, self.size)
        matrix = self._matrix("fit", pictures, side)
        return mean + apply(matrix, (pictures - mean) * mask, (side, side), len(self))

    def forward(self, high: Tensor) -> Tensor:
        """Return A Y; (B, 3, R, R) -> (B, 3, h, w), 0 where masked; differentiable."""
        self._check(high, self.high_size, "high")
        return self._warped(high if self._shrink is None else self._shrink.forward(high))

    def adjoint(self, low: Tensor) -> Tensor:
        """Return A^T x; (B, 3, h, w) -> (B, 3, R, R); differentiable."""
        self._check(low, self.low_size, "low")
        back = self._warped_back(low)
        return back if self._shrink is None else self._shrink.adjoint(back)

    def pinv(self, low: Tensor) -> Tensor:
        """Return A+ x = A^T (A A^T)^-1 x, by conjugate gradients; masked pixels of x are ignored; differentiable."""
        gram = self._gram(low) if self._shrink is None else lambda x: self.forward(self.adjoint(x))
        return self.adjoint(self._solve(gram, low, 0.0))

    def correct(self, residual: Tensor) -> Tensor:
        """Return S+ W^T (W W^T + d)^-1 r with d = `noise_damping` at the inner side, at least `STEADY`.

        At sigma 0 this is nearly A+ r, and `project`, which repeats it, comes to the same. S+ lifts smoothly.
        """
        steady = [STEADY * min(1.0, (max(SMALL, f.transform.scale) / self.inner) ** 2) for f in self.faces]
        damping = torch.tensor(steady, dtype=residual.dtype).clamp_min(noise_damping(self.sigma, self.inner))
        tolerance = None if self.inner <= SMALL else ROUGH
        solved = self._solve(self._gram(residual), residual, damping.view(-1, 1, 1, 1).to(residual.device), tolerance)
        back = self._warped_back(solved)
        return back if self._shrink is None else self._shrink.pinv(back)

    @property
    def _shrink(self) -> Downscale | None:
        return None if self.inner == self.size else shrinking(self.inner, self.size)

    def _warped(self, inner: Tensor) -> Tensor:
        return apply(self._matrix("rows", inner), inner, self.low_size, len(self))

    def _warped_back(self, low: Tensor) -> Tensor:
        return apply(self._matrix("rows", low), low, (self.inner, self.inner), len(self), transposed=True)

    def _gram(self, like: Tensor) -> Callable[[Tensor], Tensor]:
        """W W^T: a matrix of some hundred numbers a row where the inner side is small, else both in turn."""
        if self.inner > SMALL:
            return lambda low: self._warped(self._warped_back(low))
        matrix = self._matrix("gram", like)
        return lambda low: apply(matrix, low, self.low_size, len(self))

    def _solve(
        self, gram: Callable[[Tensor], Tensor], low: Tensor, damping: Tensor | float, tolerance: float | None = None
    ) -> Tensor:
        self._check(low, self.low_size, "low")
        return solve(gram, low * self.mask.to(low.device), damping, tolerance)

    def _check(self, picture: Tensor, size: tuple[int, int], what: str) -> None:
        if tuple(picture.shape[-2:]) != size or (len(self) > 1 and len(picture) != len(self)):
            raise InputError(
                f"the {what} pictures are {tuple(picture.shape)}, expected {(len(self), 3, *size)}; for a part of the faces use select()"
            )

    def _matrix(self, name: str, like: Tensor, side: int = 0) -> Sparse:
        """The block-diagonal matrix over all faces for this dtype and device; `side`: of "fit"."""
        key = (name, side, like.dtype, like.device)
        if key not in self._cache:
            self._cache[key] = Sparse(stacked([self._rows(name, face, side) for face in self.faces]), like)
        return self._cache[key]

    def _rows(self, name: str, face: Placed, side: int) -> sparse.csr_matrix:
        if name == "fit":
            return fitting_rows(face, side, self.low_size)
        rows = high_rows(face, self.inner, self.kernel, self.low_size)
        if name == "rows":
            return rows
        gram = (rows @ rows.T).tocsr()
        gram.sort_indices()  # one order of its sums
        return gram


def inner_side(side: float, size: int) -> int:
    """Return the inner side for a face of `side` px in its photograph and of `size` px in the prior.

    A power of two of at least `SMALL`, so that all small faces have the same; never more than `size`.
    """
    return min(size, max(SMALL, 1 << math.ceil(math.log2(OVERSAMPLING * side))))
