"""mGANprior: image processing using multi-code GAN prior (Gu, Shen, Zhou; CVPR 2020).

N latent codes make features of the same layer; channel weights mix them, F = sum_n alpha_n G1(z_n), and the rest of
the generator paints the picture, G2(F). It was written for PGGAN; what a style generator makes of it is stated in
docs/methods.md and where it happens below.

Shape legend: B faces, N codes, C channels and r side of the composing layer, L style rows, D width of w.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from latentface.degradation import Degradation
from latentface.errors import InputError
from latentface.explore import losses
from latentface.explore.engine import Iterate, Problem
from latentface.explore.optim import Adam, Descent
from latentface.explore.result import MethodSettings
from latentface.explore.space import Variables, drawn
from latentface.explore.trunks import TRUNKS, make_trunk
from latentface.prior.prior import Prior

VGG_RELU3_3 = 2  # layer 16 of VGG16: which feature of the trunk that is


@dataclass(frozen=True, kw_only=True, slots=True)
class MganpriorSettings(MethodSettings):
    """Settings of mGANprior; the defaults are the published ones, in [0, 1] units.

    Attributes:
        codes: N; compose: side r of the layer where they are mixed (PGGAN's layer 6 is 16 px); a prior that is not
            larger is mixed at half its side.
        steps, rate: of plain gradient descent; optimiser: "descent" or "adam".
        pixel_weight: of the mean square: 4 in [0, 1] is the published 1 in [-1, 1].
        feature_weight: of the mean absolute difference of features; 0 switches it off.
        trunk: what gives the features: "discriminator", since VGG16's weights (528 MB) cannot come along, or "vgg16".
        feature_blocks: which of the discriminator's blocks, None for all; VGG16's is always relu3_3.
    """

    codes: int = 20
    compose: int = 16
    steps: int = 2000
    rate: float = 1.0
    optimiser: str = "descent"
    pixel_weight: float = 4.0
    feature_weight: float = 1e-3
    trunk: str = "discriminator"
    feature_blocks: tuple[int, ...] | None = None

    choices: ClassVar = {"optimiser": ("descent", "adam"), "trunk": TRUNKS}

    def __post_init__(self) -> None:
        MethodSettings.__post_init__(self)
        if self.compose < 4:
            raise InputError(f"compose is {self.compose} px; expected at least 4")


def mganprior(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: MganpriorSettings,
    seeds: Sequence[int],
    start: Tensor | None,
) -> Problem:
    """State the problem for inputs low (B, 3, h, w): N codes a face and their channel weights.

    Raises:
        InputError: a composing layer that the prior does not have. WeightsError: a feature loss without a discriminator.
        MissingDataError: VGG16 is asked for and not at hand.
    """
    n, side = settings.codes, composing_side(prior, settings.compose)
    z = drawn(seeds, n * prior.z_dim).to(prior.device, prior.dtype).view(-1, n, prior.z_dim)
    usual, channels = usual_rms(prior, side)
    variables = {"codes": z, "weights": z.new_full((len(low), n, channels), 1 / n)}
    features = None
    if settings.feature_weight:
        blocks = settings.feature_blocks if settings.trunk == "discriminator" else (VGG_RELU3_3,)
        features = losses.FeatureLoss(make_trunk(settings.trunk, prior, degradation), low, blocks)

    def objective(now: Variables, t: float) -> Iterate:
        high = compose(prior, now["codes"], now["weights"], side, usual)  # equation 2
        low_again = degradation.forward(high)
        terms = {"pixel": settings.pixel_weight * losses.pixel(low_again, low, "l2", degradation)}  # equation 3
        if features is not None:
            terms["feature"] = settings.feature_weight * features(low_again)
        return Iterate(high, low_again, terms)

    share = prior.share_below(side)
    return Problem(
        variables=variables,
        losses=objective,
        steps=settings.steps,
        rates=dict.fromkeys(variables, settings.rate),
        optimiser=Adam if settings.optimiser == "adam" else Descent,
        cost=n * share + 1 - share,
    )


def compose(prior: Prior, codes: Tensor, weights: Tensor, side: int, usual: Tensor) -> Tensor:
    """codes (B, N, z_dim), weights (B, N, C) -> pictures (B, 3, R, R), not clamped.

    PGGAN's pixel norm would restore the scale of the mixed features; here they are rescaled to the layer's usual RMS,
    so that the code's further division by N changes nothing. Later layers take the plain mean of the codes' w. The RGB
    skip starts anew at the composing layer, painted from the mixed features.
    """
    b, n, width = codes.shape
    w_plus = prior.mapping(codes.reshape(b * n, width))  # (B N, L, D)
    parts = prior.leave(w_plus, side)[1].unflatten(0, (b, n))  # (B, N, C, r, r)
    mixed = (weights[..., None, None] * parts).sum(1)  # (B, C, r, r)
    mixed = mixed * (usual / rms(mixed))
    mean = w_plus.unflatten(0, (b, n)).mean(1)  # (B, L, D)
    return prior.enter(mean, prior.repaint(mean, side, mixed))


def composing_side(prior: Prior, wanted: int) -> int:
    """Return the side of the composing layer: `wanted`, or half the prior's resolution where that is not larger."""
    if wanted not in prior.layers and wanted < prior.resolution:
        raise InputError(f"compose is {wanted}; the prior {prior.name} has layers of {prior.layers} px")
    return min(wanted, prior.resolution // 2)


def rms(features: Tensor) -> Tensor:
    """Root mean square of each face's features (B, C, r, r), (B, 1, 1, 1)."""
    return features.square().mean((1, 2, 3), keepdim=True).add(1e-12).sqrt()


@torch.no_grad()
def usual_rms(prior: Prior, side: int, count: int = 64) -> tuple[Tensor, int]:
    """Return the mean root mean square of a layer's features over `count` random faces, a number, and their channels."""
    z = drawn(range(count), prior.z_dim).to(prior.device, prior.dtype)
    features = [prior.leave(prior.mapping(part), side)[1] for part in z.split(16)]
    return torch.stack([rms(part).sum() for part in features]).sum() / count, features[0].shape[1]
