"""How long a method takes, and where its time goes: passes through networks, forward and backward, and everything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from latentface.bench.core.variants import Variant
from latentface.degradation import Downscale
from latentface.explore.result import Exploration, Step
from latentface.prior.prior import Prior


@dataclass(slots=True)
class Split:
    """Seconds spent in networks' forward passes and in automatic differentiation (the backward passes)."""

    forward: float = 0.0
    backward: float = 0.0

    @property
    def networks(self) -> float:
        """Both together."""
        return self.forward + self.backward


@contextmanager
def network_time(device: torch.device) -> Iterator[Split]:
    """Add up the time of every outermost module call and every backward pass while the block runs.

    On a CUDA device each of them waits for the device, so that its time is its own; that makes the whole a little
    slower than without a watch. The losses' share of a backward pass counts as network time.
    """
    split = Split()
    depth = 0
    began = 0.0

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def enter(module: nn.Module, inputs: Any) -> None:
        nonlocal depth, began
        if depth == 0:
            began = now()
        depth += 1

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            split.forward += now() - began

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            start = now()
            try:
                return function(*args, **named)
            finally:
                split.backward += now() - start

        return call

    handles = [
        hooks.register_module_forward_pre_hook(enter),
        hooks.register_module_forward_hook(leave, always_call=True),
    ]
    originals = {name: getattr(torch.autograd, name) for name in ("grad", "backward")}
    for name, function in originals.items():
        setattr(torch.autograd, name, timed(function))
    try:
        yield split
    finally:
        for name, function in originals.items():
            setattr(torch.autograd, name, function)
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a method on a batch.

    Attributes:
        found: its result; seconds: in all, in networks, and before its first step; passes: of the generator.
    """

    found: Exploration
    seconds: float
    networks: float
    setup: float
    passes: float


def time_call(
    variant: Variant, prior: Prior, low: Tensor, degradation: Downscale, seeds: Sequence[int], most: int | None = None
) -> Call:
    """Time one call on a batch; with `most`, only that many steps, the rest being reckoned from them."""
    total = 0
    stamps: list[float] = []

    def on_step(step: Step) -> bool:
        nonlocal total
        total = step.total
        stamps.append(time.perf_counter())
        return most is not None and step.number >= most

    with network_time(prior.device) as split:
        began = time.perf_counter()
        found = variant(prior, low, degradation, seeds, on_step)
        float(found.high.flatten()[0])  # waits for a device
        spent = time.perf_counter() - began
    stretch = 1.0
    if most is not None and len(stamps) > 1:
        step_time = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
        stretch = (spent + step_time * max(0, total - len(stamps))) / spent
    setup = stamps[0] - began if stamps else 0.0
    return Call(found, spent * stretch, split.networks * stretch, setup, found.passes * stretch)
