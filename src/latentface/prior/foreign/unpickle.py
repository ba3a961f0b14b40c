"""NVIDIA's pickles of networks, read without their code: what PyTorch's and TensorFlow's StyleGAN releases have written.

A pickle of the PyTorch releases holds each module with the source of its class, which would be executed; here a module
becomes its class's name and its state, and the source is never looked at. One of the TensorFlow releases holds networks
as lists of named arrays.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentface.errors import WeightsError
from latentface.io.opcodes import exact, mapping, one_line, read_pickle
from latentface.io.torch_files import Tensors, floats, read_file

MOST_MODULES = 2000  # of one network; StyleGAN2 at 1024 px has some 110
NETWORKS = ("G", "D", "G_ema")


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """A module of a network: the name of its class, and its state as the file has it."""

    kind: str
    state: Mapping[Any, Any]

    def children(self) -> dict[str, "Module"]:
        """Return the modules in it, by name."""
        return {k: v for k, v in _items(self.state.get("_modules")) if isinstance(k, str) and isinstance(v, Module)}

    def walk(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """Give every module with its name, such as synthesis.b4.conv1. Raises ValueError: too many, as a loop has."""
        left, seen = [(prefix, self)], 0
        while left:
            name, module = left.pop()
            inner = module.children()
            seen += 1
            if seen + len(left) + len(inner) > MOST_MODULES or len(name) > 200:
                raise ValueError("its modules are too many, or hold themselves")
            yield name, module
            left += [(f"{name}.{k}" if name else k, v) for k, v in inner.items()]

    def tensors(self) -> dict[str, Tensor]:
        """Return parameters and buffers in float32, by their whole names. Raises ValueError: too many."""
        return floats(
            (f"{name}.{key}" if name else key, value)
            for name, module in self.walk()
            for group in ("_parameters", "_buffers")
            for key, value in _items(module.state.get(group))
        )

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number of the state. Raises ValueError: there is none."""
        value = self.state.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
            raise ValueError(f"{self.kind} has no number {name}")
        return value

    def whole(self, name: str) -> int:
        """Return a whole number of the state. Raises ValueError."""
        value = self.number(name)
        if value != int(value):
            raise ValueError(f"{self.kind} has {name} {value}, expected a whole number")
        return int(value)


class TfNetwork:
    """A network of the TensorFlow releases: its static arguments, its variables by name, and its parts."""

    def __init__(self) -> None:
        self.version, self.arguments = 0, dict[str, Any]()
        self.variables: dict[str, Tensor] = {}
        self.parts: dict[str, TfNetwork] = {}

    def set(self, state: Any) -> None:
        """Take the state that the file has; the source among it is not looked at."""
        found = exact(state, dict)
        self.version, self.arguments = exact(found["version"], int), exact(found["static_kwargs"], dict)
        self.variables = floats((name, _as_tensor(value)) for name, value in exact(found["variables"], list))
        parts = exact(found["components"], dict)
        self.parts = {exact(k, str): v for k, v in parts.items() if isinstance(v, TfNetwork) and not v.parts}

    def number(self, name: str, default: float) -> float:
        """Return a number among the static arguments, the default where it is not there, or None."""
        value = self.arguments.get(name)
        return default if value is None else float(exact(value, int, float))

    def clamp(self) -> float | None:
        """Return the limit of the convolutions' outputs, None for none."""
        return self.number("conv_clamp", 0) or None

    def tensors(self) -> dict[str, Tensor]:
        """Return all variables, those of a part with its name and a slash before."""
        out = dict(self.variables)
        for name, part in self.parts.items():
            out |= {f"{name}/{key}": value for key, value in part.variables.items()}
        return out


def _items(found: Any) -> Iterable[tuple[Any, Any]]:
    return found.items() if isinstance(found, dict) else ()


def _as_tensor(value: Any) -> Tensor:
    """Return a number or an array as a tensor; an array in our byte order and layout shares its memory."""
    if isinstance(value, int | float):
        return torch.tensor(float(value))
    return torch.from_numpy(np.require(value, value.dtype.newbyteorder("="), ["C", "W"]))


def _module(meta: Any) -> Module:
    found = exact(meta, dict)
    if found.get("type") != "class":
        raise ValueError("a persistent object that is no class")
    return Module(one_line(exact(found["class_name"], str)), exact(found["state"], dict))


def read_networks(path: str | Path) -> dict[str, Module] | dict[str, TfNetwork]:
    """Return the networks of a pickle, G, D and G_ema, whichever are there.

    Raises WeightsError: no such file, broken, or without such networks. UnsafeFileError: it asks for more than data.
    """
    data = read_file(path)
    tensors = Tensors(len(data), str(path))
    calls = {
        **tensors.calls,
        "torch_utils.persistence._reconstruct_persistent_obj": _module,
        "dnnlib.util.EasyDict": mapping,
        "dnnlib.tflib.network.Network": TfNetwork,
    }
    builds = {**tensors.builds, TfNetwork: TfNetwork.set}
    content = read_pickle(BytesIO(data), calls, builds, label=str(path))
    if isinstance(content, dict):
        found = {name: content[name] for name in NETWORKS if isinstance(content.get(name), Module)}
        if found:
            return found
    if isinstance(content, tuple) and len(content) == 3 and all(isinstance(net, TfNetwork) for net in content):
        return dict(zip(NETWORKS, content, strict=True))
    if isinstance(content, Module):
        return {"G_ema": content}
    raise WeightsError(f"{path}: a pickle of a {type(content).__name__}; expected StyleGAN's networks G, D and G_ema")
