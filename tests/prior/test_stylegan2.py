"""The networks against a straight-line second computation, and what training and searches need of them."""

from __future__ import annotations

import pytest
import stylegan2_reference as reference
import torch
from tiny import normal, small_arch, small_networks
from torch.func import functional_call

from latentface.prior.architecture import Architecture, default_channels, resolutions_of
from latentface.prior.layers import blur, downsample2, upsample2
from latentface.prior.stylegan2 import Discriminator, Generator

TINY = small_arch(8, channels={4: 3, 8: 2}, d_channels={4: 2, 8: 2}, z_dim=3, w_dim=3, mapping_layers=1)


def close(mine, theirs, tolerance=1e-9):
    torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance)


# -- the published numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_generator_is_the_published_one(resolution):
    generator, _ = small_networks(small_arch(resolution))
    steps, s = resolutions_of(resolution), generator.state_dict()
    z = normal(3, 9)
    ws = reference.mapping(s, z, 3)[:, None].expand(-1, generator.arch.num_ws, -1)
    close(generator.style(z), ws)
    picture = generator(z)
    assert picture.std() > 0.1
    close(picture, reference.synthesis(s, steps, ws))

    mixed = normal(3, generator.arch.num_ws, 10, seed=1)  # every row another w: each layer reads its own
    noise = [normal(3, 1, *shape, seed=i) for i, shape in enumerate(generator.synthesis.noise_shapes)]
    noise[0] = None
    expected = reference.synthesis(s, steps, mixed, noise)
    close(generator.synthesis(mixed, noise)[1], expected)
    close(generator.requires_grad_(False).synthesis(mixed, noise)[1], expected)  # frozen ones multiply row by row


@pytest.mark.parametrize("resolution", [8, 16, 32])
@pytest.mark.parametrize(("batch", "group"), [(4, 4), (6, 4), (4, 2), (5, 4), (1, 4)])
def test_discriminator_is_the_published_one(resolution, batch, group):
    _, discriminator = small_networks(small_arch(resolution, mbstd_group=group))
    steps, s = resolutions_of(resolution), discriminator.state_dict()
    x = normal(batch, 3, resolution, resolution)
    for mine, theirs in zip(discriminator.features(x), reference.discriminator_features(s, steps, x), strict=True):
        close(mine, theirs)
    close(discriminator(x), reference.discriminator(s, steps, x, group))


def test_filters_are_zero_insertion_and_explicit_sums():
    x = normal(2, 3, 6, 6)
    close(upsample2(x), reference.upfirdn(x, up=2, pad=(2, 1), gain=4.0), 1e-12)
    close(downsample2(x), reference.upfirdn(x, down=2, pad=(1, 1)), 1e-12)
    close(blur(x, 2), reference.upfirdn(x, pad=(2, 2)), 1e-12)


def test_clamp_limits_layers_as_the_authors_do():
    arch = small_arch(8, clamp=0.05)
    generator, discriminator = small_networks(arch)
    features, rgb = generator.synthesis(normal(2, 4, 10))
    assert features.abs().max() == 0.05
    assert rgb.abs().max() <= 0.1
    block = discriminator.b8
    read = block.fromrgb(normal(2, 3, 8, 8))
    assert read.abs().max() == 0.05  # with gain sqrt(1/2) the limit shrinks too, and the skip has none
    assert (block(normal(2, 3, 8, 8)) - block.skip(read)).abs().max() <= 0.05 * 0.5**0.5 + 1e-12


# -- names and sizes ---------------------------------------------------------------------------------------------------


