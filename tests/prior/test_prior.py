"""The prior as the searches see it: pictures in [0, 1], frozen, gaussianised."""

from __future__ import annotations

import pytest
import torch
from tiny import normal, small_arch, small_networks, small_prior

from latentface.errors import InputError, WeightsError
from latentface.io.atomic import sha256
from latentface.prior.formats import write_prior
from latentface.prior.prior import Prior


@pytest.fixture(scope="module")
def prior():
    return small_prior(16, torch.float64)


def test_it_describes_itself(prior):
    assert (prior.resolution, prior.z_dim, prior.w_dim, prior.num_ws) == (16, 9, 10, 6)
    assert prior.layers == [4, 8, 16]
    assert prior.noise_shapes == [(4, 4), (8, 8), (8, 8), (16, 16), (16, 16)]
    assert (prior.alignment, prior.licence, prior.dtype) == ("celeba", "for tests", torch.float64)
    assert prior.device == torch.device("cpu")


def test_synthesis_is_scaled_to_unit_and_not_clamped(prior):
    w_plus = normal(4, 6, 10)
    signed = prior.generator.synthesis(w_plus)[1]
    picture = prior.synthesis(w_plus)
    torch.testing.assert_close(picture, (signed + 1) / 2)
    assert picture.min() < 0
    assert picture.max() > 1


def test_mapping_gives_every_row_the_same_w(prior):
    w_plus = prior.mapping(normal(3, 9))
    assert w_plus.shape == (3, 6, 10)
    assert (w_plus == w_plus[:, :1]).all()
    torch.testing.assert_close(w_plus[:, 0], prior.generator.mapping(normal(3, 9)))


