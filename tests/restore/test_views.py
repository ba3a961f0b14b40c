"""What a screen shows of a picture, what it offers, and the files that a result is handed over as."""

from __future__ import annotations

import json

import numpy as np
import photo_scene
import pytest
from PIL import Image
from tiny import tiny_faces, tiny_prior

from latentface.errors import InputError
from latentface.restore.choices import method_lines, offered_priors, pictures_to_try, sample_faces
from latentface.restore.settings import PhotoSettings, UpscaleSettings
from latentface.restore.upscaler import Upscaler
from latentface.restore.views import COLUMNS, before_and_after, face_rows, faces_made, fitted, numbered, to_choose
from latentface.restore.write import write_all


@pytest.fixture
def scene(monkeypatch):
    """An upscaler of photographs, and a photograph of three faces of its prior."""
    prior = tiny_prior(32)
    prior.alignment = "ffhq"
    photo_scene.know(monkeypatch)
    settings = UpscaleSettings(steps=2, samples=2, noise=0.0)
    upscaler = Upscaler(prior, settings=settings, photo=PhotoSettings(min_face=4.0, faces=(1, 3)))
    return upscaler, photo_scene.encoded(photo_scene.scene(prior))


def test_a_photograph(scene):
    upscaler, picture = scene
    found = upscaler.look(picture, kind="photo")
    boxes = numbered(found, 60)
    assert boxes.size == (60, 40)
    assert (np.asarray(boxes) == (255, 255, 0)).all(-1).any()
    assert [number for _, number in to_choose(found)] == [1, 3]
    result = upscaler(picture, kind="photo")
    before, after = before_and_after(result, 100)
    assert before.size == after.size == (100, 67)
    assert np.abs(np.asarray(before).astype(float) - np.asarray(after)).max() > 4
    made = faces_made(result)
    assert [words.split(":")[0] for _, words in made] == ["Face 1"] * 4 + ["Face 3"] * 4
    rows = face_rows(result.record)
    assert [row[:2] for row in rows] == [[1, "yes"], [2, "no"], [3, "yes"]]
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert rows[1][-1] == "not asked for"


def test_an_aligned_face(prior):
    upscaler = Upscaler(prior, settings=UpscaleSettings(steps=2))
    face = tiny_faces(1)[0]
    found = upscaler.look(face, kind="aligned")
    assert found.summary == "one aligned face of 4 x 4 px"
    assert numbered(found, 100) is None
    assert to_choose(found) == []
    result = upscaler.face(face)
    before, after = before_and_after(result, 100)
    assert before.size == after.size == (100, 100)
    assert [words for _, words in faces_made(result)] == ["Face: input", "Face: result"]
    ((number, enlarged, detail, *_),) = face_rows(result.record)
    assert (number, enlarged, detail) == (1, "yes", 4)


def test_pictures_are_shrunk_and_never_enlarged():
    assert fitted((50, 200), 100) == (100, 25)
    assert fitted((50, 20), 100) == (20, 50)


def test_a_result_is_written_with_its_record_and_everything_beside_it(scene, tmp_path):
    upscaler, picture = scene
    source = tmp_path / f"{'long' * 50}.png"
    source.write_bytes(picture)
    (tmp_path / "out").mkdir()
    path, record, *others = write_all(tmp_path / "out", source, upscaler(source, kind="photo"), "jpg")
    assert path.name == f"{'long' * 20}-large.jpg"
    assert path.read_bytes()[:3] == b"\xff\xd8\xff"
    told = json.loads(record.read_text())
    assert (told["input"], told["format"]) == (source.name, "jpg")
    endings = {other.name.rpartition("-")[2] for other in others}
    assert endings == {"1.jpg", "2.jpg", "spread.jpg", "compare.jpg", "01.jpg", "03.jpg"}


def test_what_a_page_offers(packaged, tmp_path):
    lines = method_lines()
    assert next(iter(lines)) == "rlse"
    assert {"bicubic", "pulse"} <= lines.keys()
    priors = offered_priors("tiny", "cpu")
    assert [*priors] == ["tiny"]
    more = tmp_path / "more"
    more.mkdir()
    Image.new("RGB", (9, 9)).save(more / "a face.png")
    (more / "notes.doc").write_text("no picture")
    (more / "CITATION.txt").write_text("from a study")
    named, cited = pictures_to_try(priors, tmp_path / "examples", more)
    assert cited == "from a study"
    assert list(named.values())[-4:] == ["invented face 1", "invented face 2", "invented face 3", "a face"]
    assert all(path.is_file() for path in named)
    assert pictures_to_try(priors, tmp_path / "others")[1] == ""
    with pytest.raises(InputError, match="no such folder"):
        pictures_to_try(priors, tmp_path / "third", tmp_path / "absent")


def test_sample_faces_are_the_seeds_own(prior):
    both, one = sample_faces(prior, (3, 5), 8), sample_faces(prior, (5,), 8)
    assert both[1].size == (8, 8)
    assert np.abs(np.asarray(both[1]).astype(int) - np.asarray(one[0])).max() <= 1
    assert np.abs(np.asarray(both[0]).astype(int) - np.asarray(one[0])).max() > 5
