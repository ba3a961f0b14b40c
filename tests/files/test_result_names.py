"""What results are called: folders are kept, endings where they are needed, and names that earlier runs gave."""

from __future__ import annotations

import zipfile

import pytest

from latentface.io.inputs import list_inputs


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Make files in the working folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")

    return make


def targets(*arguments: str) -> list[str]:
    return [str(i.target) for i in list_inputs(arguments).inputs]


def test_same_names_keep_their_folders(make):
    make("d1/face.png", "d2/face.png", "d2/b.png", "x/d1/face.png", "x/face.png")
    assert targets("d1/face.png", "d2/face.png", "d2/b.png") == ["d1/face", "d2/face", "b"]
    assert targets("d1", "d2") == ["d1/face", "b", "d2/face"]
    assert targets("d1/face.png", "x/d1/face.png") == ["d1/face", "x/d1/face"]
    assert targets("x/face.png", "x/d1/face.png") == ["face", "d1/face"]
    assert targets("d2/face.png") == ["face"]


def test_the_ending_depends_on_the_folder_and_not_on_what_is_named(make):
    make("a.png", "a.jpg", "b.png", "c.png", "c-1.png")
    assert targets("a.png") == ["a-png"]
    assert targets("a.png", "a.jpg", "b.png") == ["a-png", "a-jpg", "b"]
    assert targets("c-1.png") == ["c-1-png"]
    assert targets("c.png") == ["c"]


def test_zips_with_the_same_names(make, tmp_path):
    for name in ("one.zip", "two.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member in ("s/face.png", "s/face.jpg", f"s/{name}.png"):
                archive.writestr(member, b"x")
    assert targets("one.zip") == ["s/face-jpg", "s/face-png", "s/one.zip"]
    assert targets("one.zip", "two.zip")[:4] == ["one/s/face-jpg", "one/s/face-png", "s/one.zip", "two/s/face-jpg"]


def test_the_names_of_other_runs_are_known(make):
    make("d1/face.png", "d2/face.png")
    alone, together = list_inputs(["d2/face.png"]).inputs[0], list_inputs(["d1/face.png", "d2/face.png"]).inputs
    assert together[1].target in alone.others
    assert alone.target in together[1].others
    assert not {i.target for i in together} & {other for i in together for other in i.others}
