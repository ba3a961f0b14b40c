"""StyleGAN's first generator (Karras, Laine, Aila 2019), the one that PULSE searches.

Each convolution is followed by noise, a leaky ReLU and an instance normalisation whose scale and shift are the style.
Constant factors sit in the weights. Inside this file pictures are in [-1, 1]; `latentface.prior.prior` is where they
become [0, 1].

Shape legend: B batch, L style rows (`num_ws`), D width of w, C channels, r side of a block.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.prior.architecture import Sizes, check_counts, resolutions_of
from latentface.prior.blocks import BlockNetwork, MappedGenerator
from latentface.prior.layers import Affine, Layer, like_many, per_channel
from latentface.prior.stylegan2 import AveragedMapping

FUSED = 128  # px from which doubling and convolving are one transposed convolution


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstArchitecture(Sizes):
    """What the generator is built from; `channels` from 4 px to R."""

    family: ClassVar[str] = "stylegan1"

    def __post_init__(self) -> None:
        table = {int(k): int(v) for k, v in dict(self.channels).items()}
        if sorted(table) != resolutions_of(self.resolution) or min(table.values()) < 1:
            raise ValueError(f"channels is {table}; it needs a number for each of {resolutions_of(self.resolution)}")
        check_counts(self, "z_dim", "w_dim", "mapping_layers")
        object.__setattr__(self, "channels", table)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, with the family's name."""
        return {"family": self.family, **Sizes.to_json(self)}


class StyledLayer(Layer):
    """A 3x3 convolution, doubling or not, or none; then noise, leaky ReLU(0.2), instance normalisation and style."""

    noise_const: Tensor

    def __init__(self, inputs: int, outputs: int, w_dim: int, side: int, *, up: bool = False) -> None:
        super().__init__()
        self.inputs, self.up, self.fused = inputs, up, up and side >= FUSED
        if inputs:
            self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3) * math.sqrt(2 / (9 * inputs)))
            self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise_const", torch.zeros(side, side))
        self.affine = Affine(w_dim, 2 * outputs)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """x (B, C, h, w), w (B, D), noise (B or 1, 1, r, r) or None for the file's map -> (B, C', r, r)."""
        if self.inputs:
            x = like_many(self._convolved, x) + self.bias[:, None, None]
        x = x + (self.noise_const if noise is None else noise) * self.noise_strength[:, None, None]
        x = F.instance_norm(F.leaky_relu(x, 0.2))
        scale, shift = self.affine(w).chunk(2, 1)
        return torch.addcmul(per_channel(shift), x, per_channel(scale + 1))

    def _convolved(self, x: Tensor) -> Tensor:
        if not self.up:
            return F.conv2d(x, self.weight, padding=1)
        if self.fused:
            x = F.conv_transpose2d(x, self.prepared("kernel", self.weight, _spread), stride=2, padding=1)
        else:
            x = F.conv2d(F.interpolate(x, scale_factor=2), self.weight, padding=1)
        taps = x.new_tensor([0.25, 0.5, 0.25]).expand(x.shape[1], 1, 3)
        x = F.conv2d(x, taps[..., None], padding=(1, 0), groups=x.shape[1])
        return F.conv2d(x, taps[..., None, :], padding=(0, 1), groups=x.shape[1])


def _spread(weight: Tensor) -> Tensor:
    """Return the kernel (C, C', 4, 4) of a transposed convolution that doubles: the sum of four shifted ones."""
    wide = F.pad(weight.transpose(0, 1), (1, 1, 1, 1))
    return wide[:, :, 1:, 1:] + wide[:, :, :-1, 1:] + wide[:, :, 1:, :-1] + wide[:, :, :-1, :-1]


class FirstBlock(nn.Module):
    """One side: a constant at 4 px, else a doubling layer; then a plain one."""

    convs = 2

    def __init__(self, inputs: int, outputs: int, w_dim: int, side: int) -> None:
        super().__init__()
        if not inputs:
            self.const = nn.Parameter(torch.ones(outputs, side, side))
        self.conv0 = StyledLayer(inputs, outputs, w_dim, side, up=inputs > 0)
        self.conv1 = StyledLayer(outputs, outputs, w_dim, side)

    def forward(
        self, x: Tensor | None, rgb: None, ws: Tensor, noise: Sequence[Tensor | None], dtype: None = None
    ) -> tuple[Tensor, None]:
        """x (B, C, r / 2, r / 2), None at 4 px; ws (B, 2 or 3, D) -> (B, C', r, r), and no RGB skip."""
        if x is None:
            x = self.const.expand(len(ws), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.conv0(x, ws[:, 0], noise[0])
        # There is one map less than layers: the last layer has its constant one.
        return self.conv1(x, ws[:, 1], noise[1] if len(noise) > 1 else None), None


class FirstSynthesis(BlockNetwork):
    """The synthesis network; one 1x1 convolution paints the last features, and takes no style."""

    def __init__(self, arch: FirstArchitecture) -> None:
        super().__init__(resolutions_of(arch.resolution), arch.num_ws)
        self.channels = c = arch.channels
        for r in self.resolutions:
            self.add_module(f"b{r}", FirstBlock(0 if r == 4 else c[r // 2], c[r], arch.w_dim, r))
        self.torgb = nn.Conv2d(c[arch.resolution], 3, 1)

    @property
    def noise_shapes(self) -> list[tuple[int, int]]:
        """The sides of the noise maps but the last, L - 1 of them."""
        return super().noise_shapes[:-1]

    def paint(self, x: Tensor, rgb: Tensor | None, w: Tensor) -> Tensor:
        """Return the picture (B, 3, R, R) of the last features."""
        picture: Tensor = self.torgb(x)
        return picture

    def work(self) -> dict[int, float]:
        """Multiplications of each block's 3x3 convolutions, by its side, a ninth of them."""
        c = self.channels
        return {r: float(r * r * c[r] * (c[r] + (0 if r == 4 else c[r // 2]))) for r in c}


class FirstGenerator(MappedGenerator):
    """The mapping and the synthesis network."""

    def __init__(self, arch: FirstArchitecture) -> None:
        super().__init__(arch, AveragedMapping(arch.z_dim, arch.w_dim, arch.mapping_layers), FirstSynthesis(arch))
