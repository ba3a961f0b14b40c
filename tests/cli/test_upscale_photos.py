"""`latentface upscale` on photographs: mixed with aligned faces and broken files, skipped when done, and what is beside them."""

from __future__ import annotations

import json
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import photo_scene
import pytest
import torch
from PIL import Image, ImageCms
from tiny import tiny_prior

from latentface.io import photo as photofile


@pytest.fixture
def scene(monkeypatch):
    """Write a photograph of three known faces and return its path."""
    photo_scene.know(monkeypatch)

    def scene(path, kind="PNG", **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo_scene.encoded(photo_scene.scene(tiny_prior(16)), kind=kind, **options))
        return path

    return scene


@pytest.fixture(autouse=True)
def ffhq(monkeypatch):
    """The tiny prior says celeba; its faces here are squared by the FFHQ rule."""
    from latentface.faces.align import ffhq_fit
    from latentface.restore import photo as photograph

    monkeypatch.setattr(photograph, "square_of", lambda face, alignment: ffhq_fit(face.landmarks))


def test_a_folder_of_mixed_kinds(upscale, face, scene, tmp_path):
    folder = tmp_path / "in"
    scene(folder / "a.png")
    scene(folder / "sub" / "b.jpg", "JPEG", quality=90)
    face(folder / "small.png")
    (folder / "broken.jpg").write_bytes((folder / "sub" / "b.jpg").read_bytes()[:900])
    (folder / "text.png").write_text("hello")
    asked = ("-o", tmp_path / "out", "--compare", "--save-faces", "--noise", "0", "--min-face", "4")
    done = upscale(folder, *asked)
    assert done.code == 1
    assert len(done.out) == 3
    assert "broken.jpg" in done.err
    assert "text.png" in done.err
    assert "4 faces in 2 photographs to upscale: about" in done.err
    assert "6 faces found in photographs: 4 upscaled" in done.err
    assert "2 left as they are (already as large as the 16 px" in done.err
    assert "a prior of 32 px, given with -p, would enlarge the large ones too" in done.err
    record = json.loads((tmp_path / "out" / "a.json").read_text())
    assert record["kind"] == "photograph"
    assert record["faces_found"] == 3
    assert record["faces_upscaled"] == 2
    assert record["high_size"] == [160, 240]
    assert record["consistency_db"] > 40
    assert [f["upscaled"] for f in record["faces"]] == [True, True, False]
    with Image.open(tmp_path / "out" / "a.png") as picture:
        assert picture.size == (240, 160)
        assert json.loads(picture.text["latentface"]) == record
    for name in ("a-compare.png", "a-faces/02.png", "a-faces/03.png", "sub/b.png", "small.png"):
        assert (tmp_path / "out" / name).exists()
    again = upscale(folder, *asked)
    assert again.out == []
    assert "3 already there" in again.err
    assert "use --overwrite" in upscale(folder / "a.png", *asked, "-f", 3).err


def test_samples_and_a_photograph_without_faces(upscale, face, scene, monkeypatch, tmp_path):
    assert upscale(scene(tmp_path / "a.png"), "-o", tmp_path / "out", "--samples", 2, "--min-face", 4).code == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "a.png",
        "a.json",
        "a-1.png",
        "a-2.png",
        "a-spread.png",
    }
    photo_scene.know(monkeypatch, [])
    done = upscale(face(tmp_path / "plain.png", (40, 30)), "-o", tmp_path / "out", "-f", 1.5)
    assert done.code == 0
    assert "no face was found" in done.err
    with Image.open(tmp_path / "out" / "plain.png") as picture:
        assert picture.size == (60, 45)
    again = upscale(tmp_path / "plain.png", "-o", tmp_path / "out", "-f", 1.5)
    assert "already there" in again.err


def test_aligned_takes_no_photograph(upscale, face, tmp_path):
    done = upscale(face(tmp_path / "a.png", (8, 6)), "-o", tmp_path / "out", "--aligned")
    assert done.code == 1
    assert "square" in done.err


