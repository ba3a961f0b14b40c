"""StyleGAN3's generator against formulas written plainly; what the searches ask of a family; all methods on it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from stylegan3_reference import small_generator, small_prior, synthesis_reference
from tiny import normal, tiny_faces, tiny_prior

from latentface.explore.engine import explore
from latentface.prior.family import architecture_from
from latentface.prior.formats import write_prior
from latentface.prior.prior import Prior
from latentface.prior.stylegan3 import AliasFreeArchitecture


@pytest.mark.parametrize(("kind", "resolution"), [("t", 32), ("r", 32), ("t", 64)])
def test_it_is_the_papers_network(kind, resolution):
    generator, layers = small_generator(kind, resolution)
    w_plus = normal(2, generator.arch.num_ws, 10)
    found = generator.double().synthesis(w_plus)[1]
    assert found.std() > 0.01
    torch.testing.assert_close(found, synthesis_reference(generator, layers, w_plus), rtol=0, atol=1e-9)


def test_slopes_are_those_of_differences():
    prior = small_prior().to(torch.float64)
    w_plus, step = normal(1, prior.num_ws, 10), normal(1, prior.num_ws, 10, seed=1)
    weights = normal(1, 3, 32, 32, seed=2)

    def value(w):
        return (prior.synthesis(w) * weights).sum()

    start = w_plus.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(value(start), [start])
    difference = (value(w_plus + 1e-6 * step) - value(w_plus - 1e-6 * step)) / 2e-6
    torch.testing.assert_close((slope * step).sum(), difference, rtol=1e-6, atol=0)


def test_it_is_left_and_entered_between_rates():
    prior = small_prior()
    w_plus = normal(2, prior.num_ws, 10, dtype=torch.float32)
    whole = prior.synthesis(w_plus)
    assert prior.layers == [16, 32]
    assert prior.noise_shapes == []
    for side in prior.layers:
        entry = prior.leave(w_plus, side)
        torch.testing.assert_close(prior.enter(w_plus, entry), whole)
    torch.testing.assert_close(prior.enter(w_plus, prior.leave(w_plus, 32, enter=prior.leave(w_plus, 16))), whole)
    assert 0 < prior.share_below(16) < prior.share_below(32) == 1


def test_a_face_does_not_depend_on_its_batch():
    prior = small_prior()
    w_plus = normal(3, prior.num_ws, 10, dtype=torch.float32)
    torch.testing.assert_close(prior.synthesis(w_plus)[1:2], prior.synthesis(w_plus[1:2]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("rlse", {"steps": 2}),
        ("pulse", {"steps": 2}),
        ("ilo", {"steps": (2, 2)}),
        ("mganprior", {"steps": 2, "codes": 2, "compose": 16}),
        ("dgp", {"steps": (1, 1), "latent_rates": (1e-3, 1e-3), "generator_rates": (1e-5, 1e-5), "candidates": 2}),
    ],
)
def test_methods_search_it(method, settings):
    from latentface.explore.registry import METHODS

    prior = small_prior(judge=tiny_prior(32).judge)
    made = METHODS[method].settings(**settings)
    found = explore(method, prior, tiny_faces(1, 8), factor=4, settings=made, seeds=[0])
    assert found.high.shape == (1, 3, 32, 32)
    assert torch.isfinite(found.high).all()


def test_the_file_keeps_all_of_it(tmp_path):
    prior = small_prior("r", judge=tiny_prior(16).judge)
    write_prior(
        tmp_path / "p.safetensors", prior.generator, prior.judge.network, prior.statistics, prior.card, exact=True
    )
    read = Prior.read(tmp_path / "p.safetensors")
    w_plus = normal(1, prior.num_ws, 10, dtype=torch.float32)
    assert torch.equal(read.synthesis(w_plus), prior.synthesis(w_plus))
    assert read.judge.resolution == 16  # of its own size, beside a generator of 32 px
    assert read.generator.arch == prior.generator.arch == architecture_from(prior.generator.arch.to_json())


def test_layers_that_do_not_follow_each_other_are_refused():
    arch = small_generator()[0].arch
    one = arch.layers[2]
    for wrong in (
        {"inputs": one.inputs + 1},
        {"rate": 4},
        {"pad": (one.pad[0] + 4, one.pad[1])},
        {"up": 0},
        {"up_taps": 1},
        {"pad": (9999, 0)},
    ):
        described = [dataclasses.asdict(one) for one in arch.layers]
        described[2] |= wrong
        with pytest.raises(ValueError):
            dataclasses.replace(arch, layers=described)
    with pytest.raises(ValueError, match="expected several"):
        AliasFreeArchitecture(resolution=8, input_side=8, input_rate=8.0, bandwidth=2.0, layers=[])
