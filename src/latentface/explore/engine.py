"""The one loop that solves every method's problem: step, measure, keep the best iterate of each face, tell, move.

A method states a `Problem`; `explore` checks the inputs, solves it and packs the result. Losses, optimiser states, schedules
and the best iterate are per face, so that a batch couples nothing.

Shape legend: B faces, S steps.
"""

import math
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from latentface.degradation import Degradation, Downscale, faces_of
from latentface.devices import reuse_memory
from latentface.errors import InputError
from latentface.explore.optim import CONSTANT, Adam, Descent, Schedule
from latentface.explore.registry import Method, find_method
from latentface.explore.result import Exploration, OnStep, Step, check_faces, finish, psnr_each
from latentface.explore.space import Variables, checked_start
from latentface.io.pictures import check_batch
from latentface.prior.prior import Prior

STALLED, LANDING = 10, 0.9  # steps without gain; where in its schedule a stalled search goes on


@dataclass(frozen=True, slots=True)
class Iterate:
    """What a problem's losses return: pictures (B, 3, H, W), the same shrunk (B, 3, h, w), weighted terms (B,)."""

    high: Tensor
    low_again: Tensor
    losses: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Problem:
    """What a method's paper defines for a batch of faces.

    Attributes:
        variables: where it starts, leaf tensors with B rows each.
        losses: L(v, t), the terms of each face at progress t in [0, 1).
        steps: iterations, one evaluation of the losses each.
        rates: one a variable, or a function that gives them for a step's number; schedule: the factor on them at t.
        optimiser: made of the variables.
        constrain: puts the variables back where they may be, in place, after each move.
        done: which faces (B,) may stop at this iterate: they keep it, and the search ends when all of them may.
        stop: a batch goes to the end of its schedule when the smallest sum of losses of each face fell by less than this
            share in `STALLED` steps; None for never.
        latent: the variables found -> what the exploration keeps of them; None: as they are.
        paint: the variables found -> their pictures (B, 3, H, W), where the losses paint in a faster floating type.
        draws: pictures a face that were painted without gradient before the first step; cost: generator passes a step.
        then: the variables found -> the next stage; remaining: steps of the stages after this one.
    """

    variables: Variables
    losses: Callable[[Variables, float], Iterate]
    steps: int
    rates: Mapping[str, float] | Callable[[int], Mapping[str, float]]
    schedule: Schedule = CONSTANT
    optimiser: Callable[[Variables], Adam | Descent] = Adam
    constrain: Callable[[Variables], None] | None = None
    done: Callable[[Iterate], Tensor] | None = None
    stop: float | None = None
    latent: Callable[[Variables], Variables] | None = None
    paint: Callable[[Variables], Tensor] | None = None
    draws: int = 0
    cost: float = 1.0
    then: Callable[[Variables], "Problem"] | None = None
    remaining: int = 0


@dataclass(slots=True)
class Found:
    """The best iterate of each face, and how the search went; `stopped`: `on_step` ended it."""

    high: Tensor
    variables: Variables
    best_step: Tensor
    history: dict[str, Tensor]
    steps: int
    stopped: bool = False


