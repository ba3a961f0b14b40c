"""A search whose faces come and go: one that no longer improves leaves, and the next in line takes its place.

Every face has its own step counter, its own place in the schedule and its own counts in Adam; what it goes through is
what it would go through alone. A face has stalled when the smallest sum of its losses fell by less than a share `stop`
in its last `patience` steps. It is not dropped at once, at a rate too high to rest at: it goes to the last tenth of the
schedule, whose small rates settle it, and leaves at its end.

Shape legend: N faces, P of them in work, S steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from latentface.errors import InputError
from latentface.explore.engine import Found, Iterate, Schedule, Variables
from latentface.explore.result import OnStep, Step, psnr_each

LANDING = 0.9  # where in its schedule a stalled face goes on


@dataclass(frozen=True, slots=True)
class Task:
    """What some faces are searched by: see `search`; low (P, 3, h', w') without their padding, progress (P,)."""

    low: Tensor
    evaluate: Callable[[Variables, Tensor], Iterate]
    constrain: Callable[[Variables], None] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopping:
    """When a face has stalled: its smallest sum of losses fell by less than the share `stop` in `patience` steps."""

    stop: float
    patience: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.stop < 1:
            raise InputError(f"stop is {self.stop}; expected a share between 0 and 1, such as 0.02, or None for never")
        if self.patience < 1:
            raise InputError(f"patience is {self.patience}; expected at least 1")


def search_queue(
    low: Tensor,
    blank: Tensor,
    variables: Variables,
    prepare: Callable[[Tensor], Task],
    *,
    places: int,
    stopping: Stopping,
    steps: int,
    rates: Mapping[str, float],
    schedule: Schedule,
    betas: tuple[float, float] = (0.9, 0.999),
    on_step: OnStep | None = None,
) -> Found:
    """Minimise the summed losses of each face by Adam over at most `steps` iterations, `places` faces at a time.

    Args:
        low: (N, 3, h, w), all inputs; blank: (N, 3, H, W), what previews show of a face that waits.
        variables: leaf tensors with N rows each; they are not changed.
        prepare: indices (P,) of faces -> what they are searched by; called when other faces are in work than before.
        on_step: is told each round, with NaN for faces that are not in work; True ends the search: faces that wait are
            evaluated once, where they start.

    Returns:
        For each face the iterate with the smallest sum of losses; `history` (S, N) is NaN after a face has left.
    """
    if steps < 1 or places < 1:
        raise InputError(f"steps is {steps} and places {places}; a search needs at least 1 of each")
    state = _State(low, blank, variables, steps, betas)
    total = steps * -(-len(low) // places)
    working, following = torch.zeros(0, dtype=torch.long, device=low.device), 0
    task: Task | None = None
    number, stopped = 0, False
    while following < len(low) or len(working):
        if task is None:
            free = min(places - len(working), len(low) - following)
            joining = torch.arange(following, following + free, device=low.device)
            working, following = torch.cat([working, joining]), following + free
            task = prepare(working)
        t = state.progress[working]
        now = {k: v[working].requires_grad_(True) for k, v in state.now.items()}
        with torch.enable_grad():
            iterate = task.evaluate(now, t)
            sums = torch.stack(list(iterate.losses.values())).sum(0)
            gradients = dict(zip(now, torch.autograd.grad(sums.sum(), list(now.values())), strict=True))
        with torch.no_grad():
            number += 1
            padding = 10 * math.log10(low[0].numel() / task.low[0].numel())  # errors are means over the padded picture
            consistency = psnr_each(iterate.low_again.detach(), task.low) + padding
            told = {**{k: v.detach() for k, v in iterate.losses.items()}, "consistency_db": consistency}
            state.note(working, iterate.high.detach(), sums.detach(), told)
            if on_step is not None and not stopped:
                step = _step(number, total, working, len(low), told, state.high)
                stopped = bool(on_step(step))
            leaving = state.advance(working, stopping) | stopped
            for v in now.values():
                v.requires_grad_(False)
            factor = torch.tensor([schedule(x) for x in t.tolist()], dtype=sums.dtype, device=sums.device)
            state.move(working, now, gradients, {k: rates[k] * factor for k in now})
            if task.constrain is not None:
                task.constrain(now)
            for k, v in now.items():
                state.now[k][working] = v
            if bool(leaving.any()):
                working, task = working[~leaving], None
    history = {k: v[: int(state.made.max())] for k, v in state.history.items()}
    return Found(state.high, state.best, state.best_step, history, int(state.made.max()), stopped)


class _State:
    """What is kept of every face, in work or not."""

    def __init__(
        self, low: Tensor, blank: Tensor, variables: Variables, steps: int, betas: tuple[float, float]
    ) -> None:
        n = len(low)
        self.steps, self.betas = steps, betas
        self.now = {k: v.detach().clone() for k, v in variables.items()}
        self.best = {k: v.detach().clone() for k, v in variables.items()}
        self.first = {k: torch.zeros_like(v) for k, v in self.now.items()}
        self.second = {k: torch.zeros_like(v) for k, v in self.now.items()}
        self.high = blank.detach().clone()
        self.best_step = torch.zeros(n, dtype=torch.long, device=low.device)
        self.made = torch.zeros(n, dtype=torch.long, device=low.device)  # steps
        self.progress = torch.zeros(n, dtype=_precise(low.device), device=low.device)
        self.landing = torch.zeros(n, dtype=torch.bool, device=low.device)
        self.lowest = low.new_full((steps, n), math.inf)  # the smallest sum of losses up to each step
        self.history: dict[str, Tensor] = {}

    def note(self, rows: Tensor, high: Tensor, sums: Tensor, told: Mapping[str, Tensor]) -> None:
        """Count a step, keep what it gave, and the iterates that are the best so far."""
        at = self.made[rows]
        self.made[rows] += 1
        before = torch.where(at > 0, self.lowest[(at - 1).clamp_min(0), rows], math.inf)
        better = (sums < before) | ((at == 0) & sums.isnan())  # a face shows its start at least
        self.lowest[at, rows] = torch.where(sums < before, sums, before)
        won = rows[better]
        self.high[won], self.best_step[won] = high[better], at[better] + 1
        for k, v in self.now.items():
            self.best[k][won] = v[won]
        for k, value in told.items():
            if k not in self.history:
                self.history[k] = value.new_full(self.lowest.shape, math.nan)
            self.history[k][at, rows] = value

    def advance(self, rows: Tensor, stopping: Stopping) -> Tensor:
        """Bring each face's progress on, send stalled ones to the landing, and return who has come to the end, (P,)."""
        made = self.made[rows]
        old = self.lowest[(made - 1 - stopping.patience).clamp_min(0), rows]
        gained = 1 - self.lowest[made - 1, rows] / old
        stalled = (made > stopping.patience) & ~(gained >= stopping.stop) & ~self.landing[rows]
        t = self.progress[rows] + 1 / self.steps
        self.landing[rows] |= stalled
        self.progress[rows] = torch.where(stalled, t.clamp_min(LANDING), t)
        return (self.progress[rows] > 1 - 0.5 / self.steps) | (made >= self.steps)

    def move(self, rows: Tensor, now: Variables, gradients: Mapping[str, Tensor], rates: Mapping[str, Tensor]) -> None:
        """Move the variables in place by Adam (Kingma and Ba 2015), each face with its own count and rate."""
        b1, b2 = self.betas
        count = self.made[rows].to(_precise(rows.device))
        for name, variable in now.items():
            g = torch.nan_to_num(gradients[name], 0.0, 0.0, 0.0)
            m = self.first[name][rows].mul_(b1).add_(g, alpha=1 - b1)
            v = self.second[name][rows].mul_(b2).addcmul_(g, g, value=1 - b2)
            self.first[name][rows], self.second[name][rows] = m, v
            shape = (-1, *([1] * (variable.ndim - 1)))
            denominator = (v / (1 - b2**count).to(v).view(shape)).sqrt_().add_(1e-8)
            variable.sub_(m / denominator * (rates[name] / (1 - b1**count).to(rates[name])).view(shape))


def _precise(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64


def _step(number: int, total: int, rows: Tensor, faces: int, told: Mapping[str, Tensor], high: Tensor) -> Step:
    def among(values: Tensor) -> Tensor:
        out = values.new_full((faces,), math.nan)
        out[rows] = values
        return out

    losses = {k: among(v) for k, v in told.items() if k != "consistency_db"}
    return Step(number, total, losses, among(told["consistency_db"]), lambda: high.clamp(0, 1))
