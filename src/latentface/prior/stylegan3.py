"""StyleGAN3's generator (Karras et al. 2021, "Alias-Free Generative Adversarial Networks"), configurations T and R.

Fourier features go through layers that each convolve, enlarge, bend (leaky ReLU) and shrink again, with low-pass filters
out of the file. There are neither noise maps nor skip pictures. Layers of one sampling rate are a block, named after it.
Inside this file pictures are in [-1, 1]; `latentface.prior.prior` is where they become [0, 1].

Shape legend: B batch, L style rows (`num_ws`), D width of w, C channels, n side of the features (rate and margin).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.prior.architecture import Sizes, check_counts
from latentface.prior.blocks import BlockNetwork, MappedGenerator
from latentface.prior.layers import SQRT2, Affine, Layer, Linear, like_many, per_channel, rows_alone
from latentface.prior.stylegan2 import AveragedMapping

MOST_SIDE = 4096  # px of any features


@dataclass(frozen=True, kw_only=True, slots=True)
class FilteredShape:
    """What one layer is built from.

    Attributes:
        rate: sampling rate of what comes out, px a picture; inputs, outputs: channels; kernel: of the convolution.
        up, down: factors around the leaky ReLU; up_taps, down_taps: lengths of their filters, 1 for none.
        radial: the second filter is a square one, not one a direction.
        pad: zeros before and behind each row of the enlarged features, below 0 for what is cut off.
    """

    rate: int
    inputs: int
    outputs: int
    kernel: int
    up: int
    down: int
    up_taps: int
    down_taps: int
    radial: bool
    pad: tuple[int, int]

    def __post_init__(self) -> None:
        check_counts(self, "rate", "inputs", "outputs", "kernel", "up", "down", "up_taps", "down_taps")
        object.__setattr__(self, "pad", tuple(int(n) for n in self.pad))
        if len(self.pad) != 2 or max(map(abs, self.pad)) > MOST_SIDE:
            raise ValueError(f"pad is {self.pad}; expected two numbers")
        if self.up_taps < self.up or self.down_taps < self.down:
            raise ValueError(f"filters of {self.up_taps} and {self.down_taps} taps for {self.up} and {self.down} times")

    def side(self, before: int) -> int:
        """Return the side of what comes out of features of a side."""
        wide = (before + self.kernel - 1) * self.up + sum(self.pad) - (self.up_taps - 1)
        return (wide - (self.down_taps - 1) + self.down - 1) // self.down


@dataclass(frozen=True, kw_only=True, slots=True)
class AliasFreeArchitecture(Sizes):
    """What the generator is built from: the input's side, rate and bandwidth, its layers, the last one to the picture."""

    family: ClassVar[str] = "stylegan3"
    input_side: int
    input_rate: float
    bandwidth: float
    layers: Sequence[FilteredShape]
    scale: float = 0.25
    clamp: float | None = 256.0

    def __post_init__(self) -> None:
        check_counts(self, "resolution", "z_dim", "w_dim", "mapping_layers", "input_side")
        made = [one if isinstance(one, FilteredShape) else FilteredShape(**one) for one in self.layers]
        object.__setattr__(self, "layers", tuple(made))
        if len(made) < 2 or made[-1].outputs != 3 or not 0 < self.bandwidth < self.input_rate:
            raise ValueError(f"{len(made)} layers to {made[-1].outputs if made else 0} colours; expected several, to 3")
        side = self.input_side
        for i, one in enumerate(made):
            side = one.side(side)
            chained = i == 0 or (one.inputs == made[i - 1].outputs and one.rate >= made[i - 1].rate)
            if not chained or not 0 < side <= MOST_SIDE:
                raise ValueError(f"layer {i} does not follow from the one before")
        if side != self.resolution or made[-1].rate != self.resolution:
            raise ValueError(f"its layers end at {side} px, expected {self.resolution}")

    @property
    def num_ws(self) -> int:
        """Style rows: one for the input and one a layer."""
        return len(self.layers) + 1

    @property
    def features(self) -> int:
        """Numbers of all features of one face, as they are bent: at the higher sampling rate."""
        side, out = self.input_side, 0
        for one in self.layers:
            side = one.side(side)
            out += one.outputs * (side * one.down) ** 2
        return out

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, with the family's name."""
        layers = [{**asdict(one), "pad": list(one.pad)} for one in self.layers]
        return {"family": self.family, **Sizes.to_json(self), "layers": layers}


