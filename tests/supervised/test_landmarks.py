"""Landmarks: the table, the mirror, the heatmaps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from latentface.errors import MissingDataError
from latentface.io.sources import Entry, Pictures, open_sources
from latentface.supervised.landmarks import (
    COLUMNS,
    MIRRORED,
    LandmarkNet,
    believed,
    find_table,
    heatmaps,
    mirror,
    read_landmarks,
)
from latentface.train.pictures import load_pictures

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


def test_68_landmarks_mirror_onto_themselves():
    order = MIRRORED[68]
    assert sorted(order) == list(range(68))
    assert [order[i] for i in order] == list(range(68))
    assert order[30] == 30  # the nose's tip
    assert order[36] == 45  # outer corners of the eyes
    assert order[48] == 54  # corners of the mouth
    turned = mirror(torch.rand(2, 68, 2) * 64, torch.tensor([True, False]), 64)
    assert turned.shape == (2, 68, 2)


def drawn(five: torch.Tensor) -> torch.Tensor:
    """68 landmarks whose own five are these."""
    marks = torch.zeros(len(five), 68, 2)
    marks[:, 36:42], marks[:, 42:48] = five[:, 0:1], five[:, 1:2]
    marks[:, 30], marks[:, 48], marks[:, 54] = five[:, 2], five[:, 3], five[:, 4]
    return marks


def test_68_landmarks_far_from_the_tables_five_are_not_believed():
    five = torch.tensor([[[40.0, 60], [80, 60], [60, 80], [45, 95], [75, 95]]]).repeat(4, 1, 1)
    marks = drawn(five)
    marks[1] += 5  # 7 px of 40: little
    marks[2] += 10  # 14 px of 40: more than a quarter
    five[3] = float("nan")
    kept = believed(marks, five)
    assert (~kept.isnan().any(2).any(1)).tolist() == [True, True, False, True]
    assert torch.equal(kept[1], marks[1])


class Corners:
    """In the place of the network: each face's brightness, and the corners of what it looked at."""

    def rows(self, blobs: torch.Tensor) -> torch.Tensor:
        assert blobs.shape[1:] == (1, 64, 64)
        assert float(blobs.max()) < 1
        return torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(len(blobs), 34)


@pytest.mark.parametrize("side", [64, 128])
def test_the_networks_positions_are_in_px_of_the_face(side):
    found = LandmarkNet(Corners()).find(torch.full((3, 3, side, side), 255, dtype=torch.uint8))
    assert found.shape == (3, 68, 2)
    assert found[0, 0].tolist() == [side * 24 / 128, side * 32 / 128]
    assert found[0, 1].tolist() == [side * 104 / 128, side * 112 / 128]


DATA = Path(os.environ.get("LATENTFACE_TEST_DATA", "no-data")) / "data" / "celeba128"


@pytest.mark.network
@pytest.mark.skipif(not DATA.exists(), reason="needs LATENTFACE_TEST_DATA, a folder with data/celeba128/val.zip")
def test_the_published_network_agrees_with_a_table_of_five(monkeypatch):
    """Its mean distance to the five of the table is less than a tenth of the distance of the eyes."""
    monkeypatch.delenv("LATENTFACE_OFFLINE")
    sources = open_sources([DATA / "val.zip"])
    high, kept = load_pictures(Pictures(sources.name, sources.entries[:60]), 128)
    five = read_landmarks(DATA / "landmarks.csv", kept.entries, 128)
    found = LandmarkNet.load().find(high)
    known = ~five.isnan().any(2).any(1)
    own = torch.stack([found[:, 36:42].mean(1), found[:, 42:48].mean(1), found[:, 30], found[:, 48], found[:, 54]], 1)
    eyes = (five[:, 1] - five[:, 0]).norm(dim=1)
    distance = ((own - five).norm(dim=2).mean(1) / eyes)[known]
    assert len(distance) > 40
    assert float(distance.mean()) < 0.1
