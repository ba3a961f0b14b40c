"""Priors by name: the embedded one, a user's file, and names that do not exist."""

from __future__ import annotations

import pytest
import torch
from small_networks import small_prior

from latentface.errors import InputError, UnknownNameError, WeightsError
from latentface.images import sha256
from latentface.prior import load_prior
from latentface.prior.formats import identity, write_figures, write_prior
from latentface.prior.registry import DEFAULT, PRIORS, Published, describe_prior, find_prior, published_cards


@pytest.fixture
def file(tmp_path):
    prior = small_prior(8)
    write_prior(tmp_path / "mine.safetensors", prior.generator, prior.judge.network, prior.statistics, prior.card)
    return tmp_path / "mine.safetensors"


def test_the_embedded_prior_is_the_default():
    name, path = find_prior()
    assert (name, path) == find_prior(DEFAULT)
    assert path.stat().st_size < 18e6
    prior = load_prior()
    assert prior.name == DEFAULT
    assert prior.sha256 == identity(path)
    assert "non-commercial" in prior.licence
    z = torch.randn(2, prior.z_dim, generator=torch.Generator().manual_seed(0))
    first, second = prior.synthesis(prior.mapping(z))
    assert first.shape == (3, prior.resolution, prior.resolution)
    assert -0.5 < first.min() < first.max() < 1.5
    assert first.std() > 0.05
    assert (first - second).abs().mean() > 0.02  # two people, not one


def test_what_is_kept_of_published_priors():
    for name, card in published_cards().items():
        assert len(card["sha256"]) == 64
        assert card["bytes"] > 0
        assert card["pictures"] > 0
        assert card["architecture"]["resolution"] >= 64
        assert {"command", "commit", "hardware", "date"} <= card["figures"]["measured"].keys(), name
    for name, published in PRIORS.items():
        if name in published_cards():  # else its figures are in its own card, until it is replaced
            assert identity(published.path) == published_cards()[name]["sha256"]
        assert describe_prior(name)["figures"]["values"]["invert-w psnr"]["n"] > 0


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
    monkeypatch.setattr("latentface.prior.formats.generator_of", None)
    card = describe_prior(file)
    assert card["name"] == "mine"
    assert card["path"] == str(file)
    assert card["bytes"] == file.stat().st_size
    assert card["sha256"] == card["file_sha256"] == sha256(file.read_bytes())
    assert card["architecture"]["resolution"] == 8


def test_figures_come_from_the_card_or_from_what_is_kept_of_these_weights(file, monkeypatch):
    assert "figures" not in describe_prior(file)
    kept = {"mine": {"sha256": identity(file), "figures": {"values": {"a": 1}}}}
    monkeypatch.setattr("latentface.prior.registry.published_cards", lambda: kept)
    assert describe_prior(file)["figures"] == {"values": {"a": 1}}
    write_figures(file, {"values": {"a": 2}})
    card = describe_prior(file)
    assert card["figures"] == {"values": {"a": 2}}
    assert card["sha256"] == kept["mine"]["sha256"]
    assert card["file_sha256"] == sha256(file.read_bytes()) != card["sha256"]


def test_names_that_do_not_exist(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match=f"no prior 'celeba46'; did you mean '{DEFAULT}'"):
        find_prior("celeba46")
    for missing in (tmp_path / "none.safetensors", "none.safetensors", "./none"):
        with pytest.raises(WeightsError, match="there is no such file"):
            load_prior(missing)
    monkeypatch.setattr("latentface.prior.registry.published_cards", lambda: {"celeba32": {}})
    with pytest.raises(InputError, match=f"celeba32 is no longer in the package.*use {DEFAULT}"):
        load_prior("celeba32")
    monkeypatch.setitem(PRIORS, "lost", Published("lost", "lost.safetensors"))
    with pytest.raises(WeightsError, match="embedded prior is missing; install latentface again"):
        load_prior("lost")
