"""MobileStyleGAN's generator against the published formulas, written out plainly in `mobile_reference`."""

from __future__ import annotations

import pytest
import torch
from mobile_reference import haar_reference, mapping_reference, synthesis_reference
from tiny import mobile_arch, mobile_generator, mobile_prior, normal, planes, published
from torch.func import functional_call

from latentface.errors import WeightsError
from latentface.prior.formats import architecture_of, read_prior, write_prior
from latentface.prior.mobilestylegan import MobileArchitecture, inverse_haar

ARCH = mobile_arch(64)


@pytest.fixture(scope="module")
def numbers():
    return published(ARCH)


@pytest.fixture(scope="module")
def generator(numbers):
    return mobile_generator(ARCH, numbers)


def rows(batch=3, seed=0, arch=ARCH, dtype=torch.float64):
    return normal(batch, arch.num_ws, arch.w_dim, seed=seed, dtype=dtype)


def noise_for(generator, batch, seed=10):
    return [normal(batch, 1, *shape, seed=seed + i) for i, shape in enumerate(generator.synthesis.noise_shapes)]


def test_mapping(generator, numbers):
    z = 3 * normal(4, ARCH.z_dim)
    w = mapping_reference(numbers, z)
    torch.testing.assert_close(generator.mapping(z), w, rtol=0, atol=1e-7)  # ours has 1e-8 beside the mean square
    torch.testing.assert_close(generator.style(z), generator.mapping(z)[:, None].expand(-1, ARCH.num_ws, -1))


def test_inverse_haar():
    x = normal(2, 12, 3, 5).requires_grad_()
    mine, theirs = inverse_haar(torch.stack([planes(one) for one in x])) / 2, haar_reference(x)
    torch.testing.assert_close(mine, theirs)
    assert torch.autograd.gradcheck(inverse_haar, x)


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_pictures(resolution):
    arch = mobile_arch(resolution)
    numbers = published(arch, seed=resolution)
    ours, theirs = mobile_generator(arch, numbers), rows(arch=arch, seed=resolution)
    picture = ours.synthesis(theirs)[1]
    assert picture.shape == (3, 3, resolution, resolution)
    torch.testing.assert_close(picture, synthesis_reference(numbers, theirs), rtol=0, atol=1e-9)
    assert (picture[0] - picture[1]).abs().mean() > 0.01


@pytest.mark.parametrize("batch", [1, 3])
def test_given_noise_maps(generator, numbers, batch):
    w_plus, maps = rows(), noise_for(generator, batch)
    picture = generator.synthesis(w_plus, maps)[1]
    torch.testing.assert_close(picture, synthesis_reference(numbers, w_plus, maps), rtol=0, atol=1e-9)
    some = [None, *maps[1:4], *[None] * (len(maps) - 4)]
    own = [v for k, v in numbers.items() if k.isdigit() and v.ndim == 4]
    filled = [a if m is None else m for a, m in zip(own, some, strict=True)]
    given = generator.synthesis(w_plus, some)[1]
    torch.testing.assert_close(given, synthesis_reference(numbers, w_plus, filled), rtol=0, atol=1e-9)


