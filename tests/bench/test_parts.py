"""Records, statistics, timing, report, evaluation."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from latentface.bench.core.evaluate import evaluate
from latentface.bench.core.poster import table1_figure, table2_figure
from latentface.bench.core.records import Records
from latentface.bench.core.statistics import difference, estimate
from latentface.bench.core.stopwatch import network_time
from latentface.bench.core.variants import make_variant, make_variants, title_of
from latentface.bench.report.report import run_report, to_html
from latentface.bench.tables.tables import collect_markdown, read_rows
from latentface.errors import InputError, UnknownNameError
from latentface.io.pictures import write_picture
from latentface.metrics.psnr import psnr
from latentface.prior.prior import Prior

from .conftest import make_table1, make_time, smooth_face


def test_records_survive_being_cut_at_any_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    records = Records(path)
    rows = {("d", "m, n", "8", f"{i}"): {"psnr": i + 0.5, "ssim": math.nan} for i in range(4)}
    records.add(rows)
    whole = path.read_bytes()
    for cut in random.Random(0).sample(range(1, len(whole)), 25):
        path.write_bytes(whole[:cut])
        again = Records(path) if cut >= whole.index(b"\n") + 1 else None
        if again is None:
            with pytest.raises(InputError, match="its head"):
                Records(path)
            continue
        for key, known in rows.items():
            assert all(known[m] == v for m, v in again.get(key).items() if v is not None)
        again.add(rows)
        assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_estimate_against_a_straight_line_bootstrap() -> None:
    values = np.random.default_rng(0).normal(20, 2, 40)
    found = estimate(values)
    means = [np.random.default_rng(i).choice(values, 40).mean() for i in range(3000)]
    assert found.mean == pytest.approx(values.mean())
    assert [found.low, found.high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.08)
    assert estimate(np.array([np.nan, 3.0])).n == 1
    assert estimate(np.array([np.nan])).n == 0
    gap = difference(values + 1, values)
    assert (gap.mean, gap.low, gap.high) == pytest.approx((1, 1, 1))  # paired: no spread is left


def test_the_posters_figures() -> None:
    assert table1_figure("rlse", 8, "psnr-y", "truth") == 23.52
    assert table1_figure("vdsr", 16, "niqe", "native") == 16.95
    assert table1_figure("rlse", 8, "niqe", "truth") is None
    assert table1_figure("dgp", 8, "ssim", "truth") is None
    assert table2_figure(True, 64, "lpips-alex") == 0.29


def test_variants_are_read_as_written() -> None:
    variant = make_variant("rlse@paper+projection", "equal")
    assert (variant.preset, variant.projects, title_of(variant.name)) == ("paper", True, "RLSE (paper) + projection")
    assert title_of("rlse-no-semantic") == "RLSE, no semantic"
    assert [v.name for v in make_variants(["bicubic"], "equal", "both")] == ["bicubic", "bicubic+projection"]
    with pytest.raises(InputError):
        make_variant("rlse", nonsense=1)


def test_network_time_is_part_of_the_whole_and_leaves_nothing_behind(tiny_prior: Prior) -> None:
    before = torch.autograd.grad
    with network_time(torch.device("cpu")) as split:
        z = torch.randn(2, tiny_prior.z_dim, requires_grad=True)
        torch.autograd.grad(tiny_prior.synthesis(tiny_prior.mapping(z)).sum(), z)
    assert split.forward > 0
    assert split.backward > 0
    assert torch.autograd.grad is before


@pytest.mark.usefixtures("short_search")
def test_time_and_report(tiny_prior: Prior, faces: Path, tmp_path: Path) -> None:
    options = {"output": tmp_path, "high": faces, "prior": tiny_prior, "methods": ["bilinear", "rlse"], "device": "cpu"}
    table = make_time(**options, factors=(4,), batches=(1, 2), repeats=2)
    rows = {(r.method, r.metric): r.value for r in read_rows(tmp_path / "time.csv")}
    whole, networks, rest = (rows["rlse", f"{m}@1"].mean for m in ("seconds", "seconds-networks", "seconds-rest"))
    assert networks + rest == pytest.approx(whole, rel=1e-4)
    assert 0.2 * whole < networks < whole
    assert rows["rlse", "batch@best"].mean in (1, 2)
    runs = (tmp_path / "time_runs.csv").read_text()
    make_time(**options, factors=(4,), batches=(1, 2), repeats=2)
    assert (tmp_path / "time_runs.csv").read_text() == runs
    assert "| RLSE | 11 |" in table.read_text()
    assert "PSNR" not in table.read_text()
    make_table1(**options, factors=(4,), limit=2, metrics=("psnr", "ssim"), no_fetch=True)
    quality = {(r.method, r.metric): r.value for r in read_rows(tmp_path / "table1.csv")}["rlse", "psnr"].mean
    make_time(**options, factors=(4,), batches=(1, 2), repeats=2)
    line = next(line for line in table.read_text().splitlines() if line.startswith("| RLSE |"))
    assert line.endswith(f"| {quality:.2f} |")
    page = run_report(tmp_path, faces=2).read_text()
    assert "data:image/svg+xml" in page
    assert "data:image/png" in page
    assert not any(bad in page for bad in ('src="http', "src='http", 'href="', "@import", "url("))
    assert "{{" not in page
    target = collect_markdown(tmp_path, tmp_path / "docs" / "benchmarks.md")
    text = target.read_text()
    assert str(tmp_path) not in text
    target.write_text(text.replace("# Benchmarks", "# Benchmarks\n\nRead me.").replace("psnr", "older"))
    assert collect_markdown(tmp_path, target).read_text() == text.replace("# Benchmarks", "# Benchmarks\n\nRead me.")
    with pytest.raises(InputError, match="no table"):
        run_report(tmp_path / "docs")


def test_markup_keeps_no_foreign_tags() -> None:
    page = to_html("## a <script>\n\n| x |\n|---|\n| **1**<br><u>2</u> *p* <img> |\n\n- `c`")
    assert "<script>" not in page
    assert "<img>" not in page
    assert "<strong>1</strong><br><u>2</u> <em>p</em>" in page
    assert "<code>c</code>" in page


def test_evaluate_matches_by_stem_and_says_what_is_wrong(tmp_path: Path) -> None:
    results, truths = tmp_path / "results", tmp_path / "truths"
    pictures = {name: smooth_face(i, 24) for i, name in enumerate("abcd")}
    for name, picture in pictures.items():
        write_picture(truths / f"{name}.png", picture)
    other = smooth_face(9, 24)
    write_picture(results / "a.png", other)
    write_picture(results / "b.png", pictures["b"])
    write_picture(results / "c.png", smooth_face(3, 12))
    write_picture(results / "stray.png", other)
    (results / "a.json").write_text("{}")
    found = evaluate(results, truths, ["psnr", "ssim"], fetch=False)
    said = "\n".join(found.problems)
    assert "'stray'; left out" in said
    assert "1 of 4 truths have no result (d)" in said
    assert "c.png: it is 12 x 12 px, its truth 24 x 24" in said
    assert set(found.faces) == {"a", "b"}
    expected = psnr(other.mul(255).round().div(255)[None], pictures["a"].mul(255).round().div(255)[None])
    assert found.faces["a"]["psnr"] == pytest.approx(float(expected), abs=1e-4)
    assert found.to_json()["scores"]["psnr"]["n"] == 2
    with pytest.raises(UnknownNameError, match="metric"):
        evaluate(results, truths, ["nope"])
    with pytest.raises(InputError, match="needs more"):
        evaluate(results, truths, ["consistency"])
    with pytest.raises(InputError, match="no file of"):
        evaluate(results / "stray.png", truths, ["psnr"], fetch=False)
