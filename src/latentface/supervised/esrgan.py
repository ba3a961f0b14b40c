"""ESRGAN's generator, the RRDBNet: residual-in-residual dense blocks at the low size, then nearest-neighbour doublings.

Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", ECCV workshops 2018, section 3.1. The
published network has 23 blocks of 64 features and growth 32 for 4x; 8x takes one doubling more: 16.73 M parameters.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.errors import InputError
from latentface.supervised.blocks import check_counts, check_factor, conv, enlarge, pad_to, shrink_weights

RESIDUAL_SCALE = 0.2
SLOPE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class RrdbShape:
    """RRDBNet's numbers.

    `tail` holds the features after each doubling (published: always `features`), `unshuffle` folds pixels into channels
    before the first layer, as Real-ESRGAN's 2x and 1x networks do, and `skip` adds the bicubically enlarged input to
    the output, which is ours for small budgets: training starts at bicubic's error.
    """

    blocks: int = 23
    features: int = 64
    growth: int = 32
    tail: tuple[int, ...] = (64, 64)
    unshuffle: int = 1
    skip: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tail", tuple(self.tail))  # JSON knows lists only
        check_counts("RRDBNet", blocks=self.blocks, features=self.features, growth=self.growth)
        check_counts("RRDBNet", **{f"tail[{i}]": width for i, width in enumerate(self.tail)})
        if self.unshuffle not in (1, 2, 4) or 2 ** len(self.tail) < self.unshuffle or len(self.tail) > 6:
            raise InputError(
                f"RRDBNet: {len(self.tail)} doublings after an unshuffle of {self.unshuffle} make no network"
            )

    @property
    def factor(self) -> int:
        """How many times larger the output's side is."""
        return (1 << len(self.tail)) // self.unshuffle

    @classmethod
    def published(cls, factor: int) -> "RrdbShape":
        """Return the paper's network with as many doublings as the factor needs."""
        check_factor(factor)
        return cls(tail=(64,) * (factor.bit_length() - 1))

    @classmethod
    def small(cls, factor: int) -> "RrdbShape":
        """Return the network that is trained here: few blocks, and a tail that narrows toward the large sizes."""
        check_factor(factor)
        doublings = factor.bit_length() - 1
        widths = (32, 32, 32, 24, 16)  # the last doubling has 16 features, the one before 24, ...
        return cls(
            blocks=3, features=32, growth=16, tail=widths[len(widths) - doublings :] if doublings else (), skip=True
        )


class DenseBlock(nn.Module):
    """Five convolutions, each on everything before it, scaled by 0.2 onto the input (figure 4)."""

    def __init__(self, features: int, growth: int, slope: float = SLOPE) -> None:
        super().__init__()
        self.slope = slope
        for i in range(5):
            layer = conv(features + i * growth, growth if i < 4 else features)
            self.add_module(f"conv{i + 1}", shrink_weights(layer, 0.1))  # section 3.1: smaller initialisation

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for i in range(1, 5):
            seen.append(F.leaky_relu(self.get_submodule(f"conv{i}")(torch.cat(seen, 1)), self.slope))
        out: Tensor = self.get_submodule("conv5")(torch.cat(seen, 1))
        return x + RESIDUAL_SCALE * out


class Rrdb(nn.Module):
    """Three dense blocks, scaled by 0.2 onto the input."""

    def __init__(self, features: int, growth: int, slope: float = SLOPE) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth, slope)
        self.rdb2 = DenseBlock(features, growth, slope)
        self.rdb3 = DenseBlock(features, growth, slope)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return x + RESIDUAL_SCALE * out


class RrdbNet(nn.Module):
    """The network of an `RrdbShape`: (B, 3, h, w) in [0, 1] -> (B, 3, h factor, w factor), not clamped."""

    def __init__(self, shape: RrdbShape) -> None:
        super().__init__()
        self.shape, self.factor = shape, shape.factor
        widths = (shape.features, *shape.tail)
        self.conv_first = conv(3 * shape.unshuffle**2, shape.features)
        self.body = nn.Sequential(*(Rrdb(shape.features, shape.growth) for _ in range(shape.blocks)))
        self.conv_body = conv(shape.features, shape.features)
        self.conv_ups = nn.ModuleList(conv(a, b) for a, b in pairwise(widths))
        self.conv_hr = conv(widths[-1], widths[-1])
        self.conv_last = shrink_weights(conv(widths[-1], 3), 0.01 if shape.skip else 0.1)

    def forward(self, low: Tensor) -> Tensor:
        x = low
        if self.shape.unshuffle > 1:
            x = F.pixel_unshuffle(pad_to(low, self.shape.unshuffle), self.shape.unshuffle)
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for layer in self.conv_ups:
            x = F.leaky_relu(layer(F.interpolate(x, scale_factor=2.0, mode="nearest")), SLOPE)
        high: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), SLOPE))
        high = high[:, :, : low.shape[2] * self.factor, : low.shape[3] * self.factor]  # less the unshuffle's padding
        return high + enlarge(low, self.factor) if self.shape.skip else high
