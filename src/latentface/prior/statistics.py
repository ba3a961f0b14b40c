"""Statistics of the latent space W: what the searches know of it.

PULSE (Menon et al. 2020, section 3.2) noticed that W is nearly Gaussian once the mapping's last leaky ReLU (0.2) is
undone by a leaky ReLU (5). Its mean, deviation and covariance are measured on many mapped z.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def latent_statistics(
    mapping: nn.Module, z_dim: int, count: int = 1_000_000, seed: int = 0, batch: int = 20_000
) -> dict[str, Tensor]:
    """Return mean and std of w, and mean, std, covariance of LeakyReLU(5)(w), over `count` draws.

    Shapes (D,), and (D, D) for `gauss_cov`. Sums are kept in float64.
    """
    generator = torch.Generator().manual_seed(seed)
    like: Tensor = next(mapping.parameters())  # its device and floating type
    count = max(count, 2)
    dim: int = mapping(like.new_ones(1, z_dim)).shape[1]
    total = torch.zeros(4, dim, dtype=torch.float64)
    products = torch.zeros(dim, dim, dtype=torch.float64)
    for start in range(0, count, batch):
        z = torch.randn(min(batch, count - start), z_dim, generator=generator).to(like)
        w = mapping(z)
        v = F.leaky_relu(w, 5.0)
        total += torch.stack(
            [w.double().sum(0), w.double().square().sum(0), v.double().sum(0), v.double().square().sum(0)]
        ).cpu()
        products += (v.t() @ v).double().cpu()
    mean, square, v_mean, v_square = total / count
    statistics = {
        "mean": mean,
        "std": (square - mean.square()).clamp_min(1e-12).sqrt(),
        "gauss_mean": v_mean,
        "gauss_std": (v_square - v_mean.square()).clamp_min(1e-12).sqrt(),
        "gauss_cov": products / count - torch.outer(v_mean, v_mean),
    }
    return {name: value.to(like) for name, value in statistics.items()}
