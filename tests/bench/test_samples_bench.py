"""`bench samples` and `bench few-sample` on tiny data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

from latentface.bench.tables.calibration import rank_correlation, spread_figures
from latentface.bench.tables.tables import read_rows
from latentface.errors import InputError
from latentface.prior.prior import Prior
from latentface.supervised.vdsr import VdsrShape
from latentface.train.supervised import train_supervised

from .conftest import make_few_sample, make_samples


def test_a_calibrated_spread_covers_what_it_says() -> None:
    g = torch.Generator().manual_seed(0)
    scale = 0.01 + 0.1 * torch.rand(1, 48, 48, generator=g)
    found = 0.5 + scale * torch.randn(8, 3, 48, 48, generator=g)
    truth = 0.5 + scale * torch.randn(3, 48, 48, generator=g)
    figures = spread_figures(found, found.mean(0), truth)
    assert figures["inside-50%"] == pytest.approx(0.5, abs=0.03)
    assert figures["inside-95%"] == pytest.approx(0.95, abs=0.02)
    assert figures["inside-range"] == pytest.approx(7 / 9, abs=0.03)
    assert figures["rank-correlation"] > 0.3
    narrow = spread_figures(0.5 + (found - 0.5) / 10, found.mean(0), truth)
    assert narrow["inside-95%"] < 0.5


def test_rank_correlation_is_spearmans() -> None:
    a, b = torch.rand(2, 50, generator=torch.Generator().manual_seed(0))
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a.numpy(), b.numpy()).statistic)
    assert rank_correlation(a, a**3) == pytest.approx(1)
    assert rank_correlation(a, torch.ones(50)) != rank_correlation(a, torch.ones(50))  # NaN


@pytest.mark.usefixtures("short_search")
def test_samples_of_each_face(tiny_prior: Prior, faces: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "output": tmp_path,
        "high": faces,
        "prior": tiny_prior,
        "factors": (4,),
        "samples": 3,
        "metrics": ("psnr", "ssim"),
        "limit": 3,
        "no_fetch": True,
        "device": "cpu",
        "batch_size": 2,
    }
    page = make_samples(**options).read_text()
    rows = {(r.method, r.metric): r.value for r in read_rows(tmp_path / "samples.csv")}
    assert rows["mean of 3 (rlse)", "psnr"].mean > rows["one of 3 (rlse)", "psnr"].mean
    assert 0 <= rows["spread of 3 (rlse)", "inside-95%"].mean <= 1
    assert ("mean of 3 (rlse) - bilinear+projection", "psnr") in rows
    assert (tmp_path / "samples.png").is_file()
    assert make_samples(**options).read_text() == page
    with pytest.raises(InputError, match="at least 3"):
        make_samples(**{**options, "samples": 2})


@pytest.mark.usefixtures("short_search")
def test_few_pairs_and_all(tiny_prior: Prior, faces: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "output": tmp_path,
        "high": faces,
        "train": [faces],
        "trainer": train_supervised,
        "prior": tiny_prior,
        "factor": 4,
        "baselines": ["vdsr"],
        "pairs": (2, 1000, None),
        "steps": 2,
        "size": VdsrShape(factor=4, depth=3, width=8, fold=2),
        "metrics": ("psnr", "consistency"),
        "limit": 3,
        "no_fetch": True,
        "device": "cpu",
        "batch_size": 3,
    }
    page = make_few_sample(**options).read_text()
    rows = {(r.method, r.metric): r.value for r in read_rows(tmp_path / "few-sample.csv")}
    assert {m for m, _ in rows if " - " not in m} == {"rlse", "vdsr-2-pairs", "vdsr-all-pairs"}  # there are only 5
    assert rows["vdsr-2-pairs - rlse", "psnr"].n == 3
    assert "| VDSR | 2 |" in page
    assert "| RLSE | none |" in page
    assert make_few_sample(**{**options, "trainer": None}).read_text() == page  # nothing is trained again
    with pytest.raises(InputError, match="trained for 2 steps"):
        make_few_sample(**{**options, "steps": 3})
    with pytest.raises(InputError, match="budget"):
        make_few_sample(**{**options, "steps": None})
