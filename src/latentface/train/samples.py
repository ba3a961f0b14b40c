"""Style rows as searches find them: what exits, encoders and judges of a prior are trained on."""

import torch
from torch import Tensor

from latentface.prior.prior import Prior


def wandering_rows(prior: Prior, random: torch.Generator, count: int) -> Tensor:
    """Draw style rows (B, L, D): a code, or two that meet at some row, and rows that wander from it by a random share."""
    z = torch.randn(2 * count, prior.z_dim, generator=random).to(prior.device, prior.dtype)
    first, second = prior.gaussianise(prior.mapping(z)).split(count)
    meet = torch.randint(1, 2 * prior.num_ws, (count, 1, 1), generator=random)
    place = torch.arange(prior.num_ws)[None, :, None]
    v = torch.where((place < meet).to(first.device), first, second)
    share = torch.rand(count, 1, 1, generator=random).to(v)
    own = torch.randn(v.shape, generator=random).to(v)
    return prior.degaussianise((1 - share.square()).sqrt() * v + share * own)
