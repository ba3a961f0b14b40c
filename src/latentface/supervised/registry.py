"""Which baselines there are, and how a name, a size and a factor become a network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from latentface.errors import UnknownNameError
from latentface.supervised.esrgan import RrdbNet, RrdbShape
from latentface.supervised.fsrnet import Fsrnet, FsrnetShape
from latentface.supervised.vdsr import Vdsr, VdsrShape

SIZES = ("small", "published")
Shape = VdsrShape | RrdbShape | FsrnetShape


@dataclass(frozen=True, slots=True)
class Kind:
    """A baseline: its name in tables, its shape's class and its network's."""

    title: str
    shape: type[VdsrShape] | type[RrdbShape] | type[FsrnetShape]
    network: Callable[[Any], nn.Module]


KINDS: Mapping[str, Kind] = {
    "vdsr": Kind("VDSR", VdsrShape, Vdsr),
    "esrgan": Kind("ESRGAN", RrdbShape, RrdbNet),
    "fsrnet": Kind("FSRNet (5 landmarks)", FsrnetShape, Fsrnet),
}


def kind_named(kind: str) -> Kind:
    """Return a baseline's entry. Raises UnknownNameError."""
    if kind not in KINDS:
        raise UnknownNameError("baseline", kind, KINDS)
    return KINDS[kind]


def make_shape(kind: str, size: str, factor: int) -> Shape:
    """Return a baseline's numbers at size "small" or "published".

    Raises UnknownNameError: there is no such baseline or size. InputError: the factor is no power of two.
    """
    cls = kind_named(kind).shape
    if size not in SIZES:
        raise UnknownNameError("size", size, SIZES)
    return cls.small(factor) if size == "small" else cls.published(factor)


def make_network(kind: str, size: str | Shape = "small", factor: int = 8) -> nn.Module:
    """Make an untrained network of a baseline; `size` may also be its shape, which then names the factor."""
    return kind_named(kind).network(make_shape(kind, size, factor) if isinstance(size, str) else size)


def count_parameters(network: nn.Module) -> int:
    """Return how many numbers a network learns."""
    return sum(p.numel() for p in network.parameters())
