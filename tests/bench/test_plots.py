"""Perception and distortion: which methods no other beats, and the plot that goes beside the table."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from latentface.bench.core.statistics import Estimate
from latentface.bench.report.plots import all_plots, labels_apart, perception_distortion, unbeaten
from latentface.bench.tables.tables import Row, write_rows

FIGURES = {  # PSNR, LPIPS
    "bicubic": (24.0, 0.50),
    "rlse": (22.0, 0.16),
    "pulse": (21.0, 0.20),
    "fsrnet": (25.0, 0.30),
    "realesrgan": (20.0, 0.35),
}


def rows_of(metric: str = "lpips-alex") -> list[Row]:
    def row(method: str, name: str, value: float) -> Row:
        known = Estimate(value, 0.95 * value, 1.05 * value, 9)
        return Row(dataset="test", method=method, factor="8", metric=name, value=known)

    return [row(m, n, v) for m, pair in FIGURES.items() for n, v in zip(("psnr", metric), pair, strict=True)]


def test_the_front_is_of_those_that_nobody_beats_in_both() -> None:
    assert unbeaten(FIGURES) == ["rlse", "fsrnet"]
    assert unbeaten({"a": (1.0, 1.0), "b": (1.0, 1.0)}) == ["a", "b"]
    assert unbeaten({"a": (1.0, 1.0), "b": (1.0, 0.5)}) == ["b"]


def test_the_plot_names_all_methods_and_goes_beside_the_table(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plots need matplotlib")
    write_rows(tmp_path / "table1.csv", rows_of())
    ((title, svg),) = all_plots(tmp_path)
    assert title.startswith("Perception and distortion, test, 8x")
    assert (tmp_path / "perception-distortion-test-8x.svg").read_text() == svg
    assert [f"<!-- {name} -->" in svg for name in ("RLSE", "PULSE", "FSRNet", "Real-ESRGAN", "Bicubic")] == [True] * 5
    assert "lpips-alex (up" in svg


def test_labels_of_near_points_lie_apart() -> None:
    points = [(0.0, 0.0), (0.1, 0.0), (0.05, 0.02), (10.0, 10.0)]
    places = labels_apart(points, [6, 6, 6, 6])
    middles = [(450 * x / 12.4 + u, 290 * y / 12.4 + v) for (x, y), (u, v) in zip(points, places, strict=True)]
    for i, (x, y) in enumerate(middles):
        for u, v in middles[:i]:
            assert abs(x - u) >= 27 or abs(y - v) >= 9  # 6 letters of 4.5 points, lines of 9
    assert labels_apart([(1.0, 1.0)], [3]) == labels_apart([(5.0, 2.0)], [3])


def test_without_a_perceptual_distance_there_is_none() -> None:
    assert perception_distortion(rows_of("ssim"), "test", "8") is None
    assert perception_distortion(rows_of(), "test", "16") is None
    empty = [
        Row(dataset="t", method="rlse", factor="8", metric=m, value=Estimate(math.nan, math.nan, math.nan, 0))
        for m in ("psnr", "niqe")
    ]
    assert perception_distortion(empty, "t", "8") is None