@pytest.mark.parametrize("wide", [1, 10_000])  # both ways to a style's gradient
@pytest.mark.parametrize("batch", [1, 3])
def test_slopes_in_rows_and_noise(generator, numbers, batch, wide, monkeypatch):
    monkeypatch.setattr("latentface.prior.mobilestylegan.WIDE", wide)
    inputs = [rows().requires_grad_(), *(m.requires_grad_() for m in noise_for(generator, batch))]
    weight = normal(3, 3, 64, 64, seed=7)

    def slopes(picture):
        return torch.autograd.grad((picture * weight).sum(), inputs)

    mine = slopes(generator.synthesis(inputs[0], inputs[1:])[1])
    for a, b in zip(mine, slopes(synthesis_reference(numbers, inputs[0], inputs[1:])), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert (mine[0].abs().amax((0, 2)) > 1e-4).all()  # every row draws


def test_slopes_in_the_weights():
    """Every weight and bias of the synthesis, against differences: DGP moves them."""
    arch = mobile_arch(16)
    network, w_plus = mobile_generator(arch, published(arch)).synthesis, rows(2, arch=arch)
    names = [k for k, _ in network.named_parameters()]
    values = [v.detach().clone().requires_grad_() for v in network.parameters()]

    def picture(*now):
        return functional_call(network, dict(zip(names, now, strict=True)), (w_plus,))[1]

    assert {"b4.const", "b4.conv1.weight", "b8.up.bias", "b8.conv2.depthwise", "b8.image.affine.weight"} <= set(names)
    assert torch.autograd.gradcheck(picture, values, fast_mode=True)
    for name, slope in zip(names, torch.autograd.grad(picture(*values).square().sum(), values), strict=True):
        assert slope.abs().max() > 1e-6, name


@pytest.mark.parametrize("side", sorted(ARCH.channels))
def test_leave_and_enter_are_the_whole(side):
    prior = mobile_prior(64, dtype=torch.float64)
    w_plus, noise = rows(), noise_for(prior.generator, 3)
    entry = prior.leave(w_plus, side, noise)
    assert entry[1].shape == (3, ARCH.channels[side], side, side)
    assert entry[2] is None
    whole = prior.synthesis(w_plus, noise)
    assert torch.equal(prior.enter(w_plus, entry, noise), whole)
    assert torch.equal(prior.enter(w_plus, prior.repaint(w_plus, side, entry[1]), noise), whole)
    if side > 4:  # by two stops; rows of blocks that are left out do not matter
        w_other = w_plus.clone()
        w_other[:, 0] = 7.0
        again = prior.leave(w_other, side, noise, enter=prior.leave(w_plus, 4, noise))
        assert torch.equal(again[1], entry[1])


@pytest.mark.parametrize("wide", [1, 10_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise", [False, True])
def test_a_face_alone_is_the_one_in_a_batch(dtype, noise, wide, monkeypatch):
    monkeypatch.setattr("latentface.prior.mobilestylegan.WIDE", wide)
    prior = mobile_prior(64, dtype=dtype)
    w_plus = rows(5, dtype=dtype).requires_grad_()
    maps = [m.to(dtype) for m in noise_for(prior.generator, 5)] if noise else [None] * (ARCH.num_ws - 1)
    batch = prior.synthesis(w_plus, maps)
    (slope,) = torch.autograd.grad(batch.square().sum(), w_plus)
    for i in range(5):
        own = w_plus[i : i + 1].detach().requires_grad_()
        alone = prior.synthesis(own, [None if m is None else m[i : i + 1] for m in maps])
        assert torch.equal(alone[0], batch[i])
        assert torch.equal(torch.autograd.grad(alone.square().sum(), own)[0][0], slope[i])


def test_fast_pictures_are_near_float32_ones(monkeypatch):
    prior = mobile_prior(64)
    w_plus = rows(4, dtype=torch.float32).requires_grad_()
    exact = prior.synthesis(w_plus)
    (slope,) = torch.autograd.grad(exact.square().sum(), w_plus)
    monkeypatch.setattr("latentface.prior.prior.fast_dtype", lambda device: None)
    assert torch.equal(prior.synthesis(w_plus, fast=True), exact)
    monkeypatch.setattr("latentface.prior.prior.fast_dtype", lambda device: torch.bfloat16)
    assert prior.fast_dtype is torch.bfloat16
    assert prior.to(torch.float64).fast_dtype is None
    fast = prior.synthesis(w_plus, fast=True)
    (fast_slope,) = torch.autograd.grad(fast.square().sum(), w_plus)
    assert fast.dtype == fast_slope.dtype == torch.float32
    assert 0 < (fast - exact).norm() < 0.02 * exact.norm()
    assert (fast_slope - slope).norm() < 0.05 * slope.norm()
    assert torch.equal(prior.synthesis(w_plus), exact)  # only where it is asked for


def test_share_below_counts_multiplications():
    prior = mobile_prior(32)  # channels 12, 8, 3 at 4, 8, 16 px
    work = {
        4: 16 * 12 * 12 * 9,
        8: 64 * (3 * 9 + 3 * 8 + 8 * 9 + 8 * 8),
        16: 256 * (2 * 9 + 2 * 3 + 3 * 9 + 3 * 3 + 3 * 12),
    }
    for side in prior.layers:
        share = sum(v for r, v in work.items() if r <= side) / sum(work.values())
        assert prior.share_below(side) == pytest.approx(share)


def test_its_description(generator):
    assert (ARCH.resolution, ARCH.num_ws) == (64, 8)
    assert generator.synthesis.noise_shapes == [(4, 4), (8, 8), (8, 8), (16, 16), (16, 16), (32, 32), (32, 32)]
    described = ARCH.to_json()
    assert described.pop("family") == "mobilestylegan"
    assert MobileArchitecture(**described) == ARCH
    full = MobileArchitecture(resolution=1024, channels={4 << i: 512 if i < 5 else 16384 >> i for i in range(8)})
    assert full.num_ws == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 48}, "powers of two"),
        ({"channels": {4: 8, 8: 4}}, "channels is"),
        ({"channels": {4: 8, 8: 6, 16: 3}}, "multiple of 4"),
        ({"z_dim": 0}, "z_dim is 0.*whole number"),
        ({"w_dim": 7.0}, "w_dim is 7.0.*whole number"),
    ],
)
def test_architectures_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        mobile_arch(**{"resolution": 32, **changes})


def test_a_prior_goes_through_its_file(tmp_path):
    prior, path = mobile_prior(32), tmp_path / "mobile.safetensors"
    write_prior(path, prior.generator, None, prior.statistics, prior.card)
    generator, discriminator, _, card = read_prior(path)
    assert discriminator is None
    assert card["architecture"]["family"] == "mobilestylegan"
    w_plus = rows(2, arch=prior.generator.arch, dtype=torch.float32)
    picture = prior.generator.synthesis(w_plus)[1]
    assert (generator.synthesis(w_plus)[1] - picture).norm() < 0.003 * picture.norm()


def test_a_card_of_a_family_or_of_sizes_that_cannot_be():
    described = ARCH.to_json()
    with pytest.raises(WeightsError, match=r"x: .*'gan9000', this version knows stylegan2, mobilestylegan"):
        architecture_of({"architecture": {**described, "family": "gan9000"}}, "x")
    for wrong in ({"w_dim": "7"}, {"channels": {"4": None}}, {"channels": 3}, {"blocks": 9}, {"resolution": None}):
        with pytest.raises(WeightsError, match="x: the card's architecture cannot be used"):
            architecture_of({"architecture": {**described, **wrong}}, "x")