def test_parameters_have_the_names_and_shapes_of_the_authors_release():
    arch = Architecture(
        resolution=8, channels={4: 3, 8: 5}, d_channels={4: 6, 8: 7}, z_dim=4, w_dim=2, mapping_layers=2
    )
    generator = {k: tuple(v.shape) for k, v in Generator(arch).state_dict().items()}
    assert generator == {
        "mapping.w_avg": (2,),
        "mapping.fc0.weight": (2, 4),
        "mapping.fc0.bias": (2,),
        "mapping.fc1.weight": (2, 2),
        "mapping.fc1.bias": (2,),
        "synthesis.b4.const": (3, 4, 4),
        "synthesis.b4.conv1.weight": (3, 3, 3, 3),
        "synthesis.b4.conv1.noise_strength": (),
        "synthesis.b4.conv1.bias": (3,),
        "synthesis.b4.conv1.noise_const": (4, 4),
        "synthesis.b4.conv1.affine.weight": (3, 2),
        "synthesis.b4.conv1.affine.bias": (3,),
        "synthesis.b4.torgb.weight": (3, 3, 1, 1),
        "synthesis.b4.torgb.bias": (3,),
        "synthesis.b4.torgb.affine.weight": (3, 2),
        "synthesis.b4.torgb.affine.bias": (3,),
        "synthesis.b8.conv0.weight": (5, 3, 3, 3),
        "synthesis.b8.conv0.noise_strength": (),
        "synthesis.b8.conv0.bias": (5,),
        "synthesis.b8.conv0.noise_const": (8, 8),
        "synthesis.b8.conv0.affine.weight": (3, 2),
        "synthesis.b8.conv0.affine.bias": (3,),
        "synthesis.b8.conv1.weight": (5, 5, 3, 3),
        "synthesis.b8.conv1.noise_strength": (),
        "synthesis.b8.conv1.bias": (5,),
        "synthesis.b8.conv1.noise_const": (8, 8),
        "synthesis.b8.conv1.affine.weight": (5, 2),
        "synthesis.b8.conv1.affine.bias": (5,),
        "synthesis.b8.torgb.weight": (3, 5, 1, 1),
        "synthesis.b8.torgb.bias": (3,),
        "synthesis.b8.torgb.affine.weight": (5, 2),
        "synthesis.b8.torgb.affine.bias": (5,),
    }
    discriminator = {k: tuple(v.shape) for k, v in Discriminator(arch).state_dict().items()}
    assert discriminator == {
        "b8.fromrgb.weight": (7, 3, 1, 1),
        "b8.fromrgb.bias": (7,),
        "b8.conv0.weight": (7, 7, 3, 3),
        "b8.conv0.bias": (7,),
        "b8.conv1.weight": (6, 7, 3, 3),
        "b8.conv1.bias": (6,),
        "b8.skip.weight": (6, 7, 1, 1),
        "b4.conv.weight": (6, 7, 3, 3),
        "b4.conv.bias": (6,),
        "b4.fc.weight": (6, 96),
        "b4.fc.bias": (6,),
        "b4.out.weight": (1, 6),
        "b4.out.bias": (1,),
    }


def test_configuration_f_has_the_published_number_of_parameters():
    with torch.device("meta"):
        arch = Architecture(resolution=1024, channels=default_channels(1024))
        generator, discriminator = Generator(arch), Discriminator(arch)
    assert sum(p.numel() for p in generator.parameters()) == 30_370_060
    assert sum(p.numel() for p in discriminator.parameters()) == 29_012_513
    assert arch.num_ws == 18


def test_fresh_networks_begin_as_the_authors_do():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(small_arch(16, z_dim=64, w_dim=64))
    s = generator.state_dict()
    assert all((v == 0).all() for k, v in s.items() if k.endswith(("noise_strength", "w_avg")))
    assert all((v == 1).all() for k, v in s.items() if k.endswith("affine.bias"))
    assert s["mapping.fc0.weight"].std() == pytest.approx(100, rel=0.05)  # stored for a hundredth of the rate
    assert s["synthesis.b8.conv0.weight"].std() == pytest.approx(1, rel=0.15)


# -- what the searches use ---------------------------------------------------------------------------------------------


def test_truncation_draws_every_row_toward_the_mean():
    generator, _ = small_networks(small_arch(16))
    z, mean = normal(2, 9), generator.mapping.w_avg
    close(generator.style(z, 0.3), mean + 0.3 * (generator.style(z) - mean))
    close(generator.style(z, 0.0), mean.expand(2, 6, 10))
    close(generator(z, 0.3), generator.synthesis(generator.style(z, 0.3))[1])


def test_noise_none_is_the_constant_map_and_other_maps_change_the_picture():
    generator, _ = small_networks(small_arch(16))
    ws = normal(2, 6, 10)
    layers = [m for m in generator.synthesis.modules() if hasattr(m, "noise_const")]
    constant = [m.noise_const[None, None] for m in layers]
    whole = generator.synthesis(ws)[1]
    close(generator.synthesis(ws, constant)[1], whole, 1e-12)
    assert [tuple(m.shape[2:]) for m in constant] == generator.synthesis.noise_shapes
    for i in range(len(constant)):
        other = [None] * len(constant)
        other[i] = normal(*constant[i].shape, seed=i)
        assert (generator.synthesis(ws, other)[1] - whole).abs().amax() > 1e-3


