"""What the baselines' networks share: enlarging, padding, residual blocks, checks of their numbers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.errors import InputError
from latentface.io.pictures import LUMA


def enlarge(low: Tensor, factor: int) -> Tensor:
    """Return (B, 3, h, w) enlarged bicubically (a = -0.5, as Pillow does) to (B, 3, h factor, w factor)."""
    size = [low.shape[2] * factor, low.shape[3] * factor]
    enlarged: Tensor = F.interpolate(low, size=size, mode="bicubic", antialias=True, align_corners=False)
    return enlarged


def luma(pictures: Tensor) -> Tensor:
    """Return Y (B, 1, H, W) of RGB pictures (B, 3, H, W)."""
    weights = torch.tensor(LUMA, dtype=pictures.dtype, device=pictures.device)
    return (pictures * weights[:, None, None]).sum(1, keepdim=True)


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Repeat the right and bottom border until both sides are multiples of `multiple`."""
    right, bottom = -x.shape[3] % multiple, -x.shape[2] % multiple
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if right or bottom else x


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """Make a convolution that keeps the size (at stride 1), with He's initial weights for ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def shrink_weights(layer: nn.Conv2d, scale: float) -> nn.Conv2d:
    """Multiply a layer's initial weights, so that a residual starts small."""
    with torch.no_grad():
        layer.weight.mul_(scale)
    return layer


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), each convolution followed by batch norm where `norm` says so (He et al. 2016)."""

    def __init__(self, width: int, norm: bool = False) -> None:
        super().__init__()

        def normalise() -> nn.Module:
            return nn.BatchNorm2d(width) if norm else nn.Identity()

        second = conv(width, width)
        self.body = nn.Sequential(
            conv(width, width, bias=not norm),
            normalise(),
            nn.ReLU(inplace=True),
            second if norm else shrink_weights(second, 0.1),  # without norms, an identity is where to start
            normalise(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def channels_last(module: nn.Module) -> nn.Module:
    """Lay a module's weights out so that convolutions are fast on CPUs; returns the module."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]


def is_power_of_two(value: int) -> bool:
    """Say whether value is 1, 2, 4, 8, ..."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1 and value & (value - 1) == 0


def check_factor(factor: int, least: int = 1) -> None:
    """Raise InputError unless `factor` is a power of two from `least` to 64."""
    if not is_power_of_two(factor) or not least <= factor <= 64:
        raise InputError(f"the factor is {factor}; the baselines are made for a power of two from {least} to 64")


def check_counts(name: str, **counts: int) -> None:
    """Raise InputError unless every number is a whole one from 1 to 4096."""
    for key, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 4096:
            raise InputError(f"{name}: {key} is {value!r}, expected a whole number from 1 to 4096")
