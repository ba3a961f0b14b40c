"""Priors by name: the embedded one, a user's file, and names that do not exist."""

from __future__ import annotations

import pytest
import torch
from small_networks import small_prior

from latentface.errors import UnknownNameError, WeightsError
from latentface.images import sha256
from latentface.prior import load_prior
from latentface.prior.formats import write_prior
from latentface.prior.registry import DEFAULT, PRIORS, Published, describe_prior, find_prior


@pytest.fixture
def file(tmp_path):
    prior = small_prior(8)
    write_prior(tmp_path / "mine.safetensors", prior.generator, prior.discriminator, prior.statistics, prior.card)
    return tmp_path / "mine.safetensors"


def test_the_embedded_prior_is_the_default():
    name, path = find_prior()
    assert (name, path) == find_prior(DEFAULT)
    assert path.stat().st_size < 18e6
    prior = load_prior()
    assert prior.name == DEFAULT
    assert prior.sha256 == sha256(path.read_bytes())
    assert "non-commercial" in prior.licence
    z = torch.randn(2, prior.z_dim, generator=torch.Generator().manual_seed(0))
    first, second = prior.synthesis(prior.mapping(z))
    assert first.shape == (3, prior.resolution, prior.resolution)
    assert -0.5 < first.min() < first.max() < 1.5
    assert first.std() > 0.05
    assert (first - second).abs().mean() > 0.02  # two people, not one


def test_a_users_file(file, monkeypatch):
    assert load_prior(file).name == "mine"
    assert load_prior(str(file), device=torch.device("cpu")).resolution == 8
    monkeypatch.setenv("HOME", str(file.parent))
    assert find_prior("~/mine.safetensors") == ("mine", file)


def test_a_published_name(file, monkeypatch):
    class Here(Published):
        path = file

    monkeypatch.setitem(PRIORS, "here", Here("here", file.name))
    assert load_prior("here").name == "here"


def test_describing_loads_no_network(file, monkeypatch):
    monkeypatch.setattr("latentface.prior.formats.Generator", None)
    card = describe_prior(file)
    assert card["name"] == "mine"
    assert card["path"] == str(file)
    assert card["bytes"] == file.stat().st_size
    assert card["sha256"] == sha256(file.read_bytes())
    assert card["architecture"]["resolution"] == 8


def test_names_that_do_not_exist(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match=f"no prior 'celeba46'; did you mean '{DEFAULT}'"):
        find_prior("celeba46")
    for missing in (tmp_path / "none.safetensors", "none.safetensors", "./none"):
        with pytest.raises(WeightsError, match="there is no such file"):
            load_prior(missing)
    monkeypatch.setitem(PRIORS, "lost", Published("lost", "lost.safetensors"))
    with pytest.raises(WeightsError, match="embedded prior is missing; install latentface again"):
        load_prior("lost")
