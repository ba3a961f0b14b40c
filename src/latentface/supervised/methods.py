"""The baselines in the signature that every method has: one answer, no search; prior and seeds do not matter.

Trained weights are looked for by baseline, size and factor in the package (`bundled/vdsr-64-8x.safetensors`); a file of
the user's takes their place through `SupervisedSettings.weights`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from latentface.degradation import Degradation
from latentface.errors import InputError, MissingDataError
from latentface.explore.result import Exploration, MethodSettings, OnStep, check_faces, finish
from latentface.prior.prior import Prior
from latentface.supervised.baseline import Baseline, restore_with
from latentface.supervised.formats import load_baseline

BUNDLED = Path(__file__).with_name("bundled")


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisedSettings(MethodSettings):
    """`weights`: a file instead of the package's own. `stage`: ESRGAN's "gan" or "pixel" (L1) stage."""

    weights: str | None = None
    stage: str = "gan"


def vdsr(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: SupervisedSettings = SupervisedSettings(),
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Exploration:
    """Restore with VDSR (Kim, Lee, Lee; CVPR 2016). Raises MissingDataError where no weights fit."""
    return _method("vdsr", low, degradation, settings, tuple(seeds))


def esrgan(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: SupervisedSettings = SupervisedSettings(),
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Exploration:
    """Restore with ESRGAN (Wang et al. 2018). Raises MissingDataError where no weights fit."""
    return _method("esrgan", low, degradation, settings, tuple(seeds))


def fsrnet(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: SupervisedSettings = SupervisedSettings(),
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Exploration:
    """Restore with FSRNet (Chen, Tai, Liu, Shen, Yang; CVPR 2018). Raises MissingDataError where no weights fit."""
    return _method("fsrnet", low, degradation, settings, tuple(seeds))


def _method(
    kind: str, low: Tensor, degradation: Degradation, settings: SupervisedSettings, seeds: tuple[int, ...]
) -> Exploration:
    began = time.perf_counter()
    check_faces(low, degradation, seeds)
    path = Path(settings.weights) if settings.weights else bundled(kind, degradation, settings.stage)
    model = _loaded(path, str(low.device))
    high = restore_with(kind, low, degradation, model)
    seconds = time.perf_counter() - began
    return finish(high, low, degradation, method=kind, settings=settings, seeds=seeds, seconds=seconds)


def bundled(kind: str, degradation: Degradation, stage: str = "gan") -> Path:
    """Return the package's weights for a degradation; of ESRGAN's two stages the one asked for, else the other.

    Raises:
        InputError: not square, or no whole factor. MissingDataError: none were trained for that size and factor.
    """
    (low, width), (high, _) = degradation.low_size, degradation.high_size
    if low != width or high % low:
        raise InputError(f"{kind} enlarges squares by whole factors; got {low} x {width} to {high} px")
    stem = f"{kind}-{high}-{high // low}x.safetensors"
    names = (
        [stem]
        if kind != "esrgan"
        else [stem, f"esrgan-l1-{high}-{high // low}x.safetensors"][:: 1 if stage == "gan" else -1]
    )
    for name in names:
        if (BUNDLED / name).exists():
            return BUNDLED / name
    at_hand = sorted(p.stem for p in BUNDLED.glob(f"{kind}-*.safetensors"))
    raise MissingDataError(
        f"{kind}: no weights were trained for {low} -> {high} px (there are: {', '.join(at_hand) or 'none'}); train them with: latentface train {kind} --factor {high // low} --resolution {high}"
    )


@lru_cache(maxsize=8)
def _loaded(path: Path, device: str) -> Baseline:
    return load_baseline(path, device)
