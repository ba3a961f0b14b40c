"""The losses of the field, each (B,): a face's value depends on that face alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import Degradation, counted_share, resize
from latentface.errors import InputError, UnknownNameError
from latentface.prior.judge import Judge

NORMS = ("l1", "l2", "cosine")
REACHES = ("bilinear", "pinv", "projected")


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


class DiscriminatorSemantic:
    """The discriminator semantic loss: how D's features of x and of Y downsampled differ.

    Published in this form by DGP (Pan et al. 2020, section 3.2): the sum over blocks of the mean absolute difference,
    both small pictures enlarged to D's size. Features are the outputs of D's residual blocks.

    Args:
        judge: D, at a resolution of its own.
        layers: which blocks, 0 the shallowest; None: all of them.
        norm: "l1", "l2" (mean square) or "cosine" (1 - cosine similarity over the whole feature).
        reach: how a small picture reaches D's size: "bilinear", the degradation's `fit`; "pinv", its pseudo-inverse; or
            "projected", the projection inside the loop: D compares the face Y itself with Y + A+ (x - A Y), the face as
            it would have to be, so that both sides are sharp. There D's target moves with Y and has no gradient.
    """

    def __init__(
        self,
        judge: Judge,
        low: Tensor,
        degradation: Degradation,
        *,
        layers: Sequence[int] | None = None,
        norm: str = "l1",
        reach: str = "bilinear",
    ) -> None:
        if norm not in NORMS:
            raise UnknownNameError("norm", norm, NORMS)
        if reach not in REACHES:
            raise UnknownNameError("way to D's size", reach, REACHES)
        self.judge, self.degradation, self.norm, self.reach = judge, degradation, norm, reach
        self.layers = layers
        self.low = low
        with torch.no_grad():
            self.wanted = [] if reach == "projected" else self._features(self._enlarged(low))

    def _enlarged(self, low: Tensor) -> Tensor:
        if self.reach == "pinv":
            return resize(self.degradation.pinv(low), self.judge.resolution)
        return self.degradation.fit(low, self.judge.resolution)

    def _features(self, large: Tensor) -> list[Tensor]:
        return chosen_blocks(self.judge.features(large), self.layers)

    def __call__(self, low_again: Tensor, high: Tensor | None = None) -> Tensor:
        """low_again (B, 3, h, w), the face shrunk, and for "projected" the face itself, high (B, 3, H, W), -> (B,)."""
        if self.reach == "projected":
            if high is None:
                raise InputError("the semantic loss with the reach 'projected' looks at the large face; give it too")
            with torch.no_grad():
                projected = high + self.degradation.correct(self.low - low_again)
                wanted = self._features(resize(projected, self.judge.resolution))
            given = self._features(resize(high, self.judge.resolution))
        else:
            given, wanted = self._features(self._enlarged(low_again)), self.wanted
        return torch.stack([feature_distance(a, b, self.norm) for a, b in zip(given, wanted, strict=True)]).sum(0)


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


def feature_distance(a: Tensor, b: Tensor, norm: str) -> Tensor:
    """Distance of two features (B, C, h, w), (B,)."""
    if norm == "cosine":
        x, y = a.flatten(1), b.flatten(1)
        return 1 - F.cosine_similarity(x, y, dim=1)
    difference = a - b
    return (difference.abs() if norm == "l1" else difference.square()).mean((1, 2, 3))


class LaplacianPyramid:
    """A control for the semantic loss: mean absolute differences of the small pictures' band-pass levels.

    It knows frequencies, as a convolutional network does, and nothing about faces.
    """

    def __init__(self, low: Tensor) -> None:
        self.wanted = self._levels(low)

    @staticmethod
    def _levels(x: Tensor) -> list[Tensor]:
        out = []
        while min(x.shape[-2:]) > 2:
            small = F.avg_pool2d(x, 2)
            out.append(x - F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False))
            x = small
        return [*out, x]

    def __call__(self, low_again: Tensor, high: Tensor | None = None) -> Tensor:
        """low_again (B, 3, h, w) -> (B,); the large face is not looked at."""
        pairs = zip(self._levels(low_again), self.wanted, strict=True)
        return torch.stack([(a - b).abs().mean((1, 2, 3)) for a, b in pairs]).sum(0)


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
