"""Running pages, browsers, and a small photograph for them; without Gradio or Chromium their tests are skipped."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from driver import Server, Visitor
from PIL import Image


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Start pages; they end with the tests."""
    pytest.importorskip("gradio", reason="the extra web is not installed: make test-web")
    pytest.importorskip("selenium", reason="the extra browser is not installed: make test-web")
    started: list[Server] = []

    def one(*options: str, before: str = "") -> Server:
        started.append(Server(tmp_path_factory.mktemp("server"), *options, before=before))
        return started[-1]

    yield one
    for server in started:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def server(start):
    """The page that most tests share."""
    return start("--queue", "10")


@pytest.fixture
def visit(server, tmp_path):
    """Open browsers; they close with the test, and none may have asked another machine for anything."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("there is no chromium with its driver; make test-web installs them for root")
    visitors: list[Visitor] = []

    def one(**options) -> Visitor:
        visitors.append(Visitor(server.url, tmp_path / f"profile-{len(visitors)}", **options))
        return visitors[-1]

    yield one
    hosts = set().union(*(visitor.hosts() for visitor in visitors))
    for visitor in visitors:
        visitor.driver.quit()
    assert hosts == {"127.0.0.1"}


@pytest.fixture(scope="session")
def group(tmp_path_factory) -> Path:
    """Three faces of the embedded prior in one photograph of 270 x 120 px."""
    from latentface.restore.choices import offered_priors, sample_faces

    prior = offered_priors("celeba128", "cpu")["celeba128"]
    noise = np.random.default_rng(1).integers(70, 150, (4, 9, 3), dtype=np.uint8)
    canvas = Image.fromarray(noise).resize((270, 120), Image.Resampling.BICUBIC)
    for i, face in enumerate(sample_faces(prior, (11, 23, 47), 60)):
        canvas.paste(face, (15 + 90 * i, 30))
    path = tmp_path_factory.mktemp("pictures") / "group.png"
    canvas.save(path)
    return path
