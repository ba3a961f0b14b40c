"""What is trained: its step, its rate, and everything that a checkpoint holds."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from latentface.errors import TrainingError


class Fit(ABC):
    """A network in training.

    Attributes:
        KEY, WHAT: of a checkpoint: the entry with `identity`, and what messages call it.
        PARTS, COUNTED: attributes that a checkpoint holds: modules and optimisers, which may be None; numbers and lists.
        rate: of the optimiser, at its highest; steps, seconds: made, and spent in them.
    """

    KEY: ClassVar[str]
    WHAT: ClassVar[str]
    PARTS: ClassVar[tuple[str, ...]]
    COUNTED: ClassVar[tuple[str, ...]]

    optimiser: torch.optim.Optimizer
    rate: float
    steps: int = 0
    seconds: float = 0.0

    @abstractmethod
    def step(self, done: float) -> float:
        """Show one batch and return the loss; `done`: how much of the budget is spent, 0 to 1.

        Raises TrainingError: the loss is not finite; the state must then be thrown away.
        """

    @abstractmethod
    def check(self, loss: float) -> None:
        """Measure what `figures` returns and note it; `loss`: the last step's."""

    @abstractmethod
    def figures(self) -> Mapping[str, Any]:
        """Return what was measured last; empty before the first time."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what a checkpoint must agree on."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain tensors and numbers, readable with `weights_only=True`."""
        parts = {name: part.state_dict() for name in self.PARTS if (part := getattr(self, name)) is not None}
        return {self.KEY: self.identity(), **parts, **{name: getattr(self, name) for name in self.COUNTED}}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value. Raises TrainingError when it is of another run."""
        for name, value in self.identity().items():
            if value != saved[self.KEY].get(name):
                raise TrainingError(
                    f"the checkpoint's {name} is {saved[self.KEY].get(name)}, not {value}; resume with the same options or start anew with another -o"
                )
        for name in self.PARTS:
            if (part := getattr(self, name)) is not None:
                part.load_state_dict(saved[name])
        for name in self.COUNTED:
            setattr(self, name, saved[name])

    def anneal(self, done: float, warmup: float) -> float:
        """Set the rate: up over the share `warmup` of the budget, then half a cosine down; return its share of `rate`."""
        rise = min(1.0, done / warmup) if warmup else 1.0
        share = max(1e-3, rise * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
        set_rate(self.optimiser, self.rate * share)
        return share

    def descend(self, loss: Tensor, module: nn.Module) -> float:
        """Make the optimiser's step on a module's parameters; return the loss."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.clip(module)
        self.optimiser.step()
        return float(loss.detach())

    def clip(self, module: nn.Module) -> None:
        """Limit the gradients of a module's parameters: their norm to 1."""
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)

    def count(self, loss: float) -> float:
        """Count a step and return its loss. Raises TrainingError unless it is finite."""
        self.steps += 1
        if not math.isfinite(loss):
            raise TrainingError(f"the training diverged at step {self.steps} (loss {loss}); use a smaller rate")
        return loss


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set an optimiser's learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
