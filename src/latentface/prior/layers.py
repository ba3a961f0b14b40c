"""The layers that StyleGAN2's networks are made of: filters, and weights with equalised learning rates (scaled when used).

Shape legend: B batch, C channels, H height, W width.
"""

import math
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SQRT2 = math.sqrt(2.0)
ONE_SMALL = 20480  # numbers of one picture up to which PyTorch takes another algorithm (`ConvParams::use_mkldnn`)


class Layer(nn.Module):
    """A module that keeps what it computes from frozen parameters alone: a search runs thousands of passes."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[Hashable, tuple[tuple[object, ...], Tensor, Tensor]] = {}

    def prepared(self, name: Hashable, source: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Return make(source), kept under `name` where source is a frozen parameter of a module in evaluation mode.

        It is made anew when the parameter changes, in place, in storage, type or device, and was trained in between: fused
        optimisers do not count as changes in place, nor does what is done to `parameter.data`. Tensors in a parameter's
        place (`torch.func.functional_call`) and compiled code are never kept. Copies and pickles begin empty. Threads may
        share a module: at worst they make a result twice. Callers may not change the result.
        """
        if source.requires_grad or self.training:
            self._kept.pop(name, None)
            return make(source)
        if torch.compiler.is_compiling() or type(source) is not nn.Parameter or source.is_inference():
            return make(source)
        state = (source.data_ptr(), source._version, source.dtype, source.device)
        kept = self._kept.get(name)
        if kept is None or kept[0] != state:
            with torch.inference_mode(False):
                made = make(source)
            # With the memory it was made from, lest another tensor gets the same address.
            kept = self._kept[name] = (state, made, source.detach())
        return kept[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


def _fir(channels: int, gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the outer product of [1, 3, 3, 1], of sum `gain`, for each of the channels, (C, 1, 4, 4)."""
    with torch.inference_mode(False):
        k = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=dtype, device=device)
        k2 = torch.outer(k, k)
        return (k2 * (gain / 64.0)).expand(channels, 1, 4, 4).contiguous()


Filter = Callable[[Tensor], Tensor]
_kept_fir = lru_cache(maxsize=256)(_fir)


class _Filter(torch.autograd.Function):
    """A linear filter whose gradient is another: PyTorch's own of such convolutions takes ten times as long on CPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Filter, adjoint: Filter) -> Tensor:
        ctx.adjoint = adjoint
        return run(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> tuple[Tensor, None, None]:
        return ctx.adjoint(slopes[0]), None, None


def like_many(convolve: Filter, x: Tensor) -> Tensor:
    """Return convolve(x) for x (B, C, H, W), one picture rounded as each of many.

    On a CPU PyTorch convolves one small picture by another algorithm than two: a face's numbers would depend on whether it
    is searched alone. Two copies take a millisecond more.
    """
    if len(x) > 1 or x.numel() > ONE_SMALL or x.device.type != "cpu":
        return convolve(x)
    return convolve(torch.cat([x, x]))[:1]


def _filtered(x: Tensor, pad: int, gain: float, stride: int) -> Tensor:
    fir = _fir if torch.compiler.is_compiling() else _kept_fir
    weight = fir(x.shape[1], gain, x.dtype, x.device)
    return F.conv2d(x, weight, padding=pad, stride=stride, groups=x.shape[1])


def _doubled(x: Tensor) -> Tensor:
    # Bilinear interpolation has exactly these weights (1/4, 3/4) inside; a rim of zeros makes the border agree too.
    x = F.interpolate(F.pad(x, [1, 1, 1, 1]), scale_factor=2, mode="bilinear", align_corners=False)
    return x[:, :, 2:-2, 2:-2]


def with_adjoint(x: Tensor, run: Filter, adjoint: Filter) -> Tensor:
    """Return run(x); without a gradient, a function that has one costs more to call."""
    if not (x.requires_grad and torch.is_grad_enabled()):
        return run(x)
    out: Tensor = _Filter.apply(x, run, adjoint)  # type: ignore[no-untyped-call]
    return out


def blur(x: Tensor, pad: int, gain: float = 1.0) -> Tensor:
    """Filter every channel of x (B, C, H, W) with [1, 3, 3, 1] in both directions after padding with zeros.

    The kernel is symmetric, so padding p and 3 - p are each other's adjoints.
    """
    return with_adjoint(x, lambda x: _filtered(x, pad, gain, 1), lambda slope: blur(slope, 3 - pad, gain))


def upsample2(x: Tensor) -> Tensor:
    """Double H and W with the filter [1, 3, 3, 1], zeros outside: inserting zeros, then blurring with gain 4."""
    return with_adjoint(x, _doubled, lambda slope: downsample2(slope, 4.0))


def downsample2(x: Tensor, gain: float = 1.0) -> Tensor:
    """Halve H and W (even) with the filter [1, 3, 3, 1]."""

    def adjoint(slope: Tensor) -> Tensor:
        return upsample2(slope if gain == 4 else slope * (gain / 4))

    return with_adjoint(x, lambda x: _filtered(x, 1, gain, 2), adjoint)


class Linear(Layer):
    """A fully connected layer; `lr_multiplier` slows it, `activate` adds a leaky ReLU (0.2) with gain sqrt(2)."""

    def __init__(
        self, inputs: int, outputs: int, *, activate: bool = False, bias_init: float = 0.0, lr_multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), float(bias_init) / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(inputs)
        self.bias_gain = lr_multiplier
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self._scaled_weight(), self._scaled_bias())
        return F.leaky_relu(x, 0.2) * SQRT2 if self.activate else x

    def _scaled_weight(self) -> Tensor:
        return self.prepared("weight", self.weight, lambda weight: weight * self.weight_gain)

    def _scaled_bias(self) -> Tensor:
        return self.prepared("bias", self.bias, lambda bias: bias * self.bias_gain)


def rows_alone(x: Tensor, m: Tensor) -> Tensor:
    """Return x @ m, x (B, n), m (n, k), each row by its own product where nothing is trained.

    A BLAS rounds a row by its place in the batch, and a face's search may not depend on its neighbours' order.
    """
    return x @ m if m.requires_grad else torch.bmm(x[:, None], m.expand(len(x), -1, -1)).squeeze(1)


def per_channel(x: Tensor) -> Tensor:
    """Shape numbers (B, C) so that they broadcast over the pixels of (B, C, H, W)."""
    return x.reshape(*x.shape, 1, 1)


class Affine(Linear):
    """The layer that makes a style of w, (B, D) -> (B, C); its bias starts at 1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias_init=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return rows_alone(x, self._scaled_weight().t()) + self._scaled_bias()


class Conv(Layer):
    """A convolution of the discriminator, 1x1 or 3x3, with an optional halving (blur, then stride 2)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        down: bool = False,
        bias: bool = True,
        activate: bool = True,
        gain: float = 1.0,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.weight_gain = 1.0 / math.sqrt(inputs * kernel * kernel)
        self.kernel, self.down, self.activate, self.gain = kernel, down, activate, gain
        self.clamp = clamp

    def forward(self, x: Tensor) -> Tensor:
        # A leaky ReLU is positively homogeneous, so its gain may sit in the weights: one pass over memory less.
        gain = self.gain * SQRT2 if self.activate else self.gain
        w = self.prepared(
            ("weight", x.dtype), self.weight, lambda weight: (weight * (self.weight_gain * gain)).to(x.dtype)
        )
        bias = None
        if self.bias is not None:
            bias = self.prepared(("bias", x.dtype), self.bias, lambda bias: (bias * gain).to(x.dtype))
        if self.down and self.kernel == 1:
            x = F.conv2d(downsample2(x), w, bias)
        elif self.down:
            x = F.conv2d(blur(x, 2), w, bias, stride=2)
        else:
            x = like_many(lambda one: F.conv2d(one, w, bias, padding=self.kernel // 2), x)
        if self.activate:
            x = F.leaky_relu_(x, 0.2)
        return x if self.clamp is None else x.clamp(-self.clamp * self.gain, self.clamp * self.gain)
