"""What the generators of all families share: the mapping network, and the way through the synthesis network's blocks.

Shape legend: B batch, L style rows (`num_ws`), D width of w, C channels, r side of a block.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.prior.layers import SQRT2

Entry = tuple[int, Tensor, Tensor | None]  # side r, features (B, C, r, r), RGB skip in [-1, 1] or None


class MappingNetwork(nn.Module):
    """z (B, z_dim) -> w (B, w_dim): second-moment normalisation, then leaky ReLU(0.2)(W x + b) sqrt 2, `layers` times."""

    def __init__(
        self, z_dim: int, w_dim: int, layers: int, linear: Callable[[int, int], nn.Module] = nn.Linear
    ) -> None:
        super().__init__()
        self.layers = layers
        for i in range(layers):
            self.add_module(f"fc{i}", linear(z_dim if i == 0 else w_dim, w_dim))

    def forward(self, z: Tensor) -> Tensor:
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for i in range(self.layers):
            x = F.leaky_relu(getattr(self, f"fc{i}")(x), 0.2) * SQRT2
        return x


class MappedGenerator(nn.Module):
    """A family's mapping and synthesis network; `halves`: its synthesis may compute features in half precision."""

    halves = False
    mapping: nn.Module
    synthesis: Any

    def __init__(self, arch: Any, mapping: nn.Module, synthesis: nn.Module) -> None:
        super().__init__()
        self.arch, self.mapping, self.synthesis = arch, mapping, synthesis

    def style(self, z: Tensor) -> Tensor:
        """z (B, z_dim) -> w_plus (B, L, D), all rows alike."""
        w: Tensor = self.mapping(z)
        return w[:, None].expand(-1, self.arch.num_ws, -1)


class BlockNetwork(nn.Module):
    """w_plus (B, L, D) -> picture (B, 3, R, R) in about [-1, 1], not clamped; may be entered and left between blocks.

    A family's blocks are its modules b4, b8, ...: (features or None, RGB or None, style rows (B, convs + 1, D), noise
    maps, dtype) -> (features, RGB or None), where `convs` says how many style rows and noise maps the convolutions
    take.
    """

    def __init__(self, resolutions: Sequence[int], num_ws: int) -> None:
        super().__init__()
        self.resolutions, self.num_ws = list(resolutions), num_ws

    def block(self, side: int) -> Any:
        """Return the block of one side."""
        return getattr(self, f"b{side}")

    @property
    def noise_shapes(self) -> list[tuple[int, int]]:
        """The sides of the noise maps, in the order of the layers (L - 1 of them)."""
        return [(r, r) for r in self.resolutions for _ in range(self.block(r).convs)]

    def rows_below(self, side: int) -> int:
        """Return how many style rows, and noise maps, are used up to the block of a side."""
        return sum(self.block(r).convs for r in self.resolutions if r <= side)

    def repaint(self, features: Tensor, ws: Tensor, side: int) -> Tensor | None:
        """Return the RGB skip (B, 3, r, r) that starts anew from features after a block; None: there is none."""
        return None

    def paint(self, x: Tensor, rgb: Tensor | None, w: Tensor) -> Tensor | None:
        """Return the picture of what the last block gives and of the last style row (B, D)."""
        return rgb

    def forward(
        self,
        ws: Tensor,
        noise: Sequence[Tensor | None] | None = None,
        *,
        enter: Entry | None = None,
        leave: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return features (B, C, r, r) and RGB after the block of side `leave`; by default the last and the picture.

        `noise` holds L - 1 maps (B or 1, 1, r, r), None meaning the file's constant map. `enter` takes the place of
        every block up to its side. Features are computed in `dtype`, None for the weights' own.
        """
        maps: Sequence[Tensor | None] = noise if noise is not None else [None] * (self.num_ws - 1)
        x: Tensor | None = None
        rgb: Tensor | None = None
        row = 0
        for r in self.resolutions:
            block = self.block(r)
            if enter is not None and r <= enter[0]:
                _, x, rgb = enter
            else:
                x, rgb = block(x, rgb, ws[:, row : row + block.convs + 1], maps[row : row + block.convs], dtype)
            row += block.convs
            if r == leave:
                assert x is not None
                return x, rgb
        assert x is not None
        return x, self.paint(x, rgb, ws[:, -1])
