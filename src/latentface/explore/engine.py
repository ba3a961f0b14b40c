"""The loop that every search shares: step, measure, remember the best iterate of each face, tell, move.

A method gives its variables and two functions; the loop knows no loss and no network. Losses, optimiser states,
schedules and the best iterate are per face, so that a batch couples nothing.

Shape legend: B faces, S steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentface.devices import reuse_memory
from latentface.errors import InputError
from latentface.explore.result import OnStep, Step, psnr_each

Variables = dict[str, Tensor]
Schedule = Callable[[float], float]


def pulse_schedule(t: float) -> float:
    """The rate's factor at t in [0, 1]: up and down linearly over 90 % (1/10, 1, 1/10), then linearly to 1/1000."""
    if t < 0.45:
        return 0.1 + 0.9 * t / 0.45
    if t < 0.9:
        return 1.0 - 0.9 * (t - 0.45) / 0.45
    return 0.1 - (0.1 - 0.001) * (t - 0.9) / 0.1


def cosine_schedule(t: float) -> float:
    """The rate's factor at t in [0, 1]: a ramp over the first 5 %, then half a cosine down to 0."""
    return min(1.0, 0.05 + t / 0.05) * 0.5 * (1 + math.cos(math.pi * min(1.0, t)))


def constant_schedule(t: float) -> float:
    """1."""
    return 1.0


SCHEDULES: dict[str, Schedule] = {"pulse": pulse_schedule, "cosine": cosine_schedule, "constant": constant_schedule}


