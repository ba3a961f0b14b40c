"""Optimisers and schedules, per face: nothing couples the rows of a batch.

PyTorch's own Adam rounds in another order, which gives another face, and its first use costs 0.8 s of imports.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Schedule = Callable[[float], float]


def pulse_schedule(t: float) -> float:
    """Return the rate's factor at t in [0, 1]: up and down linearly over 90 % (1/10, 1, 1/10), then to 1/1000."""
    if t < 0.45:
        return 0.1 + 0.9 * t / 0.45
    if t < 0.9:
        return 1.0 - 0.9 * (t - 0.45) / 0.45
    return 0.1 - (0.1 - 0.001) * (t - 0.9) / 0.1


def cosine_schedule(t: float) -> float:
    """Return the rate's factor at t in [0, 1]: a ramp over the first 5 %, then half a cosine down to 0."""
    return min(1.0, 0.05 + t / 0.05) * 0.5 * (1 + math.cos(math.pi * min(1.0, t)))


def constant_schedule(t: float) -> float:
    """Return 1."""
    return 1.0


CONSTANT: Schedule = constant_schedule
SCHEDULES: dict[str, Schedule] = {"pulse": pulse_schedule, "cosine": cosine_schedule, "constant": constant_schedule}


class Adam:
    """Adam (Kingma and Ba 2015) over a dictionary of variables.

    Args:
        bases: for some variables (B, L, D), K orthonormal directions of each row, (L, D, K). Adam scales each number of the
            gradient by itself, so its steps depend on the axes. With directions it is given the gradient along these, and
            what is left of it along the variable's own axes. SOAP (Vyas et al. 2024) takes all axes from the gradients.
    """

    def __init__(
        self,
        variables: Mapping[str, Tensor],
        betas: tuple[float, float] = (0.9, 0.999),
        bases: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.betas, self.bases, self.count = betas, dict(bases or {}), 0
        self.first = {k: torch.zeros_like(self._split(k, v)) for k, v in variables.items()}
        self.second = {k: torch.zeros_like(v) for k, v in self.first.items()}

    @torch.no_grad()
    def step(
        self, variables: Mapping[str, Tensor], gradients: Mapping[str, Tensor], rates: Mapping[str, float]
    ) -> None:
        """Move every variable in place by its rate."""
        self.count += 1
        b1, b2 = self.betas
        for name, variable in variables.items():
            g = self._split(name, gradients[name])
            m = self.first[name].mul_(b1).add_(g, alpha=1 - b1) if b1 else self.first[name].copy_(g)
            v = self.second[name].mul_(b2).addcmul_(g, g, value=1 - b2)
            denominator = (v / (1 - b2**self.count)).sqrt_().add_(1e-8)
            rate = -rates[name] / (1 - b1**self.count)
            if name in self.bases:
                variable.add_(self._joined(name, m / denominator), alpha=rate)
            else:
                variable.addcdiv_(m, denominator, value=rate)

    def _split(self, name: str, value: Tensor) -> Tensor:
        """Return numbers (B, L, D) along a variable's directions, and what is left of them, (B, L, K + D)."""
        basis = self.bases.get(name)
        if basis is None:
            return value
        along = _row_products(value, basis)
        return torch.cat([along, value - _row_products(along, basis.mT)], -1)

    def _joined(self, name: str, split: Tensor) -> Tensor:
        """Return a step (B, L, D) of its numbers along the directions and along the axes, of which it has no part twice."""
        basis = self.bases[name]
        along, rest = split.split([basis.shape[2], basis.shape[1]], -1)
        joined: Tensor = rest + _row_products(along - _row_products(rest, basis), basis.mT)
        return joined


def _row_products(rows: Tensor, matrices: Tensor) -> Tensor:
    """rows (B, L, N) times a matrix a row, (L, N, M) -> (B, L, M); each face alone, since a product of more may round otherwise."""
    return torch.stack([(face[:, None] @ matrices)[:, 0] for face in rows])


class Descent:
    """Gradient descent, for the methods that were published with it."""

    def __init__(self, variables: Mapping[str, Tensor]) -> None:
        """Take the variables as `Adam` does; nothing is kept of them."""

    @torch.no_grad()
    def step(
        self, variables: Mapping[str, Tensor], gradients: Mapping[str, Tensor], rates: Mapping[str, float]
    ) -> None:
        """Move every variable in place by its rate."""
        for name, variable in variables.items():
            variable.sub_(gradients[name], alpha=rates[name])
