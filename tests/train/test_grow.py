"""A grown prior behaves as the small one did, and then learns."""

from __future__ import annotations

import pytest
import torch
from small_training import settings, write_pictures

from latentface.errors import InputError
from latentface.prior.architecture import Architecture
from latentface.prior.formats import read_card, read_prior, write_prior
from latentface.prior.layers import downsample2, upsample2
from latentface.prior.statistics import latent_statistics
from latentface.prior.stylegan2 import Discriminator, Generator
from latentface.train.grow import grow, grown_architecture
from latentface.train.session import train_prior

SMALL = Architecture(resolution=8, channels={4: 10, 8: 8}, z_dim=8, w_dim=8, mapping_layers=2)


@pytest.fixture
def networks():
    """Networks as training leaves them: no bias is zero any more."""
    torch.manual_seed(3)
    pair = Generator(SMALL).double(), Discriminator(SMALL).double()
    for module in pair:
        for parameter in module.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return pair


@pytest.mark.parametrize(("side", "channels"), [(16, {}), (16, {16: 11}), (32, {16: 7, 32: 6})])
def test_nothing_changes_at_first(networks, side, channels):
    g, d = networks
    arch = grown_architecture(SMALL, side, channels)
    large_g, large_d = grow(g, d, arch)
    assert large_g.arch == large_d.arch == arch
    doublings = {16: 1, 32: 2}[side]
    z = torch.randn(5, 8, dtype=torch.float64)
    faces = g(z)
    x = seen = torch.randn(5, 3, side, side, dtype=torch.float64)
    for _ in range(doublings):
        faces, seen = upsample2(faces), downsample2(seen)
    torch.testing.assert_close(large_g(z), faces, rtol=0, atol=1e-12)
    torch.testing.assert_close(large_d(x), d(seen), rtol=0, atol=1e-12)
    assert large_d(x).std() > 1e-3  # it is not that both are deaf


def test_every_new_weight_can_learn_within_two_steps(networks):
    g, d = grow(*networks, grown_architecture(SMALL, 16, {16: 12}))
    z, x = torch.randn(6, 8, dtype=torch.float64), torch.randn(6, 3, 16, 16, dtype=torch.float64)
    optimiser = torch.optim.SGD([*g.parameters(), *d.parameters()], lr=1e-3)
    for _ in range(2):  # behind a weight of zero the gradient comes with the second step
        optimiser.zero_grad()
        (d(g(z)).sum() + d(x).square().sum()).backward()
        optimiser.step()
    silent = [
        name
        for module in (g.synthesis.block(16), d.b16)
        for name, p in module.named_parameters()
        if not name.endswith("noise_strength") and not bool(p.grad.abs().sum() > 0)
    ]
    assert silent == []


def test_the_same_seed_grows_the_same(networks):
    arch = grown_architecture(SMALL, 16)
    torch.manual_seed(1)
    first = grow(*networks, arch, seed=4)
    torch.manual_seed(2)
    again, other = grow(*networks, arch, seed=4), grow(*networks, arch, seed=5)
    for a, b in zip(first, again, strict=True):
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    assert not torch.equal(first[0].synthesis.block(16).conv0.weight, other[0].synthesis.block(16).conv0.weight)


def test_the_new_channels():
    assert dict(grown_architecture(SMALL, 32).channels) == {4: 10, 8: 8, 16: 6, 32: 6}
    assert dict(grown_architecture(SMALL, 16, {16: 9, 8: 8}).d_channels) == {4: 10, 8: 8, 16: 9}


@pytest.mark.parametrize(
    ("side", "channels", "words"),
    [
        (8, {}, "not larger"),
        (24, {}, "powers of two"),
        (16, {8: 9}, "has 8 channels at 8 px"),
        (16, {16: 5}, "too few"),
    ],
)
def test_what_cannot_grow(side, channels, words):
    with pytest.raises(InputError, match=words):
        grown_architecture(SMALL, side, channels)


def test_a_run_goes_on_larger(tmp_path, networks):
    g, d = (module.float() for module in networks)
    small = tmp_path / "small.safetensors"
    write_prior(small, g, d, latent_statistics(g.mapping, 8, 200), {"pictures": 500, "hours": 0.5})
    data, output = write_pictures(tmp_path / "faces"), tmp_path / "large.safetensors"
    arch = grown_architecture(SMALL, 16, {16: 6})
    train_prior([data], output, arch=arch, settings=settings(), init=small, pictures=8)
    train_prior([data], output, resume=True, pictures=12)
    card = read_card(output)
    assert card["architecture"]["resolution"] == 16
    assert card["pictures"] == 512
    assert card["origin"] == {"resolution": 8, "pictures": 500, "hours": 0.5}
    assert read_prior(output)[0].synthesis.block(16).torgb.weight.abs().sum() > 0  # it learns
    other = Architecture(resolution=16, channels=arch.channels, z_dim=16, w_dim=16, mapping_layers=2)
    with pytest.raises(InputError, match="not the one asked for"):
        train_prior([data], tmp_path / "no.safetensors", arch=other, settings=settings(), init=small, pictures=4)
