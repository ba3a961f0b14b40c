"""A generator with a name and an address: fetched, converted, kept; its sha256 pinned; the cache listed and cleared."""

from __future__ import annotations

import hashlib
import http.server
import threading
from functools import partial

import pytest
import torch
from nvidia_files import discriminator, dumped, snapshot, stylegan2
from tiny import small_arch, small_networks

from latentface.cli import run
from latentface.errors import MissingDataError, WeightsError
from latentface.prior import registry
from latentface.prior.published import PRIORS, Published
from latentface.prior.registry import fetch_prior, load_prior


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve a pickle under the name `there`; give the folder that is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    g, d = small_networks(small_arch(16), dtype=torch.float32)
    (folder / "there.pkl").write_bytes(dumped(snapshot(stylegan2(g), discriminator(d))))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *a: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LATENTFACE_OFFLINE", raising=False)
    there = Published(
        name="there",
        file="there.safetensors",
        notice="for tests",
        address=f"http://127.0.0.1:{server.server_address[1]}/there.pkl",
        fetched=1,
        facts={"alignment": "celeba", "licence": "for tests", "architecture": {"resolution": 16}},
    )
    monkeypatch.setitem(registry.PRIORS, "there", there)
    yield folder
    server.shutdown()
    server.server_close()


def test_it_is_fetched_converted_and_kept(served, tmp_path):
    said = []
    path = fetch_prior("there", said.append)
    prior = load_prior("there", offline=True)
    assert (prior.path, prior.resolution, prior.licence) == (path, 16, "for tests")
    assert prior.judge.resolution == 16
    found = hashlib.sha256((served / "there.pkl").read_bytes()).hexdigest()
    assert "about 1 MB of http://127.0.0.1" in said[0]
    assert "for tests" in said[0]
    assert found in said[-1]
    assert not list((tmp_path / "cache" / "downloads").glob("*.pkl"))  # ours alone is kept
    assert fetch_prior("there", said.append, offline=True) == path


def test_a_later_fetch_must_bring_the_same_file(served, tmp_path):
    fetch_prior("there", lambda words: None).unlink()
    fetch_prior("there", lambda words: None).unlink()
    with open(served / "there.pkl", "ab") as file:
        file.write(b"more")
    with pytest.raises(WeightsError, match=r"sha256 is .*, expected .*nothing was kept"):
        fetch_prior("there", lambda words: None)
    assert not registry.is_cached("there")


def test_what_is_no_generator_is_neither_kept_nor_pinned(served, tmp_path):
    whole = (served / "there.pkl").read_bytes()
    (served / "there.pkl").write_bytes(b"<!DOCTYPE html><html>log in</html>")
    with pytest.raises(WeightsError, match="a web page, not the file itself"):
        fetch_prior("there", lambda words: None)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    (served / "there.pkl").write_bytes(whole)
    assert fetch_prior("there", lambda words: None).is_file()


def test_what_cannot_be_fetched_says_how_to_bring_it(served):
    with pytest.raises(
        MissingDataError, match=r"on another machine; then: latentface models convert there\.pkl -o there"
    ):
        fetch_prior("there", offline=True)
    (served / "there.pkl").unlink()
    with pytest.raises(MissingDataError, match="does not answer"):
        fetch_prior("there", lambda words: None)


def test_the_cache_is_listed_and_cleared(served, tmp_path, capsys):
    fetch_prior("there", lambda words: None)
    assert run(["models", "cache"]) == 0
    listed = capsys.readouterr().out
    assert "there.safetensors" in listed
    assert listed.splitlines()[-1].endswith(str(tmp_path / "cache"))
    assert run(["models", "cache", "--clear"]) == 0
    assert "removed" in capsys.readouterr().out
    assert not registry.is_cached("there")
    assert list((tmp_path / "cache" / "pins").iterdir())  # the next fetch is still compared


def test_published_generators_have_an_address_a_size_and_a_licence():
    known = [prior for prior in PRIORS.values() if prior.address is not None]
    assert {prior.facts["architecture"]["resolution"] for prior in known} == {256, 512, 1024}
    for prior in known:
        assert prior.address.startswith("https://")
        assert prior.address.endswith(".pkl")
        assert prior.fetched > prior.megabytes > 100
        assert "non-commercial" in prior.facts["licence"]
        assert prior.notice
