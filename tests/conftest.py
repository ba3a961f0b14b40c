"""What many tests share: a tiny prior, in memory and as a file."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line has it; read when PyTorch is imported below

import pytest
from packaged_prior import PackagedPrior

DATA = Path(__file__).resolve().parents[2] / "shared"  # pictures that are not in the package
if DATA.is_dir():
    os.environ.setdefault("LATENTFACE_TEST_DATA", str(DATA))


@pytest.fixture(autouse=True)
def no_cache_of_the_users(tmp_path_factory, monkeypatch):
    """Banks, flows and metrics of tiny priors do not belong into the user's cache folder."""
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def results_are_faces(monkeypatch):
    """What tiny priors draw is no face to a detector, and would be left; tests of the verdict bring their own."""
    monkeypatch.setattr("latentface.restore.engine.reason_against", lambda high, error, alignment: None)


@pytest.fixture(autouse=True, scope="session")
def offline():
    """No test fetches anything, unless it is marked `network` or brings its own source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATENTFACE_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def prior():
    from tiny import tiny_prior

    return tiny_prior(16)


@pytest.fixture(scope="session")
def prior_file(prior, tmp_path_factory):
    from latentface.prior.formats import write_prior

    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    write_prior(path, prior.generator, prior.judge.network, prior.statistics, prior.card)
    return path


@pytest.fixture
def packaged(prior, prior_file, tmp_path, monkeypatch):
    """Two priors with names: `tiny`, embedded, and `large`, the default one, that a wheel of tiny files carries."""
    return PackagedPrior(prior, prior_file, tmp_path, monkeypatch)
