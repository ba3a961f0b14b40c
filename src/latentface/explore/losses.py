"""The losses of the field, each (B,): a face's value depends on that face alone."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from latentface.degradation import Degradation, counted_share
from latentface.errors import InputError
from latentface.prior.prior import Prior

Loss = Callable[[Tensor], Tensor]  # the face shrunk, (B, 3, h, w) -> (B,)
Trunk = Callable[[Tensor], list[Tensor]]  # low pictures (B, 3, h, w) in [0, 1] -> features (B, C, h', w')


def pixel(low_again: Tensor, low: Tensor, norm: str = "l2", degradation: Degradation | None = None) -> Tensor:
    """Mean square ("l2") or mean absolute ("l1") difference over pixels and channels, (B,).

    With the degradation, only the pixels that count are in the mean, and what its noise alone would give is taken off:
    a face need not explain the noise.
    """
    difference = low_again - low
    loss = difference.square().mean((1, 2, 3)) if norm == "l2" else difference.abs().mean((1, 2, 3))
    if degradation is None:
        return loss
    if degradation.mask is not None:
        loss = loss / torch.as_tensor(counted_share(degradation)).to(loss)
    if degradation.sigma > 0:
        floor = degradation.sigma**2 if norm == "l2" else degradation.sigma * math.sqrt(2 / math.pi)
        loss = (loss - floor).clamp_min(0)
    return loss


def semantic(prior: Prior, low: Tensor, degradation: Degradation, layers: Sequence[int] | None = None) -> "FeatureLoss":
    """Return the discriminator semantic loss: how D's features of the input and of the face shrunk differ.

    Published in this form by DGP (Pan et al. 2020, section 3.2). Both small pictures are enlarged to D's size.

    Args:
        layers: which of D's residual blocks, 0 the shallowest; None: all of them.

    Raises:
        WeightsError: the prior has no discriminator. InputError: a block that does not exist.
    """
    return FeatureLoss(discriminator(prior, degradation), low, layers)


def discriminator(prior: Prior, degradation: Degradation) -> Trunk:
    """Return what looks at small pictures through D's residual blocks, enlarged bilinearly to its size."""
    judge = prior.needed_judge()
    return lambda low: judge.features(degradation.fit(low, judge.resolution))


class FeatureLoss:
    """Sum over blocks of the mean absolute difference between the features of two small pictures, (B,).

    Args:
        wanted: (B, 3, h, w), the input; blocks: which features of the trunk, negative ones from the end; None: all.
    """

    def __init__(self, trunk: Trunk, wanted: Tensor, blocks: Sequence[int] | None = None) -> None:
        self.trunk, self.blocks = trunk, blocks
        with torch.no_grad():
            self.wanted = self._features(wanted)

    def _features(self, pictures: Tensor) -> list[Tensor]:
        return chosen_blocks(self.trunk(pictures), self.blocks)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, h, w) in [0, 1] -> (B,)."""
        pairs = zip(self._features(pictures), self.wanted, strict=True)
        return torch.stack([(a - b).abs().mean((1, 2, 3)) for a, b in pairs]).sum(0)


def chosen_blocks(features: list[Tensor], blocks: Sequence[int] | None) -> list[Tensor]:
    """Return some of a network's features by their numbers, negative ones from the end, or with None all.

    Raises:
        InputError: none is named, or one that does not exist.
    """
    if blocks is None:
        return features
    wrong = [i for i in blocks if not -len(features) <= i < len(features)]
    if wrong or not blocks:
        asked = f"block {wrong[0]}" if wrong else "none"
        raise InputError(f"the network has {len(features)} blocks, 0 to {len(features) - 1}, but {asked} is asked for")
    return [features[i] for i in blocks]


def geocross(w_plus: Tensor) -> Tensor:
    """PULSE's geodesic distance between style rows, (B,).

    Over all L x L pairs, the diagonal too: 2 atan2(|a - b|, |a + b|), squared, times D, mean over the pairs, / 8.
    """
    rows, width = w_plus.shape[1], w_plus.shape[2]
    a, b = w_plus[:, :, None], w_plus[:, None]
    # sqrt has no slope at 0, where the diagonal is: the tiny number keeps its gradient zero instead of NaN.
    apart = (a - b).square().sum(-1).add(1e-12).sqrt()
    together = (a + b).square().sum(-1).add(1e-12).sqrt()
    angle = 2 * torch.atan2(apart, together)
    return angle.square().sum((1, 2)) * (width / (8.0 * rows * rows))


def cross(w_plus: Tensor) -> Tensor:
    """Mean Euclidean distance between the style rows, (B,)."""
    a, b = w_plus[:, :, None], w_plus[:, None]
    return (a - b).square().sum(-1).add(1e-12).sqrt().mean((1, 2))


def latent_prior(z: Tensor) -> Tensor:
    """Half the mean square of a standard normal latent (B, ...), (B,): its negative log-likelihood per number."""
    return z.flatten(1).square().mean(1) / 2


def norm_prior(v: Tensor) -> Tensor:
    """Squared distance of each row's norm from sqrt(D), mean over rows, (B,); v (B, L, D)."""
    return (v.square().sum(-1).add(1e-12).sqrt() - math.sqrt(v.shape[-1])).square().mean(1)
