"""How good a result is: pure functions on pictures, networks with weights, and the table that names them all.

Pictures are float32 RGB (B, 3, H, W) in [0, 1]; a score is one number a face, (B,), unless its name says otherwise.
Functions are imported from the module that bears their name (`from latentface.metrics.psnr import psnr, psnr_y`); the
table, the suite and the classes stand here and are resolved when used, so that this package loads neither torch nor cv2.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentface.metrics.frechet import FrechetAccumulator
    from latentface.metrics.identity import IdentityNet
    from latentface.metrics.lpips import Lpips, SqueezeNetDistance
    from latentface.metrics.niqe import Niqe
    from latentface.metrics.registry import METRICS, Metric, find_metric
    from latentface.metrics.suite import Suite
    from latentface.metrics.verification import Verification

_HOMES = {
    "METRICS": "registry",
    "FrechetAccumulator": "frechet",
    "IdentityNet": "identity",
    "Lpips": "lpips",
    "Metric": "registry",
    "Niqe": "niqe",
    "SqueezeNetDistance": "lpips",
    "Suite": "suite",
    "Verification": "verification",
    "find_metric": "registry",
}

__all__ = [
    "METRICS",
    "FrechetAccumulator",
    "IdentityNet",
    "Lpips",
    "Metric",
    "Niqe",
    "SqueezeNetDistance",
    "Suite",
    "Verification",
    "find_metric",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
