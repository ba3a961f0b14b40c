"""The generator families: what a prior needs of a generator, and which architecture a card names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from latentface.prior.architecture import Architecture
from latentface.prior.mobilestylegan import MobileArchitecture, MobileGenerator
from latentface.prior.stylegan2 import Generator

AnyArchitecture = Architecture | MobileArchitecture
Entry = tuple[int, Tensor, Tensor | None]  # side r, features (B, C, r, r), RGB skip in [-1, 1] or None


class Synthesis(Protocol):
    """w_plus -> picture, by blocks named `b4`, `b8`, ... after their sides, between which it may be entered and left."""

    resolutions: Sequence[int]  # sides of the blocks

    @property
    def noise_shapes(self) -> list[tuple[int, int]]:
        """Sides of the L - 1 noise maps, in the order of the layers."""

    def __call__(
        self,
        ws: Tensor,
        noise: Sequence[Tensor | None] | None = None,
        *,
        enter: Entry | None = None,
        leave: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return features and RGB skip after the block of side `leave`, or (default) the last features and the picture."""

    def repaint(self, features: Tensor, ws: Tensor, side: int) -> Tensor | None:
        """Return the RGB skip that starts anew from features after the block of a side; None where there is no skip."""

    def work(self) -> dict[int, float]:
        """Return the multiplications of each block's convolutions, by its side."""

    def named_parameters(self) -> Any:
        """Return (name, parameter) pairs; a name begins with its block's."""


class AnyGenerator(Protocol):
    """A mapping and a synthesis network."""

    arch: Any
    halves: bool  # whether its features may be computed in half precision beside float32 weights
    mapping: Callable[[Tensor], Tensor]
    synthesis: Synthesis

    def style(self, z: Tensor) -> Tensor:
        """z (B, z_dim) -> w_plus (B, L, D), all rows alike."""


FAMILIES: dict[str, tuple[Callable[..., AnyArchitecture], Callable[[Any], nn.Module]]] = {
    "stylegan2": (Architecture, Generator),
    "mobilestylegan": (MobileArchitecture, MobileGenerator),
}


def architecture_from(described: Mapping[str, Any]) -> AnyArchitecture:
    """Return the architecture of a card's entry; KeyError, TypeError or ValueError where it is none."""
    values = dict(described)
    return FAMILIES[values.pop("family", "stylegan2")][0](**values)


def generator_of(arch: AnyArchitecture) -> nn.Module:
    """Build the generator of an architecture, with random weights."""
    return FAMILIES[getattr(arch, "family", "stylegan2")][1](arch)
