"""Sparse matrices applied to batches of pictures, and the normal equations solved by conjugate gradients.

Matrices are block-diagonal over the faces of a batch; with one face, any batch is that face. Every sum has a fixed order
inside its face, so a face's bits do not depend on its neighbours.
"""

# B faces, (y, x) a picture's size; a matrix is (B y' x', B y x)

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

MAX_ROUNDS = 400  # of conjugate gradients; 20 to 60 are usual

Gram = Callable[[Tensor], Tensor]  # A A^T times low pictures


class Sparse:
    """A SciPy matrix as a tensor of one dtype and device, and its transpose, which is made when it is first asked for.

    Indices have 32 bits where that is enough: a face of 1000 px in a prior of 1024 px has 17 million weights.
    """

    def __init__(self, matrix: sparse.csr_matrix, like: Tensor) -> None:
        self.matrix = _to_torch(matrix, like)
        self._source, self._like = matrix, like.new_empty(0)

    @cached_property
    def back(self) -> Tensor:
        """The transpose."""
        return _to_torch(self._source.T.tocsr(), self._like)


def _to_torch(matrix: sparse.csr_matrix, like: Tensor) -> Tensor:
    small = max(matrix.nnz, *matrix.shape) < 2**31
    pointers, indices = (a.astype(np.int32 if small else np.int64, copy=False) for a in (matrix.indptr, matrix.indices))
    values = torch.from_numpy(matrix.data).to(like.dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        made = torch.sparse_csr_tensor(
            torch.from_numpy(pointers), torch.from_numpy(indices), values, matrix.shape, check_invariants=False
        )
    return made.to(like.device)


def stacked(parts: Sequence[sparse.csr_matrix]) -> sparse.csr_matrix:
    """Return the block-diagonal matrix of these, each row's entries in their order."""
    if len(parts) == 1:
        return parts[0]
    columns = np.cumsum([0] + [p.shape[1] for p in parts])
    entries = np.cumsum([0] + [p.nnz for p in parts])
    kind = np.int32 if max(columns[-1], entries[-1]) < 2**31 else np.int64
    pointers = [[0], *(p.indptr[1:].astype(np.int64) + n for p, n in zip(parts, entries[:-1], strict=True))]
    indices = [p.indices.astype(kind) + kind(n) for p, n in zip(parts, columns[:-1], strict=True)]
    made = np.concatenate([p.data for p in parts]), np.concatenate(indices), np.concatenate(pointers).astype(kind)
    return sparse.csr_matrix(made, shape=(sum(p.shape[0] for p in parts), columns[-1]))


def _columns(pictures: Tensor, faces: int) -> Tensor:
    """(B, 3, y, x) -> (B y x, 3), or, where one face serves them all, (y x, 3 B)."""
    if faces > 1:
        return pictures.permute(0, 2, 3, 1).reshape(-1, pictures.shape[1])
    return pictures.flatten(2).flatten(0, 1).t().contiguous()


def _pictures(columns: Tensor, like: torch.Size, size: tuple[int, int], faces: int) -> Tensor:
    batch, channels = like[:2]
    if faces > 1:
        return columns.view(batch, *size, channels).permute(0, 3, 1, 2).contiguous()
    return columns.t().reshape(batch, channels, *size)


def apply(matrix: Sparse, pictures: Tensor, size: tuple[int, int], faces: int, *, transposed: bool = False) -> Tensor:
    """Return a matrix, or its transpose, times pictures (B, 3, y, x) as pictures of `size`; differentiable."""
    product: Tensor = _Product.apply(matrix, transposed, _columns(pictures, faces))  # type: ignore[no-untyped-call]
    return _pictures(product, pictures.shape, size, faces)


def solve(gram: Gram, low: Tensor, damping: Tensor | float, tolerance: float | None = None) -> Tensor:
    """Return (G + damping)^-1 x for pictures x (B, 3, h, w), each channel for itself; differentiable.

    The damping is one for all, or (B or 1, 1, 1, 1). The tolerance is of the squared norms; None: the number format's
    grain.
    """
    if tolerance is None:
        tolerance = 1e-20 if low.dtype == torch.float64 else 1e-12
    solved: Tensor = _Solve.apply(gram, low, damping, tolerance)  # type: ignore[no-untyped-call]
    return solved


class _Product(torch.autograd.Function):
    """A sparse matrix times columns; the gradient uses the transpose that is kept (PyTorch would sort it each time)."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, matrix: Sparse, transposed: bool, columns: Tensor) -> Tensor:
        ctx.problem = (matrix, transposed)  # type: ignore[attr-defined]
        product: Tensor = torch.sparse.mm(matrix.back if transposed else matrix.matrix, columns)
        return product

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[None, None, Tensor]:
        matrix, transposed = ctx.problem  # type: ignore[attr-defined]
        return None, None, _Product.apply(matrix, not transposed, grads[0].contiguous())  # type: ignore[no-untyped-call]


class _Solve(torch.autograd.Function):
    """The solution's gradient is a solution too, since G is symmetric."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, gram: Gram, low: Tensor, damping: Tensor | float, tolerance: float
    ) -> Tensor:
        ctx.problem = (gram, damping, tolerance)  # type: ignore[attr-defined]
        return _conjugate_gradients(gram, low, damping, tolerance)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[None, Tensor, None, None]:
        gram, damping, tolerance = ctx.problem  # type: ignore[attr-defined]
        return None, solve(gram, grads[0], damping, tolerance), None, None


def _conjugate_gradients(gram: Gram, low: Tensor, damping: Tensor | float, tolerance: float) -> Tensor:
    """Solve for low (B, 3, h, w); a channel stops when its residual is within the tolerance."""
    x, r = torch.zeros_like(low), low.clone()
    direction = r
    energy = (r * r).sum((2, 3), keepdim=True)
    enough = energy * tolerance
    for _ in range(MAX_ROUNDS):
        active = energy > enough
        if not bool(active.any()):
            break
        image = gram(direction) + damping * direction
        curvature = (direction * image).sum((2, 3), keepdim=True)
        go = active & (curvature > 0)
        step = torch.where(
            go, energy / torch.where(go, curvature, torch.ones_like(curvature)), torch.zeros_like(energy)
        )
        x, r = x + step * direction, r - step * image
        left = torch.where(go, (r * r).sum((2, 3), keepdim=True), energy)
        direction = torch.where(go, r + left / energy.clamp(min=1e-38) * direction, direction)
        energy = torch.where(go, left, torch.zeros_like(energy))
    return x
