"""What the baselines are trained for: the papers' pixel losses, and ESRGAN's second stage.

The second stage is Wang et al. 2018, section 3.2 and 3.3: a relativistic average discriminator, a perceptual loss and an
L1. The published perceptual loss looks through VGG19, which is not at hand; any callable that gives features of pictures
takes its place, and without one the features of the discriminator that is trained beside (feature matching).
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.supervised.blocks import conv, luma
from latentface.supervised.fsrnet import Fsrnet
from latentface.supervised.landmarks import heatmaps
from latentface.supervised.pmrf import PmrfNet
from latentface.supervised.vdsr import Vdsr

Features = Callable[[Tensor], Sequence[Tensor]]  # pictures (B, 3, R, R) in [0, 1] -> features of any shapes


def pixel_loss(
    network: nn.Module, low: Tensor, high: Tensor, landmarks: Tensor | None, random: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Return a network's loss of its paper, and the restored pictures (B, 3, H, W).

    VDSR: mean squared error, of Y alone where only Y is corrected. ESRGAN: L1. FSRNet: mean squared errors of coarse
    face, fine face and heatmaps, each with weight 1, the heatmaps' over the faces whose landmarks are known. PMRF: mean
    squared error of the velocity, at times and with noise out of `random`.
    """
    if isinstance(network, PmrfNet):
        return network.loss(low, high, random or torch.Generator().manual_seed(0))
    if isinstance(network, Fsrnet):
        out = network.stages(low)
        loss = F.mse_loss(out.coarse, high) + F.mse_loss(out.fine, high)
        if landmarks is not None:
            stride, side = network.shape.stride, out.heatmaps[0].shape[-1]
            truth, known = heatmaps(landmarks, side * stride, stride, network.shape.sigma)
            share = known.to(truth)[:, None, None, None]
            for guess in out.heatmaps:
                loss = loss + ((guess - truth).square() * share).mean()
        return loss, out.fine
    restored: Tensor = network(low)
    if isinstance(network, Vdsr):
        if network.shape.planes == 1:
            return F.mse_loss(luma(restored), luma(high)), restored
        return F.mse_loss(restored, high), restored
    return F.l1_loss(restored, high), restored


class VggDiscriminator(nn.Module):
    """ESRGAN's discriminator in the shape of VGG: pairs of convolutions, the second halving, down to 4 px.

    Published: widths 64, 128, 256, 512, 512 for 128 px; `width` is the first. `forward` maps pictures
    (B, 3, R, R) in [0, 1] to logits (B, 1) and the features after each pair.
    """

    def __init__(self, resolution: int, width: int = 24) -> None:
        super().__init__()
        self.pairs = nn.ModuleList()
        inputs, side, i = 3, resolution, 0
        while side > 4:
            outputs = width * min(2**i, 4)
            self.pairs.append(
                nn.Sequential(
                    conv(inputs, outputs),
                    *([nn.BatchNorm2d(outputs)] if i else []),
                    nn.LeakyReLU(0.2),
                    nn.Conv2d(outputs, outputs, 4, 2, 1, bias=False),
                    nn.BatchNorm2d(outputs),
                    nn.LeakyReLU(0.2),
                )
            )
            inputs, side, i = outputs, side // 2, i + 1
        self.judge = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs * side * side, 100), nn.LeakyReLU(0.2), nn.Linear(100, 1)
        )

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        x = pictures * 2 - 1
        for pair in self.pairs:
            x = pair(x)
            features.append(x)
        logits: Tensor = self.judge(x.contiguous())
        return logits, features


def relativistic(winner: Tensor, loser: Tensor) -> Tensor:
    """Return the relativistic average loss that rewards `winner` logits above `loser` ones (equations 1 and 2)."""
    ahead = F.softplus(-(winner - loser.mean())).mean()
    behind = F.softplus(loser - winner.mean()).mean()
    return ahead + behind


def perceptual(mine: Sequence[Tensor], truth: Sequence[Tensor]) -> Tensor:
    """Return the mean over layers of L1 between features, each over the mean size of the truth's."""
    parts = [(a - b.detach()).abs().mean() / (b.detach().abs().mean() + 1e-6) for a, b in zip(mine, truth, strict=True)]
    return torch.stack(parts).mean()
