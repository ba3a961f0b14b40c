"""latentface: face super-resolution by exploring the latent space of a pretrained GAN.

    import latentface
    face = latentface.upscale("tiny.png", factor=8)
    face.save("large.png")

Names are imported when they are first used, so that `import latentface` takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentface.degradation import Degradation, Downscale
    from latentface.errors import (
        InputError,
        LatentfaceError,
        MissingDataError,
        MissingExtraError,
        OutputError,
        PictureError,
        TrainingError,
        UnknownNameError,
        UnsafeFileError,
        WeightsError,
    )
    from latentface.explore.result import Exploration, Step
    from latentface.prior.prior import Prior
    from latentface.prior.registry import load_prior
    from latentface.restore.engine import upscale
    from latentface.restore.faceresult import Upscaled
    from latentface.restore.settings import UpscaleSettings

__version__ = "0.1.0"

_HOMES = {
    "degradation": ("Degradation", "Downscale"),
    "errors": (
        "InputError",
        "LatentfaceError",
        "MissingDataError",
        "MissingExtraError",
        "OutputError",
        "PictureError",
        "TrainingError",
        "UnknownNameError",
        "UnsafeFileError",
        "WeightsError",
    ),
    "explore.result": ("Exploration", "Step"),
    "restore.faceresult": ("Upscaled",),
    "prior.prior": ("Prior",),
    "prior.registry": ("load_prior",),
    "restore.engine": ("upscale",),
    "restore.settings": ("UpscaleSettings",),
}

__all__ = [
    "Degradation",
    "Downscale",
    "Exploration",
    "InputError",
    "LatentfaceError",
    "MissingDataError",
    "MissingExtraError",
    "OutputError",
    "PictureError",
    "Prior",
    "Step",
    "TrainingError",
    "UnknownNameError",
    "UnsafeFileError",
    "UpscaleSettings",
    "Upscaled",
    "WeightsError",
    "load_prior",
    "upscale",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"latentface.{module}"), name)
    raise AttributeError(f"module 'latentface' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
