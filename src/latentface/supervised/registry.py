"""Which baselines there are, and how a name, a size and a factor become a network."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from latentface.errors import InputError, UnknownNameError
from latentface.supervised.esrgan import RrdbNet, RrdbShape
from latentface.supervised.fsrnet import Fsrnet, FsrnetShape
from latentface.supervised.pmrf import PmrfNet, PmrfShape
from latentface.supervised.vdsr import Vdsr, VdsrShape

SIZES = ("small", "published")
Plain = VdsrShape | RrdbShape | FsrnetShape
Shape = Plain | PmrfShape


@dataclass(frozen=True, slots=True)
class Kind:
    """A baseline: its name in tables, its shape's class and its network's."""

    title: str
    shape: type[VdsrShape] | type[RrdbShape] | type[FsrnetShape] | type[PmrfShape]
    network: Callable[[Any], nn.Module]


def _pmrf(shape: PmrfShape) -> PmrfNet:
    return PmrfNet(shape, make_network(shape.mean_kind, _mean_shape(shape)))


def _mean_shape(shape: PmrfShape) -> Plain:
    """Return the shape of the network that gives the mean answer. Raises InputError: it is none, or of another factor."""
    if shape.mean_kind not in PLAIN:
        raise InputError(f"PMRF: its mean answer is by {shape.mean_kind!r}; expected one of {', '.join(PLAIN)}")
    try:
        mean = PLAIN[shape.mean_kind](**shape.mean)
    except TypeError as error:
        raise InputError(f"PMRF: the shape of its {shape.mean_kind} cannot be used ({error})") from None
    if mean.factor != shape.factor:
        raise InputError(f"PMRF: its mean answer enlarges {mean.factor} times, and it {shape.factor} times")
    return mean


PLAIN: Mapping[str, type[Plain]] = {
    "vdsr": VdsrShape,
    "esrgan": RrdbShape,
    "fsrnet": FsrnetShape,
}  # pairs alone train them
KINDS: Mapping[str, Kind] = {
    "vdsr": Kind("VDSR", VdsrShape, Vdsr),
    "esrgan": Kind("ESRGAN", RrdbShape, RrdbNet),
    "fsrnet": Kind("FSRNet", FsrnetShape, Fsrnet),
    "pmrf": Kind("PMRF", PmrfShape, _pmrf),
}


def kind_named(kind: str) -> Kind:
    """Return a baseline's entry. Raises UnknownNameError."""
    if kind not in KINDS:
        raise UnknownNameError("baseline", kind, KINDS)
    return KINDS[kind]


def title_of(kind: str, shape: Shape) -> str:
    """Return a baseline's name for tables and captions. Raises UnknownNameError."""
    return kind_named(kind).title + (f" ({shape.landmarks} landmarks)" if isinstance(shape, FsrnetShape) else "")


def make_shape(kind: str, size: str, factor: int) -> Shape:
    """Return a baseline's numbers at size "small" or "published".

    Raises UnknownNameError: there is no such baseline or size. InputError: the factor is no power of two.
    """
    kind_named(kind)
    if size not in SIZES:
        raise UnknownNameError("size", size, SIZES)
    if kind == "pmrf":
        return pmrf_shape("fsrnet", make_shape("fsrnet", size, factor), size)
    cls = PLAIN[kind]
    return cls.small(factor) if size == "small" else cls.published(factor)


def pmrf_shape(mean_kind: str, mean: Shape, size: str = "small") -> PmrfShape:
    """Return PMRF's shape over a network that gives the mean answer; "published" has a larger velocity network (ours, too).

    Raises InputError: PMRF is no mean answer.
    """
    fold, widths = (4, (64, 96, 96)) if size == "small" else (2, (128, 192, 256, 384))
    shape = PmrfShape(factor=mean.factor, mean_kind=mean_kind, mean=asdict(mean), widths=widths, fold=fold)
    _mean_shape(shape)
    return shape


def make_network(kind: str, size: str | Shape = "small", factor: int = 8) -> nn.Module:
    """Make an untrained network of a baseline; `size` may also be its shape, which then names the factor."""
    return kind_named(kind).network(make_shape(kind, size, factor) if isinstance(size, str) else size)


def count_parameters(network: nn.Module) -> int:
    """Return how many numbers a network learns."""
    return sum(p.numel() for p in network.parameters())
