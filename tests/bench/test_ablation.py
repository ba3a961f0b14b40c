"""`bench ablation`: its rows, its pairs, its refusal of test faces, and inputs that were damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from latentface.bench.core.tasks import task_with_truth
from latentface.bench.core.unexpected import Damage, DamagedTask
from latentface.bench.tables.ablation_rows import DEFAULT, GROUPS, make_rows, row_names
from latentface.bench.tables.tables import read_rows
from latentface.datasets import open_faces
from latentface.degradation import Downscale, project
from latentface.errors import InputError, UnknownNameError
from latentface.explore.engine import explore
from latentface.explore.start.bank import WarmStart
from latentface.faces.trust import trusted
from latentface.io.pictures import read_picture, write_picture
from latentface.metrics.psnr import psnr
from latentface.prior.prior import Prior

from .conftest import make_ablation, smooth_face


def test_every_row_is_another_setting() -> None:
    rows = make_rows(None)
    assert rows[0].name == DEFAULT
    settings = [(v.settings, v.start) for v in rows]
    assert all(a != b for i, a in enumerate(settings) for b in settings[:i])
    assert len(set(row_names())) == len(row_names())
    assert [v.name for v in make_rows(["reach", "weight 0"])] == [DEFAULT, "pseudo-inverse to D", "weight 0"]
    assert len(make_rows([])) == 1
    assert {"space", "geocross", "layers", "norm", "reach", "weight", "ratio", "controls"} <= set(GROUPS)
    with pytest.raises(UnknownNameError, match="did you mean 'weight'"):
        make_rows(["wieght"])


def test_test_faces_are_refused(tiny_prior: Prior, tmp_path: Path) -> None:
    for folder in (tmp_path / "test", tmp_path / "faces-test"):
        write_picture(folder / "a.png", smooth_face(0, 24))
        with pytest.raises(InputError, match="test partition"):
            make_ablation(output=tmp_path / "out", high=folder, prior=tiny_prior)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("short_search")
def test_differences_are_paired(tiny_prior: Prior, faces: Path, tmp_path: Path) -> None:
    options = {
        "output": tmp_path,
        "high": faces,
        "prior": tiny_prior,
        "factors": (4,),
        "rows": ["weight 0", "ratio 1", "best of 4"],
        "damages": ["noise0.05", "noise0.05told"],
        "metrics": ("psnr", "consistency"),
        "limit": 3,
        "no_fetch": True,
        "device": "cpu",
        "batch_size": 3,
    }
    page = make_ablation(**options).read_text()
    rows = {(r.dataset, r.method, r.metric): r.value for r in read_rows(tmp_path / "ablation.csv")}
    for metric in ("psnr", "psnr-projected"):
        gap = rows["high", "weight 0 - rlse", metric]
        assert gap.mean == pytest.approx(
            rows["high", "weight 0", metric].mean - rows["high", "rlse", metric].mean, abs=1e-4
        )
        assert gap.low <= gap.mean <= gap.high
    assert rows["high", "rlse", "psnr-projected"].mean > rows["high", "rlse", "psnr"].mean
    assert rows["high-noise0.05", "random D", "psnr"].n == 3
    assert "| ratio | ratio 1 |" in page
    assert "not told of" in page
    assert make_ablation(**options).read_text() == page
    few = make_ablation(**options | {"damage_rows": ["weight 0"]}).read_text().partition("not what is assumed")[2]
    assert "| weight | weight 0 |" in few
    assert "random D" not in few


@pytest.mark.usefixtures("short_search")
def test_the_finished_table_has_what_upscale_makes(tiny_prior: Prior, faces: Path, tmp_path: Path) -> None:
    options = {
        "output": tmp_path,
        "high": faces,
        "prior": tiny_prior,
        "factors": (4,),
        "rows": ["weight 0"],
        "damages": ["noise0.05told"],
        "damage_rows": [],
        "metrics": ("psnr", "consistency", "seconds"),
        "limit": 3,
        "no_fetch": True,
        "device": "cpu",
        "batch_size": 3,
    }
    plain = make_ablation(**options).read_text()
    assert "as upscale writes them" not in plain
    assert not (tmp_path / "ablation-finished.csv").exists()
    page = make_ablation(**options, finished=True).read_text()
    assert "### high at 4x (4 px), as upscale writes them" in page
    assert "### high-noise0.05told at 4x (4 px), as upscale writes them" in page
    rows = {(r.dataset, r.method, r.metric): r.value for r in read_rows(tmp_path / "ablation-finished.csv")}
    assert {metric for _, _, metric in rows} == {
        "psnr"
    }  # neither the time nor the agreement tells finished faces apart
    task = task_with_truth(open_faces(faces), 16, 4, "bicubic", 3)
    for row in (DEFAULT, "weight 0"):
        by_hand = []
        for key in task.entries:
            truth, low = task.load(key)
            found = read_picture(tmp_path / "faces" / "high" / "4x" / row / f"{key}.png")
            made = project(task.degradation, trusted(task.degradation, found[None], low[None]), low[None])
            by_hand.append(float(psnr(made.mul(255).round().div(255), truth[None])))
        assert rows["high", row, "psnr"].mean == pytest.approx(sum(by_hand) / 3, abs=1e-3)
    gap = rows["high", "weight 0 - rlse", "psnr"]
    assert gap.mean == pytest.approx(
        rows["high", "weight 0", "psnr"].mean - rows["high", DEFAULT, "psnr"].mean, abs=1e-4
    )
    assert make_ablation(**options, finished=True).read_text() == page


def test_damage_is_repeatable_and_of_its_size(faces: Path) -> None:
    task = task_with_truth(open_faces(faces), 16, 8, "bicubic", None)
    key = next(iter(task.entries))
    plain = task.load(key)[1]
    for name, least, most in (("noise0.05", 0.02, 0.08), ("jpeg30", 1e-3, 0.2), ("box", 1e-4, 0.1)):
        damaged = DamagedTask.of(task, Damage.named(name))
        low = damaged.load(key)[1]
        assert torch.equal(low, damaged.load(key)[1])
        assert least < float((low - plain).square().mean().sqrt()) < most
        assert damaged.dataset == f"high-{name}"
    assert DamagedTask.of(task, Damage.named("noise0.05told")).degradation.sigma == 0.05
    for bad in ("noise", "jpegx", "gauss"):
        with pytest.raises(InputError):
            Damage.named(bad)


def test_a_row_may_begin_at_the_bank(tiny_prior, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path))
    cold, warm = make_rows(["bank, 25 steps"])
    assert (cold.start, warm.start) == ("random", "bank")
    assert "start" not in cold.described(tiny_prior)
    assert (cold.described(tiny_prior)["together"], cold.described(tiny_prior)["betas"]) == (0.25, "(0.9, 0.999)")
    told = warm.described(tiny_prior)  # as it is searched, not as it was asked for
    assert (told["start"], told["wander"]) == ("bank", [0.1, 0.1])
    assert (told["together"], told["betas"]) == (0.0, "(0.8, 0.99)")
    low, down = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), Downscale(4, 16)
    found = warm(tiny_prior, low, down, [0, 0])
    begin = WarmStart(tiny_prior, "bank")(low, down, [0, 0])
    again = explore(warm.method, tiny_prior, low, settings=warm.settings, seeds=(0, 0), start=begin)
    assert torch.equal(found.high, again.high)
    assert found.passes == 25  # nothing is drawn where a start is given
