"""MobileStyleGAN's generator (Belousov 2021): StyleGAN2 distilled into depthwise convolutions and Haar wavelets.

Each block doubles the side by an inverse Haar transform of its modulated features, then applies two modulated
depthwise-separable convolutions; one last transform makes the picture. The demodulation does not depend on the style
and sits in the weights. Inside this file pictures are in [-1, 1]; `latentface.prior.prior` is where they become [0, 1].

Shape legend: B batch, L style rows (`num_ws`), D width of w, C channels, r side of the features, R of the picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.io.weights import unfilled
from latentface.prior.architecture import Sizes, check_counts, resolutions_of
from latentface.prior.blocks import BlockNetwork, MappedGenerator, MappingNetwork
from latentface.prior.layers import Layer, rows_alone, with_adjoint

# Channels from which a style's gradient is cheaper by the features' products than by that of the face's own matrix.
WIDE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class MobileArchitecture(Sizes):
    """What the generator is built from; `channels` from 4 px to R / 2."""

    family: ClassVar[str] = "mobilestylegan"

    def __post_init__(self) -> None:
        sides = resolutions_of(self.resolution)[:-1]
        table = {int(k): int(v) for k, v in dict(self.channels).items()}
        if sorted(table) != sides or min(table.values()) < 1 or any(table[r] % 4 for r in sides[:-1]):
            raise ValueError(f"channels is {table}; it needs a multiple of 4 for each of {sides}, the last any number")
        check_counts(self, "z_dim", "w_dim", "mapping_layers")
        object.__setattr__(self, "channels", table)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, with the family's name."""
        return {"family": self.family, **Sizes.to_json(self)}


class Affine(nn.Linear):
    """The layer that makes a style of w, (B, D) -> (B, C)."""

    def forward(self, w: Tensor) -> Tensor:
        return rows_alone(w, self.weight.t()) + self.bias


class _InverseHaar(torch.autograd.Function):
    """x (B, 4 C, h, w), channels last, as four planes ll, lh, hl, hh of C -> (B, C, 2 h, 2 w), twice the orthonormal one.

    Up to that factor the transform is orthogonal, so its gradient is the forward transform. Both are sums and
    differences of planes, made in place: at 512 px each pass over fresh memory costs as much as the arithmetic.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        b, channels, h, w = x.shape
        planes = x.permute(0, 2, 3, 1).unflatten(3, (4, channels // 4))  # (B, h, w, 4, C)
        ll, lh, hl, hh = planes.unbind(3)
        out = x.new_empty(b, h, 2, w, 2, channels // 4)
        top, bottom = out[:, :, 0], out[:, :, 1]  # (B, h, w, 2, C)
        for half, sign in ((top, 1), (bottom, -1)):
            left, right = half.unbind(3)
            even, odd = torch.add(ll, lh, alpha=sign), torch.add(hl, hh, alpha=sign)
            torch.add(even, odd, out=left)
            torch.sub(even, odd, out=right)
        return out.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Tensor:
        g: Tensor = slopes[0].permute(0, 2, 3, 1)  # (B, 2 h, 2 w, C)
        b, height, width, channels = g.shape
        g = g.unflatten(1, (height // 2, 2)).unflatten(3, (width // 2, 2))  # (B, h, 2, w, 2, C)
        out = g.new_empty(b, height // 2, width // 2, 4, channels)
        ll, lh, hl, hh = out.unbind(3)
        (a, c), (d, e) = (half.unbind(3) for half in g.unbind(2))  # a c over d e
        for one, other, combined in ((ll, lh, torch.add), (hl, hh, torch.sub)):
            upper, lower = combined(a, c), combined(d, e)
            torch.add(upper, lower, out=one)
            torch.sub(upper, lower, out=other)
        return out.flatten(3, 4).permute(0, 3, 1, 2)


def inverse_haar(x: Tensor) -> Tensor:
    """Four planes of C channels, (B, 4 C, h, w) -> (B, C, 2 h, 2 w): sums and differences, not halved (weights are)."""
    out: Tensor = _InverseHaar.apply(x.contiguous(memory_format=torch.channels_last))  # type: ignore[no-untyped-call]
    return out


class _Pointwise(torch.autograd.Function):
    """leaky ReLU(slope)(x diag(style) weight^T + noise + bias), one node of the graph.

    x (B, n, C), weight (C', C), style (B, C), noise (B or 1, n, 1) or None, bias (C',) -> (B, n, C'). Each face has a product
    of its own, whose matrix is computed in the style's type. Passes over features cost as much as the products.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, style: Tensor, noise: Tensor | None, bias: Tensor, slope: float
    ) -> Tensor:
        matrix = (weight.t() * style[:, :, None]).to(x.dtype)  # (B, C, C')
        # In bfloat16 the product adds the bias at no cost; in float32 that is slower.
        fused = x.dtype == torch.bfloat16
        out = torch.baddbmm(bias, x, matrix) if fused else torch.bmm(x, matrix).add_(bias)
        if noise is not None:
            out.add_(noise)
        if slope != 1:
            out = F.leaky_relu(out, slope)  # in place it takes twice the time where memory is slow
        ctx.save_for_backward(x, weight, style, matrix, out if slope != 1 else None)
        ctx.slope = slope
        ctx.shared = noise is not None and len(noise) == 1
        return out

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> tuple[Tensor | None, ...]:
        x, weight, style, matrix, out = ctx.saved_tensors
        g = slopes[0]
        if out is not None:
            g = torch.ops.aten.leaky_relu_backward(g, out, ctx.slope, True)
        wants_x, wants_weight, wants_style, wants_noise, wants_bias, _ = ctx.needs_input_grad
        by_x = by_weight = by_style = None
        if wants_style and not wants_weight and len(weight) >= WIDE:
            unscaled = torch.bmm(g, weight.to(g.dtype).expand(len(g), -1, -1))  # (B, n, C)
            by_style = (x * unscaled).sum(1).to(style.dtype)  # a sum to another type takes three times as long
            by_x = unscaled * style[:, None].to(g.dtype) if wants_x else None
        else:
            by_x = torch.bmm(g, matrix.transpose(1, 2)) if wants_x else None
            if wants_style or wants_weight:
                by_matrix = torch.bmm(x.transpose(1, 2), g).to(style.dtype)  # (B, C, C')
                by_style = (by_matrix * weight.t()).sum(2) if wants_style else None
                by_weight = (by_matrix * style[:, :, None]).sum(0).t() if wants_weight else None
        by_noise = g.sum((0, 2) if ctx.shared else 2, keepdim=True) if wants_noise else None
        return by_x, by_weight, by_style, by_noise, g.sum((0, 1)) if wants_bias else None, None


