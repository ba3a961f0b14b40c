"""The supervised baselines as methods: one answer, no search. PMRF's answer follows from its seed.

Trained weights are looked for by baseline, size and factor in the package (`bundled/vdsr-64-8x.safetensors`); a file of
the user's takes their place through `SupervisedSettings.weights`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from latentface.degradation import Degradation
from latentface.errors import InputError, MissingDataError
from latentface.explore.result import MethodSettings
from latentface.explore.space import drawn
from latentface.supervised.baseline import Baseline
from latentface.supervised.formats import load_baseline
from latentface.supervised.pmrf import STEPS

BUNDLED = Path(__file__).with_name("bundled")


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisedSettings(MethodSettings):
    """`weights`: a file instead of the package's own. `stage`: ESRGAN's "gan" or "pixel" (L1) stage."""

    weights: str | None = None
    stage: str = "gan"


@dataclass(frozen=True, kw_only=True, slots=True)
class PmrfSettings(SupervisedSettings):
    """`steps`: Euler's, from the mean answer to a face."""

    steps: int = STEPS


def _model(kind: str, low: Tensor, degradation: Degradation, settings: SupervisedSettings) -> Baseline:
    """Return a baseline that fits. Raises as `_restored`."""
    path = Path(settings.weights) if settings.weights else bundled(kind, degradation, settings.stage)
    model = _loaded(path, str(low.device))
    if model.kind != kind:
        raise InputError(f"the method is {kind}, but the weights are of {model.kind}; name the method {model.kind}")
    (h, w), (high, wide) = degradation.low_size, degradation.high_size
    if (h * model.factor, w * model.factor) != (high, wide):
        raise InputError(
            f"{model.title} was trained for {model.factor}x, but the picture must grow from {w}x{h} to {wide}x{high};"
            " use weights of that factor or another method"
        )
    return model


def _restored(kind: str, low: Tensor, *, degradation: Degradation, settings: SupervisedSettings) -> Tensor:
    """Restore low pictures (B, 3, h, w) in [0, 1] with a baseline: (B, 3, H, W) in [0, 1].

    Raises InputError: the weights are of another baseline or factor. MissingDataError: no weights fit.
    """
    return _model(kind, low, degradation, settings).restore(low)


def pmrf(low: Tensor, *, degradation: Degradation, settings: PmrfSettings, seeds: Sequence[int]) -> Tensor:
    """Restore low pictures as `_restored` does, by PMRF (Ohayon, Michaeli, Elad 2024); a face's noise is its seed's."""
    model = _model("pmrf", low, degradation, settings)
    high, wide = degradation.high_size
    noise = drawn(seeds, 3 * high * wide).view(len(low), 3, high, wide)
    with torch.no_grad():
        parts = [
            model.network(x, e, settings.steps)
            for x, e in zip(low.split(1), noise.to(low.device).split(1), strict=True)
        ]
    return torch.cat(parts).clamp(0, 1)


vdsr = partial(_restored, "vdsr")  # Kim, Lee, Lee; CVPR 2016
esrgan = partial(_restored, "esrgan")  # Wang et al. 2018
fsrnet = partial(_restored, "fsrnet")  # Chen, Tai, Liu, Shen, Yang; CVPR 2018


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
        f"{kind}: no weights were trained for {low} -> {high} px (there are: {', '.join(at_hand) or 'none'}); train them with: latentface train {kind} --factor {high // low} --resolution {high}{' --mean FILE' if kind == 'pmrf' else ''}"
    )


@lru_cache(maxsize=8)
def _loaded(path: Path, device: str) -> Baseline:
    return load_baseline(path, device)
