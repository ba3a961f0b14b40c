"""Coarse to fine: most steps of a search at an exit of the prior, the last ones at full size.

An exit's face is nearly the full one, shrunk, at a fraction of its cost; the few steps at full size close the gap and free
the style rows that draw finer detail. The exit's last row stands for all of those until then.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import Degradation
from latentface.explore.engine import explore
from latentface.explore.registry import Method, with_steps
from latentface.explore.result import Exploration, OnStep, Step
from latentface.prior.exits import exit_for, whole_rows
from latentface.prior.prior import Prior

FULL_SHARE = 0.4  # of a search's steps at full size: docs/decisions.md


def coarse_steps(
    method: Method, prior: Prior, settings: Any, preset: str = "default", full_steps: int | None = None
) -> int:
    """Return how many of a search's steps are made at an exit by default; 0 for none.

    There are none where the method allows none, it searches z, the prior has no exits, or the preset is "paper", which is
    the published search. `full_steps` says how many are made at full size, None: two fifths.
    """
    steps = getattr(settings, "steps", None)
    published = preset == "paper" and full_steps is None
    if published or not method.coarse or not isinstance(steps, int) or not settings.in_w or not prior.exits:
        return 0
    return max(0, steps - (full_steps or max(1, round(steps * FULL_SHARE))))


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
) -> Exploration:
    """Make the first `steps` of a search's at an exit and the others at full size; other arguments are a method's.

    Without such steps, or an exit that suits the inputs, it is the method's own search. Where `on_step` stops the first
    stage, its faces are evaluated once at full size, untold.
    """
    resolution = exit_for(prior.exits, degradation, len(low)) if steps else None
    if resolution is None:
        return explore(
            method, prior, low, degradation=degradation, settings=settings, seeds=seeds, start=start, on_step=on_step
        )
    small = prior.at(resolution)
    side, total = prior.resolution, int(settings.steps)
    ratio = resolution / side  # of the time of a pass: 0.05 s against 0.40 at 128 and 1024 px
    whole = steps * ratio + total - steps
    stopped = False

    def first_step(step: Step) -> bool:
        nonlocal stopped
        stopped = bool(on_step(step)) if on_step is not None else False
        return stopped

    coarse = with_steps(settings, steps)
    first = explore(
        method,
        small,
        low,
        degradation=degradation.at(resolution),
        settings=replace(coarse, project=False),  # only its style rows are used
        seeds=seeds,
        on_step=None if on_step is None else _among(first_step, 0, steps, total, side, ratio / whole),
        start=None if start is None else start[:, : small.num_ws] if start.ndim == 3 else start,
    )
    then = explore(
        method,
        prior,
        low,
        degradation=degradation,
        settings=with_steps(settings, 1 if stopped else total - steps),
        seeds=seeds,
        on_step=None if stopped or on_step is None else _among(on_step, steps, total - steps, total, side, 1 / whole),
        start=whole_rows(first.latent["w_plus"], prior.num_ws),
    )
    return replace(
        then,
        settings=settings,
        history={k: torch.cat([first.history[k], v]) for k, v in then.history.items() if k in first.history},
        best_step=then.best_step + len(first.history["consistency_db"]),
        seconds=first.seconds + then.seconds,
        passes=first.passes * ratio + then.passes,
    )


def _among(on_step: OnStep, before: int, own: int, total: int, side: int, share: float) -> OnStep:
    """Return `on_step` for one stage of `own` steps: `before` were made, `total` will be, previews have the final side.

    The steps of a batch that is searched in parts are a multiple of these.
    """

    def tell(step: Step) -> bool | None:
        def preview() -> Tensor:
            pictures = step.preview()
            if pictures.shape[-1] == side:
                return pictures
            return F.interpolate(pictures, size=(side, side), mode="bilinear", align_corners=False)

        rounds = step.total // own
        number = before * rounds + step.number
        return on_step(replace(step, number=number, total=total * rounds, preview=preview, share=share / rounds))

    return tell
