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
    from latentface.degradation import Degradation as Degradation
    from latentface.degradation import Downscale as Downscale
    from latentface.errors import ClusterError as ClusterError
    from latentface.errors import InputError as InputError
    from latentface.errors import LatentfaceError as LatentfaceError
    from latentface.errors import MissingDataError as MissingDataError
    from latentface.errors import MissingExtraError as MissingExtraError
    from latentface.errors import OutputError as OutputError
    from latentface.errors import PictureError as PictureError
    from latentface.errors import TrainingError as TrainingError
    from latentface.errors import UnknownNameError as UnknownNameError
    from latentface.errors import UnsafeFileError as UnsafeFileError
    from latentface.errors import WeightsError as WeightsError
    from latentface.errors import WrongFileError as WrongFileError
    from latentface.explore.engine import explore as explore
    from latentface.explore.registry import methods as methods
    from latentface.explore.result import Exploration as Exploration
    from latentface.explore.result import Step as Step
    from latentface.prior.prior import Prior as Prior
    from latentface.prior.registry import load_prior as load_prior
    from latentface.restore.faceresult import Upscaled as Upscaled
    from latentface.restore.photoresult import PhotoUpscaled as PhotoUpscaled
    from latentface.restore.settings import PhotoSettings as PhotoSettings
    from latentface.restore.settings import UpscaleSettings as UpscaleSettings
    from latentface.restore.upscaler import Upscaler as Upscaler
    from latentface.restore.upscaler import upscale as upscale

__version__ = "0.1.0"

_HOMES = {
    "degradation": ("Degradation", "Downscale"),
    "errors": (
        "ClusterError",
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
        "WrongFileError",
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

__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"latentface.{module}"), name)
    raise AttributeError(f"module 'latentface' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
