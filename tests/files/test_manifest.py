"""Manifests: what is listed, what is done, and what is left after a run was cut off."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from latentface.errors import InputError
from latentface.io.inputs import Listing, list_inputs, walk_inputs
from latentface.io.manifest import Listed, Manifest, list_manifest


def tree(folder: Path) -> Path:
    """Make a folder of pictures' names that meet, odd ones, and files that are no pictures."""
    names = ("a.png", "a.jpg", "b/a.png", "b/a-1.png", "b/c/\udcff.png", "b/.hidden.png", "b/film.mp4", "d/notes.txt")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def left(manifest: Manifest) -> list[str]:
    return [str(item.target) for item in manifest]


def test_a_folder_is_walked_as_it_is_listed(tmp_path: Path) -> None:
    folder, walked = tree(tmp_path / "in"), Listing()
    listed = list_inputs([str(folder)], leave_out=folder / "out")
    found = list(walk_inputs(folder, walked, folder / "out"))
    assert sorted(map(repr, found)) == sorted(map(repr, listed.inputs))
    assert (walked.left, walked.failures) == (listed.left, [])


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    folder, path = tree(tmp_path / "in"), tmp_path / "list.jsonl"
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("x/z.png", b"")
    for arguments in ([str(folder)], [str(folder), str(tmp_path / "more.zip")]):
        path.unlink(missing_ok=True)
        items = list(list_manifest(path, arguments).inputs)
        expected = {i.entry.label: i.target for i in list_inputs(arguments).inputs}
        assert {i.entry.label: i.target for i in items} == expected
        assert [i.line for i in items if isinstance(i, Listed)] == list(range(len(expected)))


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    manifest = list_manifest(path, [str(tree(tmp_path / "in"))]).inputs
    assert isinstance(manifest, Manifest)
    names = left(manifest)
    manifest.finish(1, Path("out/one.png"))
    manifest.note({"input": "in/broken.png", "failed": "it is broken"})
    manifest.finish(3, Path("out/three.png"))
    with open(manifest.log, "ab") as file:
        file.write(b'{"line": 0, "outp')  # killed while it was written
    again = list_manifest(path, ["elsewhere"]).inputs
    assert isinstance(again, Manifest)
    assert left(again) == [names[0], names[2], names[4]]
    assert again.words == "2 of 5 pictures are done"
    again.finish(0, Path("out/zero.png"))
    assert left(Manifest(path)) == [names[2], names[4]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nothing", "line 2: expected"),
        ('{"input": "a.png"}', "line 2: expected"),
        ("[1]", "line 2: expected"),
        (json.dumps({"input": "a.png", "output": "../a"}), "leads out of the results' folder"),
        (json.dumps({"input": "a.png", "output": "/a"}), "leads out of the results' folder"),
    ],
)
def test_wrong_lines(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text(f'{{"input": "b.png", "output": "b"}}\n{line}\n')
    with pytest.raises(InputError, match=words):
        list(Manifest(path))


def test_what_is_done_is_of_another_manifest(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text('{"input": "b.png", "output": "b"}\n')
    (tmp_path / "list.done.jsonl").write_text('{"line": 1, "output": "c.png"}\n')
    with pytest.raises(InputError, match="it is of another manifest"):
        Manifest(path)
