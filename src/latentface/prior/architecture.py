"""What a prior's networks are made of: the sizes that a card names and both networks are built from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


def resolutions_of(resolution: int) -> list[int]:
    """Return [4, 8, ..., resolution]; `resolution` is a power of two from 8 to 1024."""
    if resolution not in (8, 16, 32, 64, 128, 256, 512, 1024):
        raise ValueError(f"resolution is {resolution}; StyleGAN2 has powers of two from 8 to 1024")
    return [2**k for k in range(2, resolution.bit_length())]


def default_channels(resolution: int, base: int = 32768, most: int = 512) -> dict[int, int]:
    """Return the official channel table, min(base / r, most) at each resolution r (base 32768: configuration F)."""
    return {r: max(1, min(base // r, most)) for r in resolutions_of(resolution)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What every family's networks are built from; stored in its card. `channels`: of the features of each side."""

    resolution: int
    channels: Mapping[int, int] = field(default_factory=dict)
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8

    @property
    def num_ws(self) -> int:
        """Style rows: one for each convolution and one for the last RGB layer, or the picture."""
        return 2 * len(self.channels)

    @property
    def features(self) -> int:
        """Numbers of all features of one face: two convolutions a side."""
        return sum(2 * r * r * c for r, c in self.channels.items())

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        values = asdict(self).items()
        return {k: {str(r): c for r, c in v.items()} if isinstance(v, dict) else v for k, v in values}


def check_counts(sizes: object, *names: str) -> None:
    """Raise ValueError unless these are whole numbers of at least 1."""
    for name in names:
        value = getattr(sizes, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture(Sizes):
    """StyleGAN2's generator and its discriminator; `channels` and `d_channels` from 4 px to R."""

    d_channels: Mapping[int, int] = field(default_factory=dict)
    mbstd_group: int = 4
    clamp: float | None = None

    def __post_init__(self) -> None:
        check_counts(self, "resolution", "z_dim", "w_dim", "mapping_layers", "mbstd_group")
        if self.clamp is not None and not self.clamp > 0:
            raise ValueError(f"clamp is {self.clamp!r}; it must be positive, or None")
        steps = resolutions_of(self.resolution)
        for name in ("channels", "d_channels"):
            table = {int(k): int(v) for k, v in dict(getattr(self, name)).items()}
            if not table:
                table = dict(self.channels) if name == "d_channels" else default_channels(self.resolution)
            if sorted(table) != steps or min(table.values()) < 1:
                raise ValueError(f"{name} is {table}; it needs a positive number for each of {steps}")
            object.__setattr__(self, name, table)


DISCRIMINATOR = ("resolution", "d_channels", "mbstd_group", "clamp")  # what of it a discriminator is built from


def discriminator_facts(arch: Architecture) -> dict[str, Any]:
    """Return what a discriminator is built from, in plain JSON types."""
    described = arch.to_json()
    return {name: described[name] for name in DISCRIMINATOR}


def discriminator_from(facts: Mapping[str, Any]) -> Architecture:
    """Return the architecture of such facts. Raises KeyError, TypeError or ValueError where they are none."""
    return Architecture(**{name: facts[name] for name in DISCRIMINATOR})
