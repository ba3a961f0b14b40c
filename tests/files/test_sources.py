"""Files, folders, globs and zips, and that every result has its own name inside the output folder."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from latentface.io.inputs import list_inputs


@pytest.fixture
def tree(tmp_path):
    for name in ("b.png", "a.jpg", "sub/a.jpg", "sub/deep/c.WEBP", "notes.txt", ".hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def targets(*arguments, **options) -> list[str]:
    return [str(i.target) for i in list_inputs([str(a) for a in arguments], **options).inputs]


def test_a_folder_keeps_its_subfolders(tree):
    assert targets(tree) == ["a", "b", "sub/a", "sub/deep/c"]


def test_the_same_file_counts_once(tree):
    assert targets(tree / "b.png", tree, tree / "*.png") == ["b", "a", "sub/a", "sub/deep/c"]


def test_globs(tree):
    assert targets(tree / "**" / "a.jpg") == ["a", "sub/a"]
    assert targets(tree / "[ab].*") == ["a", "b"]
    (tree / "[ab].png").write_bytes(b"x")  # a name that is also a pattern
    assert targets(tree / "[ab].png") == ["[ab]"]


def test_what_is_not_there_is_told_and_the_rest_listed(tree):
    (tree / "empty").mkdir()
    listing = list_inputs([str(tree / x) for x in ("no.png", "*.gif", "empty", "b.png")] + ["x" * 5000])
    assert [i.entry.stem for i in listing.inputs] == ["b"]
    reasons = [reason for _, reason in listing.failures]
    assert reasons == ["there is no such file or folder"] * 2 + [
        "no picture is in this folder",
        "there is no such file or folder",
    ]


def test_same_stems_get_distinct_names(tmp_path):
    for name in ("a.png", "a.jpg", "A.webp", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    names = targets(tmp_path)
    assert len({n.lower() for n in names}) == 4
    assert {"a-png", "a-jpg", "b"} <= set(names)


def test_a_name_that_another_result_may_need_is_changed(tmp_path):
    for name in ("a.png", "a-1.png", "a-spread.png", "b-1.png"):
        (tmp_path / name).write_bytes(b"x")
    assert sorted(targets(tmp_path)) == ["a", "a-1-png", "a-spread-png", "b-1"]


def test_the_results_inside_an_input_folder_are_no_inputs(tree):
    (tree / "out").mkdir()
    (tree / "out" / "a.png").write_bytes(b"x")
    assert targets(tree, leave_out=tree / "out") == ["a", "b", "sub/a", "sub/deep/c"]
    assert targets(tree / "out", leave_out=tree / "out") == ["a"]


def test_zips(tmp_path):
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("b/face.png", "a/face.png", "readme.md", "__MACOSX/a/._face.png"):
            archive.writestr(name, b"x")
    listing = list_inputs([str(path)])
    assert [str(i.target) for i in listing.inputs] == ["a/face", "b/face"]
    assert listing.inputs[0].entry.label == f"{path}:a/face.png"


def test_no_zip_leads_out_of_the_output_folder(tmp_path):
    path = tmp_path / "evil.zip"
    names = ["../../up.png", "/etc/root.png", "C:\\win\\w.png", "..\\back.png", "a/../../b.png", "...png"]
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    out = tmp_path / "out"
    for item in list_inputs([str(path)]).inputs:
        assert not item.target.is_absolute()
        assert Path(out / item.target).resolve().is_relative_to(out)


def test_bad_zips_are_told(tmp_path):
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and nothing more")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("notes.txt", b"x")
    listing = list_inputs([str(tmp_path / "cut.zip"), str(tmp_path / "none.zip")])
    assert not listing.inputs
    assert "cannot be read" in listing.failures[0][1]
    assert listing.failures[1][1] == "no picture is in this zip"


def test_same_names_keep_their_folders(tmp_path):
    for name in ("one/face.png", "two/face.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    assert targets(tmp_path / "one", tmp_path / "two") == ["one/face", "two/face"]


def test_results_in_the_inputs_own_folder_are_no_inputs(tmp_path):
    results = ("a.png", "a-1.png", "a-spread.png", "a-faces/01.png", "e.webp", "e-compare.webp")
    for name in ("a.jpg", "b.png", "c-1.png", "d-faces/1.png", "e.png", *results):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a.json").write_text('{"input_sha256": "12"}')
    (tmp_path / "b.json").write_text('{"other": 1}')
    (tmp_path / "e.json").write_text('{"input_sha256": "12", "format": "webp"}')
    assert targets(tmp_path, leave_out=tmp_path) == ["a", "b", "c-1", "d-faces/1", "e"]
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.png").write_bytes(b"x")
    (tmp_path / "only" / "a.json").write_text('{"input_sha256": "12"}')
    listing = list_inputs([str(tmp_path / "only")], leave_out=tmp_path / "only")  # as the shell's * names it
    assert not listing.inputs
    assert not listing.failures


def test_odd_names_and_archives_are_told(tmp_path):
    (tmp_path / "bad.zip").write_bytes(_zip_with_a_name_that_is_no_unicode())
    listing = list_inputs(["~nobody-of-this-name.png", str(tmp_path / "bad.zip")])
    assert not listing.inputs
    assert [name for name, _ in listing.failures] == ["~nobody-of-this-name.png", str(tmp_path / "bad.zip")]


def _zip_with_a_name_that_is_no_unicode() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("\u00e9.png", b"x")  # its name is flagged as UTF-8
    return file.getvalue().replace("\u00e9".encode(), b"\xff\xff")


def test_what_is_left_out_is_named(tree):
    (tree / "clip.MP4").write_bytes(b"x")
    (tree / "more.zip").write_bytes(b"x")
    (tree / "photo.jfif").write_bytes(b"x")
    (tree / "p.jpe").write_bytes(b"x")
    (tree / "gone.png").symlink_to(tree / "nowhere.png")
    (tree / "again").symlink_to(tree / "sub")
    listing = list_inputs([str(tree)])
    assert [str(i.target) for i in listing.inputs] == ["a", "b", "p", "photo", "sub/a", "sub/deep/c"]
    assert not listing.failures
    assert {kind: len(names) for kind, names in listing.left.items()} == {
        "linked folder": 1,
        "video": 1,
        "zip inside a folder": 1,
        "hidden file": 1,
        "other file": 1,
        "link that leads nowhere": 1,
    }
    words = listing.left_words()
    assert words.startswith(f"left out: 1 linked folder ({tree / 'again'}); 1 video ({tree / 'clip.MP4'}); ")
    assert f"1 other file ({tree / 'notes.txt'})" in words
    assert list_inputs([str(tree / "b.png")]).left_words() == ""


def test_a_file_reached_by_two_ways_is_done_once(tree):
    (tree / "0.png").symlink_to(tree / "b.png")
    listing = list_inputs([str(tree), str(tree / "b.png"), str(tree / "sub" / ".." / "b.png")])
    assert [i.entry.file for i in listing.inputs] == ["b.png", "a.jpg", "a.jpg", "c.WEBP"]
    assert "1 further way to the same picture" not in listing.left_words()
    assert "3 further ways to the same pictures" in listing.left_words()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with a name")
def test_a_pipe_is_opened_only_where_it_is_named(tree):
    os.mkfifo(tree / "pipe.png")
    for argument in (tree, tree / "*.png", tree / "**" / "*.png"):
        listing = list_inputs([str(argument)])  # opening it would wait for ever
        assert "pipe.png" not in [i.entry.file for i in listing.inputs]
        assert listing.left_words().count("1 special file") == 1
    assert len(list_inputs([str(tree / "pipe.png")]).inputs) == 1


def test_links_that_lead_round_in_a_circle_end(tree):
    (tree / "loop").symlink_to(tree)
    (tree / "sub" / "loop").symlink_to(tree)
    (tree / "self.png").symlink_to(tree / "self.png")
    for argument in (tree, tree / "**" / "*.*g", tree / "**" / "*"):
        listing = list_inputs([str(argument)], leave_out=tree / "out")
        pictures = [one for one in listing.inputs if one.entry.file != "notes.txt"]  # which * names too
        assert len(pictures) == 3 + (argument.name != "*.*g")
        assert len(listing.left["link that leads nowhere"]) == 1
        assert len(listing.left["linked folder"]) == 2


def test_a_folder_that_may_not_be_read(tree, monkeypatch):
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)  # whoever runs the tests may be root
    listing = list_inputs([str(tree), str(tree / "sub" / "deep")])
    told = (str(tree / "sub" / "deep"), "the folder may not be read (Permission denied)")
    assert listing.failures == [told, told]
    assert len(listing.inputs) == 3