class FourierInput(nn.Module):
    """w (B, D) -> waves (B, C, n, n), turned and shifted by w, and mixed by a matrix."""

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, w_dim: int, channels: int, side: int, rate: float, bandwidth: float) -> None:
        super().__init__()
        self.side, self.rate, self.bandwidth = side, rate, bandwidth
        self.affine = Linear(w_dim, 4)
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", torch.randn(channels, 2) * bandwidth / 2)
        self.register_buffer("phases", torch.rand(channels) - 0.5)

    def forward(self, w: Tensor) -> Tensor:
        turn = rows_alone(w, self.affine._scaled_weight().t()) + self.affine._scaled_bias()  # cos, sin, x, y
        turn = turn / turn[:, :2].norm(dim=1, keepdim=True)
        cos, sin, x, y = turn.unbind(1)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        rotation = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], 1).unflatten(1, (3, 3))
        shift = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], 1).unflatten(1, (3, 3))
        matrix = rotation @ shift @ self.transform  # (B, 3, 3)
        phases = self.phases + (self.freqs @ matrix[:, :2, 2:]).squeeze(2)  # (B, C)
        freqs = self.freqs @ matrix[:, :2, :2]  # (B, C, 2)
        # Waves that the transform has made too fast fade out toward half the sampling rate.
        fade = 1 - (freqs.norm(dim=2) - self.bandwidth) / (self.rate / 2 - self.bandwidth)
        place = (torch.arange(self.side, device=w.device, dtype=w.dtype) + 0.5 - self.side / 2) / self.rate
        fx, fy = freqs[:, None, None].unbind(4)  # (B, 1, 1, C)
        angle = place[:, None] * fx + place[:, None, None] * fy + phases[:, None, None]  # (B, n, n, C)
        waves = torch.sin(2 * math.pi * angle) * fade.clamp(0, 1)[:, None, None]
        mixed: Tensor = waves @ (self.weight / math.sqrt(len(self.weight))).t()
        return mixed.permute(0, 3, 1, 2)  # channels last