def bomb(width: int, height: int) -> bytes:
    """Return a PNG whose header announces so many pixels, and that has hardly any."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def test_every_kind_of_file_is_done_or_named(upscale, scene, tmp_path):
    folder = tmp_path / "in"
    picture = Image.open(scene(folder / "plain.png")).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    picture.rotate(90, expand=True).save(folder / "turned.jpg", exif=exif, quality=95)
    picture.convert("L").save(folder / "grey.png")
    picture.convert("LA").save(folder / "greyalpha.png")
    picture.convert("P").save(folder / "palette.png")
    picture.save(folder / "moving.gif", save_all=True, append_images=[picture.rotate(180)])
    picture.save(folder / "profile.tif", icc_profile=icc)
    Image.fromarray(np.asarray(picture.convert("L"), dtype=np.uint16) * 257).save(folder / "deep.png")
    good = {path.stem for path in folder.iterdir()}
    jpeg = (folder / "cmyk.jpg").read_bytes()
    bad = {
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "text.jpg": b"not a picture",
        "zero.png": b"",
        "bomb.png": bomb(60000, 60000),
        "hollow.png": bomb(900, 900),
        "phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    }
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    asked = ("-o", tmp_path / "out", "--noise", "0", "--min-face", "4")
    done = upscale(folder, *asked, steps=1)
    assert done.code == 1
    assert len(done.out) == len(good)
    for name in [*bad, "one.png"]:
        assert sum(f"{name}:" in line for line in done.err.splitlines()) == 1, name
    assert f"{len(bad) + 1} failed" in done.err
    for name in good:
        record = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert (record["faces_found"], record["high_size"]) == (3, [160, 240]), name
    assert sorted(p.suffix for p in (tmp_path / "out").iterdir()) == [".json"] * len(good) + [".png"] * len(good)
    again = upscale(folder, *asked, steps=1)
    assert again.code == 1
    assert again.out == []
    assert f"{len(good)} already there; {len(bad) + 1} failed" in again.err


def test_photographs_that_are_too_large_are_refused_in_words(upscale, scene, monkeypatch, tmp_path):
    path = scene(tmp_path / "a.png")  # 120 x 80 px
    monkeypatch.setattr(photofile, "MAX_RESULT", 30_000)
    done = upscale(path, "-o", tmp_path / "out", "-f", 2)
    assert done.code == 1
    assert "use a smaller factor (-f)" in done.err
    assert upscale(path, "-o", tmp_path / "out", "-f", 1.5, "--min-face", 4).code == 0
    monkeypatch.setattr("latentface.io.pictures.MAX_PIXELS", 9_000)
    done = upscale(path, "-o", tmp_path / "other")
    assert done.code == 1
    assert "120 x 80 pixels are more than the limit" in done.err
    assert not list((tmp_path / "other").glob("*"))


def test_steps_of_a_photographs_faces(upscale, scene, tmp_path):
    asked = (scene(tmp_path / "a.png"), "-o", tmp_path / "out", "--min-face", 4)
    assert upscale(*asked, steps=5).code == 0
    assert upscale(*asked, "--save-steps", "--samples", 1, steps=5).code == 0  # made up for
    with Image.open(tmp_path / "out" / "a-steps.png") as sheet:
        assert sheet.size == (6 + 3 * (192 + 6), 26 + 2 * (192 + 6))  # steps 1, 2, 5; two faces
    assert "already there" in upscale(*asked, "--save-steps", steps=5).err
    assert upscale(*asked[:1], *asked[3:], "--save-steps", "--samples", 2, "-o", tmp_path / "two", steps=5).code == 0
    with Image.open(tmp_path / "two" / "a-steps.png") as sheet:
        assert sheet.height == 26 + 2 * (192 + 6)


def test_an_esrgan_file_enlarges_the_background(upscale, scene, tmp_path):
    from esrgan_files import esrgan_file

    path, file = scene(tmp_path / "a.png"), esrgan_file(tmp_path / "net.pth")
    done = upscale(path, "-o", tmp_path / "out", "--background", file, "--min-face", 4, "--samples", 2)
    assert done.code == 0
    assert "what surrounds the faces of photographs by net.pth (4x): about" in done.err
    record = json.loads((tmp_path / "out" / "a.json").read_text())
    assert record["background"]["file"] == "net.pth"
    with Image.open(tmp_path / "out" / "a-2.png") as picture:
        assert picture.size == (240, 160)
    assert "use --overwrite" in upscale(path, "-o", tmp_path / "out", "--min-face", 4, "--samples", 2).err
    assert upscale(path, "-o", tmp_path / "out", "--background", path).code == 1
    assert upscale(path, "-o", tmp_path / "out", "--background", file, "--aligned").code == 2


@pytest.mark.parametrize("installed", [False, True])
def test_heic(upscale, face, monkeypatch, tmp_path, installed):
    """Without its plug-in the message says how to get it; with it, it is registered when such a file comes."""
    if installed:
        pytest.importorskip("pillow_heif", reason="reads HEIC; pip install 'latentface[heic]'").register_heif_opener()
        Image.new("RGB", (40, 30), "teal").save(tmp_path / "a.heic")
    else:
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    for more in ((), ("--aligned",)):
        done = upscale(tmp_path / "a.heic", "-o", tmp_path / "out", *more)
        assert done.code == (0 if installed and not more else 1)
        assert ("pip install 'latentface[heic]'" in done.err) is not installed


def test_every_picture_for_a_photograph_or_for_an_aligned_face(upscale, face, tmp_path):
    picture = face(tmp_path / "a.png", (8, 8))
    refused = upscale(picture, "-o", tmp_path / "out", "--aligned", "--photo")
    assert refused.code == 2
    assert "--aligned and --photo say opposite things" in refused.err
    assert upscale(picture, "-o", tmp_path / "out").code == 0
    assert json.loads((tmp_path / "out" / "a.json").read_text()).get("kind") != "photograph"
    assert upscale(picture, "-o", tmp_path / "photo", "--photo").code == 0
    assert json.loads((tmp_path / "photo" / "a.json").read_text())["kind"] == "photograph"


def test_full_steps_of_a_method_without_exits(upscale, face, tmp_path):
    done = upscale(face(tmp_path / "a.png"), "-o", tmp_path / "out", "-m", "pulse", "--full-steps", 1)
    assert done.code == 2
    assert "leave full_steps out" in done.err


def located(path):
    """Write a photograph whose EXIF names a camera and a place."""
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 29.0), 3: "E", 4: (2.0, 17.0, 40.0), 29: "1999:12:31"}
    Image.new("RGB", (40, 30), "teal").save(path, exif=exif, quality=95)
    return path


def test_where_it_was_taken_is_told_and_kept_or_stripped(upscale, monkeypatch, tmp_path):
    photo_scene.know(monkeypatch, [])
    path = located(tmp_path / "a.jpg")
    assert b"1999:12:31" in path.read_bytes()
    kept = upscale(path, "-o", tmp_path / "kept")
    assert kept.code == 0
    assert "results say where the photograph was taken" in kept.err
    assert "--strip-location" in kept.err
    with Image.open(tmp_path / "kept" / "a.png") as picture:
        assert picture.getexif()[0x010F] == "a camera"
        assert picture.getexif().get_ifd(0x8825)[2] == (48.0, 51.0, 29.0)
    stripped = upscale(path, "-o", tmp_path / "stripped", "--strip-location")
    assert stripped.code == 0
    assert "was taken" not in stripped.err
    with Image.open(tmp_path / "stripped" / "a.png") as picture:
        assert picture.getexif()[0x010F] == "a camera"
        assert 0x8825 not in picture.getexif()
        assert picture.getexif().get_ifd(0x8825) == {}
    assert b"1999:12:31" not in (tmp_path / "stripped" / "a.png").read_bytes()
    assert b"1999:12:31" in (tmp_path / "kept" / "a.png").read_bytes()
    again = upscale(path, "-o", tmp_path / "kept", "--strip-location")  # another request
    assert again.code == 1
    assert "a result of other settings is there; use --overwrite" in again.err
    assert upscale(path, "-o", tmp_path / "kept", "--strip-location", "--overwrite").code == 0
    assert b"1999:12:31" not in (tmp_path / "kept" / "a.png").read_bytes()


def test_faces_by_their_numbers(upscale, scene, monkeypatch, tmp_path):
    path = scene(tmp_path / "a.png")
    asked = ("--noise", "0", "--min-face", "4", "-o", tmp_path / "out")
    assert upscale(path, *asked, "--faces", "2-3", "--save-faces", "--compare").code == 0
    assert sorted(p.name for p in (tmp_path / "out" / "a-faces").iterdir()) == ["02.png", "03.png"]
    assert "1 already there" in upscale(path, *asked, "--faces", "2-3", "--save-faces").err
    wrong = upscale(path, *asked[:-1], tmp_path / "wrong", "--faces", "2,7")
    assert wrong.code == 1
    assert "there is no face 7: 3 of at least 4 px found" in wrong.err
    for words, told in (("2-", "'2-' in '2-' is no number of a face"), ("3-1", "goes from 3 to 1"), ("0", "number 1")):
        refused = upscale(path, *asked, "--skip-faces", words)
        assert refused.code == 2
        assert told in refused.err
    monkeypatch.setattr("latentface.restore.engine.reason_against", lambda *_: "the result is no face")
    left = upscale(path, *asked[:-1], tmp_path / "left", "--skip-faces", "1").err
    assert "3 faces found in photographs: 0 upscaled; 1 left as it is (not asked for)" in left
    assert "2 left as they are (the result is no face); --keep-all keeps what is no face, too" in left


def test_memory_does_not_grow_with_the_folder(upscale, monkeypatch, tmp_path):
    monkeypatch.setattr("latentface.restore.upscaler.WINDOW_PICTURES", 2)
    photo_scene.know(monkeypatch, [])
    data = photo_scene.encoded(torch.rand(3, 200, 300))

    def peak(count):
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            (folder / f"{i}.png").write_bytes(data)
        tracemalloc.start()
        assert upscale(folder, "-o", tmp_path / f"out{count}", "-q").code == 0
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(3)  # what is loaded at first use
    assert peak(24) < 1.3 * peak(6)
