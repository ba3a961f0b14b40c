"""`latentface upscale` on photographs: mixed with aligned faces and broken files, skipped when done, and what is beside them."""

from __future__ import annotations

import json

import photo_scene
import pytest
from PIL import Image
from tiny_prior import tiny_prior


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
    from latentface import photograph
    from latentface.faces.align import ffhq_fit

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
    assert "4 faces in photographs upscaled; 2 left as they are" in done.err  # those of 16 px, as many as the prior has
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
    for name in ("a-compare.png", "a-faces/01.png", "a-faces/02.png", "sub/b.png", "small.png"):
        assert (tmp_path / "out" / name).exists()
    again = upscale(folder, *asked)
    assert again.out == []
    assert "3 were there already" in again.err
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
    assert "there already" in again.err


def test_aligned_takes_no_photograph(upscale, face, tmp_path):
    done = upscale(face(tmp_path / "a.png", (8, 6)), "-o", tmp_path / "out", "--aligned")
    assert done.code == 1
    assert "square" in done.err
