"""StyleGAN2's networks: a generator with skip outputs and a residual discriminator.

Mathematically these are the networks of Karras et al. 2020 ("Analyzing and Improving the Image Quality of StyleGAN",
configuration F) with the parameter names of the authors' PyTorch release, so that official weights load without loss.
Inside this file pictures are in [-1, 1]; `latentface.prior.prior` is where they become [0, 1].

Shape legend: B batch, L style rows (`num_ws`), D width of w, C channels, R resolution.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.prior.architecture import Architecture, resolutions_of
from latentface.prior.blocks import BlockNetwork, MappedGenerator, MappingNetwork
from latentface.prior.layers import (
    SQRT2,
    Affine,
    Conv,
    Layer,
    Linear,
    blur,
    like_many,
    per_channel,
    rows_alone,
    upsample2,
)


class AveragedMapping(MappingNetwork):
    """The mapping network at 1/100 of the rate, with the mean w."""

    w_avg: Tensor

    def __init__(self, z_dim: int, w_dim: int, layers: int) -> None:
        super().__init__(z_dim, w_dim, layers, partial(Linear, lr_multiplier=0.01))
        self.register_buffer("w_avg", torch.zeros(w_dim))


class SynthesisLayer(Layer):
    """A modulated and demodulated 3x3 convolution, noise, bias, leaky ReLU; optionally doubling the size.

    The modulation scales the input's channels and the demodulation the output's: the same numbers as one kernel a
    sample, with one shared kernel, which suits CPUs and `torch.compile`.
    """

    noise_const: Tensor

    def __init__(
        self, inputs: int, outputs: int, w_dim: int, resolution: int, *, up: bool, clamp: float | None
    ) -> None:
        super().__init__()
        self.resolution, self.up, self.clamp = resolution, up, clamp
        self.affine = Affine(w_dim, inputs)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """x (B, C, H, W), w (B, D), noise (B or 1, 1, R, R) or None for the constant map -> (B, C', R, R)."""
        style = self.affine(w)  # (B, C)
        # Equal numbers, and half precision cannot overflow: both factors are normalised where the square is taken.
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        power = self.prepared("power", self.weight, lambda weight: weight.to(wide).square().sum((2, 3)).t())  # (C, C')
        demod = (rows_alone(style.to(wide).square(), power) + 1e-8).rsqrt()  # (B, C')
        if x.dtype in (torch.float16, torch.bfloat16):
            scale = style.abs().amax(1, keepdim=True).clamp_min(1e-8)
            style, demod = style / scale, demod * scale
        dtype = x.dtype
        x = x * per_channel(style.to(dtype))
        kernel = self.prepared(("kernel", dtype), self.weight, lambda weight: self._kernel(weight.to(dtype)))
        if self.up:
            x = like_many(lambda one: F.conv_transpose2d(one, kernel, stride=2), x)
            x = blur(x, 1, gain=4.0)
        else:
            x = like_many(lambda one: F.conv2d(one, kernel, padding=1), x)
        noise = self.noise_const if noise is None else noise
        # The leaky ReLU's gain sits in its three summands: one pass over memory less.
        shift = noise * (self.noise_strength * SQRT2)
        x = torch.addcmul(shift.to(dtype), x, per_channel((demod * SQRT2).to(dtype)))
        bias = self.prepared(("bias", dtype), self.bias, lambda bias: (bias * SQRT2).to(dtype)[:, None, None])
        x = F.leaky_relu_(x.add_(bias), 0.2)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)

    def _kernel(self, weight: Tensor) -> Tensor:
        """Return the weight (C', C, 3, 3) as the convolution takes it: transposed for the doubling one, in its own layout."""
        if not self.up:
            return weight
        last = weight.is_contiguous(memory_format=torch.channels_last)
        return weight.transpose(0, 1).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