class Adam:
    """Adam (Kingma and Ba 2015) over a dictionary of variables, elementwise and so independent between faces."""

    def __init__(self, variables: Variables, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self.betas = betas
        self.first = {k: torch.zeros_like(v) for k, v in variables.items()}
        self.second = {k: torch.zeros_like(v) for k, v in variables.items()}
        self.count = 0

    @torch.no_grad()
    def step(self, variables: Variables, gradients: Mapping[str, Tensor], rates: Mapping[str, float]) -> None:
        """Move every variable in place by its rate."""
        self.count += 1
        b1, b2 = self.betas
        for name, variable in variables.items():
            g = gradients[name]
            m = self.first[name].mul_(b1).add_(g, alpha=1 - b1) if b1 else self.first[name].copy_(g)
            v = self.second[name].mul_(b2).addcmul_(g, g, value=1 - b2)
            denominator = (v / (1 - b2**self.count)).sqrt_().add_(1e-8)
            variable.addcdiv_(m, denominator, value=-rates[name] / (1 - b1**self.count))


class GradientDescent:
    """Plain gradient descent, for the methods that were published with it."""

    @torch.no_grad()
    def step(self, variables: Variables, gradients: Mapping[str, Tensor], rates: Mapping[str, float]) -> None:
        """Move every variable in place by its rate."""
        for name, variable in variables.items():
            variable.sub_(gradients[name], alpha=rates[name])


@dataclass(frozen=True, slots=True)
class Iterate:
    """What a method's `evaluate` returns: pictures (B, 3, H, W), the same shrunk (B, 3, h, w), weighted losses (B,)."""

    high: Tensor
    low_again: Tensor
    losses: Mapping[str, Tensor]


@dataclass(slots=True)
class Found:
    """The best iterate of each face, and how the search went; `stopped`: `on_step` ended it."""

    high: Tensor
    variables: Variables
    best_step: Tensor
    history: dict[str, Tensor]
    steps: int
    stopped: bool = False


def search(
    low: Tensor,
    variables: Variables,
    evaluate: Callable[[Variables, float], Iterate],
    *,
    steps: int,
    rates: Mapping[str, float] | Callable[[int], Mapping[str, float]],
    schedule: Schedule = constant_schedule,
    optimiser: Adam | GradientDescent | None = None,
    constrain: Callable[[Variables], None] | None = None,
    on_step: OnStep | None = None,
    done: Callable[[Iterate], Tensor] | None = None,
) -> Found:
    """Minimise the summed losses of each face over `steps` iterations, one evaluation each.

    Args:
        low: (B, 3, h, w), the input.
        variables: leaf tensors with B rows each; they are not changed.
        evaluate: (variables, progress in [0, 1]) -> Iterate.
        rates: one a variable, or a function that gives them for a step's number; schedule: the factor on them at progress t.
        constrain: puts the variables back where they may be, in place, after each move.
        on_step: is told each step, and stops the search by returning True.
        done: which faces (B,) may stop at this iterate: they keep it, and the search ends when all of them may.

    Returns:
        For each face the iterate with the smallest sum of losses, or the one at which it was `done`.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}; a search needs at least 1")
    if low.device.type == "cpu":
        reuse_memory()
    now = {k: v.detach().clone().requires_grad_(True) for k, v in variables.items()}
    optimiser = optimiser or Adam(now)
    best_total = low.new_full((len(low),), math.inf)
    best_step = torch.zeros(len(low), dtype=torch.long, device=low.device)
    best_high: Tensor | None = None
    best = {k: v.detach().clone() for k, v in now.items()}
    history: dict[str, list[Tensor]] = {}
    resting = torch.zeros(len(low), dtype=torch.bool, device=low.device)
    number, stopped = 0, False
    for number in range(1, steps + 1):
        t = (number - 1) / steps
        with torch.enable_grad():
            iterate = evaluate(now, t)
            total = torch.stack(list(iterate.losses.values())).sum(0)
            gradients = dict(zip(now, torch.autograd.grad(total.sum(), list(now.values())), strict=True))
        with torch.no_grad():
            high, total = iterate.high.detach(), total.detach()
            better = (total < best_total) & ~resting  # False for NaN: a face that diverges keeps its best iterate
            if done is not None:
                arrived = done(iterate) & ~resting
                better, resting = better | arrived, resting | arrived
            best_total = torch.where(better, total, best_total)
            best_step = torch.where(better, number, best_step)
            best_high = high if best_high is None else torch.where(_rows(better, high), high, best_high)
            for k, v in now.items():
                best[k] = torch.where(_rows(better, v), v.detach(), best[k])
            consistency = psnr_each(iterate.low_again.detach(), low)
            told = {k: v.detach() for k, v in iterate.losses.items()}
            for k, v in {**told, "consistency_db": consistency}.items():
                history.setdefault(k, []).append(v)
            if on_step is not None:
                preview = _preview(best_high)
                if on_step(Step(number, steps, told, consistency, preview)):
                    stopped = True
                    break
            if done is not None and bool(resting.all()):  # asking a GPU makes it wait
                break
            if number < steps:
                factor = schedule(t)
                clean = {k: torch.nan_to_num(g, 0.0, 0.0, 0.0) for k, g in gradients.items()}
                rate = rates(number) if callable(rates) else rates
                optimiser.step(now, clean, {k: rate[k] * factor for k in now})
                if constrain is not None:
                    constrain(now)
    assert best_high is not None
    return Found(best_high, best, best_step, {k: torch.stack(v) for k, v in history.items()}, number, stopped)


def follow(first: Found, then: Found) -> Found:
    """Join two stages of which the second started from the best of the first; a loss that a stage lacks is 0 there."""
    history = {}
    for key in {**first.history, **then.history}:
        absent = torch.zeros_like(first.history["consistency_db"]), torch.zeros_like(then.history["consistency_db"])
        history[key] = torch.cat([first.history.get(key, absent[0]), then.history.get(key, absent[1])])
    best_step = then.best_step + first.steps
    return Found(then.high, then.variables, best_step, history, first.steps + then.steps, then.stopped)


def later(on_step: OnStep | None, before: int, total: int) -> OnStep | None:
    """Return `on_step` for a stage of a search: `before` steps were made, `total` will be."""
    if on_step is None:
        return None
    return lambda step: on_step(replace(step, number=before + step.number, total=total))


def _preview(best_high: Tensor) -> Callable[[], Tensor]:
    return lambda: best_high.clamp(0, 1)


def _rows(mask: Tensor, like: Tensor) -> Tensor:
    """Shape a mask (B,) so that it broadcasts over the rows of `like`."""
    return mask.view(-1, *([1] * (like.ndim - 1)))


def draws_of(seeds: Sequence[int], count: int) -> Iterator[list[int]]:
    """Yield the seeds of `count` draws a face: its own, then those that a generator seeded with it gives; faces stay independent."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for k in range(count):
        yield list(seeds) if k == 0 else [int(torch.randint(2**62, (), generator=g)) for g in generators]


def drawn(seeds: Sequence[int], length: int) -> Tensor:
    """Return standard normal numbers (B, length) in float32, one CPU generator a face: a face's draw is its seed's."""
    return torch.stack([torch.randn(length, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
