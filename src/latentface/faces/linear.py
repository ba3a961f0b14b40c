"""Sparse matrices applied to batches of pictures, and the normal equations solved by conjugate gradients.

Matrices are block-diagonal over the faces of a batch; with one face, any batch is that face. Every sum has a fixed order
inside its face, so a face's bits do not depend on its neighbours.
"""

# B faces, (y, x) a picture's size; a matrix is (B y' x', B y x)

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

MAX_ROUNDS = 400  # of conjugate gradients; 20 to 60 are usual


def to_torch(matrix: sparse.csr_matrix, like: Tensor) -> Tensor:
    """Return a SciPy matrix as a sparse tensor of `like`'s dtype and device."""
    coo = matrix.tocoo()
    index = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
    values = torch.from_numpy(coo.data).to(like.dtype)
    # Rows are in order and no entry comes twice, so the sum's order is fixed: the same bits in every batch.
    made = torch.sparse_coo_tensor(index, values, coo.shape, check_invariants=False, is_coalesced=True)
    return made.to(like.device)


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


def apply(matrix: Tensor, transposed: Tensor, pictures: Tensor, size: tuple[int, int], faces: int) -> Tensor:
    """Return a matrix times pictures (B, 3, y, x) as pictures of `size`; differentiable by its transpose."""
    product: Tensor = _Product.apply(matrix, transposed, _columns(pictures, faces))  # type: ignore[no-untyped-call]
    return _pictures(product, pictures.shape, size, faces)


def solve(gram: Tensor, low: Tensor, damping: float, faces: int) -> Tensor:
    """Return (G + damping)^-1 x for pictures x (B, 3, h, w), each channel for itself; G symmetric; differentiable."""
    solved: Tensor = _Solve.apply(gram, low, damping, faces)  # type: ignore[no-untyped-call]
    return solved


class _Product(torch.autograd.Function):
    """A sparse matrix times columns; the gradient uses the transpose that is at hand (PyTorch would sort it each time)."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, matrix: Tensor, back: Tensor, columns: Tensor) -> Tensor:
        ctx.matrices = (matrix, back)  # type: ignore[attr-defined]
        product: Tensor = torch.sparse.mm(matrix, columns)
        return product

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[None, None, Tensor]:
        matrix, back = ctx.matrices  # type: ignore[attr-defined]
        return None, None, _Product.apply(back, matrix, grads[0].contiguous())  # type: ignore[no-untyped-call]


class _Solve(torch.autograd.Function):
    """The solution's gradient is a solution too, since G is symmetric."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, gram: Tensor, low: Tensor, damping: float, faces: int
    ) -> Tensor:
        ctx.problem = (gram, damping, faces)  # type: ignore[attr-defined]
        return _conjugate_gradients(gram, low, damping, faces)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[None, Tensor, None, None]:
        gram, damping, faces = ctx.problem  # type: ignore[attr-defined]
        return None, solve(gram, grads[0], damping, faces), None, None


def _conjugate_gradients(gram: Tensor, low: Tensor, damping: float, faces: int) -> Tensor:
    """Solve for low (B, 3, h, w); a channel stops when its residual is at the number format's grain."""
    size = (low.shape[2], low.shape[3])
    tolerance = 1e-20 if low.dtype == torch.float64 else 1e-12  # of the squared norms
    x, r = torch.zeros_like(low), low.clone()
    direction = r
    energy = (r * r).sum((2, 3), keepdim=True)
    enough = energy * tolerance
    for _ in range(MAX_ROUNDS):
        active = energy > enough
        if not bool(active.any()):
            break
        product = torch.sparse.mm(gram, _columns(direction, faces))
        image = _pictures(product, low.shape, size, faces) + damping * direction
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
