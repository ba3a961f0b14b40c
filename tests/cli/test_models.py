"""`latentface models`: cards, as text and as JSON."""

from __future__ import annotations

import json

import pytest

from latentface.prior import registry
from latentface.prior.registry import Published


@pytest.fixture
def published(prior_file, monkeypatch):
    """The tiny prior in the place of the embedded one."""
    entry = Published("tiny", str(prior_file))  # an absolute path stays one
    monkeypatch.setattr(registry, "PRIORS", {"tiny": entry})
    monkeypatch.setattr(registry, "DEFAULT", "tiny")


@pytest.mark.usefixtures("published")
def test_list(call):
    done = call("models", "list")
    assert done.code == 0
    assert done.out[0].startswith("tiny  16 px")
    (card,) = json.loads("\n".join(call("models", "list", "--json").out))
    assert card["name"] == "tiny"
    assert card["architecture"]["resolution"] == 16


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
