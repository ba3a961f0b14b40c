"""What many tests share: a tiny prior, in memory and as a file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "explore"))  # where tiny_prior.py is


@pytest.fixture(scope="session")
def prior():
    from tiny_prior import tiny_prior

    return tiny_prior(16)


@pytest.fixture(scope="session")
def prior_file(prior, tmp_path_factory):
    from latentface.prior.formats import write_prior

    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    write_prior(path, prior.generator, prior.discriminator, prior.statistics, prior.card)
    return path
