"""The demo, with few steps: a real photograph, a real detector, and a column a prior."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tiny import tiny_prior

import latentface
from latentface.io.pictures import read_picture

pytest.importorskip("skimage", reason="scikit-image, which has the photograph, is not installed")
FILE = Path(__file__).parents[1] / "demo" / "astronaut.py"


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # the demo sets it; given back afterwards
    spec = importlib.util.spec_from_file_location("astronaut", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_offline_it_shows_the_embedded_prior_alone_and_says_why(demo, tmp_path, capfd):
    sheet = tmp_path / "sheet.jpg"
    assert demo.main(sheet, folder=tmp_path, steps=2) == 0
    names = {p.name for p in tmp_path.iterdir()}
    faces = {f"astronaut-{side}px{end}.png" for side in (32, 16) for end in ("", "-celeba128")}
    assert names == faces | {"astronaut-truth.png", "sheet.png", "sheet.jpg"}
    assert read_picture(tmp_path / "astronaut-16px-celeba128.png").shape == (3, 128, 128)
    assert read_picture(tmp_path / "astronaut-truth.png").shape[-1] > 128  # as large as she is in the photograph
    assert read_picture(sheet).shape == read_picture(tmp_path / "sheet.png").shape == (3, 2 * 390 + 42, 4 * 390 + 6)
    out, err = capfd.readouterr()
    assert "offline" in err
    assert "must not be used to identify anyone" in out


def test_each_prior_has_a_column(demo, tmp_path, monkeypatch):
    small, large = tiny_prior(64), tiny_prior(128)
    small.name, large.name = "celeba128", "ffhq1024"
    monkeypatch.setattr(latentface, "load_prior", lambda name=None, say=None: large if name is None else small)
    assert demo.main(folder=tmp_path, steps=2) == 0
    assert read_picture(tmp_path / "astronaut-32px-ffhq1024.png").shape == (3, 128, 128)
    sheet = read_picture(tmp_path / "sheet.png")
    assert sheet.shape[-1] == 5 * 390 + 6
    cells = [sheet[:, 42:426, left : left + 384] for left in range(6, 5 * 390, 390)]
    assert all(not cells[i].equal(cells[j]) for i in range(5) for j in range(i))
