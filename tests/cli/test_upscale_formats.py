"""`latentface upscale -o x.jpg`, `--format` and `--quality`: written as asked, skipped when done, refused in time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

PLAIN = ("-m", "bicubic", "--aligned")


@pytest.fixture
def plain(call, prior_file):
    """`latentface upscale` of aligned faces without a search."""

    def plain(*arguments):
        return call("upscale", *arguments, *PLAIN, "-p", prior_file, "--device", "cpu")

    return plain


@pytest.mark.parametrize(
    ("name", "kind"), [("x.jpg", "JPEG"), ("x.JPEG", "JPEG"), ("x.webp", "WEBP"), ("x.tif", "TIFF"), ("x.png", "PNG")]
)
def test_the_ending_of_a_file_is_its_format(plain, face, tmp_path, name, kind):
    done = plain(face(tmp_path / "a.png"), "-o", tmp_path / name)
    assert (done.code, done.out) == (0, [str(tmp_path / name)])
    with Image.open(tmp_path / name) as picture:
        assert (picture.format, picture.size) == (kind, (16, 16))
    assert json.loads((tmp_path / "x.json").read_text())["format"] == name[2:].lower()
    assert "1 already there" in plain(tmp_path / "a.png", "-o", tmp_path / name).err


def test_a_folder_in_a_format_is_skipped_when_done(plain, face, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    face(folder / "a.png")
    face(folder / "sub" / "b.png")
    asked = (folder, "-o", out, "--format", "jpg", "--quality", 80, "--samples", 1, "--compare")
    assert plain(*asked).code == 0
    names = ["a-compare.jpg", "a.jpg", "a.json", "sub/b-compare.jpg", "sub/b.jpg", "sub/b.json"]
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == names
    assert "2 already there" in plain(*asked).err
    for other in (("--format", "jpg", "--quality", 81), ("--format", "webp", "--quality", 80), ()):
        refused = plain(folder / "a.png", "-o", out, *other)
        assert (refused.code, "use --overwrite" in refused.err) == (1, True)
    (out / "a.json").unlink()  # cut off between the picture and its record
    assert plain(*asked).out == [str(out / "a.jpg")]
    assert plain(folder / "a.png", "-o", out, "--format", "webp", "--overwrite").code == 0
    assert sorted(p.name for p in out.iterdir()) == ["a.json", "a.webp", "sub"]


def test_results_in_the_folder_of_the_inputs_are_no_inputs(plain, face, tmp_path):
    face(tmp_path / "a.png")
    assert plain(tmp_path, "-o", tmp_path, "--format", "webp").out == [str(tmp_path / "a.webp")]
    again = plain(tmp_path, "-o", tmp_path, "--format", "webp")
    assert (again.code, again.out) == (0, [])
    refused = plain(tmp_path / "a.png", "-o", tmp_path, "--format", "png", "--overwrite")
    assert refused.code == 1  # it would replace its own input
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (4, 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "x.gif"], ".png, .jpg, .jpeg, .webp, .tif, .tiff"),
        (["-o", "x.HEIC"], ".png, .jpg, .jpeg, .webp, .tif, .tiff"),
        (["-o", "x.jpg", "--format", "png"], "say two things"),
        (["--quality", "0"], "from 1 to 100"),
        (["--format", "bmp"], "png"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_search(plain, face, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    refused = plain(face(tmp_path / "a.png"), *options)
    assert refused.code == 2
    assert words in " ".join(refused.err.split())
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_transparency_on_white_is_said_once(plain, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "ab":
        Image.fromarray(np.full((4, 4, 4), 90, np.uint8)).save(folder / f"{name}.png")
    done = plain(folder, "-o", tmp_path / "out", "--format", "jpg")
    assert done.code == 0
    assert done.err.count("laid on white") == 1
    assert "2 JPEGs" in done.err
    assert "laid on white" not in plain(folder, "-o", tmp_path / "png").err
