"""Coarse to fine: most steps of a search at an exit of the prior, the last ones at full size.

An exit's face is nearly the full one, shrunk, at a fraction of its cost; the few steps at full size close the gap and free
the style rows that draw finer detail. The exit's last row stands for all of those until then.

Some searches end in a worse face than others of the same input. So several searches of a face begin, a race, and the one with the
least loss after a third of the exit's steps goes on.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import Degradation
from latentface.explore.engine import draws_of, explore
from latentface.explore.registry import Method, with_steps
from latentface.explore.result import Exploration, OnStep, Step
from latentface.prior.exits import exit_for, whole_rows
from latentface.prior.prior import Prior

FULL_SHARE = 0.4  # of a search's steps at full size: docs/decisions.md
RACERS = 4  # searches of a face that begin
RACE_SHARE = 1 / 3  # of the exit's steps
OTHER_DRAWS = 0x5DEECE66D  # any number: a method takes its own draws from the seed itself


def coarse_steps(
    method: Method, prior: Prior, settings: Any, preset: str = "default", full_steps: int | None = None
) -> int:
    """Return how many of a search's steps are made at an exit by default; 0 for none.

    There are none where the method allows none, it searches z, the prior has no exits, or the preset is "paper", which is
    the published search. `full_steps` says how many are made at full size, one at least; None: two fifths.
    """
    steps = getattr(settings, "steps", None)
    published = preset == "paper" and full_steps is None
    if published or not method.coarse or not isinstance(steps, int) or not settings.in_w or not prior.exits:
        return 0
    full = max(1, round(steps * FULL_SHARE) if full_steps is None else full_steps)
    return max(0, steps - full)


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
    """Make the first `steps` of a search's at an exit and the others at full size; other arguments are a method's.

    Without such steps, or an exit that suits the inputs, it is the method's own search. Where `on_step` stops it at the exit,
    its faces are evaluated once at full size, untold.

    Args:
        racers: searches of a face that begin, where no start is given.
        size: px that are wanted of the faces, None for all: the last stage is at the smallest exit that has as many, and
            there is none where the first stage's has.
    """
    resolution = exit_for(prior.exits, degradation, len(low)) if steps else None
    if resolution is None:
        return explore(
            method, prior, low, degradation=degradation, settings=settings, seeds=seeds, start=start, on_step=on_step
        )
    small, shrink = prior.at(resolution), degradation.at(resolution)
    last = prior.at(last_side(prior, resolution, size))
    total = steps if last.resolution == resolution else int(settings.steps)
    race = race_steps(steps) if racers > 1 and start is None else 0
    ratio = resolution / last.resolution  # of the time of a pass: 0.05 s against 0.40 at 128 and 1024 px
    whole = ((racers - 1) * race + steps) * ratio + total - steps
    tell = _Telling(on_step, total, last.resolution)
    coarse = settings if last.resolution == resolution else replace(settings, project=False)
    if start is not None and start.ndim == 3:
        start = start[:, : small.num_ws]
    stages = []
    if race:
        told = tell.stage(0, race, racers * ratio / whole, every=racers)
        stages.append(_race(method, small, low, shrink, with_steps(coarse, race), seeds, racers, told))
        start = stages[-1].latent["w_plus"]
    if not tell.stopped or total == steps:
        found = explore(
            method,
            small,
            low,
            degradation=shrink,
            settings=with_steps(coarse, 1 if tell.stopped else steps - race),
            seeds=seeds,
            on_step=None if tell.stopped else tell.stage(race, steps - race, ratio / whole),
            start=start,
        )
        start = found.latent["w_plus"]
        stages.append(found)
    assert start is not None
    if total > steps:
        found = explore(
            method,
            last,
            low,
            degradation=degradation.at(last.resolution),
            settings=with_steps(settings, 1 if tell.stopped else total - steps),
            seeds=seeds,
            on_step=None if tell.stopped else tell.stage(steps, total - steps, 1 / whole),
            start=whole_rows(start, last.num_ws),
        )
        stages.append(found)
    *before, found = stages
    shared = [name for name in found.history if all(name in s.history for s in before)]
    scale = ratio if total > steps else 1.0
    return replace(
        found,
        settings=settings,
        history={name: torch.cat([s.history[name] for s in stages]) for name in shared},
        best_step=found.best_step + sum(len(s.history["consistency_db"]) for s in before),
        seconds=sum(s.seconds for s in stages),
        passes=found.passes + scale * sum(s.passes for s in before),
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
) -> Exploration:
    """Search for each face several times from different random codes; return the search with the least loss of each."""
    rows = [face for face in range(len(low)) for _ in range(racers)]
    found = explore(
        method,
        prior,
        low[rows],
        degradation=degradation.select(rows),
        settings=settings,
        seeds=racers_seeds(seeds, racers),
        on_step=on_step,
    )
    losses = torch.stack([v for name, v in found.history.items() if name != "consistency_db"]).sum(0)
    best = losses.amin(0).view(-1, racers).argmin(1) + racers * torch.arange(len(low), device=losses.device)
    return replace(
        found,
        latent={"w_plus": found.latent["w_plus"][best.to(low.device)]},
        history={name: v[:, best] for name, v in found.history.items()},
        passes=found.passes * racers,
    )


def last_side(prior: Prior, first: int, size: int | None) -> int:
    """Return at which side a search ends that begins at the exit `first`: the least that has `size` px."""
    wanted = prior.resolution if size is None else max(first, size)
    return min((r for r in prior.exits if r >= wanted), default=prior.resolution)


def racers_seeds(seeds: Sequence[int], racers: int) -> list[int]:
    """Return the seeds of each face's racers, one face after another: its own, and others than its first draws have."""
    draws = draws_of([seed ^ OTHER_DRAWS for seed in seeds], racers)
    return [draw for seed, _, *others in zip(seeds, *draws, strict=True) for draw in (seed, *others)]


def race_steps(steps: int) -> int:
    """Return how many of the steps at an exit are a race; 0 where they are too few."""
    return round(steps * RACE_SHARE) if steps >= 2 else 0


class _Telling:
    """Tells the steps of several stages as those of one search: `total` steps, previews of `side` px.

    Attributes:
        stopped: whether `on_step` has asked to stop.
    """

    def __init__(self, on_step: OnStep | None, total: int, side: int) -> None:
        self.on_step, self.total, self.side = on_step, total, side
        self.stopped = False

    def stage(self, before: int, own: int, share: float, every: int = 1) -> OnStep | None:
        """Return what a stage of `own` steps tells, after `before` others; of each `every` rows one stands for a face.

        The steps of a batch that is searched in parts are a multiple of these.
        """
        on_step = self.on_step
        if on_step is None:
            return None

        def tell(step: Step) -> bool:
            def preview() -> Tensor:
                pictures = step.preview()[::every]
                if pictures.shape[-1] == self.side:
                    return pictures
                return F.interpolate(pictures, size=(self.side, self.side), mode="bilinear", align_corners=False)

            rounds = step.total // own
            told = replace(
                step,
                number=before * rounds + step.number,
                total=self.total * rounds,
                preview=preview,
                share=share / rounds,
                losses={name: v[::every] for name, v in step.losses.items()},
                consistency_db=step.consistency_db[::every],
            )
            self.stopped = bool(on_step(told))
            return self.stopped

        return tell
