"""`latentface degrade`: the same operator that the methods invert, and its bad inputs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_it_shrinks_as_pillow_does(call, face, tmp_path):
    high = face(tmp_path / "a.png", (32, 32))
    done = call("degrade", high, "-o", tmp_path / "out", "-f", 4)
    assert done.code == 0
    assert done.out == [str(tmp_path / "out" / "a.png")]
    theirs = np.asarray(Image.open(high).resize((8, 8), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(pixels(tmp_path / "out" / "a.png") - theirs).max() <= 1


def test_it_undoes_upscale(call, upscale, face, tmp_path):
    low = face(tmp_path / "a.png")
    upscale(low, "-o", tmp_path / "up")
    assert call("degrade", tmp_path / "up" / "a.png", "-o", tmp_path / "down", "-f", 4, "-q").err == ""
    assert np.abs(pixels(tmp_path / "down" / "a.png") - pixels(low)).max() <= 1


def test_noise_jpeg_size_and_kernel_change_the_picture(call, face, tmp_path):
    high = face(tmp_path / "a.png", (32, 32))
    results = {}
    for name, options in {
        "plain": [],
        "noise": ["--noise", 0.1],
        "again": ["--noise", 0.1],
        "seed": ["--noise", 0.1, "--seed", 1],
        "jpeg": ["--jpeg", 20],
        "box": ["--kernel", "box"],
        "blur": ["--blur", 1],
        "size": ["--size", 16],
    }.items():
        assert call("degrade", high, "-o", tmp_path / name, "-f", 4, *options).code == 0
        results[name] = pixels(tmp_path / name / "a.png")
    assert np.array_equal(results["noise"], results["again"])
    assert results["size"].shape == (4, 4, 3)
    assert results["blur"].std() < results["plain"].std()
    for name in ("noise", "jpeg", "box", "blur"):
        assert not np.array_equal(results[name], results["plain"])
    assert not np.array_equal(results["seed"], results["noise"])
    assert (results["noise"] - results["plain"]).std() == pytest.approx(25.5, rel=0.25)


def test_nothing_is_overwritten_unasked(call, face, tmp_path):
    high = face(tmp_path / "a.png", (8, 8))
    call("degrade", high, "-o", tmp_path / "out", "-f", 2)
    again = call("degrade", high, "-o", tmp_path / "out", "-f", 4)
    assert again.code == 1
    assert "--overwrite" in again.err
    assert call("degrade", high, "-o", tmp_path / "out", "-f", 4, "--overwrite").code == 0
    assert pixels(tmp_path / "out" / "a.png").shape == (2, 2, 3)


def test_bad_files_are_named_and_the_others_done(call, face, tmp_path):
    face(tmp_path / "in" / "good.png", (8, 8))
    face(tmp_path / "in" / "oblong.png", (8, 9))
    face(tmp_path / "in" / "one.png", (1, 1))
    (tmp_path / "in" / "text.png").write_text("hello")
    done = call("degrade", tmp_path / "in", tmp_path / "no.png", "-o", tmp_path / "out", "-f", 2)
    assert done.code == 1
    assert done.out == [str(tmp_path / "out" / "good.png")]
    lines = [line for line in done.err.splitlines() if line.startswith("latentface: ")]
    assert len(lines) == 4
    for name in ("oblong.png", "one.png", "text.png", "no.png"):
        assert sum(f"{name}: " in line for line in lines) == 1


@pytest.mark.parametrize(
    "options",
    [
        ["-f", 0.5],
        ["-f", "nan"],
        ["-f", 2, "--jpeg", 0],
        ["-f", 2, "--noise", -1],
        ["-f", 2, "--blur", -1],
        ["-f", 2, "--kernel", "cubic"],
        ["-f", 2, "--size", 0],
        [],
    ],
    ids=str,
)
def test_wrong_options(call, face, tmp_path, options):
    done = call("degrade", face(tmp_path / "a.png", (8, 8)), "-o", tmp_path / "out", *options)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder(call, face, tmp_path):
    (tmp_path / "file").write_text("")
    done = call("degrade", face(tmp_path / "a.png", (8, 8)), "-o", tmp_path / "file" / "out", "-f", 2)
    assert done.code == 1
    assert "a file stands where a folder is needed" in done.err
