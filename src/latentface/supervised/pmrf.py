"""PMRF: posterior-mean rectified flow, which carries a baseline's mean answer over to a plausible face.

Ohayon, Michaeli, Elad, "Posterior-Mean Rectified Flow: Towards Minimum MSE Photo-Realistic Image Restoration", 2024. With
the mean answer m(low) of a network that was trained for the squared error, a face x1 and x0 = m(low) + sigma e,
e ~ N(0, 1), a velocity v is trained for

    min E |v((1 - t) x0 + t x1, t) - (x1 - x0)|^2,    t ~ U(0, 1),

and a face is restored by Euler's steps x <- x + v(x, t) / N from x0 at t = 0 to t = 1. The velocity network is a small
U-Net of ours, for minutes to an hour of training. It is told m, too, and adds to the answer for faces of which only grain is
unknown: were x1 - m ~ N(0, s^2), then with r = x - m

    v = a(t) r,    a(t) = (t s^2 - (1 - t) sigma^2) / (t^2 s^2 + (1 - t)^2 sigma^2).

So the noise becomes grain, and a network at a quarter of the size, which can hardly carry it, learns the rest.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.errors import InputError
from latentface.supervised.blocks import check_counts, check_factor, conv, is_power_of_two, pad_to, shrink_weights

STEPS = 25  # Euler's, where nobody says how many
TRIAL_STEPS = 5  # of the faces that a training looks at
NORM_GROUPS = 8
TIME = 64  # numbers that tell the time


@dataclass(frozen=True, kw_only=True, slots=True)
class PmrfShape:
    """PMRF's numbers.

    `mean_kind` and `mean` are the kind and the shape of the network that gives the mean answer, `widths` the channels of the
    U-Net's levels, each half as large as the one before, `fold` how many pixels a side are folded into channels first,
    `sigma` the noise's deviation and `grain` s, that of what of a face is as fine as pixels, in units of [0, 1].
    """

    factor: int
    mean_kind: str
    mean: Mapping[str, Any]
    sigma: float = 0.05
    grain: float = 0.02
    widths: tuple[int, ...] = (64, 96, 96)
    fold: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON knows lists only
        check_factor(self.factor)
        check_counts("PMRF", fold=self.fold, **{f"widths[{i}]": width for i, width in enumerate(self.widths)})
        wrong = not self.widths or any(width % NORM_GROUPS for width in self.widths)
        if wrong or not is_power_of_two(self.fold) or not (0 < self.sigma < 1 and 0 < self.grain < 1):
            raise InputError(
                f"PMRF: widths {self.widths}, fold {self.fold}, sigma {self.sigma}, grain {self.grain}; expected multiples "
                f"of {NORM_GROUPS}, a power of two, numbers below 1"
            )


class TimedBlock(nn.Module):
    """x + conv(norm(conv(norm(x)))), the second norm scaled and shifted by the time's features (Ho et al. 2020)."""

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(NORM_GROUPS, inputs), nn.GroupNorm(NORM_GROUPS, outputs, affine=False)
        self.conv1, self.conv2 = conv(inputs, outputs), shrink_weights(conv(outputs, outputs), 0.1)
        self.time = nn.Linear(time, 2 * outputs)
        self.beside = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time)[:, :, None, None].chunk(2, 1)
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y) * (1 + scale) + shift))
        out: Tensor = self.beside(x) + y
        return out


