"""The supervised baselines as methods: one answer, no search.

Trained weights are looked for by baseline, size and factor in the package (`bundled/vdsr-64-8x.safetensors`); a file of
the user's takes their place through `SupervisedSettings.weights`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from latentface.degradation import Degradation
from latentface.errors import InputError, MissingDataError
from latentface.explore.result import MethodSettings
from latentface.supervised.baseline import Baseline, restore_with
from latentface.supervised.formats import load_baseline

BUNDLED = Path(__file__).with_name("bundled")


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisedSettings(MethodSettings):
    """`weights`: a file instead of the package's own. `stage`: ESRGAN's "gan" or "pixel" (L1) stage."""

    weights: str | None = None
    stage: str = "gan"


def vdsr(low: Tensor, *, degradation: Degradation, settings: SupervisedSettings) -> Tensor:
    """Restore with VDSR (Kim, Lee, Lee; CVPR 2016). Raises MissingDataError where no weights fit."""
    return _restored("vdsr", low, degradation, settings)


def esrgan(low: Tensor, *, degradation: Degradation, settings: SupervisedSettings) -> Tensor:
    """Restore with ESRGAN (Wang et al. 2018). Raises MissingDataError where no weights fit."""
    return _restored("esrgan", low, degradation, settings)


def fsrnet(low: Tensor, *, degradation: Degradation, settings: SupervisedSettings) -> Tensor:
    """Restore with FSRNet (Chen, Tai, Liu, Shen, Yang; CVPR 2018). Raises MissingDataError where no weights fit."""
    return _restored("fsrnet", low, degradation, settings)


def _restored(kind: str, low: Tensor, degradation: Degradation, settings: SupervisedSettings) -> Tensor:
    path = Path(settings.weights) if settings.weights else bundled(kind, degradation, settings.stage)
    return restore_with(kind, low, degradation, _loaded(path, str(low.device)))


def bundled(kind: str, degradation: Degradation, stage: str = "gan") -> Path:
    """Return the package's weights for a degradation; of ESRGAN's two stages the one asked for, else the other.

    Raises InputError: not square, or no whole factor. MissingDataError: none were trained for that size and factor.
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
