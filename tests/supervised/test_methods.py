"""The baselines as methods: which weights they take, and that nothing is searched."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_faces

from latentface.degradation import Downscale
from latentface.errors import InputError, MissingDataError
from latentface.explore.engine import explore
from latentface.explore.registry import find_method
from latentface.supervised.formats import load_baseline, write_baseline
from latentface.supervised.methods import SupervisedSettings, bundled
from latentface.supervised.registry import make_network
from latentface.supervised.vdsr import VdsrShape

KINDS = ("vdsr", "esrgan", "fsrnet", "pmrf")
SHAPE = VdsrShape(factor=4, depth=3, width=8, fold=2)
DOWN = Downscale(8, 32)


@pytest.fixture
def weights(tmp_path):
    """A file of VDSR of random numbers, for 8 to 32 px."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make_network("vdsr", SHAPE)
    card = {"resolution": 32, "stage": "pixel", "licence": "for tests"}
    write_baseline(tmp_path / "v.safetensors", "vdsr", SHAPE, network.state_dict(), card)
    return str(tmp_path / "v.safetensors")


def test_the_answer_is_the_networks(prior, weights):
    low = tiny_faces(3, 8)
    found = explore("vdsr", prior, low, degradation=DOWN, settings=SupervisedSettings(weights=weights), seeds=[4, 5, 6])
    assert torch.equal(found.high, load_baseline(weights).restore(low))
    assert (found.method, found.seeds, found.passes) == ("vdsr", (4, 5, 6), 0)
    assert found.best_step.tolist() == [0, 0, 0]
    assert (dict(found.history), dict(found.latent)) == ({}, {})
    torch.testing.assert_close(found.low_again, DOWN.forward(found.high))
    other = explore("vdsr", prior, low, degradation=DOWN, settings=SupervisedSettings(weights=weights))
    assert torch.equal(found.high, other.high)  # whatever the seed


def test_a_file_is_a_method_and_may_end_in_a_projection(prior, weights):
    low = tiny_faces(2, 8)
    settings = find_method(weights).settings("equal", project=True)
    found = explore(weights, prior, low, degradation=DOWN, settings=settings)
    assert found.method == "vdsr"
    assert (found.consistency_db > 60).all()


def test_weights_of_another_kind_or_factor_are_refused(prior, weights):
    settings = SupervisedSettings(weights=weights)
    with pytest.raises(InputError, match="the weights are of vdsr"):
        explore("esrgan", prior, tiny_faces(1, 8), degradation=DOWN, settings=settings)
    with pytest.raises(InputError, match="trained for 4x"):
        explore("vdsr", prior, tiny_faces(1, 8), degradation=Downscale(8, 64), settings=settings)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [8, 16])
def test_the_packages_own_weights_are_found_by_size_and_factor(kind, factor):
    path = bundled(kind, Downscale(128 // factor, 128))
    assert path.name == f"{kind}-128-{factor}x.safetensors"
    assert load_baseline(path).kind == kind


def test_esrgan_has_two_stages(tmp_path, monkeypatch):
    down = Downscale(16, 128)
    assert bundled("esrgan", down, "pixel").name == "esrgan-l1-128-8x.safetensors"
    assert find_method("esrgan").settings("l1").stage == "pixel"
    monkeypatch.setattr("latentface.supervised.methods.BUNDLED", tmp_path)
    (tmp_path / "esrgan-l1-128-8x.safetensors").touch()
    assert bundled("esrgan", down, "gan").name == "esrgan-l1-128-8x.safetensors"  # where the other was not trained


def test_what_no_weights_were_trained_for(prior):
    with pytest.raises(MissingDataError, match=r"8 -> 32 px .*latentface train vdsr --factor 4 --resolution 32"):
        explore("vdsr", prior, tiny_faces(1, 8), degradation=DOWN)
    with pytest.raises(InputError, match="whole factors"):
        explore("vdsr", prior, tiny_faces(1, 5), degradation=Downscale(5, 16))
