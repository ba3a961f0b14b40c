"""Small pictures and a tiny prior: nothing is fetched, nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from latentface.bench.core.settings import DeviceSettings, RunSettings
from latentface.bench.prior.run import run_prior
from latentface.bench.prior.settings import PriorSettings
from latentface.bench.tables import ablation_rows
from latentface.bench.tables.ablation import run_ablation
from latentface.bench.tables.calibration import run_samples
from latentface.bench.tables.few_sample import run_few_sample
from latentface.bench.tables.pooled import run_pooled
from latentface.bench.tables.settings import (
    AblationSettings,
    FewSampleSettings,
    SamplesSettings,
    SemanticSettings,
    Table1Settings,
    Table2Settings,
    TimeSettings,
)
from latentface.bench.tables.table1 import run_table1
from latentface.bench.tables.table2 import run_table2
from latentface.bench.tables.timing import run_time
from latentface.explore import registry
from latentface.io.pictures import write_picture
from latentface.prior.prior import Prior

RUN_OPTIONS = ("output", "device", "no_fetch", "batch_size", "on_progress")


def maker(run: Callable[..., Path], table: type, place: type = RunSettings) -> Callable[..., Path]:
    """Return a table's function with the options of both its settings as keywords."""

    def make(*, trainer: Any = None, **options: Any) -> Path:
        where = place(**{"device": "cpu", **{k: options.pop(k) for k in RUN_OPTIONS if k in options}})
        return run(table(**options), where, **({"trainer": trainer} if run is run_few_sample else {}))

    return make


make_table1 = maker(run_table1, Table1Settings)
make_table2 = maker(run_table2, Table2Settings)
make_ablation = maker(run_ablation, AblationSettings)
make_samples = maker(run_samples, SamplesSettings)
make_few_sample = maker(run_few_sample, FewSampleSettings)
make_pooled = maker(run_pooled, SemanticSettings)
make_prior = maker(run_prior, PriorSettings)
make_time = maker(run_time, TimeSettings, DeviceSettings)


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
    presets = {"equal": {"steps": 6}, "paper": {"steps": 6}}
    monkeypatch.setattr(ablation_rows, "ABLATED", replace(ablation_rows.ABLATED, presets=presets))
    short = replace(registry.METHODS["rlse"], presets=presets, coarse=False)
    monkeypatch.setitem(registry.METHODS, "rlse", short)
