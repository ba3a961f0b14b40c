"""Coarse to fine: a search at one exit of the prior, then at the next, whose face is painted at full size at the end.

An exit's face is nearly the full one, shrunk, at a fraction of its cost. The style rows above an exit are its last one until a
stage frees them.

Some searches end in a worse face than others of the same input. So several searches of a face begin, a race, and the one with the
least loss goes on. And some faces at an exit are not what the prior paints at full size: one that is still far from its input
at the end is searched on.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import Degradation
from latentface.devices import single_threads
from latentface.explore.engine import draws_of, explore, joined_histories
from latentface.explore.registry import Method, with_steps
from latentface.explore.result import Exploration, OnStep, Step
from latentface.prior.exits import exit_for, whole_rows
from latentface.prior.prior import Prior

# Shares of steps, and what a short stage needs: docs/decisions.md
FULL_SHARE, ONE_EXIT_FULL_SHARE = 0.2, 0.4  # of all steps, at full size
SHORT = 25  # steps of a stage below which its rate is in proportion: it begins near its end
NEAR_RATE = 0.625  # times the method's rate, where a start is given
FEW, FEW_FULL = 50, 12  # steps below which a search has one exit alone; at full size so many of them, or half
SMALLEST_LAST = 8  # a search ends at no exit that is more times smaller than the prior's faces
RACERS = 4  # searches of a face that begin
RACE_SHARE = 2 / 9  # of the exits' steps
ENOUGH = 30.0  # dB of agreement with the input below which a face is searched on at the end
FURTHER_SHARE = 0.3  # of all steps: those of a face that is searched on
OTHER_DRAWS = 0x5DEECE66D  # any number: a method takes its own draws from the seed itself


@dataclass(frozen=True, slots=True)
class Stage:
    """Steps of a search at one size; `racers`: searches of each face there, of which one goes on."""

    prior: Prior
    steps: int
    racers: int = 1

    @property
    def cost(self) -> float:
        """Time of it, about, in steps of 1 px: the generator takes 0.01 s at 32 px and 0.43 s at 1024 px."""
        return self.steps * self.racers * self.prior.resolution


def coarse_steps(
    method: Method, prior: Prior, settings: Any, preset: str = "default", full_steps: int | None = None
) -> int:
    """Return how many of a search's steps are made at exits by default; 0 for none.

    There are none where the method allows none, it searches z, the prior has no exits, or the preset is "paper", which is
    the published search. `full_steps` says how many are made at full size, one at least; None: a fifth where the prior has
    several exits, two fifths where it has one, and of fewer than `FEW` steps `FEW_FULL`, or half where that is less.
    """
    steps = getattr(settings, "steps", None)
    published = preset == "paper" and full_steps is None
    if published or not method.coarse or not isinstance(steps, int) or not settings.in_w or not prior.exits:
        return 0
    usual = round(steps * (FULL_SHARE if len(prior.exits) > 1 else ONE_EXIT_FULL_SHARE))
    if steps < FEW:
        usual = min(FEW_FULL, steps // 2)
    return max(0, steps - max(1, usual if full_steps is None else full_steps))


def settings_at_exits(settings: Any, *, started: bool) -> Any:
    """Return a method's settings for a search with stages at exits: one of few steps in all may have its own.

    Others that are given a start, instead of beginning at random, have a lower rate: the start is near the answer.
    """
    if settings.steps < FEW:
        return settings.of_few_steps()
    return replace(settings, rate=settings.rate * NEAR_RATE) if started else settings


def coarse_facts(prior: Prior, settings: Any, steps: int, *, raced: bool) -> dict[str, Any]:
    """Return what a record says of a search with so many steps at exits, as plain JSON types; {} for none.

    "at_exits" has the settings that differ from the method's where an exit suits the input.
    """
    if not steps:
        return {}
    own, plain = asdict(settings_at_exits(settings, started=not raced)), asdict(settings)
    used = own.get("subspace") and prior.subspace_sha256
    return {
        "coarse_steps": steps,
        "racers": RACERS if raced else 1,
        "exits_sha256": prior.exits_sha256,
        "at_exits": {name: value for name, value in own.items() if value != plain[name]},
        **({"subspace_sha256": prior.subspace_sha256} if used else {}),
    }


def stages_of(
    prior: Prior,
    degradation: Degradation,
    faces: int,
    total: int,
    coarse: int,
    racers: int = 1,
    size: int | None = None,
) -> list[Stage]:
    """Return the stages of a search of `total` steps of which `coarse` are made at exits; [] where no exit suits the inputs.

    Args:
        racers: searches of a face that begin.
        size: px that are wanted of the faces, None for all: the last stage is at the smallest exit that has as many.
    """
    sides = steps_at_sides(prior, degradation, faces, total, coarse, size)
    stages = [Stage(prior.at(side), steps) for side, steps in sides.items() if steps]
    race = min(race_steps(coarse), stages[0].steps) if stages and racers > 1 else 0
    if race:
        first = stages[0]
        parts = [replace(first, steps=race, racers=racers), replace(first, steps=first.steps - race)]
        stages[:1] = [part for part in parts if part.steps]
    return stages


def steps_at_sides(
    prior: Prior, degradation: Degradation, faces: int, total: int, coarse: int, size: int | None = None
) -> dict[int, int]:
    """Return how many steps a search makes at which px, in its order; {} where no exit suits the inputs.

    Each exit has as many, but the first has half as many where it is too small to be last. A search of few steps has one exit,
    the smallest that may be last. Arguments as in `stages_of`.
    """
    first = exit_for(prior.exits, degradation, faces) if coarse else None
    if first is None:
        return {}
    last = last_side(prior, first, size)
    others = sorted(r for r in prior.exits if first < r <= last)
    smallest_last = last_side(prior, first, 0)
    if total < FEW:
        first, others = smallest_last, []
    share = 0.5 if first < smallest_last else 1  # of the first exit, where each other has 1
    each = min((coarse - 1) // max(1, len(others)), round(coarse / (len(others) + share)))
    sides = {first: coarse - each * len(others), **dict.fromkeys(others, each)}
    if first != last:
        sides[last] = sides.get(last, 0) + total - coarse
    return sides


def explore_coarse(
    method: Method,
    prior: Prior,
    low: Tensor,
    *,
    steps: int,
    degradation: Degradation,
    settings: Any,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    start: Tensor | None = None,
    racers: int = RACERS,
    size: int | None = None,
) -> Exploration:
    """Make the first `steps` of a search's at exits and the others at full size; other arguments are a method's.

    Without such steps, or an exit that suits the inputs, it is the method's own search. Where `on_step` stops it at an exit,
    its faces are evaluated once at the last stage's size, untold.

    Args:
        racers: searches of a face that begin, where no start is given.
        size: px that are wanted of the faces, None for all: the last stage is at the smallest exit that has as many.
    """
    racers = 1 if start is not None else racers
    stages = stages_of(prior, degradation, len(low), settings.steps, steps, racers, size) if steps else []
    if not stages:
        return explore(
            method, prior, low, degradation=degradation, settings=settings, seeds=seeds, start=start, on_step=on_step
        )
    settings = settings_at_exits(settings, started=start is not None)
    *_, last = stages
    tell = _Telling(on_step, stages)
    made: list[Exploration] = []
    scales: list[float] = []
    for number, stage in enumerate(stages):
        if tell.stopped and stage is not last:
            continue
        rows = stage.prior.num_ws
        if start is not None and start.ndim == 3:
            start = whole_rows(start[:, :rows], rows)
        own = with_steps(settings, 1 if tell.stopped else stage.steps)
        if number:
            own = _near_its_end(own)
        search = explore if stage.racers == 1 else partial(_race, racers=stage.racers)
        found = search(
            method,
            stage.prior,
            low,
            degradation=degradation.at(stage.prior.resolution),
            settings=own if stage is last else replace(own, project=False),
            seeds=seeds,
            start=start,
            on_step=None if tell.stopped else tell.stage(number),
        )
        made.append(found)
        scales.append(stage.prior.resolution / last.prior.resolution)
        start = found.latent["w_plus"]
    *before, found = made
    if not tell.stopped and last.prior.resolution > stages[0].prior.resolution:
        further = partial(
            explore, method, last.prior, low, degradation=degradation.at(last.prior.resolution), seeds=seeds
        )
        own = _near_its_end(with_steps(settings, max(1, round(settings.steps * FURTHER_SHARE))))
        found = made[-1] = _searched_on(found, further, own, tell.further())
    shared = [name for name in found.history if all(name in s.history for s in before)]
    return replace(
        found,
        settings=settings,
        history={name: torch.cat([s.history[name] for s in made]) for name in shared},
        best_step=found.best_step + sum(len(s.history["consistency_db"]) for s in before),
        seconds=sum(s.seconds for s in made),
        passes=sum(scale * s.passes for scale, s in zip(scales, made, strict=True)),
    )


def _race(
    method: Method,
    prior: Prior,
    low: Tensor,
    degradation: Degradation,
    settings: Any,
    seeds: Sequence[int],
    racers: int,
    on_step: OnStep | None,
    start: Tensor | None,
) -> Exploration:
    """Search for each face several times from different random codes; return the search with the least loss of each.

    On a CPU each thread searches for some of the racers by itself: at a small exit several threads hardly shorten a step.
    Of the racers one stands for each face in what is told.
    """
    codes = racers_seeds(seeds, racers)
    threads = math.gcd(racers, torch.get_num_threads()) if low.device.type == "cpu" else 1
    heats = [[row for row in range(len(codes)) if row % racers % threads == heat] for heat in range(threads)]
    every, ended = racers // threads, threading.Event()

    def tell(step: Step) -> bool:
        if on_step is not None and on_step(_thinned(step, every)):
            ended.set()
        return ended.is_set()

    def search(heat: int) -> Exploration:
        faces = [row // racers for row in heats[heat]]
        return explore(
            method,
            prior,
            low[faces],
            degradation=degradation.select(faces),
            settings=settings,
            seeds=[codes[row] for row in heats[heat]],
            start=start,
            on_step=(lambda step: ended.is_set()) if heat else tell,
        )

    if threads == 1:
        founds = [search(0)]
    else:
        with single_threads(threads) as pool:
            try:
                founds = list(pool.map(search, range(threads)))
            finally:
                ended.set()  # after Ctrl-C or an error the other threads would go on
    rows = torch.tensor(heats, device=low.device).flatten().argsort()  # where each racer of each face is
    history = {name: v[:, rows.to(v.device)] for name, v in joined_histories([f.history for f in founds]).items()}
    losses = torch.stack([v for name, v in history.items() if name != "consistency_db"]).sum(0)
    least = losses.nan_to_num(math.inf).amin(0).view(-1, racers).argmin(1)
    best = least + racers * torch.arange(len(low), device=least.device)
    return replace(
        founds[0],
        latent={"w_plus": torch.cat([f.latent["w_plus"] for f in founds])[rows][best.to(low.device)]},
        history={name: v[:, best] for name, v in history.items()},
        seconds=max(f.seconds for f in founds),
        passes=founds[0].passes * racers,
    )


def _thinned(step: Step, every: int) -> Step:
    """Return what is told of one in `every` rows."""
    return replace(
        step,
        preview=lambda: step.preview()[::every],
        losses={name: v[::every] for name, v in step.losses.items()},
        consistency_db=step.consistency_db[::every],
    )


def _near_its_end(settings: Any) -> Any:
    """Return the settings of a stage that begins near its end: the rate of a short one is in proportion to its steps."""
    return replace(settings, rate=settings.rate * min(1.0, settings.steps / SHORT))


def _searched_on(
    found: Exploration, explore: Callable[..., Exploration], settings: Any, on_step: OnStep | None
) -> Exploration:
    """Search on from the faces that are far from their inputs; the others, and what is told of the steps, stay as they are.

    All rows are searched, so that a face does not depend on its neighbours.
    """
    losses = torch.stack([v for name, v in found.history.items() if name != "consistency_db"]).sum(0)
    best = losses.nan_to_num(math.inf).argmin(0, keepdim=True)
    far = found.history["consistency_db"].gather(0, best)[0] < ENOUGH  # before a projection
    if not bool(far.any()):
        return found
    more = explore(settings=settings, start=found.latent["w_plus"], on_step=on_step)

    def of(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(far.to(old.device).view(-1, *[1] * (old.ndim - 1)), new, old)

    return replace(
        found,
        high=of(more.high, found.high),
        low_again=of(more.low_again, found.low_again),
        consistency_db=of(more.consistency_db, found.consistency_db),
        latent={name: of(more.latent[name], v) for name, v in found.latent.items()},
        best_step=of(more.best_step + len(losses), found.best_step),
        seconds=found.seconds + more.seconds,
        passes=found.passes + more.passes,
    )


def last_side(prior: Prior, first: int, size: int | None) -> int:
    """Return at which side a search ends that begins at the exit `first`: the least that has `size` px.

    Smaller exits than an eighth of the prior's side are too soft to end at.
    """
    wanted = prior.resolution if size is None else max(first, size, prior.resolution // SMALLEST_LAST)
    return min((r for r in prior.exits if r >= wanted), default=prior.resolution)


def racers_seeds(seeds: Sequence[int], racers: int) -> list[int]:
    """Return the seeds of each face's racers, one face after another: its own, and others than its first draws have."""
    draws = draws_of([seed ^ OTHER_DRAWS for seed in seeds], racers)
    return [draw for seed, _, *others in zip(seeds, *draws, strict=True) for draw in (seed, *others)]


