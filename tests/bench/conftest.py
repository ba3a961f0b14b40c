"""Small pictures and a tiny prior: nothing is fetched, nothing is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from latentface.explore import registry
from latentface.io.pictures import write_picture
from latentface.prior.architecture import Architecture
from latentface.prior.prior import Prior
from latentface.prior.stylegan2 import Discriminator, Generator


@pytest.fixture(scope="session")
def tiny_prior() -> Prior:
    torch.manual_seed(1)
    arch = Architecture(resolution=16, channels={4: 8, 8: 8, 16: 8}, z_dim=8, w_dim=8, mapping_layers=2)
    return Prior(Generator(arch), Discriminator(arch), name="tiny", sha256="0" * 64)


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
