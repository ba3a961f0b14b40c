"""`latentface upscale`: what it writes, what it says, and what it does with bad input, a full disk and a sudden end."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import latentface
from latentface.degradation import Downscale
from latentface.explore.result import psnr_each
from latentface.io.pictures import read_picture


def consistency(path: Path, low: Path) -> float:
    high, small = read_picture(path)[None], read_picture(low)[None]
    return float(psnr_each(Downscale(small.shape[-1], high.shape[-1]).forward(high), small)[0])


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# ---------------------------------------------------------------------------------------------------------------------
# Results.


def test_a_face(upscale, face, tmp_path):
    low = face(tmp_path / "a.png")
    done = upscale(low, "-o", tmp_path / "out", steps=3)
    assert done.code == 0
    assert done.out == [str(tmp_path / "out" / "a.png")]  # stdout has results and nothing else
    for words in ("1 picture", "rlse", "tiny (16 px)", "cpu", "results in", "about", "1 done"):
        assert words in done.err
    assert consistency(tmp_path / "out" / "a.png", low) > 45
    record = json.loads((tmp_path / "out" / "a.json").read_text())
    assert record["generated"] is True
    assert record["low_size"] == [4, 4]
    assert record["prior_sha256"]
    assert json.loads(Image.open(tmp_path / "out" / "a.png").text["latentface"]) == record


def test_a_folder_of_many_sizes_keeps_its_subfolders(upscale, face, tmp_path):
    lows = [
        face(tmp_path / "in" / n, (s, s), s) for n, s in (("a.png", 4), ("b/a.png", 2), ("b/c.png", 5), ("d.png", 4))
    ]
    done = upscale(tmp_path / "in", "-o", tmp_path / "out", "-q")
    assert done.code == 0
    assert done.err == ""
    for low in lows:
        assert consistency(tmp_path / "out" / low.relative_to(tmp_path / "in"), low) > 45


def test_soft_faces_are_told_and_may_be_taken_as_they_are(upscale, face, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for i in range(2):
        folder.mkdir(exist_ok=True)
        with Image.open(face(tmp_path / f"{i}.png", (5, 5), i)) as small:
            small.resize((15, 15), Image.Resampling.BICUBIC).save(folder / f"soft{i}.png")
    face(folder / "sharp.png", (15, 15))
    done = upscale(folder, "--aligned", "-o", out, "--save-steps", "--compare")
    assert done.code == 0
    assert "2 were soft and taken as of " in done.err
    assert "or a soft one's detail," in done.err
    record = json.loads((out / "soft0.json").read_text())
    assert record["low_size"] == [15, 15]
    assert 8 <= record["detail_size"][0] < 15
    assert json.loads((out / "sharp.json").read_text())["detail_size"] == [15, 15]
    assert (out / "soft1-steps.png").exists()
    wide, narrow = (read_picture(out / f"{name}-compare.png").shape[2] for name in ("soft0", "sharp"))
    assert wide > narrow  # a column more: what was searched with
    assert "3 already there" in upscale(folder, "--aligned", "-o", out).err
    refused = upscale(folder, "--aligned", "-o", out, "--detail", "full")
    assert refused.code == 1
    assert "--overwrite" in refused.err
    whole = upscale(folder, "--aligned", "-o", tmp_path / "full", "--detail", "full")
    assert "soft and taken" not in whole.err
    assert json.loads((tmp_path / "full" / "soft0.json").read_text())["detail_size"] == [15, 15]
    one = upscale(folder / "sharp.png", "--aligned", "-o", tmp_path / "six", "--detail", 6)
    assert "1 was soft and taken as of 6 px" in one.err


@pytest.mark.parametrize("detail", ["half", "1", "-4", ""])
def test_a_detail_that_is_none(upscale, face, tmp_path, detail):
    done = upscale(face(tmp_path / "a.png"), "-o", tmp_path / "out", f"--detail={detail}")
    assert done.code == 2
    assert "detail" in done.err
    assert "auto, full" in done.err


def test_a_result_depends_on_neither_place_nor_neighbours(upscale, face, tmp_path):
    for i in range(5):
        face(tmp_path / "in" / f"{i}.png", seed=i)
    assert upscale(tmp_path / "in", "-o", tmp_path / "all").code == 0
    assert upscale(tmp_path / "in" / "3.png", "-o", tmp_path / "one").code == 0
    a, b = (np.asarray(Image.open(tmp_path / d / "3.png")).astype(int) for d in ("all", "one"))
    assert np.abs(a - b).max() <= 1


def test_a_file_name_as_output(upscale, face, tmp_path):
    low = face(tmp_path / "a.png")
    assert upscale(low, "-o", tmp_path / "deep" / "me.png").out == [str(tmp_path / "deep" / "me.png")]
    assert names(tmp_path / "deep") == ["me.json", "me.png"]
    face(tmp_path / "b.png")
    two = upscale(tmp_path / "*.png", "-o", tmp_path / "deep" / "me.png")
    assert two.code == 2
    assert "2 pictures" in two.err


def test_samples_mean_compare_and_steps(upscale, face, tmp_path):
    low = face(tmp_path / "a.png")
    assert upscale(low, "-o", tmp_path / "s", "--samples", 2, "--compare", "--save-steps").code == 0
    assert names(tmp_path / "s") == sorted(
        f"a{x}" for x in (".json", ".png", "-1.png", "-2.png", "-spread.png", "-compare.png", "-steps.png")
    )
    assert (tmp_path / "s" / "a-1.png").read_bytes() == (tmp_path / "s" / "a.png").read_bytes()
    assert (tmp_path / "s" / "a-1.png").read_bytes() != (tmp_path / "s" / "a-2.png").read_bytes()
    assert upscale(low, "-o", tmp_path / "m", "--answer", "mean", "--samples", 3).code == 0
    assert consistency(tmp_path / "m" / "a.png", low) > 45
    assert json.loads((tmp_path / "m" / "a.json").read_text())["settings"]["answer"] == "mean"


@pytest.mark.parametrize("method", ["dgp", "ilo"])
def test_methods_of_several_stages_take_steps_and_tell_their_time(upscale, face, tmp_path, method):
    low = face(tmp_path / "a.png")
    done = upscale(low, "-o", tmp_path / "out", "-m", method, "--preset", "equal", steps=10)
    assert done.code == 0
    assert "1 aligned face to upscale: about" in done.err
    record = json.loads((tmp_path / "out" / "a.json").read_text())
    assert sum(record["settings"]["method_settings"]["steps"]) == 10
    few = upscale(low, "-o", tmp_path / "few", "-m", method, steps=1)
    assert few.code == 2
    assert "stages" in few.err


def test_each_strip_of_steps_is_of_its_own_face_s_first_sample(upscale, face, tmp_path):
    lows = [face(tmp_path / f"{n}.png", seed=i) for i, n in enumerate("abc")]
    assert upscale(*lows, "-o", tmp_path / "alone", "--save-steps", steps=20).code == 0
    asked = ("-o", tmp_path / "many", "--save-steps", "--samples", 2, "--batch-size", 4)
    assert upscale(*lows, *asked, steps=20).code == 0
    alone, many = (
        [Image.open(tmp_path / folder / f"{n}-steps.png").tobytes() for n in "abc"] for folder in ("alone", "many")
    )
    assert len(set(alone)) == 3
    assert alone == many


def test_json_lines(upscale, face, tmp_path):
    lows = [face(tmp_path / f"{n}.png") for n in "ab"]
    done = upscale(*lows, "-o", tmp_path / "out", "--json")
    rows = [json.loads(line) for line in done.out]
    assert [Path(r["output"]).name for r in rows] == ["a.png", "b.png"]
    assert all(r["consistency_db"] > 45 and r["generated"] for r in rows)


def test_without_projection_kernel_method_and_factor(upscale, call, face, prior_file, tmp_path):
    low = face(tmp_path / "a.png")
    assert upscale(low, "-o", tmp_path / "1", "--no-projection").code == 0
    assert consistency(tmp_path / "1" / "a.png", low) < 45
    assert upscale(low, "-o", tmp_path / "2", "--kernel", "lanczos", "-f", 2.5).code == 0
    assert read_picture(tmp_path / "2" / "a.png").shape == (3, 10, 10)
    assert call("upscale", low, "-o", tmp_path / "3", "-m", "bicubic", "-p", prior_file).code == 0


# ---------------------------------------------------------------------------------------------------------------------
# Running it again.


def test_a_second_run_skips_and_another_request_refuses(upscale, face, tmp_path):
    low, out = face(tmp_path / "a.png"), tmp_path / "out"
    upscale(low, "-o", out)
    before = (out / "a.png").stat().st_mtime_ns
    again = upscale(low, "-o", out)
    assert again.code == 0
    assert again.out == []
    assert "1 already there" in again.err
    other = upscale(low, "-o", out, "--seed", 1)
    assert other.code == 1
    assert "--overwrite" in other.err
    assert (out / "a.png").stat().st_mtime_ns == before
    face(low, seed=9)  # the same name, another picture
    assert "--overwrite" in upscale(low, "-o", out).err
    assert upscale(low, "-o", out, "--overwrite").code == 0
    assert consistency(out / "a.png", low) > 45


def test_what_is_asked_beside_a_result_is_made_up_for(upscale, face, tmp_path):
    low, out = face(tmp_path / "a.png"), tmp_path / "out"
    upscale(low, "-o", out)
    assert upscale(low, "-o", out, "--compare").code == 0
    assert (out / "a-compare.png").exists()


def test_a_picture_of_ones_own_named_like_a_sample_stays(upscale, face, tmp_path):
    low, out = face(tmp_path / "a.png"), tmp_path / "out"
    mine = face(out / "a-1.png", seed=3).read_bytes()
    told = upscale(low, "-o", out, "--samples", 2)
    assert told.code == 1
    assert "a-1.png: another picture is there; use another -o" in told.err
    assert upscale(low, "-o", out, "--samples", 2, "--overwrite").code == 1
    assert (out / "a-1.png").read_bytes() == mine
    assert names(out) == ["a-1.png"]


def test_the_input_itself_is_never_replaced(upscale, face, tmp_path):
    low = face(tmp_path / "a.png")
    mine = low.read_bytes()
    assert upscale(low, "-o", tmp_path, "--overwrite").code == 1
    assert upscale(low, "-o", low, "--overwrite").code == 1
    assert low.read_bytes() == mine
    assert names(tmp_path) == ["a.png"]


def test_results_inside_the_input_folder_are_no_inputs(upscale, face, tmp_path):
    face(tmp_path / "a.png")
    for _ in range(2):
        assert upscale(tmp_path, "-o", tmp_path / "out").code == 0
    assert names(tmp_path / "out") == ["a.json", "a.png"]


# ---------------------------------------------------------------------------------------------------------------------
# A sudden end.

COUNT = 12


@pytest.fixture
def started(face, prior_file, tmp_path):
    """Start the command as a process on a folder, wait until it is in the middle, and give (process, arguments)."""
    for i in range(COUNT):
        face(tmp_path / "in" / f"{i:02}.png", seed=i)
    arguments = ["upscale", tmp_path / "in", "-o", tmp_path / "out", "-p", prior_file]
    arguments += ["--steps", 20, "--batch-size", 1, "--device", "cpu"]
    env = {**os.environ, "PYTHONPATH": str(Path(latentface.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "latentface", *map(str, arguments)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in its background makes its children deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for _ in range(3):
        assert process.stdout.readline().endswith(".png\n")
    yield process, arguments
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.communicate()


def check_then_finish(call, arguments, tmp_path):
    out = tmp_path / "out"
    pictures = list(out.glob("*.png"))
    assert 3 <= len(pictures) < COUNT  # it was in the middle
    for path in pictures:
        assert read_picture(path).shape == (3, 16, 16)
    for path in out.glob("*.json"):
        json.loads(path.read_text())
    done = call(*arguments)
    assert done.code == 0, done.err
    assert names(out) == sorted(f"{i:02}.{kind}" for i in range(COUNT) for kind in ("png", "json"))
    assert len(done.out) <= COUNT - 3  # what was whole was not done again


@pytest.mark.slow
def test_ctrl_c_in_the_middle(started, call, tmp_path):
    process, arguments = started
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        err.splitlines()[-1] == "latentface: stopped; what is written is whole, and the same command goes on from there"
    )
    assert "Traceback" not in err
    assert not list((tmp_path / "out").glob(".*"))
    check_then_finish(call, arguments, tmp_path)


@pytest.mark.slow
def test_kill_9_in_the_middle(started, call, tmp_path):
    process, arguments = started
    process.kill()
    process.communicate(timeout=60)
    # As if it had been killed in the middle of a write.
    half = tmp_path / "out" / f".11.png.{socket.gethostname()}-{process.pid}-abcd1234.part"
    half.write_bytes(b"\x89PNG")
    os.utime(half, times=(0, 0))  # long ago
    check_then_finish(call, arguments, tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# Memory.


def test_memory_does_not_grow_with_the_number_of_inputs(upscale, face, tmp_path, monkeypatch):
    """No more pictures are alive at any time than a window holds."""
    from latentface.restore import upscaler as module

    monkeypatch.setattr(module, "WINDOW_PICTURES", 4)
    for i in range(16):
        face(tmp_path / "in" / f"{i:02}.png", seed=i)
    alive: list[int] = []
    real = module.Upscaler.finish

    def faces_alive() -> int:
        return sum(1 for o in gc.get_objects() if type(o) is torch.Tensor and o.shape == (3, 4, 4))

    gc.collect()
    before = faces_alive()  # of other tests

    def counted(self, window, on_step=None):
        alive.append(faces_alive() - before)
        assert len(window) == 4
        return real(self, window, on_step)

    monkeypatch.setattr(module.Upscaler, "finish", counted)
    assert upscale(tmp_path / "in", "-o", tmp_path / "out").code == 0
    assert len(alive) == 4
    assert max(alive) <= 3 * 4
    assert alive[-1] <= alive[1]


# ---------------------------------------------------------------------------------------------------------------------
# What a result tells, and what one failure costs.


def test_neither_picture_nor_record_names_the_folder(upscale, face, tmp_path):
    for place in ("private-folder", "secret-results"):
        (tmp_path / place).mkdir()
    low = face(tmp_path / "private-folder" / "a.png")
    assert upscale(low, "-o", tmp_path / "secret-results", "--samples", 2, "--compare", "--save-steps").code == 0
    written = list((tmp_path / "secret-results").iterdir())
    assert len(written) == 7
    for path in written:
        data = path.read_bytes()
        if path.suffix == ".png":
            data += json.dumps(Image.open(path).text).encode()  # chunks may be compressed
        assert b"private-folder" not in data
        assert b"secret-results" not in data
    assert json.loads((tmp_path / "secret-results" / "a.json").read_text())["input"] == "a.png"


def test_one_face_that_does_not_fit_the_memory_fails_alone(upscale, face, tmp_path, monkeypatch):
    from latentface.restore import engine

    real = engine.explore_coarse
    for name in "abc":
        face(tmp_path / "in" / f"{name}.png", seed=ord(name))
    large = read_picture(tmp_path / "in" / "b.png")

    def explored(method, prior, low, **named):
        if any(torch.equal(one, large) for one in low):
            raise MemoryError
        return real(method, prior, low, **named)

    assert upscale(tmp_path / "in", "-o", tmp_path / "all", "-q", "--aligned").code == 0
    monkeypatch.setattr(engine, "explore_coarse", explored)
    done = upscale(tmp_path / "in", "-o", tmp_path / "out", "-q", "--aligned")
    assert done.code == 1
    assert "b.png: one face does not fit this device's memory" in done.err
    assert names(tmp_path / "out") == ["a.json", "a.png", "c.json", "c.png"]
    for name in ("a.png", "c.png"):
        assert read_picture(tmp_path / "out" / name).equal(read_picture(tmp_path / "all" / name))