class FilteredLayer(Layer):
    """A modulated convolution, bias, and a leaky ReLU at a higher sampling rate; the last layer has neither of the last two.

    The magnitude that the features usually have (`magnitude_ema`, a mean square) is divided out.
    """

    magnitude_ema: Tensor
    up_filter: Tensor
    down_filter: Tensor

    def __init__(self, shape: FilteredShape, w_dim: int, *, last: bool, clamp: float | None) -> None:
        super().__init__()
        self.shape, self.last, self.clamp = shape, last, clamp
        self.affine = Affine(w_dim, shape.inputs)
        self.weight = nn.Parameter(torch.randn(shape.outputs, shape.inputs, shape.kernel, shape.kernel))
        self.bias = nn.Parameter(torch.zeros(shape.outputs))
        self.register_buffer("magnitude_ema", torch.ones([]))
        if shape.up_taps > 1:
            self.register_buffer("up_filter", torch.ones(shape.up_taps) / shape.up_taps)
        if shape.down_taps > 1:
            n = shape.down_taps
            self.register_buffer("down_filter", torch.ones(n, n) / n**2 if shape.radial else torch.ones(n) / n)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x (B, C, n, n), w (B, D) -> (B, C', n', n')."""
        style, gain = self.affine(w), self.magnitude_ema.rsqrt()
        if self.last:
            style = style * (gain / math.sqrt(self.weight[0].numel()))
            demod, kernel = None, self.weight.view_as(self.weight)
        else:
            kernel = self.prepared("kernel", self.weight, _normalised)
            power = self.prepared("power", self.weight, lambda v: _normalised(v).square().sum((2, 3)).t())  # (C, C')
            style = style * style.square().mean(1, keepdim=True).rsqrt()
            demod = (rows_alone(style.square(), power) + 1e-8).rsqrt() * gain  # (B, C')
        x = x * per_channel(style)
        x = like_many(lambda one: F.conv2d(one, kernel, padding=self.shape.kernel - 1), x)
        bias = self.bias[:, None, None]
        x = x + bias if demod is None else torch.addcmul(bias, x, per_channel(demod))
        x = self._enlarged(x)
        if not self.last:
            x = F.leaky_relu(x, 0.2) * SQRT2
        x = x if self.clamp is None else x.clamp(-self.clamp, self.clamp)
        return self._shrunk(x)

    def _enlarged(self, x: Tensor) -> Tensor:
        """Insert zeros, pad, and filter with the gain up^2: a transposed convolution in each direction, cut to the padding."""
        shape = self.shape
        if shape.up_taps > 1:
            taps = (self.up_filter * shape.up).expand(x.shape[1], 1, -1)
            x = F.conv_transpose2d(x, taps[..., None], stride=(shape.up, 1), groups=x.shape[1])
            x = F.conv_transpose2d(x, taps[..., None, :], stride=(1, shape.up), groups=x.shape[1])
        # The whole convolution begins taps - 1 before the first place that lies within the padded features.
        first, last = shape.pad
        first -= shape.up_taps - 1
        last += shape.up - shape.up_taps if shape.up_taps > 1 else 0
        return F.pad(x, [first, last, first, last]) if first or last else x

    def _shrunk(self, x: Tensor) -> Tensor:
        """Filter and keep every down-th number."""
        shape = self.shape
        if shape.down_taps == 1:
            return x[:, :, :: shape.down, :: shape.down]
        taps = self.down_filter.flip(list(range(self.down_filter.ndim))).expand(x.shape[1], 1, *self.down_filter.shape)
        if shape.radial:
            return F.conv2d(x, taps, stride=shape.down, groups=x.shape[1])
        x = F.conv2d(x, taps[..., None], stride=(shape.down, 1), groups=x.shape[1])
        return F.conv2d(x, taps[..., None, :], stride=(1, shape.down), groups=x.shape[1])


def _normalised(weight: Tensor) -> Tensor:
    """Return weights (C', C, k, k) with a mean square of 1 for each output."""
    return weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()


class AliasFreeBlock(nn.Module):
    """The layers of one sampling rate; the first block begins with the Fourier features."""

    def __init__(self, arch: AliasFreeArchitecture, layers: Sequence[FilteredShape], *, first: bool) -> None:
        super().__init__()
        if first:
            inputs = (layers[0].inputs, arch.input_side, arch.input_rate, arch.bandwidth)
            self.input = FourierInput(arch.w_dim, *inputs)
        self.first, self.convs = first, len(layers) + first
        for i, shape in enumerate(layers):
            self.add_module(f"layer{i}", FilteredLayer(shape, arch.w_dim, last=False, clamp=arch.clamp))

    def forward(
        self, x: Tensor | None, rgb: None, ws: Tensor, noise: Sequence[Tensor | None], dtype: None = None
    ) -> tuple[Tensor, None]:
        """x (B, C, n, n), None for the first block; ws (B, convs + 1, D) -> (B, C', n', n'), and no RGB skip."""
        rows = list(ws.unbind(1))
        if self.first:
            x = self.input(rows.pop(0))
        assert x is not None
        for i in range(self.convs - self.first):
            x = getattr(self, f"layer{i}")(x, rows[i])
        return x, None


class AliasFreeSynthesis(BlockNetwork):
    """The synthesis network; its sides are sampling rates, and features are a margin larger."""

    def __init__(self, arch: AliasFreeArchitecture) -> None:
        rates = sorted({one.rate for one in arch.layers[:-1]})
        super().__init__(rates, arch.num_ws)
        self.scale, self.arch = arch.scale, arch
        for r in rates:
            own = [one for one in arch.layers[:-1] if one.rate == r]
            self.add_module(f"b{r}", AliasFreeBlock(arch, own, first=r == rates[0]))
        self.torgb = FilteredLayer(arch.layers[-1], arch.w_dim, last=True, clamp=arch.clamp)

    @property
    def noise_shapes(self) -> list[tuple[int, int]]:
        """No noise maps."""
        return []

    def paint(self, x: Tensor, rgb: Tensor | None, w: Tensor) -> Tensor:
        """Return the picture (B, 3, R, R) of the last features and style row (B, D)."""
        picture: Tensor = self.torgb(x, w) * self.scale
        return picture

    def work(self) -> dict[int, float]:
        """Multiplications of each block's convolutions, by its rate."""
        side, out = self.arch.input_side, dict.fromkeys(self.resolutions, 0.0)
        for one in self.arch.layers[:-1]:
            out[one.rate] += float((side * one.kernel) ** 2 * one.inputs * one.outputs)
            side = one.side(side)
        return out


class AliasFreeGenerator(MappedGenerator):
    """The mapping and the synthesis network."""

    def __init__(self, arch: AliasFreeArchitecture) -> None:
        super().__init__(arch, AveragedMapping(arch.z_dim, arch.w_dim, arch.mapping_layers), AliasFreeSynthesis(arch))
