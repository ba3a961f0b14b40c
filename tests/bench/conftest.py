"""Small pictures and a tiny prior: nothing is fetched, nothing is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from latentface.explore import registry
from latentface.io.pictures import write_picture
from latentface.prior.prior import Prior


@pytest.fixture(scope="session")
def tiny_prior() -> Prior:
    return tiny.tiny_prior(16, seed=1)


def smooth_face(seed: int, side: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 4, 4, generator=g)
    return torch.nn.functional.interpolate(small, size=(side, side), mode="bicubic").clamp(0, 1)[0]


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "high"
    for i in range(5):
        write_picture(folder / f"{i:03d}.png", smooth_face(i, 24))
    return folder


@pytest.fixture(scope="session")
def natives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "small"
    for i, side in enumerate((1, 3, 4, 9)):
        write_picture(folder / f"{i:03d}_{side}px.png", smooth_face(10 + i, side))
    return folder


@pytest.fixture
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    method = registry.METHODS["rlse"]
    short = registry.Method(
        **{
            **{k: getattr(method, k) for k in ("name", "summary", "source", "module", "settings_class")},
            "presets": {"equal": {"steps": 6}, "paper": {"steps": 6}},
        }
    )
    monkeypatch.setitem(registry.METHODS, "rlse", short)
