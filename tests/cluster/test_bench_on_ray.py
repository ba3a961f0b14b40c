"""`latentface bench --ray`: the figures and pictures of a run without it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentface.bench.core.settings import RunSettings
from latentface.bench.tables.settings import Table1Settings
from latentface.bench.tables.table1 import run_table1
from latentface.cluster.settings import ClusterSettings
from latentface.prior.prior import Prior

FIGURES = ("per_image.csv", "steps.csv")


def figures(folder: Path) -> list[list[str]]:
    """Return all lines of a run's tables but those of its time."""
    rows = [row for name in FIGURES for row in csv.reader((folder / name).read_text().splitlines())]
    return [row for row in rows if row[4] != "seconds"]


@pytest.mark.usefixtures("cluster")
def test_a_table_is_the_same(prior: Prior, tmp_path: Path) -> None:
    for i in range(5):
        values = np.random.default_rng(i).integers(40, 216, (4, 4, 3), dtype=np.uint8)
        (tmp_path / "high").mkdir(exist_ok=True)
        Image.fromarray(values).resize((24, 24), Image.Resampling.BICUBIC).save(tmp_path / "high" / f"{i}.png")
    (tmp_path / "high" / "cut.png").write_bytes(b"")
    table = Table1Settings(
        high=tmp_path / "high", prior=prior, factors=(4.0,), methods=("bilinear", "pulse"), metrics=("psnr", "seconds")
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker of one core
    try:
        for name, cluster in (("alone", ClusterSettings()), ("spread", ClusterSettings(ray="auto"))):
            run = RunSettings(output=tmp_path / name, device="cpu", no_fetch=True, batch_size=2, cluster=cluster)
            run_table1(table, run)
    finally:
        torch.set_num_threads(threads)
    assert len(figures(tmp_path / "alone")) > 20
    assert figures(tmp_path / "spread") == figures(tmp_path / "alone")
    for path in (tmp_path / "alone" / "faces").rglob("*.png"):
        other = tmp_path / "spread" / path.relative_to(tmp_path / "alone")
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(other)))