def explore(
    method: str | Method,
    prior: Prior,
    low: Tensor,
    *,
    factor: float | None = None,
    degradation: Degradation | None = None,
    settings: Any = None,
    seeds: Sequence[int] | None = None,
    start: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Exploration:
    """Explore the prior's latent space for faces that shrink to `low`.

    Args:
        method: a name (`latentface methods`), or a method of one's own.
        low: (B, 3, h, w) in [0, 1].
        factor: from the input to the prior's faces, as a check; None: whatever it is.
        degradation: from the prior's faces to `low`; None: bicubic.
        settings: of the method; None: its preset "paper".
        seeds: whole numbers of 64 bits, one a face; None: 0, 1, ...
        start: w (B, D) or w_plus (B, L, D) to begin at; None: the method's own start.
        on_step: is told each step, and stops the search by returning True.

    Raises:
        InputError: shapes, values, seeds or a start that cannot be used. WeightsError: a loss without a discriminator.
        UnknownNameError: no such method. MissingDataError: a baseline without weights for this size.
    """
    began = time.perf_counter()
    chosen = find_method(method) if isinstance(method, str) else method
    published = chosen.settings("paper")
    settings = published if settings is None else settings
    if not isinstance(settings, type(published)):
        raise InputError(
            f"the settings are {type(settings).__name__}; the method {chosen.name} takes {type(published).__name__}"
        )
    check_batch(low, "low")
    degradation = Downscale(low.shape[-1], prior.resolution) if degradation is None else degradation
    if factor is not None:
        _check_factor(degradation, factor)
    seeds = tuple(range(len(low))) if seeds is None else _whole(seeds)
    check_faces(low, degradation, seeds, prior.resolution if chosen.searches else None)
    if start is not None and not chosen.starts:
        raise InputError(f"the method {chosen.name} has no start to choose; leave start out")
    with torch.inference_mode(False), torch.no_grad():
        if not chosen.searches:
            low = low.clone()  # a tensor made in inference mode takes no part in anything else
            drawn_by = {"seeds": seeds} if chosen.seeded else {}
            high = chosen.function(low, degradation=degradation, settings=settings, **drawn_by)
            return finish(high, low, degradation, chosen.name, settings, seeds, time.perf_counter() - began)
        low = low.to(prior.device, prior.dtype).clone()
        begin = None if start is None else checked_start(prior, start, len(low))
        at_once = settings.at_once(prior) or len(low)
        parts = [range(i, min(i + at_once, len(low))) for i in range(0, len(low), at_once)]
        founds: list[Found] = []
        for rows in parts:
            own, own_degradation = (low, degradation) if len(parts) == 1 else faces_of(low, degradation, rows)
            own_seeds, own_begin = seeds[rows.start : rows.stop], None if begin is None else begin[rows]
            problem = chosen.function(
                prior, own, degradation=own_degradation, settings=settings, seeds=own_seeds, start=own_begin
            )
            told = on_step if len(parts) == 1 else _of_part(on_step, rows, len(founds), len(parts))
            if founds and founds[-1].stopped:
                told = _stop  # the start's picture is the result
            founds.append(_solve_all(problem, own, own_degradation, told))
        passes = problem.cost * founds[-1].steps + problem.draws / 3
        found = _together(founds)
    return finish(
        found.high,
        low,
        degradation,
        chosen.name,
        settings,
        seeds,
        time.perf_counter() - began,
        latent=found.variables,
        history=found.history,
        best_step=found.best_step,
        passes=passes,
    )


def _solve_all(problem: Problem, low: Tensor, degradation: Degradation, on_step: OnStep | None) -> Found:
    """Solve a problem and its further stages, each of which starts from the best of the last."""
    found: Found | None = None
    while True:
        before = 0 if found is None else found.steps
        now = solve(problem, low, degradation, on_step, before)
        found = now if found is None else _follow(found, now)
        if problem.then is None or found.stopped:
            break
        problem = problem.then(found.variables)
    if problem.paint is not None:
        found.high = problem.paint(found.variables)
    if problem.latent is not None:
        found.variables = problem.latent(found.variables)
    return found


def solve(
    problem: Problem, low: Tensor, degradation: Degradation, on_step: OnStep | None = None, before: int = 0
) -> Found:
    """Minimise the summed losses of each face.

    Args:
        low: (B, 3, h, w), the input; before: steps that earlier stages made.

    Returns:
        For each face the iterate with the smallest sum of losses, or the one at which it was `done`.
    """
    if problem.steps < 1:
        raise InputError(f"steps is {problem.steps}; a search needs at least 1")
    if low.device.type == "cpu":
        reuse_memory()
    now = {k: v.detach().clone().requires_grad_(True) for k, v in problem.variables.items()}
    optimiser = problem.optimiser(now)
    best = _Best(now, low)
    lowest: list[Tensor] = []  # of the sums so far, a tensor (B,) a step
    history: dict[str, list[Tensor]] = {}
    skipped, number, stopped = 0, 0, False
    while number + skipped < problem.steps:
        t = (number + skipped) / problem.steps
        number += 1
        with torch.enable_grad():
            iterate = problem.losses(now, t)
            total = torch.stack(list(iterate.losses.values())).sum(0)
            gradients = dict(zip(now, torch.autograd.grad(total.sum(), list(now.values())), strict=True))
        best.keep(number, iterate.high.detach(), total.detach(), now, problem.done and problem.done(iterate))
        told = {k: v.detach() for k, v in iterate.losses.items()}
        consistency = psnr_each(iterate.low_again.detach(), low, degradation)
        for k, v in {**told, "consistency_db": consistency}.items():
            history.setdefault(k, []).append(v)
        if on_step is not None:
            step = Step(
                before + number + skipped, before + problem.steps + problem.remaining, told, consistency, best.preview()
            )
            if on_step(step):
                stopped = True
                break
        if problem.done is not None and bool(best.resting.all()):  # asking a GPU makes it wait
            break
        if number + skipped == problem.steps:
            break
        factor = problem.schedule(t)
        rates = problem.rates(number) if callable(problem.rates) else problem.rates
        clean = {k: torch.nan_to_num(g, 0.0, 0.0, 0.0) for k, g in gradients.items()}
        optimiser.step(now, clean, {k: rates[k] * factor for k in now})
        if problem.constrain is not None:
            problem.constrain(now)
        if problem.stop is not None and t < LANDING:
            lowest.append(best.total)
            if len(lowest) > STALLED and bool((lowest[-1] >= (1 - problem.stop) * lowest[-1 - STALLED]).all()):
                # A stalled search stands at a high rate: it goes to the last, small ones, which settle it.
                skipped = max(skipped, math.ceil(LANDING * problem.steps) - number)
    assert best.high is not None
    made = {k: torch.stack(v) for k, v in history.items()}
    return Found(best.high, best.variables, best.step, made, number, stopped)


class _Best:
    """The iterate with the smallest sum of losses of each face so far."""

    def __init__(self, variables: Variables, low: Tensor) -> None:
        self.total = low.new_full((len(low),), math.inf)
        self.step = torch.zeros(len(low), dtype=torch.long, device=low.device)
        self.resting = torch.zeros(len(low), dtype=torch.bool, device=low.device)
        self.variables = {k: v.detach().clone() for k, v in variables.items()}
        self.high: Tensor | None = None

    def keep(self, number: int, high: Tensor, total: Tensor, now: Variables, done: Tensor | None) -> None:
        """Compare an iterate with the best so far; a face that is `done` (B,) keeps it whatever comes."""
        better = (total < self.total) & ~self.resting  # False for NaN: a face that diverges keeps its best iterate
        if done is not None:
            arrived = done & ~self.resting
            better, self.resting = better | arrived, self.resting | arrived
        self.total = torch.where(better, total, self.total)
        self.step = torch.where(better, number, self.step)
        self.high = high if self.high is None else torch.where(rows_of(better, high), high, self.high)
        for k, v in now.items():
            self.variables[k] = torch.where(rows_of(better, v), v.detach(), self.variables[k])

    def preview(self) -> Callable[[], Tensor]:
        """Return what gives the best pictures so far, in [0, 1]."""
        high = self.high
        assert high is not None
        return lambda: high.clamp(0, 1)


def _follow(first: Found, then: Found) -> Found:
    """Join two stages of which the second started from the best of the first; a loss that a stage lacks is 0 there."""
    history = {}
    for key in {**first.history, **then.history}:
        absent = torch.zeros_like(first.history["consistency_db"]), torch.zeros_like(then.history["consistency_db"])
        history[key] = torch.cat([first.history.get(key, absent[0]), then.history.get(key, absent[1])])
    best_step = then.best_step + first.steps
    return Found(then.high, then.variables, best_step, history, first.steps + then.steps, then.stopped)


def _together(founds: Sequence[Found]) -> Found:
    """Return the parts of a batch as one."""
    if len(founds) == 1:
        return founds[0]
    return Found(
        torch.cat([f.high for f in founds]),
        {k: torch.cat([f.variables[k] for f in founds]) for k in founds[0].variables},
        torch.cat([f.best_step for f in founds]),
        joined_histories([f.history for f in founds]),
        max(f.steps for f in founds),
        founds[-1].stopped,
    )


def joined_histories(histories: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join what was noted of several searches, tensors (S, B), along the faces: NaN where one had fewer steps."""
    steps = max(len(v) for own in histories for v in own.values())
    longer = [
        {k: torch.cat([v, v.new_full((steps - len(v), v.shape[1]), math.nan)]) for k, v in own.items()}
        for own in histories
    ]
    return {k: torch.cat([own[k] for own in longer], 1) for k in longer[0]}


def _stop(step: Step) -> bool:
    return True


def _of_part(on_step: OnStep | None, rows: range, done: int, parts: int) -> OnStep | None:
    """Return `on_step` for the faces `rows` of a batch that is searched in parts, of which some are done."""
    if on_step is None:
        return None
    return lambda step: on_step(
        replace(
            step,
            number=done * step.total + step.number,
            total=parts * step.total,
            faces=slice(rows.start, rows.stop),
        )
    )


def _check_factor(degradation: Degradation, factor: float) -> None:
    high = degradation.high_size[0]
    for own in degradation.factors:
        if not abs(high / own * factor - high) <= 0.5:
            raise InputError(
                f"{high / own:g} px times {factor:g} is not the {high} px of the prior's faces; leave the factor out, or take another input or prior"
            )


def _whole(seeds: Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(operator.index(seed) for seed in seeds)  # NumPy's whole numbers too
    except TypeError:
        raise InputError(f"seeds are {seeds!r}; expected whole numbers that fit 64 bits, one a face") from None


@torch.no_grad()
def best_of(
    starts: Iterator[Variables], paint: Callable[[Variables], Tensor], loss: Callable[[Tensor], Tensor]
) -> Variables:
    """Return, for each face, the one of several starts with the smallest loss of its picture.

    A start whose loss is NaN loses against every other.

    Args:
        starts: variables with B rows each; paint: to pictures (B, 3, H, W); loss: of pictures, (B,).
    """
    best: Variables = {}
    least = torch.zeros(0)
    for start in starts:
        value = torch.nan_to_num(loss(paint(start)), nan=math.inf, posinf=math.inf)
        if not best:
            best, least = start, value
            continue
        better = value < least
        least = torch.where(better, value, least)
        best = {k: torch.where(rows_of(better, v), v, best[k]) for k, v in start.items()}
    return best


def rows_of(mask: Tensor, like: Tensor) -> Tensor:
    """Shape a mask (B,) so that it broadcasts over the rows of `like`."""
    return mask.view(-1, *([1] * (like.ndim - 1)))


def draws_of(seeds: Sequence[int], count: int) -> Iterator[list[int]]:
    """Yield the seeds of `count` draws a face: its own, then those that a generator seeded with it gives."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for k in range(count):
        yield list(seeds) if k == 0 else [int(torch.randint(2**62, (), generator=g)) for g in generators]