class ToRGB(nn.Module):
    """A modulated 1x1 convolution to three colours, without demodulation or noise."""

    def __init__(self, inputs: int, w_dim: int, *, clamp: float | None) -> None:
        super().__init__()
        self.affine = Affine(w_dim, inputs)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight_gain = 1.0 / math.sqrt(inputs)
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * self.weight_gain
        x = F.conv2d(x * per_channel(style.to(x.dtype)), self.weight.to(x.dtype), self.bias.to(x.dtype))
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class SynthesisBlock(nn.Module):
    """One resolution: a doubling layer (except at 4 px), a plain layer, and the RGB layer of the skip output."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, resolution: int, clamp: float | None) -> None:
        super().__init__()
        self.resolution = resolution
        self.first = inputs == 0
        self.convs = 1 if self.first else 2
        if self.first:
            self.const = nn.Parameter(torch.randn(outputs, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(inputs, outputs, w_dim, resolution, up=True, clamp=clamp)
        self.conv1 = SynthesisLayer(outputs, outputs, w_dim, resolution, up=False, clamp=clamp)
        self.torgb = ToRGB(outputs, w_dim, clamp=clamp)

    def forward(
        self, x: Tensor | None, rgb: Tensor | None, ws: Tensor, noise: Sequence[Tensor | None], dtype: None = None
    ) -> tuple[Tensor, Tensor]:
        """ws (B, convs + 1, D); noise: one a convolution -> features (B, C, R, R), RGB (B, 3, R, R)."""
        rows = ws.unbind(1)
        if self.first:
            x = self.const[None].expand(len(ws), -1, -1, -1)
            x = x.contiguous(memory_format=torch.channels_last)
        else:
            assert x is not None
            x = self.conv0(x, rows[0], noise[0])
        x = self.conv1(x, rows[self.convs - 1], noise[self.convs - 1])
        y = self.torgb(x, rows[self.convs])
        # Half precision ends here: the picture is summed in single precision.
        y = y.float() if y.dtype in (torch.float16, torch.bfloat16) else y
        return x, y if rgb is None else upsample2(rgb) + y


class SynthesisNetwork(BlockNetwork):
    """The synthesis network with skip outputs."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__(resolutions_of(arch.resolution), arch.num_ws)
        self.channels = c = arch.channels
        for r in self.resolutions:
            self.add_module(f"b{r}", SynthesisBlock(0 if r == 4 else c[r // 2], c[r], arch.w_dim, r, arch.clamp))

    def repaint(self, features: Tensor, ws: Tensor, side: int) -> Tensor:
        """Return the RGB skip (B, 3, r, r) that starts anew from features (B, C, r, r) after the block of a side."""
        row = 2 * self.resolutions.index(side) + 1
        rgb: Tensor = self.block(side).torgb(features, ws[:, row])
        return rgb

    def work(self) -> dict[int, float]:
        """Multiplications of each block's 3x3 convolutions, by its side, a ninth of them.

        A block doubles the side by a transposed convolution, which multiplies at the smaller side.
        """
        c = self.channels
        return {r: float(r * r * c[r] ** 2 + (0 if r == 4 else (r // 2) ** 2 * c[r] * c[r // 2])) for r in c}


class Generator(MappedGenerator):
    """The mapping and the synthesis network."""

    arch: Architecture
    mapping: AveragedMapping
    synthesis: SynthesisNetwork

    def __init__(self, arch: Architecture) -> None:
        super().__init__(arch, AveragedMapping(arch.z_dim, arch.w_dim, arch.mapping_layers), SynthesisNetwork(arch))

    def style(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """z (B, z_dim) -> w_plus (B, L, D), drawn toward the mean w when truncation < 1."""
        w: Tensor = self.mapping(z)
        if truncation != 1.0:
            mean = self.mapping.w_avg
            w = mean.lerp(w.to(mean.dtype), truncation)  # under autocast w is of half precision
        return w[:, None].expand(-1, self.arch.num_ws, -1)

    def forward(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """z (B, z_dim) -> picture (B, 3, R, R) in about [-1, 1]."""
        rgb: Tensor = self.synthesis(self.style(z, truncation))[1]
        return rgb


class DiscriminatorBlock(nn.Module):
    """A residual block that halves the size; the first one also reads the picture."""

    def __init__(self, inputs: int, middle: int, outputs: int, clamp: float | None) -> None:
        super().__init__()
        self.reads = inputs == 0
        if self.reads:
            self.fromrgb = Conv(3, middle, 1, clamp=clamp)
        self.conv0 = Conv(middle, middle, 3, clamp=clamp)
        self.conv1 = Conv(middle, outputs, 3, down=True, gain=math.sqrt(0.5), clamp=clamp)
        self.skip = Conv(middle, outputs, 1, down=True, bias=False, activate=False, gain=math.sqrt(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/2, W/2)."""
        if self.reads:
            x = self.fromrgb(x)
        y = self.skip(x)
        out: Tensor = self.conv1(self.conv0(x)) + y
        return out


class DiscriminatorEpilogue(nn.Module):
    """The last 4x4: minibatch deviation, a convolution, two fully connected layers."""

    def __init__(self, channels: int, group: int, clamp: float | None) -> None:
        super().__init__()
        self.group = group
        self.conv = Conv(channels + 1, channels, 3, clamp=clamp)
        self.fc = Linear(channels * 16, channels, activate=True)
        self.out = Linear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 4, 4) -> (B,). The deviation is over groups of `group` samples, strided through the batch."""
        b, c, h, w = x.shape
        g = min(self.group, b)
        while b % g:
            g -= 1
        y = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(g, b // g, c, h, w)
        y = (y - y.mean(0)).square().mean(0)
        y = (y + 1e-8).sqrt().mean((1, 2, 3))  # (B/g,)
        y = y.repeat(g).to(x.dtype).reshape(b, 1, 1, 1).expand(b, 1, h, w)
        x = self.conv(torch.cat([x, y], 1))
        x = self.fc(x.flatten(1).to(self.fc.weight.dtype))
        out: Tensor = self.out(x)[:, 0]
        return out


class Discriminator(nn.Module):
    """Pictures (B, 3, R, R) in [-1, 1] -> logits (B,), high for real ones."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        c = arch.d_channels
        self.resolutions = resolutions_of(arch.resolution)[::-1][:-1]
        for r in self.resolutions:
            inputs = 0 if r == arch.resolution else c[r]
            self.add_module(f"b{r}", DiscriminatorBlock(inputs, c[r], c[r // 2], arch.clamp))
        self.b4 = DiscriminatorEpilogue(c[4], arch.mbstd_group, arch.clamp)

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the output of every residual block, from R/2 px down to 4 px: nothing couples the batch."""
        out = []
        for r in self.resolutions:
            x = getattr(self, f"b{r}")(x)
            out.append(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b4(self.features(x)[-1])
        return out