def race_steps(steps: int) -> int:
    """Return how many of the steps at exits are a race; 0 where they are too few."""
    return max(1, round(steps * RACE_SHARE)) if steps >= 2 else 0


class _Telling:
    """Tells the steps of several stages as those of one search, with previews of the last one's side.

    Attributes:
        stopped: whether `on_step` has asked to stop.
    """

    def __init__(self, on_step: OnStep | None, stages: Sequence[Stage]) -> None:
        self.on_step, self.stages, self.stopped = on_step, stages, False
        self.total, self.side = sum(stage.steps for stage in stages), stages[-1].prior.resolution
        self.whole = sum(stage.cost for stage in stages)

    def further(self) -> OnStep | None:
        """Return what tells steps after the last one: as the last one again, in no time."""
        on_step = self.on_step
        if on_step is None:
            return None
        return lambda step: on_step(replace(step, number=self.total, total=self.total, share=0.0))

    def stage(self, number: int) -> OnStep | None:
        """Return what a stage tells.

        The steps of a batch that is searched in parts are a multiple of the stage's.
        """
        on_step, stage = self.on_step, self.stages[number]
        if on_step is None:
            return None
        before = sum(s.steps for s in self.stages[:number])

        def tell(step: Step) -> bool:
            def preview() -> Tensor:
                pictures = step.preview()
                if pictures.shape[-1] == self.side:
                    return pictures
                return F.interpolate(pictures, size=(self.side, self.side), mode="bilinear", align_corners=False)

            rounds = step.total // stage.steps
            told = replace(
                step,
                number=before * rounds + step.number,
                total=self.total * rounds,
                preview=preview,
                share=stage.cost / stage.steps / self.whole / rounds,
            )
            self.stopped = bool(on_step(told))
            return self.stopped

        return tell