def pointwise(
    x: Tensor, weight: Tensor, style: Tensor, noise: Tensor | None, bias: Tensor, slope: float = 1.0
) -> Tensor:
    """A modulated 1x1 convolution, noise, bias and leaky ReLU: x (B, C, h, w), weight (C', C), style (B, C) -> (B, C', h, w).

    The style scales the weight instead of the features. Memory is channels last.
    """
    h, w = x.shape[2:]
    flat = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, h w, C)
    map_ = None if noise is None else noise.to(x.dtype).flatten(2).transpose(1, 2)  # (B or 1, h w, 1)
    flat = _Pointwise.apply(flat, weight, style, map_, bias.to(x.dtype), slope)  # type: ignore[no-untyped-call]
    out: Tensor = flat.unflatten(1, (h, w)).permute(0, 3, 1, 2)
    return out


class StyledLayer(Layer):
    """A modulated convolution, noise, bias, leaky ReLU(0.2): 3x3 full where `depthwise` is off, else 3x3 depthwise and 1x1."""

    noise: Tensor

    def __init__(self, inputs: int, outputs: int, w_dim: int, side: int, *, depthwise: bool = True) -> None:
        super().__init__()
        self.affine = Affine(w_dim, inputs)
        if depthwise:
            self.depthwise = nn.Parameter(torch.randn(inputs, 1, 3, 3) / 3)
        kernel = 1 if depthwise else 3
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) / math.sqrt(inputs * kernel**2))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.zeros(side, side))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """x (B, C, r, r), w (B, D), noise (B or 1, 1, r, r) or None for the file's map -> (B, C', r, r)."""
        style = self.affine(w)
        noise = self.noise[None, None] if noise is None else noise
        if self.weight.shape[-1] == 1:
            x = self._convolved(x, self.depthwise, groups=x.shape[1])
            return pointwise(x, self.weight[:, :, 0, 0], style, noise, self.bias, 0.2)
        x = x * style.to(x.dtype)[:, :, None, None]
        # A convolution of one face is rounded otherwise than one of many, and at 4 px it is no slower.
        x = torch.cat([self._convolved(one, self.weight) for one in x.split(1)])
        return F.leaky_relu(x + noise.to(x.dtype) + self.bias.to(x.dtype)[:, None, None], 0.2)

    def _convolved(self, x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
        """Convolve with 3x3 kernels. The gradient is a convolution, too; PyTorch's own takes twice its time in bfloat16."""
        kernel = self.prepared(("kernel", x.dtype), weight, lambda weight: weight.to(x.dtype))
        if kernel.requires_grad:
            return F.conv2d(x, kernel, padding=1, groups=groups)

        def turned(weight: Tensor) -> Tensor:
            other = weight if groups > 1 else weight.transpose(0, 1)
            return other.to(x.dtype).flip(2, 3).contiguous(memory_format=torch.channels_last)

        adjoint = self.prepared(("adjoint", x.dtype), weight, turned)
        return with_adjoint(
            x,
            lambda x: F.conv2d(x, kernel, padding=1, groups=groups),
            lambda slope: F.conv2d(slope, adjoint, padding=1, groups=groups),
        )


class PictureLayer(Layer):
    """A modulated 1x1 convolution to the four planes of a picture, and their inverse Haar transform."""

    def __init__(self, inputs: int, w_dim: int) -> None:
        super().__init__()
        self.affine = Affine(w_dim, inputs)
        self.weight = nn.Parameter(torch.randn(12, inputs, 1, 1) / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x (B, C, r, r), w (B, D) -> picture (B, 3, 2 r, 2 r)."""
        # The transform is linear: the convolution paints its four pixels, of three colours each, at once.
        weight = self.prepared("weight", self.weight, lambda weight: _four_pixels(weight[:, :, 0, 0]))
        bias = self.prepared("bias", self.bias, lambda bias: _four_pixels(bias[:, None])[:, 0])
        x = pointwise(x, weight, self.affine(w), None, bias)  # (B, 12, r, r)
        pixels = x.permute(0, 2, 3, 1).unflatten(3, (2, 2, 3))  # (B, r, r, 2, 2, 3)
        picture: Tensor = pixels.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return picture


def _four_pixels(planes: Tensor) -> Tensor:
    """Weights (4 C, n) of four planes -> those of the four pixels that the inverse Haar transform makes of them, row by row."""
    return inverse_haar(planes.t()[:, :, None, None]).permute(2, 3, 1, 0).flatten(0, 2)


class SynthesisBlock(nn.Module):
    """One side: doubling by the inverse Haar transform (a constant at 4 px), its layers, and at the last the picture."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, side: int, last: bool) -> None:
        super().__init__()
        self.convs = 1 if side == 4 else 2
        if side == 4:
            self.const = nn.Parameter(torch.randn(1, outputs, 4, 4))
            self.conv1 = StyledLayer(outputs, outputs, w_dim, side, depthwise=False)
        else:
            self.up = Affine(w_dim, inputs)
            self.conv1 = StyledLayer(inputs // 4, outputs, w_dim, side)
            self.conv2 = StyledLayer(outputs, outputs, w_dim, side)
        if last:
            self.image = PictureLayer(outputs, w_dim)

    def forward(
        self, x: Tensor | None, rgb: None, ws: Tensor, noise: Sequence[Tensor | None], dtype: torch.dtype | None = None
    ) -> tuple[Tensor, None]:
        """x (B, C, r / 2, r / 2), None at 4 px; ws (B, convs + 1, D) -> (B, C', r, r), and no RGB skip."""
        if x is None:
            start = self.const.to(dtype, memory_format=torch.channels_last).expand(len(ws), -1, -1, -1)
            return self.conv1(start, ws[:, 0], noise[0]), None
        x = inverse_haar(x * self.up(ws[:, 0]).to(x.dtype)[:, :, None, None])
        return self.conv2(self.conv1(x, ws[:, 0], noise[0]), ws[:, 1], noise[1]), None


class SynthesisNetwork(BlockNetwork):
    """The synthesis network, whose last block has the layer that paints."""

    def __init__(self, arch: MobileArchitecture) -> None:
        super().__init__(sorted(arch.channels), arch.num_ws)
        for r in self.resolutions:
            inputs = arch.channels.get(r // 2, 0)
            block = SynthesisBlock(inputs, arch.channels[r], arch.w_dim, r, r == self.resolutions[-1])
            self.add_module(f"b{r}", block)
        self.head: nn.Module | None = None  # what paints instead of the last block, at an exit

    def paint(self, x: Tensor, rgb: Tensor | None, w: Tensor) -> Tensor:
        """Return the picture (B, 3, R, R) of the last features (B, C, R / 2, R / 2) and style row (B, D)."""
        picture: Tensor = (self.head or self.block(self.resolutions[-1]).image)(x, w)
        return picture

    def work(self) -> dict[int, float]:
        """Multiplications of each block's convolutions, by its side."""
        named = {r: self.block(r).named_parameters() for r in self.resolutions}
        return {r: float(r * r * sum(p.numel() for k, p in named[r] if p.ndim == 4 and k != "const")) for r in named}


class MobileGenerator(MappedGenerator):
    """The mapping and the synthesis network."""

    halves = True
    arch: MobileArchitecture
    synthesis: SynthesisNetwork

    def __init__(self, arch: MobileArchitecture) -> None:
        super().__init__(arch, MappingNetwork(arch.z_dim, arch.w_dim, arch.mapping_layers), SynthesisNetwork(arch))

    def exit(self, resolution: int, head: nn.Module) -> "MobileGenerator":
        """Return the generator that ends after the block of half this resolution and lets `head` paint; weights are shared."""
        arch = replace(
            self.arch, resolution=resolution, channels={r: c for r, c in self.arch.channels.items() if r < resolution}
        )
        with unfilled():
            other = MobileGenerator(arch)
        other.mapping = self.mapping
        for r in arch.channels:
            other.synthesis.add_module(f"b{r}", self.synthesis.block(r))
        other.synthesis.head = head
        return other
