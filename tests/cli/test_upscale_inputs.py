"""`latentface upscale` and bad input, odd pictures, wrong options, full disks and zips: one line each, the others are done."""

from __future__ import annotations

import re
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from latentface.degradation import Downscale
from latentface.explore.result import psnr_each
from latentface.io.pictures import read_picture


def consistency(path: Path, low: Path) -> float:
    high, small = read_picture(path)[None], read_picture(low)[None]
    return float(psnr_each(Downscale(small.shape[-1], high.shape[-1]).forward(high), small)[0])


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# ---------------------------------------------------------------------------------------------------------------------
# Bad input: one line each, the other files are done.


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IEND", b"")
    )


def test_broken_files_are_named_and_the_others_done(upscale, face, tmp_path):
    folder = tmp_path / "in"
    whole = face(folder / "whole.png", (64, 64)).read_bytes()
    face(folder / "cut.jpg", (64, 64))
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:700])
    (folder / "cut.png").write_bytes(whole[:2000])
    (folder / "whole.png").unlink()
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("hello")
    (folder / "giant.png").write_bytes(_png(50_000, 50_000))
    face(folder / "oblong.png", (4, 6))
    face(folder / "one.png", (1, 1))
    face(folder / "large.png", (16, 16))
    good = [face(folder / "good.png"), face(folder / "two.png", (2, 2))]
    done = upscale(folder, folder / "missing.png", "-o", tmp_path / "out", "--aligned")
    assert done.code == 1
    assert done.out == [str(tmp_path / "out" / g.name) for g in good]
    lines = [line for line in done.err.splitlines() if line.startswith("latentface: ")]
    wanted = {
        "cut.jpg": "broken or cut off",
        "cut.png": "broken or cut off",
        "empty.png": "empty",
        "text.png": "not a picture",
        "giant.png": "megapixels",
        "oblong.png": "square",
        "one.png": "at least 2 x 2",
        "large.png": "nothing to enlarge",
        "missing.png": "no such file",
    }
    assert len(lines) == len(wanted)
    for name, words in wanted.items():
        assert any(name in line and words in line for line in lines), name
    assert "2 done" in done.err
    assert "9 failed" in done.err


def test_odd_but_good_pictures(upscale, face, tmp_path):
    folder = tmp_path / "in"
    for mode in ("RGBA", "P", "L", "LA", "1", "I;16"):
        face(folder / f"{mode.replace(';', '')}.png", mode=mode)
    face(folder / "cmyk.jpg", mode="CMYK")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(face(tmp_path / "up.png")).save(folder / "turned.png", exif=exif)
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    for kind in ("gif", "webp"):
        frames[0].save(folder / f"moving.{kind}", save_all=True, append_images=frames[1:], duration=50)
    done = upscale(folder, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert len(done.out) == 10
    assert {"moving-gif.png", "moving-webp.png"} <= {Path(p).name for p in done.out}
    assert "2 files of several frames or pages" in done.err
    assert consistency(tmp_path / "out" / "turned.png", folder / "turned.png") > 45
    red = read_picture(tmp_path / "out" / "moving-gif.png").mean((1, 2))
    assert red[0] > 0.9
    assert red[2] < 0.1


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["-m", "rlsee"], 2, "did you mean 'rlse'"),
        (["-p", "celeba46"], 2, "no prior 'celeba46'"),
        (["-p", "no/such.safetensors"], 1, "no such file"),
        (["--preset", "quick"], 2, "preset"),
        (["--kernel", "cubic"], 2, "bicubic"),
        (["-f", "0.5"], 2, "factor is 0.5"),
        (["--steps", "0"], 2, "steps is 0"),
        (["--steps", "many"], 2, "many"),
        (["--samples", "0"], 2, "samples is 0"),
        (["--batch-size", "-1"], 2, "auto or a number"),
        (["--device", "toaster"], 2, "try auto or cpu"),
        (["--answer", "both"], 2, "both"),
        (["--noise", "2"], 2, "0 to 1"),
        (["--colour", "blue"], 2, "colour"),
    ],
)
def test_wrong_options(call, face, tmp_path, options, code, words):
    done = call("upscale", face(tmp_path / "a.png"), "-o", tmp_path / "out", *options)
    assert done.code == code
    assert words in done.err
    assert done.err.count("\n") == 1
    assert done.out == []
    assert not (tmp_path / "out").exists()


def test_no_input(call):
    assert call("upscale").code == 2


def test_a_factor_that_is_too_large(upscale, face, tmp_path):
    done = upscale(face(tmp_path / "a.png"), "-o", tmp_path / "out", "-f", 8)
    assert done.code == 1
    assert "the largest factor here is 4" in done.err


def test_truncated_weights(call, face, prior_file, tmp_path):
    data = prior_file.read_bytes()
    for size in (100, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.safetensors").write_bytes(data[:size])
        done = call("upscale", face(tmp_path / "a.png"), "-o", tmp_path / "out", "-p", tmp_path / "cut.safetensors")
        assert done.code == 1
        assert "cut.safetensors: the file is broken" in done.err
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(("folder", "code"), [("file", 2), ("file/out", 2), ("/proc/latentface", 1)])
def test_unwritable_folders_are_told_before_the_search(upscale, face, tmp_path, folder, code):
    if folder.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    (tmp_path / "file").write_text("")
    for name in ("a", "b"):
        face(tmp_path / "in" / f"{name}.png")
    done = upscale(tmp_path / "in", "-o", tmp_path / folder, steps=10**6)
    assert done.code == code
    assert done.err.count("choose another") == 1


def test_a_full_disk(upscale, face, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("this test may not mount a tmpfs here")
    try:
        for i in range(6):
            face(tmp_path / "in" / f"{i}.png", seed=i)
        (disk / "ballast").write_bytes(b"x" * (64 * 1024 - 5 * 4096))
        done = upscale(tmp_path / "in", "-o", disk / "out")
        assert done.code == 1
        assert done.err.count("the disk is full; free some space") == 1
        assert re.search(r"1 failed; [1-5] not tried", done.err)
        assert not list(disk.rglob("*.part"))
        for path in disk.rglob("*.png"):
            assert read_picture(path).shape == (3, 16, 16)
        (disk / "ballast").unlink()
        assert upscale(tmp_path / "in", "-o", disk / "out").code == 0
        assert len(list((disk / "out").glob("*.png"))) == len(list((disk / "out").glob("*.json"))) == 6
    finally:
        subprocess.run(["umount", disk], check=True)


# ---------------------------------------------------------------------------------------------------------------------
# Zips.


def test_a_zip_and_its_evil_twin(upscale, face, tmp_path):
    data = face(tmp_path / "a.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "faces.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/a.png", data)
        archive.writestr("../../b.png", data)
        archive.writestr("/c.png", data)
        archive.writestr("broken.png", data * 50)
    raw = bytearray((tmp_path / "faces.zip").read_bytes())
    at = raw.index(b"broken.png") + len(b"broken.png")
    raw[at : at + 20] = b"\xff" * 20  # its compressed data
    (tmp_path / "faces.zip").write_bytes(bytes(raw))
    done = upscale(tmp_path / "faces.zip", "-o", tmp_path / "deep" / "out")
    assert done.code == 1
    assert "faces.zip:broken.png: it cannot be read from the archive" in done.err
    assert [n for n in names(tmp_path / "deep") if n.endswith(".png")] == ["out/b.png", "out/c.png", "out/x/a.png"]
    assert not (tmp_path / "b.png").exists()
