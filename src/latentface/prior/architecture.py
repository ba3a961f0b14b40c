"""What a prior's networks are made of: the sizes that a card names and both networks are built from."""

from __future__ import annotations

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
class Architecture:
    """Everything needed to build a generator and its discriminator; stored in a prior's card."""

    resolution: int
    channels: Mapping[int, int] = field(default_factory=dict)
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    d_channels: Mapping[int, int] = field(default_factory=dict)
    mbstd_group: int = 4
    clamp: float | None = None

    def __post_init__(self) -> None:
        for name in ("resolution", "z_dim", "w_dim", "mapping_layers", "mbstd_group"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
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

    @property
    def num_ws(self) -> int:
        """Style rows: one for each convolution and one for the last RGB layer, 2 log2(R) - 2."""
        return 2 * len(resolutions_of(self.resolution))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        out = asdict(self)
        for name in ("channels", "d_channels"):
            out[name] = {str(k): v for k, v in getattr(self, name).items()}
        return out
