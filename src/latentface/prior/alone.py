"""Whether the numbers of a face depend on what shares its batch."""

import torch
from torch import Tensor

from latentface.prior.prior import Prior


def rows_are_alone(prior: Prior, rows: int) -> bool:
    """Say whether each face of a batch of `rows` has, to the last bit, the picture, D's features and slopes it has alone.

    It depends on the processor and on the number of threads of the caller's thread.
    """
    z = torch.randn(rows, prior.z_dim, generator=torch.Generator().manual_seed(0)).to(prior.device, prior.dtype)
    w_plus = torch.cat([prior.mapping(one) for one in z.split(1)]).detach()
    together = _numbers(prior, w_plus)
    return all(
        all(torch.equal(a[i : i + 1], b) for a, b in zip(together, _numbers(prior, w_plus[i : i + 1]), strict=True))
        for i in {0, rows - 1}
    )


def _numbers(prior: Prior, w_plus: Tensor) -> list[Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        w_plus = w_plus.clone().requires_grad_(True)
        picture = prior.synthesis(w_plus, fast=True)
        features = []
        if prior.judge is not None:
            side = prior.judge.resolution
            features = prior.judge.features(torch.nn.functional.interpolate(picture, size=side, mode="bilinear"))
        loss = sum((f.abs().mean((1, 2, 3)) for f in features), picture.square().mean((1, 2, 3)))
        (slope,) = torch.autograd.grad(loss.sum(), [w_plus])
    return [picture.detach(), *(f.detach() for f in features), slope]
