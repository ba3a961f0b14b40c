"""When a result counts as done, when it is refused, and what its files carry."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from latentface.errors import OutputError
from latentface.io.photo import Photo
from latentface.io.records import check_beside, is_done, read_record
from latentface.restore.faceresult import Upscaled
from latentface.restore.write import write_result

REQUEST = {"input": "a.png", "input_sha256": "12", "method": "rlse", "settings": {"steps": 2, "layers": (1, 2)}}
RECORD = {**REQUEST, "seconds": 1.5, "notice": "invented", "generated": True}


def result(samples: int = 1) -> Upscaled:
    high = torch.rand(samples, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Upscaled(high[0], high[0, :, :4, :4], high[0, :, :4, :4], high, 50.0, 1, RECORD)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.png"
    write_result(path, result(), RECORD, {})
    return path


def test_files_and_what_they_carry(saved):
    assert sorted(p.name for p in saved.parent.iterdir()) == ["a.json", "a.png"]
    record = json.loads(saved.with_suffix(".json").read_text())
    assert {k: record[k] for k in ("input_sha256", "generated", "notice")} == {
        "input_sha256": "12",
        "generated": True,
        "notice": "invented",
    }
    text = Image.open(saved).text
    assert text["Comment"] == "invented"
    assert json.loads(text["latentface"]) == record


def test_samples_have_their_own_files(tmp_path):
    write_result(tmp_path / "a.png", result(3), RECORD, {})
    written = {p.name for p in tmp_path.iterdir()}
    assert written == {"a.json", "a.png", "a-1.png", "a-2.png", "a-3.png", "a-spread.png"}


def test_fewer_samples_leave_none_of_the_older_ones(tmp_path):
    path, mine = tmp_path / "a.png", tmp_path / "a-5.png"
    Image.new("RGB", (4, 4)).save(mine)
    write_result(tmp_path / "a-6.png", result(), RECORD, {})  # a result of its own
    write_result(path, result(4), RECORD, {"compare": Image.new("RGB", (9, 9))})
    write_result(path, result(2), RECORD, {})
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["a-1.png", "a-2.png", "a-5.png", "a-6.json", "a-6.png", "a-spread.png", "a.json", "a.png"]
    write_result(path, result(), RECORD, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-5.png", "a-6.json", "a-6.png", "a.json", "a.png"]


@pytest.mark.parametrize("name", ["a-2.png", "a-spread.png", "a-steps.png"])
def test_a_picture_of_ones_own_beside_a_result_is_not_replaced(tmp_path, name):
    path = tmp_path / "a.png"
    write_result(path, result(2), RECORD, {"steps": Image.new("RGB", (9, 9))})
    check_beside(path, 2, ["steps"])
    Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(OutputError, match=f"{name}: another picture is there; use another -o"):
        check_beside(path, 2, ["steps"])
    check_beside(path)


def test_faces_of_ones_own_are_not_replaced(tmp_path):
    folder = tmp_path / "a-faces"
    folder.mkdir()
    check_beside(tmp_path / "a.png", faces=True)
    Image.new("RGB", (4, 4)).save(folder / "01.png")
    with pytest.raises(OutputError, match="another picture is there"):
        check_beside(tmp_path / "a.png", faces=True)


def test_done_means_the_same_request(saved):
    assert is_done(saved, REQUEST)
    assert is_done(saved, {**REQUEST, "input": "elsewhere/a.png"})  # the same bytes, wherever they lie
    assert not is_done(saved.with_name("b.png"), REQUEST)


@pytest.mark.parametrize(
    "change", [{"input_sha256": "13"}, {"method": "bicubic"}, {"settings": {"steps": 3, "layers": (1, 2)}}, {"new": 1}]
)
def test_another_request_is_refused(saved, change):
    with pytest.raises(OutputError, match="--overwrite"):
        is_done(saved, {**REQUEST, **change})


def test_cut_off_between_picture_and_record(saved):
    saved.with_suffix(".json").unlink()
    assert not is_done(saved, REQUEST)  # ours: it is made again
    with pytest.raises(OutputError, match="--overwrite"):
        is_done(saved, {**REQUEST, "input_sha256": "13"})


def test_a_lost_picture_is_made_again(saved):
    saved.unlink()
    assert not is_done(saved, REQUEST)


@pytest.mark.parametrize("content", [b"", b"not json", b"[1]", b"\xff\xfe"])
def test_a_broken_record_is_none(saved, content):
    saved.with_suffix(".json").write_bytes(content)
    assert read_record(saved) is None


def test_a_strangers_picture_is_never_overwritten(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(OutputError, match="another picture"):
        is_done(tmp_path / "a.png", REQUEST)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(OutputError, match="another picture"):
        is_done(tmp_path / "b.png", REQUEST)


def test_a_name_that_is_no_unicode(tmp_path):
    write_result(tmp_path / "a.png", result(), {**RECORD, "input": "caf\udce9.png"}, {})
    assert json.loads(Image.open(tmp_path / "a.png").text["latentface"])["input"] == "caf\udce9.png"


def test_a_new_picture_never_stands_beside_an_old_record(saved, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Photo, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_result(saved, result(), RECORD, {})
    assert not saved.with_suffix(".json").exists()


def test_a_strangers_json_is_never_overwritten(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2]")
    with pytest.raises(OutputError, match=r"another picture or file of that name"):
        is_done(tmp_path / "a.png", REQUEST)


def test_a_record_with_letters_of_all_kinds(tmp_path):
    path = tmp_path / "a.png"
    write_result(path, result(), {**RECORD, "prior": "\u00c1 \u4e00"}, {})
    assert is_done(path, {**REQUEST, "prior": "\u00c1 \u4e00"})


def test_a_cut_off_picture_of_any_size_is_known(saved, monkeypatch):
    saved.with_suffix(".json").unlink()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)  # 64 pixels: as a photograph of 200 megapixels by default
    assert not is_done(saved, REQUEST)
