"""ESRGAN in ncnn's two files: the graph (.param, text) and the numbers (.bin), read into our RRDBNet without running anything.

A convolution's weights stand in the .bin as a flag of four bytes, then (out, in, h, w) as float16, filled up to four
bytes, or as float32; its bias follows as float32 (ncnn's `Convolution::load_model`, `ModelBin::load`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentface.errors import InputError, WeightsError
from latentface.supervised.esrgan import RESIDUAL_SCALE, SLOPE, RrdbShape

MAGIC = "7767517"
HALF, SINGLE = 0x01306B47, 0  # the flags: float16, float32
LEAKY, SUM, NEAREST = 2, 1, 1  # ncnn's numbers of an activation, an Eltwise and an Interp
DENSE = 5  # convolutions of a dense block, of which an RRDB has three
MOST = 4096  # channels


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A line of the .param: the layer's type, its name, and its settings by ncnn's numbers, as text."""

    kind: str
    name: str
    settings: Mapping[int, str]

    def number(self, key: int, default: int = 0) -> int:
        """Return a whole number among the settings."""
        return int(self.settings.get(key, default))

    def numbers(self, key: int) -> list[float]:
        """Return an array among the settings, whose key ncnn writes as -23300 - key."""
        count, *values = self.settings.get(-23300 - key, "0").split(",")
        if len(values) != int(count):
            raise ValueError(f"{self.name} has an array of {len(values)} numbers, not {count}")
        return [float(v) for v in values]


def read_ncnn(param: str | Path, weights: str | Path | None = None) -> tuple[RrdbShape, dict[str, Tensor]]:
    """Return an RRDBNet's shape and its float32 tensors under our names.

    Args:
        param: the .param file; weights: the .bin, by default the file of that ending beside it.

    Raises WeightsError: a file is missing or broken, or they hold another network.
    """
    param = Path(param)
    weights = param.with_suffix(".bin") if weights is None else Path(weights)
    try:
        layers = _layers(param.read_text(encoding="ascii"))
        data = weights.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{error.filename}: it cannot be read ({error.strerror}); both of ncnn's files are needed"
        ) from None
    except ValueError as error:
        raise WeightsError(f"{param}: it is no ncnn graph ({error})") from None
    try:
        shape = _shape(layers)
    except (ValueError, KeyError, IndexError, InputError) as error:
        raise WeightsError(
            f"{param}: it is no RRDBNet ({error}); expected Real-ESRGAN's x4plus or one like it"
        ) from None
    try:
        return shape, _tensors(layers, shape, data)
    except ValueError as error:
        raise WeightsError(f"{weights}: it does not fit {param.name} ({error}); fetch both files again") from None


def _layers(text: str) -> list[Layer]:
    """Return the layers of a .param: after its magic number and its counts one a line: type, name, blobs, settings."""
    magic, counts, *lines = text.split("\n")
    lines = [line for line in lines if line.strip()]
    if magic.strip() != MAGIC or int(counts.split()[0]) != len(lines):
        raise ValueError(f"it does not begin with {MAGIC} and the number of its layers")
    layers = []
    for line in lines:
        kind, name, inputs, outputs, *rest = line.split()
        pairs = [item.split("=", 1) for item in rest[int(inputs) + int(outputs) :]]
        layers.append(Layer(kind=kind, name=name, settings={int(key): value for key, value in pairs}))
    return layers


def _convolutions(layers: list[Layer]) -> list[Layer]:
    return [layer for layer in layers if layer.kind == "Convolution"]


def _names(blocks: int, doublings: int) -> Iterator[tuple[str, bool]]:
    """Yield our convolutions' names in the order of the graph, and whether a leaky ReLU follows."""
    yield "conv_first", False
    for block in range(blocks):
        for dense in range(1, 4):
            for number in range(1, DENSE + 1):
                yield f"body.{block}.rdb{dense}.conv{number}", number < DENSE
    yield "conv_body", False
    for doubling in range(doublings):
        yield f"conv_ups.{doubling}", True
    yield "conv_hr", True
    yield "conv_last", False


