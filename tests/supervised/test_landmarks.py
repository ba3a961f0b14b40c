"""Landmarks: the table, the mirror, the heatmaps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from latentface.errors import MissingDataError
from latentface.io.sources import Entry
from latentface.supervised.landmarks import COLUMNS, find_table, heatmaps, mirror, read_landmarks

HEAD = "image," + ",".join(f"{c}_{a}" for c in COLUMNS for a in "xy") + ",score\n"


def write_table(folder: Path, text: str = HEAD + "a,40,60,80,60,64,80,50,96,78,96,0.9\n") -> Path:
    path = folder / "landmarks.csv"
    path.write_text(text)
    return path


def test_read_scales_to_the_resolution_and_marks_the_unknown(tmp_path):
    entries = [Entry("sub/a.webp", tmp_path, False), Entry("b.png", tmp_path, False)]
    found = read_landmarks(write_table(tmp_path), entries, 64)
    assert found[0, 0].tolist() == [20.25, 30.25]
    assert bool(found[1].isnan().all())
    assert find_table(entries) == tmp_path / "landmarks.csv"


def test_heatmaps_peak_at_the_landmark():
    marks = torch.tensor([[[8.0, 4.0]] * 5, [[float("nan")] * 2] * 5])
    maps, known = heatmaps(marks, 16, 2, 1.0)
    assert maps.shape == (2, 5, 8, 8)
    assert known.tolist() == [True, False]
    weights = maps[0, 0] / maps[0, 0].sum()
    axis = torch.arange(8) + 0.5
    assert float((weights.sum(0) * axis).sum()) == pytest.approx(4.0, abs=0.05)  # x / stride
    assert float((weights.sum(1) * axis).sum()) == pytest.approx(2.0, abs=0.1)  # y / stride, near the border


def test_heatmaps_of_a_flipped_face_are_flipped_heatmaps():
    marks = torch.rand(3, 5, 2) * 64
    flipped, _ = heatmaps(mirror(marks, torch.tensor([True, True, False]), 64), 64, 4, 1.0)
    straight, _ = heatmaps(marks, 64, 4, 1.0)
    torch.testing.assert_close(flipped[:2], straight[:2].flip(3)[:, (1, 0, 2, 4, 3)])
    torch.testing.assert_close(flipped[2], straight[2])


def test_bad_tables(tmp_path):
    entries = [Entry("a.png", tmp_path, False)]
    with pytest.raises(MissingDataError, match=r"landmarks\.csv"):
        find_table(entries)
    with pytest.raises(MissingDataError, match="cannot be read"):
        read_landmarks(tmp_path / "no.csv", entries, 64)
    with pytest.raises(MissingDataError, match="expected the columns"):
        read_landmarks(write_table(tmp_path, "name,x\na,1\n"), entries, 64)
    with pytest.raises(MissingDataError, match="not one of"):
        read_landmarks(write_table(tmp_path), [Entry("z.png", tmp_path, False)], 64)
