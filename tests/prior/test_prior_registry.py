"""Priors by name: the embedded one, a user's file, and names that do not exist."""

from __future__ import annotations

import pytest
import torch
from tiny import small_prior

from latentface.errors import UnknownNameError, WeightsError
from latentface.io.atomic import sha256
from latentface.prior import load_prior
from latentface.prior.formats import identity, write_figures, write_prior
from latentface.prior.registry import EMBEDDED, PRIORS, Published, describe_prior, find_prior


@pytest.fixture
def file(tmp_path):
    prior = small_prior(8)
    write_prior(tmp_path / "mine.safetensors", prior.generator, prior.judge.network, prior.statistics, prior.card)
    return tmp_path / "mine.safetensors"


def test_the_embedded_prior():
    name, path = find_prior(EMBEDDED)
    assert path.stat().st_size < 18e6
    prior = load_prior(EMBEDDED)
    assert prior.name == name == EMBEDDED
    assert prior.sha256 == identity(path)
    assert "non-commercial" in prior.licence
    z = torch.randn(2, prior.z_dim, generator=torch.Generator().manual_seed(0))
    first, second = prior.synthesis(prior.mapping(z))
    assert first.shape == (3, prior.resolution, prior.resolution)
    assert -0.5 < first.min() < first.max() < 1.5
    assert first.std() > 0.05
    assert (first - second).abs().mean() > 0.02  # two people, not one


def test_the_embedded_priors_figures_are_in_its_card():
    figures = describe_prior(EMBEDDED)["figures"]
    assert figures["values"]["invert-w psnr"]["n"] > 0
    assert {"command", "commit", "hardware", "date"} <= figures["measured"].keys()


def test_a_users_file(file, monkeypatch):
    assert load_prior(file).name == "mine"
    assert load_prior(str(file), device=torch.device("cpu")).resolution == 8
    monkeypatch.setenv("HOME", str(file.parent))
    assert find_prior("~/mine.safetensors") == ("mine", file)


def test_a_published_name(file, monkeypatch):
    monkeypatch.setitem(PRIORS, "here", Published(name="here", file=str(file), notice=""))
    assert load_prior("here").name == "here"


def test_describing_loads_no_network(file, monkeypatch):
    monkeypatch.setattr("latentface.prior.formats.generator_of", None)
    card = describe_prior(file)
    assert card["name"] == "mine"
    assert card["path"] == str(file)
    assert card["bytes"] == file.stat().st_size
    assert card["sha256"] == card["file_sha256"] == sha256(file.read_bytes())
    assert card["architecture"]["resolution"] == 8


def test_figures_change_the_file_but_not_which_prior_it_is(file):
    before = describe_prior(file)
    assert "figures" not in before
    write_figures(file, {"values": {"a": 2}})
    card = describe_prior(file)
    assert card["figures"] == {"values": {"a": 2}}
    assert card["sha256"] == before["sha256"]
    assert card["file_sha256"] == sha256(file.read_bytes()) != card["sha256"]


def test_names_that_do_not_exist(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match=f"no prior 'celeba46'; did you mean '{EMBEDDED}'"):
        find_prior("celeba46")
    for missing in (tmp_path / "none.safetensors", "none.safetensors", "./none"):
        with pytest.raises(WeightsError, match="there is no such file"):
            load_prior(missing)
    monkeypatch.setitem(PRIORS, "lost", Published(name="lost", file="lost.safetensors", notice=""))
    with pytest.raises(WeightsError, match="embedded prior is missing or broken; install latentface again"):
        load_prior("lost")
