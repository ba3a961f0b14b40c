"""A second discriminator that looks through a frozen classifier's features, beside the prior's own.

Sauer et al. 2021 ("Projected GANs Converge Faster"): features at four scales, mixed across channels and scales by fixed
random convolutions, and a small discriminator with spectral normalisation on each, under the hinge loss. Kumari et al.
2022 ("Ensembling Off-the-shelf Models for GAN Training"): such discriminators beside the network's own, not in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from latentface.devices import seeded
from latentface.errors import InputError
from latentface.train.efficientnet import EfficientNetLite0, load_efficientnet

WIDTH = 64  # channels of the mixed features and of the heads
STRIDE = 32  # the classifier halves five times: the smallest face, and what sizes are multiples of
SHIFT = 8  # px
SMALLEST = 4  # heads halve their maps down to this size


class FeatureProjection(nn.Module):
    """Features of a frozen network, mixed by random convolutions that are never trained.

    Args:
        network: gives (B, C_i, r_i, r_i), the largest map first; seed: of the convolutions.
    """

    def __init__(self, network: EfficientNetLite0, seed: int) -> None:
        super().__init__()
        with seeded(seed):
            self.channels = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in network.channels)
            self.scales = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in network.channels)
            for module in (*self.channels, *self.scales):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.zeros_(module.bias)
        self.network = network
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Pictures (B, 3, R, R) in [-1, 1] -> mixed features (B, WIDTH, r_i, r_i), the largest first."""
        mixed: list[Tensor] = []
        above: Tensor | None = None
        features = self.network(pictures)
        for feature, channel, scale in reversed(list(zip(features, self.channels, self.scales, strict=True))):
            x = channel(feature)
            if above is not None:
                x = (x + F.interpolate(above, size=x.shape[-2:], mode="bilinear")) * 0.5**0.5
            above = scale(x)
            mixed.append(above)
        return mixed[::-1]


class FeatureHeads(nn.Module):
    """One small discriminator a scale, for maps of `sizes`."""

    def __init__(self, sizes: list[int], seed: int) -> None:
        super().__init__()
        with seeded(seed + 1):
            self.heads = nn.ModuleList(self._head(size) for size in sizes)

    @staticmethod
    def _head(size: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        while size > SMALLEST:
            layers += [spectral_norm(nn.Conv2d(WIDTH, WIDTH, 4, 2, 1)), nn.LeakyReLU(0.2)]
            size //= 2
        layers += [spectral_norm(nn.Conv2d(WIDTH, WIDTH, 3, padding=1)), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers, spectral_norm(nn.Conv2d(WIDTH, 1, 3, padding=1)))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return a head's map of logits each, (B, 1, r, r)."""
        return [head(x) for head, x in zip(self.heads, features, strict=True)]


@dataclass(slots=True)
class Vision:
    """The frozen projection, the heads on it, and their optimiser."""

    projection: FeatureProjection
    heads: FeatureHeads
    optimiser: torch.optim.Adam

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds: all but the classifier, which has its own file."""
        mixing = {k: v for k, v in self.projection.state_dict().items() if not k.startswith("network.")}
        return {"mixing": mixing, "heads": self.heads.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value."""
        self.projection.load_state_dict(saved["mixing"], strict=False)
        self.heads.load_state_dict(saved["heads"])
        rate = self.optimiser.param_groups[0]["lr"]
        self.optimiser.load_state_dict(saved["optimiser"])
        self.optimiser.param_groups[0]["lr"] = rate  # the settings in force, which need not be the checkpoint's


def make_vision(resolution: int, rate: float, seed: int, weights: str | Path | None, device: torch.device) -> Vision:
    """Build it for faces of `resolution`; `rate`: of the heads' Adam.

    Raises InputError: faces of fewer than 32 px, which the classifier shrinks to nothing. MissingDataError,
    WeightsError: as `load_efficientnet`.
    """
    if resolution < STRIDE:
        raise InputError(f"vision needs faces of {STRIDE} px and more; these have {resolution}")
    projection = FeatureProjection(load_efficientnet(weights), seed)
    with torch.no_grad():
        sizes = [x.shape[-1] for x in projection(torch.zeros(1, 3, resolution, resolution))]
    heads = FeatureHeads(sizes, seed)
    for module in (projection, heads):
        module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Vision(projection, heads, torch.optim.Adam(heads.parameters(), lr=rate, betas=(0.0, 0.99)))


@dataclass(frozen=True, slots=True)
class View:
    """How the classifier sees a step's pictures: shifted right and down, then resized to `size`, all in px."""

    right: int
    down: int
    size: int


def draw_view(resolution: int, random: torch.Generator) -> View:
    """Draw the view of a step for pictures of `resolution` px."""
    near = range(-(-resolution * 3 // 4 // STRIDE) * STRIDE, resolution * 5 // 4 + 1, STRIDE)
    sizes = [*near] or [resolution]
    right, down = torch.randint(-SHIFT, SHIFT + 1, (2,), device=random.device, generator=random).tolist()
    chosen = torch.randint(len(sizes), (), device=random.device, generator=random).item()
    return View(right, down, sizes[int(chosen)])


def look(pictures: Tensor, view: View) -> Tensor:
    """Return pictures (B, 3, R, R) as (B, 3, size, size); what a shift brings in repeats the border.

    The classifier halves its maps five times: at one place and size alone, what it does not see would be the same patterns
    of a few pixels in every step.
    """
    size = pictures.shape[-1]
    sides = (max(view.right, 0), max(-view.right, 0), max(view.down, 0), max(-view.down, 0))
    padded = F.pad(pictures, sides, mode="replicate")
    shifted = padded[..., sides[3] : sides[3] + size, sides[1] : sides[1] + size]
    return shifted if view.size == size else F.interpolate(shifted, size=view.size, mode="bilinear")


def judge_loss(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """The hinge loss of the heads, summed over them."""
    losses = [F.relu(1 - r.float()).mean() + F.relu(1 + f.float()).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).sum()


def deceive_loss(fake: list[Tensor]) -> Tensor:
    """What the generator minimises, summed over the heads."""
    return -torch.stack([f.float().mean() for f in fake]).sum()
