"""VDSR: a deep stack of 3x3 convolutions that corrects the bicubically enlarged picture.

Kim, Lee, Lee, "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016, section 3: 20 layers
of 64 channels without norms, the residual is added to the enlarged luma Y, the colour differences stay bicubic.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from latentface.errors import InputError
from latentface.supervised.blocks import check_counts, check_factor, conv, enlarge, is_power_of_two, luma, pad_to


@dataclass(frozen=True, kw_only=True, slots=True)
class VdsrShape:
    """VDSR's numbers. `fold` is ours: pixels are folded into channels, so the layers work on a side fold times smaller.

    A fold of f costs f^2 times less and sees f times as far, which is what a small budget at 8x needs; published: 1.
    """

    factor: int
    depth: int = 20
    width: int = 64
    planes: int = 1  # 1: the residual is added to Y, as published; 3: to R, G and B
    fold: int = 1
    bias: bool = False

    def __post_init__(self) -> None:
        check_factor(self.factor)
        check_counts("VDSR", depth=self.depth, width=self.width, fold=self.fold)
        if self.depth < 2 or self.planes not in (1, 3) or not is_power_of_two(self.fold):
            raise InputError(
                f"VDSR: depth {self.depth}, planes {self.planes}, fold {self.fold}; expected at least 2, 1 or 3, a power of two"
            )

    @classmethod
    def published(cls, factor: int) -> "VdsrShape":
        """Return the paper's network: 664,704 parameters."""
        return cls(factor=factor)

    @classmethod
    def small(cls, factor: int) -> "VdsrShape":
        """Return the network that is trained here."""
        return cls(factor=factor, depth=10, width=48, fold=2, bias=True)


class Vdsr(nn.Module):
    """The network of a `VdsrShape`: (B, 3, h, w) in [0, 1] -> (B, 3, h factor, w factor), not clamped."""

    def __init__(self, shape: VdsrShape) -> None:
        super().__init__()
        self.shape, self.factor = shape, shape.factor
        folded = shape.planes * shape.fold**2
        layers: list[nn.Module] = [conv(folded, shape.width, bias=shape.bias), nn.ReLU(inplace=True)]
        for _ in range(shape.depth - 2):
            layers += [conv(shape.width, shape.width, bias=shape.bias), nn.ReLU(inplace=True)]
        last = conv(shape.width, folded, bias=shape.bias)
        nn.init.normal_(last.weight, std=1e-3)  # the residual starts at nearly nothing
        self.layers = nn.Sequential(*layers, last)

    def forward(self, low: Tensor) -> Tensor:
        base = enlarge(low, self.factor)
        x = base if self.shape.planes == 3 else luma(base)
        x = F.pixel_unshuffle(pad_to(x, self.shape.fold), self.shape.fold)  # (B, planes fold^2, H/fold, W/fold)
        residual = F.pixel_shuffle(self.layers(x), self.shape.fold)[:, :, : base.shape[2], : base.shape[3]]
        return base + residual  # a residual of Y alone changes R, G and B alike
