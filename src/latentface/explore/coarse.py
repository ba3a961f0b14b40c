"""Coarse to fine: most steps of a search at an exit of the prior, the last ones at full size.

An exit's face is nearly the full one, shrunk, at a fraction of its cost; the few steps at full size close the gap and free
the style rows that draw finer detail. The exit's last row stands for all of those until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import Degradation
from latentface.errors import InputError
from latentface.explore.registry import Method, with_steps
from latentface.explore.result import Exploration, OnStep, Step
from latentface.prior.exits import whole_rows
from latentface.prior.prior import Prior

FULL_SHARE = 0.2  # of a search's steps at full size: docs/decisions.md


@dataclass(frozen=True, kw_only=True, slots=True)
class Coarse:
    """The first stage: `steps` iterations at the prior's exit of `resolution` px."""

    resolution: int = 128
    steps: int = 80

    def __post_init__(self) -> None:
        if self.steps < 1 or self.resolution < 8:
            raise InputError(
                f"coarse is {self.steps} steps at {self.resolution} px; expected at least 1 at 8 px or more"
            )


def coarse_for(
    method: Method, prior: Prior, settings: Any, preset: str = "default", full_steps: int | None = None
) -> Coarse | None:
    """Return the first stage that a search has by default, or None.

    There is none where the method allows none, the prior has no exits, or the preset is "paper", which is the published
    search; `full_steps` says how many of the steps are made at full size, None: a fifth.
    """
    steps = getattr(settings, "steps", None)
    if not method.coarse or not isinstance(steps, int) or not prior.exits or (preset == "paper" and full_steps is None):
        return None
    full = full_steps or max(1, round(steps * FULL_SHARE))
    return Coarse(resolution=min(prior.exits), steps=steps - full) if full < steps else None


def explore_coarse(
    method: Method,
    prior: Prior,
    low: Tensor,
    coarse: Coarse,
    *,
    degradation: Degradation,
    settings: Any,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    start: Tensor | None = None,
    **options: Any,
) -> Exploration:
    """Search at an exit, then from what was found there at full size; `settings` are of both, other arguments a method's.

    Raises:
        InputError: the prior has no such exit, or the method cannot begin at given style rows.
    """
    if not method.starts:
        raise InputError(f"the method {method.name} cannot begin at given style rows; leave coarse steps out")
    small = prior.at(coarse.resolution)
    side, fine = prior.resolution, int(settings.steps) - coarse.steps
    ratio = coarse.resolution / side  # of the time of a pass: 0.05 s against 0.40 at 128 and 1024 px
    total, whole = coarse.steps + fine, coarse.steps * ratio + fine
    first = method.function(
        small,
        low,
        degradation=degradation.at(coarse.resolution),
        settings=with_steps(settings, coarse.steps),
        seeds=seeds,
        on_step=_among(on_step, 0, total, side, ratio / whole),
        start=None if start is None else start[:, : small.num_ws] if start.ndim == 3 else start,
        **options,
    )
    then = method.function(
        prior,
        low,
        degradation=degradation,
        settings=with_steps(settings, fine),
        seeds=seeds,
        on_step=_among(on_step, coarse.steps, total, side, 1 / whole),
        start=whole_rows(first.latent["w_plus"], prior.num_ws),
        **options,
    )
    history = {k: torch.cat([first.history[k], v]) for k, v in then.history.items() if k in first.history}
    return replace(
        then,
        history=history,
        best_step=then.best_step + coarse.steps,
        seconds=first.seconds + then.seconds,
        passes=first.passes * ratio + then.passes,
    )


def _among(on_step: OnStep | None, before: int, total: int, side: int, share: float) -> OnStep | None:
    """Return `on_step` for one stage: `before` steps were made, `total` will be, previews have the final side."""
    if on_step is None:
        return None
    call = on_step

    def tell(step: Step) -> bool | None:
        def preview() -> Tensor:
            pictures = step.preview()
            if pictures.shape[-1] == side:
                return pictures
            return F.interpolate(pictures, size=(side, side), mode="bilinear", align_corners=False)

        return call(replace(step, number=before + step.number, total=total, preview=preview, share=share))

    return tell
