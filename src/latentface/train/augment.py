"""Adaptive discriminator augmentation, in a differentiable form.

Karras et al. 2020 ("Training Generative Adversarial Networks with Limited Data"): each transformation is applied to a
picture with probability p, and p follows r_t = E[sign D(real)], which rises when D starts to know its pictures by heart.
The transformations are theirs that matter most for faces: integer shifts, isotropic scaling, rotation, brightness,
contrast and saturation.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(x: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Transform pictures x (B, 3, R, R) in [-1, 1], each transformation with probability p; differentiable in x."""
    if p <= 0:
        return x
    b, _, size, _ = x.shape

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(b, device=x.device).uniform_(low, high, generator=generator)

    def chosen() -> Tensor:
        return (draw(0, 1) < p).float()

    # Geometry: one bilinear look-up, reflected at the border.
    shift_x, shift_y = (((draw(-0.125, 0.125) * chosen()) * size).round() * (2 / size) for _ in range(2))
    scale = torch.exp2(torch.randn(b, device=x.device, generator=generator) * 0.2 * chosen())
    angle = draw(-math.pi, math.pi) * 0.15 * chosen()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack([torch.stack([cos, -sin, shift_x], 1), torch.stack([sin, cos, shift_y], 1)], 1)
    where = F.affine_grid(theta.to(x.dtype), list(x.shape), align_corners=False)
    x = F.grid_sample(x, where, mode="bilinear", padding_mode="reflection", align_corners=False)

    # Colour.
    brightness = (torch.randn(b, device=x.device, generator=generator) * 0.2 * chosen())[:, None, None, None]
    contrast = torch.exp2(torch.randn(b, device=x.device, generator=generator) * 0.5 * chosen())[:, None, None, None]
    saturation = torch.exp2(torch.randn(b, device=x.device, generator=generator) * chosen())[:, None, None, None]
    x = (x + brightness) * contrast
    grey = x.mean(1, keepdim=True)
    return grey + (x - grey) * saturation


def next_probability(p: float, sign_mean: float, pictures: int, target: float = 0.6, speed: float = 500_000) -> float:
    """Move p toward the value that holds r_t at `target`: from 0 to 1 in `speed` pictures at the fastest."""
    step = math.copysign(pictures / speed, sign_mean - target)
    return min(max(p + step, 0.0), 0.8)
