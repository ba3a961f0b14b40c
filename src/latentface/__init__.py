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
    from latentface.explore.engine import explore
    from latentface.explore.registry import methods
    from latentface.explore.result import Exploration, Step
    from latentface.prior.prior import Prior
    from latentface.prior.registry import load_prior
    from latentface.restore.faceresult import Upscaled
    from latentface.restore.photoresult import PhotoUpscaled
    from latentface.restore.settings import PhotoSettings, UpscaleSettings
    from latentface.restore.upscaler import Upscaler, upscale

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
    "explore.engine": ("explore",),
    "explore.registry": ("methods",),
    "explore.result": ("Exploration", "Step"),
    "restore.faceresult": ("Upscaled",),
    "restore.photoresult": ("PhotoUpscaled",),
    "prior.prior": ("Prior",),
    "prior.registry": ("load_prior",),
    "restore.settings": ("PhotoSettings", "UpscaleSettings"),
    "restore.upscaler": ("Upscaler", "upscale"),
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
    "PhotoSettings",
    "PhotoUpscaled",
    "PictureError",
    "Prior",
    "Step",
    "TrainingError",
    "UnknownNameError",
    "UnsafeFileError",
    "UpscaleSettings",
    "Upscaled",
    "Upscaler",
    "WeightsError",
    "explore",
    "load_prior",
    "methods",
    "upscale",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"latentface.{module}"), name)
    raise AttributeError(f"module 'latentface' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
