"""Untrained networks small enough for tests: random numbers from a fixed seed, every part of the networks in use.

`tiny_prior` is for searches; `small_networks` have odd widths, all different, for the formulas; `mobile_prior` is a
MobileStyleGAN made of the constants that its published file has.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latentface.prior.architecture import Architecture, resolutions_of
from latentface.prior.exits import ExitLayer, beside, write_exits
from latentface.prior.formats import write_prior
from latentface.prior.mobilestylegan import MobileArchitecture, MobileGenerator
from latentface.prior.prior import Prior
from latentface.prior.statistics import latent_statistics
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


# -- StyleGAN2, odd widths ---------------------------------------------------------------------------------------------


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


# -- MobileStyleGAN ----------------------------------------------------------------------------------------------------


def mobile_arch(resolution=32, **changes):
    """Few channels, different from side to side."""
    sides = [4 << i for i in range(resolution.bit_length() - 3)]
    channels = {r: 4 * (len(sides) - i) for i, r in enumerate(sides)} | {sides[-1]: 3}
    return MobileArchitecture(
        resolution=resolution, **{"channels": channels, "z_dim": 6, "w_dim": 7, "mapping_layers": 2, **changes}
    )


def published(arch, seed=0, dtype=torch.float64):
    """Return the file's constants, name -> value in its order, those of the mapping network called fc<i>.

    Values are float32 numbers, so that the file loses nothing.
    """
    g = torch.Generator().manual_seed(seed)
    out = {}

    def draw(name, *shape, scale=1.0):
        out[name] = (torch.randn(*shape, generator=g) * scale).to(dtype)

    def modulation(name, channels):
        draw(f"{name}.modulation.weight", channels, arch.w_dim, scale=0.3)
        draw(f"{name}.modulation.bias", 1, channels)

    def styled(name, number, inputs, outputs, side, kernel):
        if kernel == 1:
            draw(f"{name}.conv.weight_dw", inputs, 1, 1, 3, 3)
        draw(f"Mul_{number}_copy", outputs, inputs, kernel, kernel, scale=1.5 / kernel)
        draw(f"{1500 + number}", 1, 1, side, side, scale=0.5)
        draw(f"{name}.bias", 1, outputs, 1, 1, scale=0.3)

    sides = sorted(arch.channels)
    c = [arch.channels[r] for r in sides]
    last = len(sides) - 2
    modulation(f"m.layers.{last}.to_img.conv", c[-1])  # styles come first, from the last layer to the first
    for i in range(last, -1, -1):
        modulation(f"m.layers.{i}.conv2.conv", c[i + 1])
        modulation(f"m.layers.{i}.conv1.conv", c[i] // 4)
        modulation(f"m.layers.{i}.up", c[i])
    modulation("m.conv1.conv", c[0])
    draw("m.input.input", 1, c[0], 4, 4)
    styled("m.conv1", 39, c[0], c[0], 4, 3)
    for i in range(last + 1):
        for k in range(3):  # of the transform; they are no noise maps
            draw(f"{1540 + 100 * i + k}", c[i] // 4, 1, 1, *((2, 1) if k < 2 else (1, 2)))
        styled(f"m.layers.{i}.conv1", 106 + 100 * i, c[i] // 4, c[i + 1], sides[i + 1], 1)
        styled(f"m.layers.{i}.conv2", 139 + 100 * i, c[i + 1], c[i + 1], sides[i + 1], 1)
    draw(f"m.layers.{last}.to_img.conv.weight", 12, c[-1], 1, 1)
    draw(f"m.layers.{last}.to_img.bias", 1, 12, 1, 1, scale=0.3)
    for i in range(arch.mapping_layers):
        draw(f"fc{i}.weight", arch.w_dim, arch.w_dim if i else arch.z_dim, scale=0.5)
        draw(f"fc{i}.bias", arch.w_dim, scale=0.3)
    return out


def planes(v):
    """Rows ll of all channels, then lh, hl, hh of each -> planes ll, lh, hl, hh."""
    c = len(v) // 4
    return v[[k if band == 0 else c + 3 * k + band - 1 for band in range(4) for k in range(c)]]


def state_of(arch, p):
    """Return the generator's state: our names, constant factors in the weights, bands in planes."""
    sides = sorted(arch.channels)
    points = [v for k, v in p.items() if k.startswith("Mul_")]
    maps = [v[0, 0] for k, v in p.items() if k.isdigit() and v.ndim == 4]
    out = {f"mapping.{k}": v for k, v in p.items() if k.startswith("fc")}

    def put(ours, weight, bias, split):
        out[f"{ours}.weight"], out[f"{ours}.bias"] = (planes(v) if split else v for v in (weight, bias.flatten()))

    def layer(ours, theirs, n, split):
        point = points[n] if n else points[n] / math.sqrt(9 * points[n].shape[1])
        put(ours, point, p[f"{theirs}.bias"], split)
        put(f"{ours}.affine", p[f"{theirs}.conv.modulation.weight"], p[f"{theirs}.conv.modulation.bias"], False)
        out[f"{ours}.noise"] = maps[n]
        if n:
            dw = p[f"{theirs}.conv.weight_dw"]
            out[f"{ours}.depthwise"] = dw[:, 0] / math.sqrt(9 * len(dw))

    out["synthesis.b4.const"] = p["m.input.input"]
    layer("synthesis.b4.conv1", "m.conv1", 0, True)
    for i, r in enumerate(sides[1:]):
        up = [p[f"m.layers.{i}.up.modulation.{k}"] for k in ("weight", "bias")]
        put(f"synthesis.b{r}.up", up[0] / 2, up[1] / 2, True)
        layer(f"synthesis.b{r}.conv1", f"m.layers.{i}.conv1", 1 + 2 * i, False)
        layer(f"synthesis.b{r}.conv2", f"m.layers.{i}.conv2", 2 + 2 * i, r != sides[-1])
    theirs, ours = f"m.layers.{len(sides) - 2}.to_img", f"synthesis.b{sides[-1]}.image"
    scaled = p[f"{theirs}.conv.weight"] / math.sqrt(arch.channels[sides[-1]])
    put(ours, scaled / 2, p[f"{theirs}.bias"] / 2, True)
    put(f"{ours}.affine", p[f"{theirs}.conv.modulation.weight"], p[f"{theirs}.conv.modulation.bias"], False)
    return out


