"""FSRNet: a coarse face, from which one net guesses where its landmarks are and another draws the details.

Chen, Tai, Liu, Shen, Yang, "FSRNet: End-to-End Learning Face Super-Resolution with Facial Priors", CVPR 2018, section 3.
Enlarged bicubically -> coarse net (3 residual blocks) -> encoder (stride 2, 12 residual blocks) beside a prior net (7x7,
stride 2, 3 residual blocks, 2 stacked hourglasses) -> decoder (3x3, 4x4 deconvolution of stride 2, 3 residual blocks).

Ours learns Gaussian heatmaps of 68 landmarks, or of five (eyes, nose, mouth corners); the published prior net learns
many more and face parsing maps. The paper leaves the prior net's inner widths open; with the residuals of Newell et al. 2016 at 128
features the whole has 3.14 M parameters, where the paper counts 3.26 M (3.7 % less).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.errors import InputError
from latentface.supervised.blocks import (
    ResidualBlock,
    check_counts,
    check_factor,
    conv,
    enlarge,
    is_power_of_two,
    pad_to,
    shrink_weights,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FsrnetShape:
    """FSRNet's numbers. Strides are over the high size; `sigma` is the heatmaps' width in their own pixels.

    `landmarks` says how many heatmaps the prior net learns.

    `coarse_stride` and `skip` are ours for small budgets: the coarse net works on folded pixels, and the coarse face is
    added to the enlarged input and the details to the coarse face, so that training starts at bicubic's error.
    """

    factor: int
    width: int = 64
    coarse_blocks: int = 3
    coarse_stride: int = 1
    encoder_blocks: int = 12
    stride: int = 2  # encoder and prior net work, and heatmaps stand, at 1/stride of the high size
    prior_width: int = 128
    prior_blocks: int = 3
    hourglasses: int = 2
    levels: int = 4  # how often an hourglass halves
    decoder_blocks: int = 3
    decoder_width: int = 64
    sigma: float = 1.0
    norm: bool = True
    skip: bool = False
    landmarks: int = 5

    def __post_init__(self) -> None:
        check_factor(self.factor)
        counts = {name: getattr(self, name) for name in self.__slots__ if name not in ("sigma", "norm", "skip")}
        check_counts("FSRNet", **counts)
        if not (is_power_of_two(self.stride) and is_power_of_two(self.coarse_stride) and self.stride >= 2):
            raise InputError(
                f"FSRNet: strides {self.stride} and {self.coarse_stride}; expected powers of two, from 2 and 1"
            )
        if not 0 < self.sigma < 64:
            raise InputError(f"FSRNet: sigma is {self.sigma} px, expected more than 0 and less than 64")

    @classmethod
    def published(cls, factor: int) -> "FsrnetShape":
        """Return the paper's network, but for its heatmaps."""
        return cls(factor=factor)

    @classmethod
    def small(cls, factor: int) -> "FsrnetShape":
        """Return the network that is trained here: everything but the decoder's end works at a quarter of the size."""
        return cls(
            factor=factor,
            width=48,
            coarse_stride=4,
            encoder_blocks=4,
            stride=4,
            prior_width=48,
            prior_blocks=1,
            hourglasses=1,
            levels=3,
            decoder_blocks=1,
            decoder_width=32,
            norm=False,
            skip=True,
        )


class FsrnetOutput(NamedTuple):
    """What a training step looks at: pictures (B, 3, H, W), not clamped, heatmaps (B, landmarks, H/stride, W/stride)."""

    fine: Tensor
    coarse: Tensor
    heatmaps: list[Tensor]  # one a hourglass


