"""`latentface upscale`: what goes in and out besides files of one picture, and words for what cannot be used."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from latentface.cli import run as cli_run
from latentface.restore.upscaler import Upscaler


@pytest.fixture
def animation(tmp_path):
    path = tmp_path / "in" / "moving.gif"
    path.parent.mkdir()
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


def test_of_an_animation_the_first_frame_and_the_last_line_says_so(upscale, animation, tmp_path):
    done = upscale(animation, "-o", tmp_path / "out")
    assert done.out == [str(tmp_path / "out" / "moving.png")]
    assert f"1 file of several frames or pages ({animation}: 1 of 3 frames)" in done.err.splitlines()[-1]
    record = json.loads((tmp_path / "out" / "moving.json").read_text())
    assert (record["frame"], record["frames"]) == (1, 3)


def test_every_frame_is_a_picture_of_its_own(upscale, animation, tmp_path):
    done = upscale(animation, "-o", tmp_path / "out", "--all-frames")
    assert done.out == [str(tmp_path / "out" / f"moving-00{k}.png") for k in (1, 2, 3)]
    for k, path in enumerate(done.out):
        with Image.open(path) as picture:
            middle = picture.convert("RGB").getpixel((8, 8))
        assert middle.index(max(middle)) == k
    again = upscale(animation, "-o", tmp_path / "out", "--all-frames", "--json")
    assert "3 already there" in again.err
    told = [json.loads(line) for line in again.out]
    assert [t["frame"] for t in told] == [1, 2, 3]
    assert all(t["skipped"] and t["input"] == "moving.gif" for t in told)


def test_a_name_of_another_run_is_kept(upscale, face, tmp_path):
    face(tmp_path / "d1" / "face.png", seed=1)
    second = face(tmp_path / "d2" / "face.png", seed=2)
    assert upscale(second, "-o", tmp_path / "o").out == [str(tmp_path / "o" / "face.png")]
    both = upscale(tmp_path / "d1" / "face.png", second, "-o", tmp_path / "o")
    assert both.out == [str(tmp_path / "o" / "d1" / "face.png")]
    assert "1 done" in both.err
    assert "1 already there" in both.err


def test_standard_input_to_standard_output(prior_file, face, tmp_path, monkeypatch, capsysbinary):
    data = face(tmp_path / "a.png").read_bytes()
    options = ["-p", str(prior_file), "--steps", "2", "--device", "cpu"]
    monkeypatch.chdir(tmp_path)
    for output, kind in (([], "PNG"), (["-o", "-"], "PNG"), (["--format", "jpg"], "JPEG")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert cli_run(["upscale", "-", *options, *output]) == 0
        out, err = capsysbinary.readouterr()
        with Image.open(io.BytesIO(out)) as picture:
            assert (picture.size, picture.format) == ((16, 16), kind)
        assert b"1 done" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no picture")))
    assert cli_run(["upscale", "-", *options]) == 1
    out, err = capsysbinary.readouterr()
    assert out == b""
    assert b"standard input: this is not a picture" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert cli_run(["upscale", "-", *options, "-o", "out"]) == 0
    assert capsysbinary.readouterr().out == b"out/stdin.png\n"
    assert cli_run(["upscale", "a.png", *options, "-o", "-", "--compare"]) == 2
    assert b"standard output takes one picture" in capsysbinary.readouterr().err
    assert [p.name for p in tmp_path.iterdir() if p.name != "a.png"] == ["out"]


def test_a_name_that_is_too_long_is_told_before_the_search(upscale, face, tmp_path):
    long = face(tmp_path / f"{'n' * 251}.png")
    nearly = face(tmp_path / f"{'m' * 247}.png")
    done = upscale(long, nearly, "-o", tmp_path / "out", "--compare", steps=10**6)
    assert done.code == 1
    assert "2 failed" in done.err
    assert "would have 256 bytes, and 255 is the most here" in done.err  # .json
    assert "would have 259 bytes" in done.err  # -compare.png
    assert not list((tmp_path / "out").glob("*"))


def _pickled(path, content) -> None:
    path.write_bytes(pickle.dumps(content, protocol=4))


def _legacy(path, content) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _zip(path, _) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")


@pytest.mark.parametrize(
    ("name", "write", "content", "words"),
    [
        (
            "ffhq.pkl",
            _pickled,
            {"_reconstruct": "dnnlib.tflib.network"},
            "a StyleGAN pickle; make a prior of latentface of it first: latentface models convert",
        ),
        (
            "old.pt",
            _legacy,
            {"g_ema": {}},
            "a StyleGAN pickle; make a prior of latentface of it first: latentface models convert",
        ),
        ("new.pt", lambda p, c: torch.save(c, p), {"g_ema": {}}, "a StyleGAN checkpoint of PyTorch; make a prior"),
        ("other.pkl", _pickled, {"a": 1}, "this is a Python pickle; expected a latentface prior"),
        ("other.pt", lambda p, c: torch.save(c, p), {"a": 1}, "this is a checkpoint of PyTorch; expected"),
        ("a.zip", _zip, None, "this is a zip archive; expected"),
        ("a.safetensors", lambda p, c: p.write_bytes(c), b"", "this is an empty file; expected"),
        (
            "b.safetensors",
            lambda p, c: p.write_text(c),
            "bonjour \u00e9t\u00e9 " * 2000,
            "this is a text file; expected",
        ),
        ("c.safetensors", lambda p, c: p.write_text(c), "<!DOCTYPE html><html>", "this is a web page, not the file"),
        ("d.safetensors", lambda p, c: p.write_text(c), "version https://git-lfs.github.com/spec/v1", "Git LFS"),
        ("e.png", lambda p, c: c.save(p), Image.new("RGB", (8, 8)), "this is a picture (PNG); expected"),
        ("f.safetensors", lambda p, c: save_file(c, p), {"x": torch.zeros(1)}, "a safetensors file, but no latentface"),
        ("folder", lambda p, c: p.mkdir(), None, "this is a folder"),
    ],
)
def test_a_file_that_is_no_prior(call, face, tmp_path, name, write, content, words):
    write(tmp_path / name, content)
    done = call("upscale", face(tmp_path / "a" / "a.png"), "-o", tmp_path / "out", "-p", tmp_path / name)
    assert done.code == 2
    assert words in done.err
    assert "fetch it again" not in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("device", ["mps", "cuda:99", "toaster"])
def test_a_device_that_is_not_here(call, face, tmp_path, device):
    done = call("upscale", face(tmp_path / "a.png"), "-o", tmp_path / "out", "--device", device)
    assert done.code == 2
    assert len(done.err) < 200
    assert "try auto or cpu" in done.err


def test_ctrl_c_says_whether_anything_is_written(upscale, face, tmp_path, monkeypatch):
    for name in ("a", "b"):
        face(tmp_path / "in" / f"{name}.png")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Upscaler, "finish", stop)
        done = upscale(tmp_path / "in", "-o", tmp_path / "out")
    assert done.code == 130
    assert done.err.endswith("latentface: stopped before anything was written\n")
    find, seen = Upscaler.find, []

    def second(self, photo, *, aligned):
        if seen:
            raise KeyboardInterrupt
        seen.append(photo)
        return find(self, photo, aligned=aligned)

    monkeypatch.setattr(Upscaler, "find", second)
    monkeypatch.setattr(Upscaler, "full", lambda self, window: True)
    done = upscale(tmp_path / "in", "-o", tmp_path / "out")
    assert done.code == 130
    assert done.err.endswith("what is written is whole, and the same command goes on from there\n")


def test_the_last_lines_say_what_was_left_out(upscale, face, tmp_path):
    face(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "clip.mov").write_bytes(b"x")
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    done = upscale(tmp_path / "in", "-o", tmp_path / "out")
    assert done.code == 0
    last = done.err.splitlines()[-2]
    assert last == f"left out: 1 linked folder ({tmp_path / 'in' / 'link'}); 1 video ({tmp_path / 'in' / 'clip.mov'})"