def mobile_generator(arch, p):
    """Return the generator of `published` constants, frozen."""
    dtype = p["m.input.input"].dtype
    generator = MobileGenerator(arch).to(dtype)
    generator.load_state_dict(state_of(arch, p))
    return generator.eval().requires_grad_(False)


def mobile_prior(resolution=32, judge=None, dtype=torch.float32, **card):
    """Return a prior of random numbers."""
    arch = mobile_arch(resolution)
    generator = mobile_generator(arch, published(arch, dtype=dtype))
    statistics = latent_statistics(generator.mapping, arch.z_dim, 20_000)
    return Prior(generator, judge, statistics, {"alignment": "celeba", **card}, name="mobile")


def written_prior(folder, resolution=64, name="mobile"):
    """Write `mobile_prior` and return it as read from its file."""
    made = mobile_prior(resolution)
    path = folder / f"{name}.safetensors"
    write_prior(path, made.generator, None, made.statistics, made.card)
    return Prior.read(path)


def random_exits(prior, sizes=(16, 32), width=5):
    """Return heads of random numbers that paint about as brightly as a face."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        heads = {r: ExitLayer.of(prior.generator, r, width) for r in sizes}
    return {r: head.eval().requires_grad_(False) for r, head in heads.items()}


def prior_with_exits(folder, resolution=64, sizes=(16, 32)):
    """Write a prior and its exits beside it, and return the prior."""
    prior = written_prior(folder, resolution)
    write_exits(beside(prior.path), random_exits(prior, sizes), prior.sha256, {})
    return prior