class Bottleneck(nn.Module):
    """Newell's residual: 1x1 to half the width, 3x3, 1x1 back, each after norm and ReLU."""

    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        half = max(1, width // 2)
        layers: list[nn.Module] = []
        for a, b, kernel in ((width, half, 1), (half, half, 3), (half, width, 1)):
            layers += [nn.BatchNorm2d(a) if norm else nn.Identity(), nn.ReLU(), conv(a, b, kernel)]
        if not norm:
            shrink_weights(layers[-1], 0.1)  # type: ignore[arg-type]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Hourglass(nn.Module):
    """Halve `levels` times and come back, with a skip at each size (Newell et al. 2016, figure 3)."""

    def __init__(self, levels: int, width: int, norm: bool) -> None:
        super().__init__()
        self.beside = Bottleneck(width, norm)
        self.down = Bottleneck(width, norm)
        self.inner = Hourglass(levels - 1, width, norm) if levels > 1 else Bottleneck(width, norm)
        self.up = Bottleneck(width, norm)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.up(self.inner(self.down(F.max_pool2d(x, 2))))
        out: Tensor = self.beside(x) + F.interpolate(deep, scale_factor=2.0, mode="nearest")
        return out


class PriorNet(nn.Module):
    """Guess the landmarks' heatmaps from a coarse face; its last features go to the decoder."""

    def __init__(self, shape: FsrnetShape) -> None:
        super().__init__()
        width, count = shape.prior_width, shape.hourglasses
        self.head = nn.Sequential(
            conv(3, width, 7, shape.stride),
            nn.ReLU(),
            *(Bottleneck(width, shape.norm) for _ in range(shape.prior_blocks)),
        )
        self.hourglasses = nn.ModuleList(Hourglass(shape.levels, width, shape.norm) for _ in range(count))
        self.to_maps = nn.ModuleList(shrink_weights(conv(width, shape.landmarks, 1), 0.01) for _ in range(count))
        self.from_maps = nn.ModuleList(conv(shape.landmarks, width, 1) for _ in range(count - 1))

    def forward(self, coarse: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map coarse faces (B, 3, H, W) to features (B, C, H/stride, W/stride) and the heatmaps of each hourglass."""
        x = self.head(coarse)
        maps = []
        features = x
        for i, hourglass in enumerate(self.hourglasses):
            features = hourglass(x)
            maps.append(self.to_maps[i](features))
            if i < len(self.from_maps):
                x = x + features + self.from_maps[i](maps[-1])
        return features, maps


class Fsrnet(nn.Module):
    """The network of an `FsrnetShape`: (B, 3, h, w) in [0, 1] -> (B, 3, h factor, w factor), not clamped."""

    def __init__(self, shape: FsrnetShape) -> None:
        super().__init__()
        self.shape, self.factor = shape, shape.factor
        norm, width, out = shape.norm, shape.width, shape.decoder_width
        folded = 3 * shape.coarse_stride**2
        start = 0.01 if shape.skip else 0.1  # over a skip, nearly nothing is where to start
        self.coarse = nn.Sequential(
            conv(folded, width),
            nn.ReLU(),
            *(ResidualBlock(width, norm) for _ in range(shape.coarse_blocks)),
            shrink_weights(conv(width, folded), start),
        )
        self.encoder = nn.Sequential(
            conv(3, width, 3 if shape.stride == 2 else shape.stride + 1, shape.stride),
            nn.ReLU(),
            *(ResidualBlock(width, norm) for _ in range(shape.encoder_blocks)),
            conv(width, width),
        )
        self.prior = PriorNet(shape)
        self.merge = nn.Sequential(conv(width + shape.prior_width, out), nn.ReLU())
        # 4x4 deconvolutions of stride 2 back to the high size; the residual blocks stand at the first one's size.
        self.first_up = nn.Sequential(nn.ConvTranspose2d(out, out, 4, 2, 1), nn.ReLU())
        self.details = nn.Sequential(*(ResidualBlock(out, norm) for _ in range(shape.decoder_blocks)))
        ends: list[nn.Module] = []
        for _ in range(shape.stride.bit_length() - 2):
            ends += [nn.ConvTranspose2d(out, max(1, out // 2), 4, 2, 1), nn.ReLU()]
            out = max(1, out // 2)
        self.end = nn.Sequential(*ends, shrink_weights(conv(out, 3), start))

    def stages(self, low: Tensor) -> FsrnetOutput:
        """Return fine and coarse pictures and the heatmaps; heatmaps cover the padded picture."""
        base = enlarge(low, self.factor)
        high, wide = base.shape[2:]
        base = pad_to(base, max(self.shape.coarse_stride, self.shape.stride << self.shape.levels))
        coarse = F.pixel_shuffle(
            self.coarse(F.pixel_unshuffle(base, self.shape.coarse_stride)), self.shape.coarse_stride
        )
        if self.shape.skip:
            coarse = base + coarse
        features, maps = self.prior(coarse)
        merged = self.merge(torch.cat([self.encoder(coarse), features], 1))
        fine = self.end(self.details(self.first_up(merged)))
        if self.shape.skip:
            fine = coarse + fine
        return FsrnetOutput(fine[:, :, :high, :wide], coarse[:, :, :high, :wide], maps)

    def forward(self, low: Tensor) -> Tensor:
        return self.stages(low).fine
