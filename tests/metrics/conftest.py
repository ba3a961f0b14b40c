"""Where the reference weights and faces are; what is absent skips its tests with a reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latentface.io.pictures import read_picture
from latentface.io.sources import open_source, read_entry

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


@pytest.fixture
def weights_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of reference weights, named in the environment; the cache is empty."""
    folder = Path(os.environ.get("LATENTFACE_WEIGHTS") or SHARED / "weights")
    if not folder.is_dir():
        pytest.skip("no reference weights: name their folder in LATENTFACE_WEIGHTS")
    monkeypatch.setenv("LATENTFACE_WEIGHTS", str(folder))
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def need(weights_folder: Path) -> Callable[[str], Path]:
    """A function that gives a weights file's path, or skips."""

    def find(file: str) -> Path:
        path = weights_folder / file
        if not path.is_file():
            pytest.skip(f"{file} is not in the folder of reference weights")
        return path

    return find


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty weights folder and an empty cache."""
    monkeypatch.setenv("LATENTFACE_WEIGHTS", str(tmp_path / "empty"))
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def real_faces() -> Callable[[str, int], Tensor]:
    """A function that reads the first N real faces (N, 3, 128, 128) of one of their zips, or skips."""

    def read(archive: str, count: int) -> Tensor:
        path = Path(os.environ.get("LATENTFACE_DATA") or SHARED / "data") / "celeba128" / archive
        if not path.is_file():
            pytest.skip("the CelebA faces are not at hand")
        return torch.stack([read_picture(read_entry(entry)) for entry in open_source(path).entries[:count]])

    return read


@pytest.fixture
def pairs() -> tuple[Tensor, Tensor]:
    """Two batches (3, 3, 64, 48) that look a little like pictures, and like one another, in [0, 1]."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(3, 3, 9, 7, generator=generator)
    truth = torch.nn.functional.interpolate(coarse, (64, 48), mode="bicubic").clamp(0, 1)
    result = (truth + 0.08 * torch.randn(truth.shape, generator=generator)).clamp(0, 1)
    return result, truth
