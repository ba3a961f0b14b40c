"""Untrained networks small enough for tests, with every parameter away from where it would not matter."""

from __future__ import annotations

import torch

from latentface.prior.architecture import Architecture, resolutions_of
from latentface.prior.prior import Prior
from latentface.prior.statistics import latent_statistics
from latentface.prior.stylegan2 import Discriminator, Generator


def small_arch(resolution=8, **changes):
    """Odd widths, all different, so that no two axes can be mistaken for each other."""
    steps = resolutions_of(resolution)
    sizes = {
        "channels": {r: 7 - i for i, r in enumerate(steps)},
        "d_channels": {r: 4 + i for i, r in enumerate(steps)},
        "z_dim": 9,
        "w_dim": 10,
        "mapping_layers": 3,
    }
    return Architecture(resolution=resolution, **{**sizes, **changes})


def small_networks(arch, seed=0, dtype=torch.float64):
    """Return generator and discriminator with random biases, noise strengths and mean w."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, discriminator = Generator(arch), Discriminator(arch)
        with torch.no_grad():
            for name, value in [*generator.named_parameters(), *discriminator.named_parameters()]:
                if name.endswith(("bias", "noise_strength")):
                    value += torch.randn_like(value) * (10.0 if "fc" in name and "b4" not in name else 0.3)
            generator.mapping.w_avg.normal_()
    return generator.to(dtype), discriminator.to(dtype)


def small_prior(resolution=8, dtype=torch.float32, **changes):
    """Return a prior made of `small_networks`."""
    generator, discriminator = small_networks(small_arch(resolution, **changes), dtype=torch.float32)
    statistics = latent_statistics(generator.mapping, generator.arch.z_dim, 20_000)
    card = {"alignment": "celeba", "licence": "for tests"}
    prior = Prior(generator, discriminator, statistics, card, name="small", sha256="0" * 64)
    return prior if dtype == torch.float32 else prior.to(dtype)


def normal(*shape, seed=0, dtype=torch.float64):
    """Return standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