def _shape(layers: list[Layer]) -> RrdbShape:
    """Read the network's numbers off its graph, and check every layer against what RRDBNet has in its place."""
    counts = Counter(layer.kind for layer in layers)
    convolutions = _convolutions(layers)
    doublings = counts["Interp"]
    blocks, rest = divmod(len(convolutions) - doublings - 4, 3 * DENSE)
    if rest or blocks < 1:
        raise ValueError(f"{len(convolutions)} convolutions and {doublings} enlargements make none")
    dense = 3 * DENSE * blocks
    wanted = {"Input": 1, "Convolution": dense + doublings + 4, "Interp": doublings, "BinaryOp": 1}
    wanted |= {"Eltwise": 4 * blocks, "Concat": 4 * 3 * blocks, "Split": counts["Split"]}
    if counts != Counter(wanted):
        raise ValueError(f"its layers are {dict(counts)}, expected {wanted}")
    features, growth = convolutions[0].number(0), convolutions[1].number(0)
    shape = RrdbShape(blocks=blocks, features=features, growth=growth, tail=(features,) * doublings)
    for layer in layers:
        if layer.kind == "Eltwise" and (layer.number(0) != SUM or layer.numbers(1) != [RESIDUAL_SCALE, 1.0]):
            raise ValueError(f"{layer.name} does not add {RESIDUAL_SCALE} times its first input to the second")
        if layer.kind == "Interp" and (
            layer.number(0) != NEAREST or [float(layer.settings[i]) for i in (1, 2)] != [2, 2]
        ):
            raise ValueError(f"{layer.name} does not repeat each pixel twice")
    for layer, (name, active) in zip(convolutions, _names(blocks, doublings), strict=True):
        slope = layer.numbers(10) if layer.number(9) == LEAKY else [1.0]
        plain = [layer.number(1), layer.number(4), layer.number(5)] == [3, 1, 1]  # 3 x 3, a border of 1, a bias
        if not plain or slope != [SLOPE if active else 1.0] or (not active and layer.number(9)):
            raise ValueError(f"{layer.name} is not what {name} is in an RRDBNet")
    return shape


def _inputs(name: str, shape: RrdbShape) -> int:
    """Return how many channels a convolution takes."""
    if name == "conv_first":
        return 3
    dense = int(name[-1]) - 1 if ".rdb" in name else 0
    return shape.features + dense * shape.growth


def _tensors(layers: list[Layer], shape: RrdbShape, data: bytes) -> dict[str, Tensor]:
    """Cut the numbers into tensors; every byte must be some convolution's."""
    tensors: dict[str, Tensor] = {}
    at = 0

    def take(count: int, kind: str) -> Tensor:
        nonlocal at
        size = -(-count * np.dtype(kind).itemsize // 4) * 4
        if count < 1 or at + size > len(data):
            raise ValueError(f"it ends after {len(data)} bytes")
        found = np.frombuffer(data, kind, count, at)
        at += size
        return torch.from_numpy(found.astype(np.float32))

    for layer, (name, _) in zip(_convolutions(layers), _names(shape.blocks, len(shape.tail)), strict=True):
        outputs, inputs = layer.number(0), _inputs(name, shape)
        if layer.number(6) != outputs * inputs * 9 or not 1 <= outputs <= MOST:
            raise ValueError(f"{layer.name} has {layer.number(6)} weights, expected {outputs * inputs * 9}")
        flag = int.from_bytes(data[at : at + 4], "little")
        if flag not in (HALF, SINGLE):
            raise ValueError(f"the numbers of {layer.name} are of the kind {flag:#x}, expected float16 or float32")
        at += 4
        weight = take(layer.number(6), "<f2" if flag == HALF else "<f4")
        tensors[f"{name}.weight"] = weight.view(outputs, inputs, 3, 3)
        tensors[f"{name}.bias"] = take(outputs, "<f4")
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes are left over")
    return tensors
