"""`latentface models`: cards, as text and as JSON."""

from __future__ import annotations

import json

import pytest

from latentface.prior import registry
from latentface.prior.registry import Published


@pytest.fixture
def published(prior_file, monkeypatch):
    """The tiny prior in the place of the embedded one, and one before it whose file is gone."""
    entry = Published("tiny", str(prior_file))  # an absolute path stays one
    figures = {
        "values": {"frechet-squeezenet": {"value": 27.57, "n": 1500}, "one-face": {"value": [0.98, 0.9, 1], "n": 9}}
    }
    old = {"bytes": 4, "architecture": {"resolution": 8}, "pictures": 201784, "figures": figures}
    monkeypatch.setattr(registry, "PRIORS", {"tiny": entry})
    monkeypatch.setattr(registry, "DEFAULT", "tiny")
    monkeypatch.setattr(registry, "published_cards", lambda: {"older-one": old})


@pytest.mark.usefixtures("published")
def test_list(call):
    done = call("models", "list")
    assert done.code == 0
    head, tiny, old = done.out[:3]
    assert tiny.split()[0] == "tiny"
    assert "16 px" in tiny
    assert tiny.endswith("-")  # not measured
    assert "no file any more" in old
    for text in ("8 px", "201,784", "27.57", "98%"):
        assert text in old
    for title, text in (("faces", "8 px"), ("pictures shown", "201,784"), ("Frechet", "27.57"), ("one face", "98%")):
        assert head.index(title) + len(title) == old.index(text) + len(text)  # a column ends where its head does
    assert any(
        line.startswith("older-one: Frechet on 1,500, one face on 9 faces; licence unknown") for line in done.out
    )
    card, kept = json.loads("\n".join(call("models", "list", "--json").out))
    assert (card["name"], card["architecture"]["resolution"]) == ("tiny", 16)
    assert (kept["name"], kept["path"]) == ("older-one", None)


def test_the_embedded_prior_has_figures(call):
    line = next(line for line in call("models", "list").out if line.startswith("celeba64 "))
    for text in ("64 px", "201,784", "27.57", "3.48", "98%", "20.93 dB", "23.29 dB"):
        assert text in line


@pytest.mark.usefixtures("published")
def test_a_prior_that_is_no_longer_there_is_described_and_not_loaded(call, tmp_path):
    shown = call("models", "info", "older-one").out
    assert "pictures: 201784" in shown
    assert "  frechet-squeezenet: 27.57 (n 1500)" in shown
    assert "  one-face: 0.98 [0.9, 1] (n 9)" in shown
    refused = call("upscale", tmp_path, "-p", "older-one")
    assert refused.code == 2
    assert "no longer in the package" in refused.err
    assert "use tiny" in refused.err


@pytest.mark.usefixtures("published")
def test_info_of_the_default_and_of_a_file(call, prior_file):
    default = json.loads("\n".join(call("models", "info", "--json").out))
    file = json.loads("\n".join(call("models", "info", prior_file, "--json").out))
    assert default["sha256"] == file["sha256"]
    assert "alignment: celeba" in call("models", "info", prior_file).out


def test_errors(call, tmp_path):
    unknown = call("models", "info", "celeba46")
    assert unknown.code == 2
    assert "no prior 'celeba46'" in unknown.err
    (tmp_path / "cut.safetensors").write_bytes(b"123")
    broken = call("models", "info", tmp_path / "cut.safetensors")
    assert broken.code == 1
    assert "broken" in broken.err
    assert call("models", "burn").code == 2
