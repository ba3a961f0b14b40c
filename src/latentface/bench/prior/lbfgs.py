"""L-BFGS (Liu and Nocedal 1989) over a batch: each face has a memory, a step length and a fate of its own.

PyTorch's L-BFGS takes all its variables for one problem, so that a face's steps would depend on its neighbours; this one
evaluates the batch once a step, and every sum runs over a face's own numbers. B faces, N numbers a face.
"""

from collections.abc import Callable

import torch
from torch import Tensor

SUFFICIENT = 1e-4  # Armijo's share of the decrease that the slope promises
SHORTEST = 1e-5  # a step that had to be made shorter than this share of its length says that the curvature is wrong
FIRST_STEP = 0.1  # length of a step that knows no curvature


class Memory:
    """The last steps s and changes of gradient y, from which curvature is known; a face that made no step has weight 0."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # s (B, N), y (B, N), 1 / s.y (B, 1) or 0

    def add(self, s: Tensor, y: Tensor, moved: Tensor) -> None:
        """Keep a pair for the faces that `moved` (B, 1), where its curvature is positive."""
        product = (s * y).sum(1, keepdim=True)
        usable = moved & (product > 1e-10 * (y * y).sum(1, keepdim=True)) & (product > 0)
        weight = torch.where(usable, 1 / product.clamp_min(torch.finfo(s.dtype).tiny), torch.zeros_like(product))
        zero = torch.zeros_like(s)
        self.pairs = [
            *self.pairs[-self.size + 1 :],
            (torch.where(usable, s, zero), torch.where(usable, y, zero), weight),
        ]

    def forget(self, faces: Tensor) -> None:
        """Drop what is known of some faces, (B, 1)."""
        self.pairs = [(s, y, weight.masked_fill(faces, 0.0)) for s, y, weight in self.pairs]

    def direction(self, gradient: Tensor) -> Tensor:
        """Return where to go, (B, N): the two loops of the published method."""
        length = gradient.norm(dim=1, keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        scale = FIRST_STEP / length
        q, shares = gradient.clone(), []
        for s, y, weight in reversed(self.pairs):
            share = weight * (s * q).sum(1, keepdim=True)
            shares.append(share)
            q = q - share * y
        for _, y, weight in self.pairs:  # the newest pair that a face has gives the scale
            own = 1 / (weight * (y * y).sum(1, keepdim=True)).clamp_min(torch.finfo(q.dtype).tiny)
            scale = torch.where(weight > 0, own, scale)
        q = q * scale
        for (s, y, weight), share in zip(self.pairs, reversed(shares), strict=True):
            q = q + s * (share - weight * (y * q).sum(1, keepdim=True))
        way: Tensor = -q
        return way


def descend(
    start: Tensor, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]], *, steps: int, memory: int = 100
) -> tuple[Tensor, Tensor, Tensor]:
    """Follow each face's loss downhill by `steps` evaluations, with the curvature of `memory` pairs of steps.

    `evaluate`: (B, ...) -> each face's loss (B,), which may depend on that face alone, and a picture (B, ...). Returns
    for each face its best variables (B, ...), the picture that `evaluate` gave there, and its step (B,), from 1.
    """
    shape, at = start.shape, start.detach().flatten(1)

    def look(place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            variables = place.view(shape).requires_grad_(True)
            losses, picture = evaluate(variables)
            (gradient,) = torch.autograd.grad(losses.sum(), [variables])
        return losses.detach()[:, None], gradient.flatten(1), picture.detach()

    loss, gradient, high = look(at)
    best_step = torch.ones(len(at), dtype=torch.long, device=at.device)
    known = Memory(memory)
    way = known.direction(gradient)
    length = torch.ones_like(loss)
    for number in range(2, steps + 1):
        trial = at + length * way
        new_loss, new_gradient, picture = look(trial)
        slope = (way * gradient).sum(1, keepdim=True)
        moved = new_loss <= loss + SUFFICIENT * length * slope  # False for NaN: such a step is too long
        known.add(trial - at, new_gradient - gradient, moved)
        # Where it was too long: the bottom of the parabola through both losses and the slope, within bounds.
        bottom = -0.5 * length * slope / ((new_loss - loss) / length - slope)
        shorter = torch.nan_to_num(bottom / length, 0.1, 0.1, 0.1).clamp(0.1, 0.5) * length
        at, loss = torch.where(moved, trial, at), torch.where(moved, new_loss, loss)
        gradient = torch.where(moved, new_gradient, gradient)
        high = torch.where(moved.view(-1, *[1] * (high.ndim - 1)), picture, high)
        best_step = torch.where(moved[:, 0], number, best_step)
        lost = ~moved & (shorter < SHORTEST)
        if bool(lost.any()):
            known.forget(lost)
        way = torch.where(moved | lost, known.direction(gradient), way)
        length = torch.where(moved | lost, torch.ones_like(length), shorter)
    return at.view(shape), high, best_step