class VelocityNet(nn.Module):
    """A U-Net: pictures x (B, 3, H, W) about [0, 1], mean answers, times (B,) in [0, 1] -> velocities (B, 3, H, W)."""

    def __init__(self, shape: PmrfShape) -> None:
        super().__init__()
        self.fold, widths = shape.fold, shape.widths
        self.multiple = shape.fold << (len(widths) - 1)
        folded, time = 3 * shape.fold**2, 4 * TIME
        self.time = nn.Sequential(nn.Linear(TIME, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.sigma, self.grain = shape.sigma, shape.grain
        self.first = conv(2 * folded, widths[0])
        pairs = list(pairwise(widths))
        self.before = nn.ModuleList(TimedBlock(w, w, time) for w, _ in pairs)
        self.shrink = nn.ModuleList(conv(w, deep, stride=2) for w, deep in pairs)
        self.middle = nn.ModuleList(TimedBlock(widths[-1], widths[-1], time) for _ in range(2))
        self.grow = nn.ModuleList(conv(deep, w) for w, deep in reversed(pairs))
        self.after = nn.ModuleList(TimedBlock(2 * w, w, time) for w, _ in reversed(pairs))
        self.last = nn.Sequential(
            nn.GroupNorm(NORM_GROUPS, widths[0]), nn.SiLU(), shrink_weights(conv(widths[0], folded), 0.01)
        )

    def forward(self, x: Tensor, mean: Tensor, t: Tensor) -> Tensor:
        height, width = x.shape[2:]
        rest = x - mean
        time = self.time(_waves(t))
        given = torch.cat([2 * x - 1, rest / self.sigma], 1)
        y = self.first(F.pixel_unshuffle(pad_to(given, self.multiple), self.fold))
        beside = []
        for i, block in enumerate(self.before):
            beside.append(block(y, time))
            y = self.shrink[i](beside[-1])
        for block in self.middle:
            y = block(y, time)
        for i, block in enumerate(self.after):
            y = self.grow[i](F.interpolate(y, scale_factor=2.0, mode="nearest"))
            y = block(torch.cat([y, beside.pop()], 1), time)
        learnt = F.pixel_shuffle(self.last(y), self.fold)[:, :, :height, :width].float()
        velocity: Tensor = self._for_grain(t)[:, None, None, None] * rest + learnt * self.sigma
        return velocity

    def _for_grain(self, t: Tensor) -> Tensor:
        """Return a(t), what of x - m the velocity is if only grain is unknown, for times (B,)."""
        faces, noise = t * self.grain**2, (1 - t) * self.sigma**2
        return (faces - noise) / (t * faces + (1 - t) * noise).clamp_min(1e-12)


def _waves(t: Tensor) -> Tensor:
    """Return sines and cosines (B, TIME) of times (B,), of wavelengths from 2 pi down to 2 pi / 1000."""
    rates = torch.exp(torch.linspace(0, math.log(1000), TIME // 2, device=t.device))
    angles = t[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


class PmrfNet(nn.Module):
    """The network of a `PmrfShape`: (B, 3, h, w) in [0, 1] -> (B, 3, h factor, w factor), not clamped.

    `mean`: the network of the mean answer; it is never trained here.
    """

    def __init__(self, shape: PmrfShape, mean: nn.Module) -> None:
        super().__init__()
        self.shape, self.factor = shape, shape.factor
        self.mean = mean.eval().requires_grad_(False)
        self.flow = VelocityNet(shape)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the velocity alone."""
        super().train(mode)
        self.mean.eval()
        return self

    @torch.no_grad()
    def answer(self, low: Tensor) -> Tensor:
        """Return the mean answer (B, 3, H, W) in [0, 1]."""
        mean: Tensor = self.mean(low).float().clamp(0, 1)
        return mean

    def forward(self, low: Tensor, noise: Tensor | None = None, steps: int = TRIAL_STEPS) -> Tensor:
        """Restore `low`; `noise`: (B, 3, H, W), without it always the same for every face."""
        if noise is None:
            size = (3, low.shape[2] * self.factor, low.shape[3] * self.factor)
            noise = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(low.device).expand(len(low), *size)
        mean = self.answer(low)
        x = mean + self.shape.sigma * noise
        for step in range(steps):
            x = x + self.flow(x, mean, x.new_full((len(x),), step / steps)) / steps
        return x

    def loss(self, low: Tensor, high: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the flow's loss at random times, and what it takes the faces for there, (B, 3, H, W)."""
        noise = torch.randn(high.shape, generator=random).to(high.device)
        t = torch.rand(len(high), generator=random).to(high.device)
        mean = self.answer(low)
        x0 = mean + self.shape.sigma * noise
        part = t[:, None, None, None]
        x = torch.lerp(x0, high, part)
        velocity = self.flow(x, mean, t)
        return F.mse_loss(velocity, high - x0), x + (1 - part) * velocity
