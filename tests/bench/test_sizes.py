"""A table whose faces are smaller than the prior's: 16 px, with a prior of 32 px, in every command."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import tiny_prior

from latentface.bench.core.evaluate import evaluate
from latentface.bench.core.setup import batch_size
from latentface.bench.core.sizes import by_area, compared_at, high_side, previews_at, searched_from
from latentface.bench.core.tasks import seed_of, task_with_truth, to_8_bit
from latentface.bench.core.variants import make_variant
from latentface.bench.prior import study as prior_module
from latentface.bench.prior.features import Features
from latentface.bench.prior.quality import own_judge
from latentface.bench.prior.run import data_side
from latentface.bench.tables.tables import read_rows
from latentface.cli import run as latentface
from latentface.datasets import open_faces
from latentface.degradation import Downscale
from latentface.errors import InputError
from latentface.explore.engine import explore
from latentface.explore.registry import METHODS
from latentface.explore.result import Step
from latentface.io.pictures import read_picture, write_picture
from latentface.metrics.psnr import psnr
from latentface.prior.prior import Prior
from latentface.supervised.vdsr import VdsrShape
from latentface.train.supervised import train_supervised

from .conftest import (
    make_ablation,
    make_few_sample,
    make_pooled,
    make_prior,
    make_samples,
    make_table1,
    make_table2,
    make_time,
    smooth_face,
)

R, LOW = 16, 4


@pytest.fixture(scope="module")
def large() -> Prior:
    return tiny_prior(32)


@pytest.fixture
def options(large: Prior, faces: Path, tmp_path: Path) -> dict[str, Any]:
    return {"output": tmp_path / "out", "high": faces, "prior": large, "high_size": R, "device": "cpu"}


@pytest.fixture
def table(options: dict[str, Any]) -> dict[str, Any]:
    return options | {
        "factors": (4,),
        "metrics": ("psnr", "ssim", "consistency"),
        "limit": 3,
        "no_fetch": True,
        "batch_size": 3,
    }


def rows_of(path: Path) -> dict[tuple[str, str], Any]:
    return {(r.method, r.metric): r.value for r in read_rows(path)}


# -- the decision ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("resolution", "asked", "side"), [(128, None, 128), (1024, None, 512), (1024, 128, 128)])
def test_the_high_size_is_the_priors_and_512_px_at_most(resolution: int, asked: int | None, side: int) -> None:
    assert high_side(SimpleNamespace(resolution=resolution, name="p"), asked) == side


@pytest.mark.parametrize("asked", [0, 1, 64])
def test_a_size_that_the_prior_does_not_reach_is_refused(large: Prior, asked: int) -> None:
    with pytest.raises(InputError, match=f"high size is {asked} px; expected 2 to 32 px"):
        high_side(large, asked)


def test_the_area_is_the_mean_of_blocks() -> None:
    pictures = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(by_area(pictures, 4), pictures.reshape(2, 3, 4, 3, 4, 3).mean((3, 5)), atol=1e-6)
    assert by_area(pictures, 12) is pictures


def test_what_a_search_inverts(large: Prior) -> None:
    table = Downscale(LOW, R, "lanczos", sigma=0.05)
    inverted = searched_from(large, table)
    assert repr(inverted) == repr(Downscale(LOW, 32, "lanczos", sigma=0.05))
    same = Downscale(LOW, 32)
    assert searched_from(large, same) is same
    pictures = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = searched_from(large, Downscale(R, R))  # nothing is shrunk by the table
    assert torch.allclose(whole.forward(pictures), by_area(pictures, R), atol=1e-6)


def test_area_then_kernel_is_nearly_the_kernel_at_once() -> None:
    pictures = torch.stack([smooth_face(i, 1024) for i in range(2)])
    for low, least in ((16, 60), (64, 50)):
        x = Downscale(low, 1024).forward(pictures)
        apart = psnr(Downscale(low, 512).forward(by_area(pictures, 512)).clamp(0, 1), x.clamp(0, 1))
        assert float(apart.min()) > least


def test_previews_are_shrunk_and_stopping_still_works(large: Prior) -> None:
    pictures = torch.rand(1, 3, 32, 32)
    step = Step(1, 2, {}, torch.zeros(1), lambda: pictures)
    seen: list[torch.Tensor] = []
    told = previews_at(lambda s: bool(seen.append(s.preview())) or s.number == 1, R)
    assert told is not None
    assert told(step) is True
    assert torch.equal(seen[0], by_area(pictures, R))
    assert previews_at(None, R) is None


def test_the_usual_batch_falls_with_the_area(tmp_path: Path) -> None:
    def usual(resolution: int, device: str) -> int:
        return batch_size(None, SimpleNamespace(resolution=resolution, device=torch.device(device)), tmp_path)

    assert [usual(r, "cpu") for r in (64, 128, 256, 512, 1024)] == [4, 4, 4, 1, 1]
    assert [usual(r, "cuda") for r in (128, 1024)] == [32, 2]


# -- the tables --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_search")
def test_table1_keeps_and_scores_faces_of_the_tables_size(table: dict[str, Any], large: Prior, faces: Path) -> None:
    out = table["output"]
    methods = ["bilinear", "rlse", "rlse+projection", "vdsr"]
    page = make_table1(**table, methods=methods).read_text()
    assert "truth brought to 16 px (bicubic)" in page
    assert (
        "searches invert the same kernel from the prior's 32 px directly, and their faces are shrunk by area to 16 px"
        in page
    )
    assert "no weights were trained for 4 -> 16 px" in page
    task = task_with_truth(open_faces(faces), R, LOW, "bicubic", 3)
    truth, low = (torch.stack(some) for some in zip(*(task.load(key) for key in task.entries), strict=True))
    settings, seeds = METHODS["rlse"].settings("equal"), [seed_of(0, key) for key in task.entries]
    found = explore("rlse", large, low, settings=settings, seeds=seeds)
    assert found.high.shape[-1] == 32
    wanted = to_8_bit(by_area(found.high, R))
    kept = torch.stack([read_picture(out / "faces" / "high" / "4x" / "rlse" / f"{key}.png") for key in task.entries])
    assert torch.equal(kept, wanted)
    rows = rows_of(out / "table1.csv")
    assert rows["rlse", "psnr"].mean == pytest.approx(float(psnr(kept, truth).mean()), abs=1e-4)
    assert rows["rlse+projection", "consistency"].mean > rows["rlse", "consistency"].mean + 10
    enlarged = torch.nn.functional.interpolate(low, size=(R, R), mode="bilinear", align_corners=False)
    assert rows["bilinear", "psnr"].mean == pytest.approx(float(psnr(to_8_bit(enlarged), truth).mean()), abs=1e-3)
    last = max(r.split(",")[4] for r in (out / "steps.csv").read_text().splitlines()[1:])
    assert last == "psnr@6"
    before = (out / "per_image.csv").read_text()
    make_table1(**table, methods=methods)
    assert (out / "per_image.csv").read_text() == before
    with pytest.raises(InputError, match=r"resolution was 16 and is now 32.*another folder"):
        make_table1(**table | {"high_size": None}, methods=methods)


@pytest.mark.usefixtures("short_search")
def test_a_table_at_the_priors_own_size_is_what_it_was(table: dict[str, Any], large: Prior) -> None:
    page = make_table1(**table | {"high_size": None}, methods=["rlse"]).read_text()
    assert "shrunk by area" not in page
    protocol = table["output"] / "bench.json"
    known = json.loads(protocol.read_text())
    assert (known["resolution"], known.pop("painted")) == (32, None)
    protocol.write_text(json.dumps(known))  # as a run of before left it
    assert make_table1(**table | {"high_size": 32}, methods=["rlse"]).read_text() == page
    low = torch.rand(1, 3, LOW, LOW)
    found = make_variant("bilinear")(large, low, Downscale(LOW, 32), [0])
    assert compared_at(found, low, Downscale(LOW, 32)) is found


@pytest.mark.usefixtures("short_search")
def test_the_other_tables(table: dict[str, Any], options: dict[str, Any]) -> None:
    out = table["output"]
    make_table2(**table | {"output": out / "2", "lows": (4, 64)})
    rows = rows_of(out / "2" / "table2.csv")
    assert rows["rlse - rlse-no-semantic", "psnr"].n == 3
    assert "| 4x | 4 px |" in (out / "2" / "table2.md").read_text()
    some = {"rows": ["weight 0"], "damages": ["noise0.05told"], "damage_rows": [], "finished": True}
    assert (
        "shrunk by area to 16 px"
        in make_ablation(**table | {"output": out / "a", "high": options["high"]}, **some).read_text()
    )
    assert rows_of(out / "a" / "ablation.csv")["rlse", "psnr-projected"].n == 3
    assert rows_of(out / "a" / "ablation-finished.csv")["weight 0", "psnr"].n == 3
    page = make_pooled(**table | {"output": out / "p"}, seeds=(0,)).read_text()
    assert "faces of 16 px" in page
    make_samples(**table | {"output": out / "s", "metrics": ("psnr",)}, samples=3)
    assert rows_of(out / "s" / "samples.csv")["mean of 3 (rlse)", "psnr"].n == 3
    timed = make_time(**options | {"output": out / "t"}, factors=(4,), methods=["rlse"], batches=(1,), repeats=1)
    assert "High side 16 px, searches invert the same kernel from the prior's 32 px directly" in timed.read_text()


@pytest.mark.usefixtures("short_search")
def test_baselines_are_trained_for_the_tables_size(table: dict[str, Any], faces: Path) -> None:
    few = {k: v for k, v in table.items() if k != "factors"} | {"metrics": ("psnr", "consistency")}
    shape = VdsrShape(factor=4, depth=3, width=8, fold=2)
    make_few_sample(
        **few, train=[faces], trainer=train_supervised, factor=4, baselines=["vdsr"], pairs=(None,), steps=2, size=shape
    )
    assert (table["output"] / "baselines" / "vdsr-16-4x-all.safetensors").is_file()
    rows = rows_of(table["output"] / "few-sample.csv")
    assert rows["vdsr-all-pairs - rlse", "psnr"].n == 3


@pytest.mark.usefixtures("short_search")
def test_the_option_reaches_the_table(options: dict[str, Any], prior_file: Path, capsys: Any) -> None:
    words = ["bench", "table1", "--high", options["high"], "-p", prior_file, "-o", options["output"], "--high-size", 8]
    words += ["--factors", "2", "--methods", "rlse", "--metrics", "psnr", "--limit", "1", "--device", "cpu", "-q"]
    assert latentface([str(word) for word in words]) == 0
    capsys.readouterr()
    assert tuple(read_picture(options["output"] / "faces" / "high" / "2x" / "rlse" / "000.png").shape) == (3, 8, 8)


# -- a prior, and pictures of other sizes ------------------------------------------------------------------------------


def colours(pictures: torch.Tensor) -> torch.Tensor:
    assert pictures.shape[-1] == R  # nothing is embedded at the prior's own size
    return torch.nn.functional.normalize(pictures.mean((2, 3)) + 0.01, dim=1)


@pytest.fixture
def small_faces(tmp_path: Path) -> Path:
    for i in range(4):
        write_picture(tmp_path / "held" / f"{i}.png", smooth_face(20 + i, R))
    (tmp_path / "held" / "000broken.png").write_bytes(b"no picture")
    return tmp_path / "held"


@pytest.mark.usefixtures("short_search")
def test_a_prior_is_compared_at_the_datas_size(
    large: Prior, small_faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"identity": Features("identity", "mean colours", colours)}
    monkeypatch.setattr(prior_module, "open_features", lambda device, fetch: (kinds, {}))
    plain = Prior(large.generator, None, large.statistics, large.card, name="bare", sha256="1" * 64)
    options: dict[str, Any] = {"samples": 4, "inversions": 3, "steps": 40, "detections": 1, "truncations": (1.0,)}
    options |= {
        "train": [small_faces],
        "factor": 4,
        "no_fetch": True,
        "device": "cpu",
        "batch_size": 2,
        "high": small_faces,
    }
    assert data_side(open_faces(small_faces)) == R
    page = make_prior(output=tmp_path / "bare", prior=plain, **options).read_text()
    assert "What D tells apart is not measured: the prior has no discriminator of its own." in page
    assert "AUC of D's logits" not in page
    assert "32 px, samples shrunk by area to 16 px" in page
    assert "held-out faces at 16 px" in page
    rows = rows_of(tmp_path / "bare" / "prior.csv")
    assert rows["samples at 1", "frechet-identity"].n == 4
    assert rows["invert-w_plus", "psnr"].n == 2  # one of the three cannot be read
    found = read_picture(tmp_path / "bare" / "faces" / "held" / "1x" / "invert-w_plus" / "0.png")
    assert tuple(found.shape) == (3, R, R)
    page = make_prior(output=tmp_path / "own", prior=large, **options | {"inversions": 0}).read_text()
    assert "AUC of D's logits" in page  # its own D, which sees pictures brought to its 32 px
    assert "not measured" not in page


def test_whose_judge_it_is() -> None:
    def prior(**judge: Any) -> SimpleNamespace:
        return SimpleNamespace(resolution=32, sha256="a", judge=SimpleNamespace(**judge) if judge else None)

    assert own_judge(prior()) is None
    assert own_judge(prior(resolution=16, sha256="b")) is None
    assert own_judge(prior(resolution=32, sha256="b")) is None
    mine = prior(resolution=32, sha256="a")
    assert own_judge(mine) is mine.judge


def test_results_are_scored_at_one_size(tmp_path: Path) -> None:
    for name, side in (("a", 32), ("b", 16), ("c", 8)):
        write_picture(tmp_path / "results" / f"{name}.png", smooth_face(ord(name), side))
        write_picture(tmp_path / "truths" / f"{name}.png", smooth_face(ord(name) + 1, 24))
    found = evaluate(tmp_path / "results", tmp_path / "truths", ["psnr"], high_size=R, fetch=False)
    assert set(found.faces) == {"a", "b"}
    assert "c.png: it is 8 x 8 px, expected a square of at least 16 px; use a smaller --high-size" in found.problems[0]
    result = to_8_bit(by_area(read_picture(tmp_path / "results" / "a.png")[None], R))
    faces = open_faces(tmp_path / "truths")
    assert found.faces["a"]["psnr"] == pytest.approx(
        float(psnr(result, faces.read(faces.pictures.entries[0], R)[None]))
    )
    plain = evaluate(tmp_path / "results", tmp_path / "results", ["psnr"], fetch=False)
    assert set(plain.faces) == {"a", "b", "c"}
    with pytest.raises(InputError, match="at least 2"):
        evaluate(tmp_path / "results", tmp_path / "truths", ["psnr"], high_size=1)