@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_leave_and_enter_are_the_whole(prior, resolution):
    w_plus = normal(2, 6, 10)
    noise = [normal(2, 1, *shape, seed=i) for i, shape in enumerate(prior.noise_shapes)]
    entry = prior.leave(w_plus, resolution, noise)
    torch.testing.assert_close(prior.enter(w_plus, entry, noise), prior.synthesis(w_plus, noise))
    if resolution > 4:  # by two stops
        again = prior.leave(w_plus, resolution, noise, enter=prior.leave(w_plus, resolution // 2, noise))
        torch.testing.assert_close(again[1], entry[1])


def test_features_and_logits_take_unit_pictures(prior):
    pictures = normal(3, 3, 16, 16).sigmoid()
    features = prior.judge.features(pictures)
    table = prior.generator.arch.d_channels
    assert [tuple(f.shape) for f in features] == [(3, table[8], 8, 8), (3, table[4], 4, 4)]
    for mine, theirs in zip(features, prior.judge.network.features(2 * pictures - 1), strict=True):
        torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(prior.judge.logits(pictures[:1]), prior.judge.network(2 * pictures[:1] - 1))


def test_logits_do_not_depend_on_the_batch(prior):
    pictures = normal(4, 3, 16, 16).sigmoid()
    whole = prior.judge.logits(pictures)
    assert whole.shape == (4,)
    assert torch.equal(whole, torch.cat([prior.judge.logits(one) for one in pictures.split(1)]))
    assert torch.equal(whole.flip(0), prior.judge.logits(pictures.flip(0)))


def test_networks_are_frozen_and_gradients_reach_the_latent(prior):
    assert not any(p.requires_grad for p in [*prior.generator.parameters(), *prior.judge.network.parameters()])
    w_plus = normal(2, 6, 10).requires_grad_()
    prior.judge.features(prior.synthesis(w_plus))[-1].sum().backward()
    assert (w_plus.grad.abs().amax(2) > 0).all()


# -- the gaussianised W ------------------------------------------------------------------------------------------------


def mapped(prior, count=20_000):
    return prior.generator.mapping(normal(count, prior.z_dim, seed=5))


@pytest.mark.parametrize("whitened", [False, True])
def test_gaussianise_and_degaussianise_are_inverse(prior, whitened):
    w, v = mapped(prior, 50), 2 * normal(5, 6, 10)
    forth = prior.gaussianise(w, whitened=whitened)
    torch.testing.assert_close(prior.degaussianise(forth, whitened=whitened), w)
    torch.testing.assert_close(prior.gaussianise(prior.degaussianise(v, whitened=whitened), whitened=whitened), v)
    assert (forth - w).abs().max() > 0.1


def test_gaussianised_w_is_standard_in_each_number(prior):
    v = prior.gaussianise(mapped(prior))
    assert v.mean(0).abs().max() < 0.05
    assert (v.std(0) - 1).abs().max() < 0.05
    correlation = v.t().cov() - torch.eye(prior.w_dim, dtype=v.dtype)
    assert correlation.abs().max() > 0.3  # there is something to whiten


def test_whitened_w_has_unit_covariance():
    prior = small_prior(8, torch.float64, z_dim=30, mapping_layers=2)
    v = prior.gaussianise(mapped(prior), whitened=True)
    assert v.mean(0).abs().max() < 0.05
    assert (v.t().cov() - torch.eye(prior.w_dim, dtype=v.dtype)).abs().max() < 0.06


def test_degaussianise_is_pulses_formula(prior):
    v, s = normal(3, 10), prior.statistics
    u = v * s["gauss_std"] + s["gauss_mean"]
    torch.testing.assert_close(prior.degaussianise(v), torch.where(u < 0, 0.2 * u, u))


def test_w_mean_and_std_are_those_of_many_w(prior):
    w = mapped(prior)
    assert (prior.w_mean - w.mean(0)).abs().max() < 0.05
    assert (prior.w_std / w.std(0) - 1).abs().max() < 0.05


# -- types, files, errors ----------------------------------------------------------------------------------------------


def test_to_float64_is_a_copy():
    single = small_prior(8)
    double = single.to(torch.float64)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    z = normal(2, 9)
    picture = double.synthesis(double.mapping(z))
    assert picture.dtype == torch.float64
    torch.testing.assert_close(single.synthesis(single.mapping(z.float())).double(), picture, rtol=0, atol=1e-4)
    assert double.gaussianise(double.mapping(z), whitened=True).dtype == torch.float64
    assert double.judge.logits(picture).dtype == torch.float64
    assert (double.name, double.sha256, double.card) == (single.name, single.sha256, single.card)


def test_statistics_are_measured_where_a_file_has_none():
    generator, discriminator = small_networks(small_arch(8))
    measured, given = Prior(generator, discriminator).statistics, small_prior(8).statistics
    assert measured.keys() == given.keys()
    assert measured["gauss_cov"].dtype == torch.float64
    torch.testing.assert_close(measured["mean"].float(), given["mean"], rtol=0, atol=0.05)


def test_reading_a_file(tmp_path):
    prior, path = small_prior(8), tmp_path / "mine.safetensors"
    write_prior(path, prior.generator, prior.judge.network, prior.statistics, prior.card)
    read = Prior.read(path)
    assert (read.name, read.alignment, read.licence) == ("mine", "celeba", "for tests")
    assert read.sha256 == sha256(path.read_bytes())
    w_plus = normal(2, 4, 10).float()
    assert (read.synthesis(w_plus) - prior.synthesis(w_plus)).abs().max() < 0.02
    assert not any(p.requires_grad for p in read.generator.parameters())


def test_a_prior_without_discriminator_says_so():
    generator, _ = small_networks(small_arch(8), dtype=torch.float32)
    prior = Prior(generator, None, small_prior(8).statistics, {}, name="half").to(torch.float32)
    assert prior.synthesis(prior.mapping(normal(1, 9).float())).shape == (1, 3, 8, 8)
    with pytest.raises(WeightsError, match="half has no judge"):
        prior.needed_judge()


def test_wrong_alignment_and_shapes(prior):
    generator, _ = small_networks(small_arch(8))
    with pytest.raises(WeightsError, match="alignment is 'upside down'"):
        Prior(generator, None, prior.statistics, {"alignment": "upside down"})
    with pytest.raises(InputError, match=r"w_plus is \(2, 10\), expected \(B, 6, 10\)"):
        prior.synthesis(normal(2, 10))
    with pytest.raises(InputError, match=r"pictures are \(1, 3, 8, 8\); the judge small takes \(B, 3, 16, 16\)"):
        prior.judge.features(normal(1, 3, 8, 8))
