"""RRDN: ESRGAN's body with ReLUs and one pixel shuffle to the large size (idealo's image-super-resolution, 2018).

Read from TensorFlow.js's layers format: the graph (model.json) and its float32 numbers, cut into shards.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.errors import WeightsError
from latentface.supervised.blocks import check_counts, conv
from latentface.supervised.esrgan import RESIDUAL_SCALE, Rrdb


@dataclass(frozen=True, kw_only=True, slots=True)
class RrdnShape:
    """RRDN's numbers; `factor` is that of its pixel shuffle."""

    blocks: int = 10
    features: int = 64
    growth: int = 32
    factor: int = 8

    def __post_init__(self) -> None:
        check_counts("RRDN", blocks=self.blocks, features=self.features, growth=self.growth, factor=self.factor)


class RrdnNet(nn.Module):
    """The network of an `RrdnShape`: (B, 3, h, w) in [0, 1] -> (B, 3, h factor, w factor), not clamped."""

    def __init__(self, shape: RrdnShape) -> None:
        super().__init__()
        self.factor = shape.factor
        self.conv_first = conv(3, shape.features)
        self.body = nn.Sequential(*(Rrdb(shape.features, shape.growth, slope=0.0) for _ in range(shape.blocks)))
        self.conv_body = conv(shape.features, shape.features)
        self.conv_up = conv(shape.features, 3 * shape.factor**2)
        self.conv_last = conv(3, 3)

    def forward(self, low: Tensor) -> Tensor:
        x = self.conv_first(low)
        x = x + self.conv_body(self.body(x))
        high: Tensor = self.conv_last(F.pixel_shuffle(self.conv_up(x), self.factor))
        return high


def read_tfjs(model: Path, shards: Sequence[Path]) -> tuple[RrdnShape, dict[str, Tensor]]:
    """Return RRDN's shape and its tensors under our names, from model.json and its shards in their order.

    Raises WeightsError: a file is missing or broken, or they hold another network.
    """
    try:
        graph = json.loads(model.read_bytes())
        data = b"".join(shard.read_bytes() for shard in shards)
        (manifest,) = graph["weightsManifest"]
        layers = graph["modelTopology"]["model_config"]["config"]["layers"]
        arrays = _arrays(manifest["weights"], data)
        return _named(layers, arrays)
    except OSError as error:
        raise WeightsError(f"{error.filename}: it cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise WeightsError(f"{model}: it holds no RRDN, or its shards do not fit it ({error!r})") from None


def _arrays(entries: Sequence[Mapping[str, Any]], data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Cut the shards into arrays; every byte must be some array's."""
    arrays, at = {}, 0
    for entry in entries:
        shape = tuple(int(n) for n in entry["shape"])
        count = int(np.prod(shape))
        if entry["dtype"] != "float32" or "quantization" in entry or min(shape) < 1 or at + 4 * count > len(data):
            raise ValueError(f"{entry['name']} is no array of float32 inside the shards")
        arrays[entry["name"]] = np.frombuffer(data, "<f4", count, at).reshape(shape)
        at += 4 * count
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes are left over")
    return arrays


def _named(
    layers: Sequence[Mapping[str, Any]], arrays: Mapping[str, np.ndarray[Any, Any]]
) -> tuple[RrdnShape, dict[str, Tensor]]:
    for layer in layers:
        if layer["class_name"] == "MultiplyBeta" and layer["config"]["beta"] != RESIDUAL_SCALE:
            raise ValueError(f"a residual is scaled by {layer['config']['beta']}")
        if layer["class_name"] == "Activation" and layer["config"]["activation"] != "relu":
            raise ValueError(f"an activation is {layer['config']['activation']}")
    (factor,) = (layer["config"]["scale"] for layer in layers if layer["class_name"].startswith("PixelShuffle"))
    first, dense = arrays["Pre_blocks_conv/kernel"], arrays["F_1_1_1/kernel"]
    blocks = max(int(name.split("_")[1]) for name in arrays if name.startswith("LFF_"))
    shape = RrdnShape(blocks=blocks, features=first.shape[3], growth=dense.shape[3], factor=factor)
    names = {
        "Pre_blocks_conv": "conv_first",
        "post_blocks_conv": "conv_body",
        "PreShuffle": "conv_up",
        "SR": "conv_last",
    }
    for b in range(blocks):
        for d in range(1, 4):
            names |= {f"F_{b + 1}_{d}_{c}": f"body.{b}.rdb{d}.conv{c}" for c in range(1, 5)}
            names[f"LFF_{b + 1}_{d}"] = f"body.{b}.rdb{d}.conv5"
    if {name.partition("/")[0] for name in arrays} != set(names):
        raise ValueError("its convolutions have other names")
    tensors = {}
    for theirs, ours in names.items():
        kernel, bias = arrays[f"{theirs}/kernel"], arrays[f"{theirs}/bias"]
        if ours == "conv_up":  # depthToSpace has the colour last in a pixel's channels, PyTorch first
            kernel, bias = (
                v.reshape(*v.shape[:-1], factor**2, 3).swapaxes(-1, -2).reshape(v.shape) for v in (kernel, bias)
            )
        tensors[f"{ours}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
        tensors[f"{ours}.bias"] = torch.from_numpy(bias.copy())
    return shape, tensors