@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_leaving_and_entering_is_the_whole(resolution):
    generator, _ = small_networks(small_arch(16))
    ws = normal(2, 6, 10)
    noise = [normal(2, 1, *shape, seed=i) for i, shape in enumerate(generator.synthesis.noise_shapes)]
    features, rgb = generator.synthesis(ws, noise, leave=resolution)
    assert features.shape == (2, generator.arch.channels[resolution], resolution, resolution)
    assert rgb.shape == (2, 3, resolution, resolution)
    rest = generator.synthesis(ws, noise, enter=(resolution, features, rgb))[1]
    close(rest, generator.synthesis(ws, noise)[1], 1e-12)


def test_entering_without_colours_leaves_the_skip_out():
    generator, _ = small_networks(small_arch(16))
    ws = normal(2, 6, 10)
    features, rgb = generator.synthesis(ws, leave=8)
    with_zero = generator.synthesis(ws, enter=(8, features, torch.zeros_like(rgb)))[1]
    close(generator.synthesis(ws, enter=(8, features, None))[1], with_zero, 1e-12)


def test_only_the_logits_couple_a_batch():
    generator, discriminator = small_networks(small_arch(16))
    x = normal(4, 3, 16, 16)
    whole, alone = discriminator.features(x), [discriminator.features(one) for one in x.split(1)]
    for i, features in enumerate(whole):
        close(features, torch.cat([a[i] for a in alone]), 1e-12)
    assert (discriminator(x) - torch.cat([discriminator(one) for one in x.split(1)])).abs().min() > 1e-4
    z = normal(4, 9)
    close(generator(z), torch.cat([generator(one) for one in z.split(1)]), 1e-12)


# -- gradients, types and layouts --------------------------------------------------------------------------------------


def test_synthesis_has_exact_first_and_second_derivatives():
    generator, _ = small_networks(TINY)
    ws = normal(1, 4, 3).requires_grad_()
    noise = [normal(1, 1, *shape, seed=i).requires_grad_() for i, shape in enumerate(generator.synthesis.noise_shapes)]

    def picture(ws, *noise):
        return generator.synthesis(ws, noise)[1]

    assert torch.autograd.gradcheck(picture, (ws, *noise), fast_mode=True)
    assert torch.autograd.gradcheck(lambda ws: picture(ws, *noise), (ws,))
    assert torch.autograd.gradgradcheck(picture, (ws, *noise), fast_mode=True)


def test_discriminator_has_exact_first_and_second_derivatives():
    _, discriminator = small_networks(TINY)
    x = normal(2, 3, 8, 8).requires_grad_()
    assert torch.autograd.gradcheck(discriminator, (x,))
    assert torch.autograd.gradgradcheck(discriminator, (x,), fast_mode=True)


def test_r1_has_an_exact_gradient_in_every_parameter():
    _, discriminator = small_networks(TINY)
    x = normal(2, 3, 8, 8).requires_grad_()
    names, values = zip(*discriminator.named_parameters(), strict=True)

    def r1(*values):
        logits = functional_call(discriminator, dict(zip(names, values, strict=True)), (x,))
        (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return slope.square().sum()

    # A constant added to the logits has no part in R1.
    used = [v.detach().clone().requires_grad_(n != "b4.out.bias") for n, v in zip(names, values, strict=True)]
    assert r1(*used) > 1e-3
    assert torch.autograd.gradcheck(r1, used)


def test_half_precision_is_near_single_precision():
    generator, discriminator = small_networks(small_arch(32), dtype=torch.float32)
    generator.requires_grad_(True)
    z, x = normal(4, 9, dtype=torch.float32), normal(4, 3, 32, 32, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        picture, truncated, logits = generator(z), generator(z, 0.7), discriminator(x)
    assert picture.dtype == torch.float32  # colours are summed in single precision
    for half, full in ((picture, generator(z)), (truncated, generator(z, 0.7)), (logits, discriminator(x))):
        difference = (half.float() - full).square().mean().sqrt() / full.square().mean().sqrt()
        assert 0 < difference < 0.03
    picture.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in generator.parameters())


def test_modulation_cannot_overflow_half_precision():
    generator, _ = small_networks(small_arch(16), dtype=torch.float32)
    ws = normal(2, 6, 10, dtype=torch.float32) * 1e3
    features = generator.half().synthesis(ws.half())[0]
    assert torch.isfinite(features).all()


def test_channels_last_equals_contiguous():
    generator, discriminator = small_networks(small_arch(16))
    z, x = normal(2, 9), normal(2, 3, 16, 16)
    picture, logits = generator(z), discriminator(x)
    generator.to(memory_format=torch.channels_last)
    discriminator.to(memory_format=torch.channels_last)
    close(generator(z), picture, 1e-12)
    close(discriminator(x.contiguous(memory_format=torch.channels_last)), logits, 1e-12)
