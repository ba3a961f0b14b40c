"""A prior small enough for tests: random weights from a fixed seed, every part of the networks in use."""

from __future__ import annotations

import torch
from torch import Tensor

from latentface.prior.architecture import Architecture, resolutions_of
from latentface.prior.prior import Prior
from latentface.prior.stylegan2 import Discriminator, Generator, SynthesisLayer


def tiny_prior(resolution: int = 16, seed: int = 0, dtype: torch.dtype = torch.float32) -> Prior:
    """Return an untrained prior of 8 channels, z of 12 and w of 10 numbers, with noise and biases that matter."""
    arch = Architecture(
        resolution=resolution,
        channels=dict.fromkeys(resolutions_of(resolution), 8),
        d_channels=dict.fromkeys(resolutions_of(resolution), 6),
        z_dim=12,
        w_dim=10,
        mapping_layers=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, discriminator = Generator(arch), Discriminator(arch)
        for module in generator.synthesis.modules():
            if isinstance(module, SynthesisLayer):
                torch.nn.init.constant_(module.noise_strength, 0.1)
                torch.nn.init.normal_(module.bias, std=0.1)
        for fc in generator.mapping.children():
            torch.nn.init.normal_(fc.bias, std=10.0)  # a hundredth of it counts
    with torch.no_grad():
        z = torch.randn(4000, arch.z_dim, generator=torch.Generator().manual_seed(seed))
        generator.mapping.w_avg.copy_(generator.mapping(z).mean(0))
    card = {"alignment": "celeba", "licence": "none"}
    prior = Prior(generator, discriminator, None, card, name="tiny", sha256=f"{'0' * 56}{resolution:04d}{seed:04d}")
    return prior if dtype == torch.float32 else prior.to(dtype)


def tiny_faces(count: int = 3, size: int = 4, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return low pictures (count, 3, size, size) in [0.2, 0.8] that no prior made."""
    numbers = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (0.2 + 0.6 * numbers).to(dtype)
