"""CelebA's list of attributes: as it is published, and as it should not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentface.datasets.attributes import find_attributes, read_attributes
from latentface.errors import InputError, MissingDataError
from latentface.io.sources import Entry

NAMES = ("Eyeglasses", "Male", "Wearing_Hat", "Young")
HEAD = "Arched_Eyebrows Eyeglasses Male Wearing_Hat Young"
ROWS = ("000001.jpg -1 -1 -1 -1  1", "000002.jpg  1  1  1 -1 -1", "000003.jpg -1 -1  1  1  1")


def write(folder: Path, *lines: str, name: str = "list_attr_celeba.txt", end: str = "\n") -> Path:
    path = folder / name
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n\n"])
def test_the_official_form(tmp_path, end):
    path = write(tmp_path, "3", HEAD, *ROWS, end=end)
    found = read_attributes(path, NAMES, {"000002", "000003", "000009"})
    assert list(found) == ["000002", "000003"]
    assert found["000002"] == {"Eyeglasses": True, "Male": True, "Wearing_Hat": False, "Young": False}
    assert found["000003"]["Wearing_Hat"]


def test_kaggles_form_and_a_file_with_fewer_attributes(tmp_path):
    lines = [",".join(row.split()) for row in (f"image_id {HEAD}", *ROWS)]
    path = write(tmp_path, *lines, name="list_attr_celeba.csv")
    assert read_attributes(path, ("Male", "Bald"), {"000001"}) == {"000001": {"Male": False}}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "it begins ''"),
        (("3",), "it begins '3'; expected a line with the number"),
        ((HEAD, *ROWS), "it begins 'Arched_Eyebrows Eyeglasses Male Wearing_Hat'"),
        (("3", "Bald Bangs", *ROWS), "none of the attributes Eyeglasses, Male"),
        (("4", HEAD, *ROWS), "says 4 pictures, but 3 follow; fetch it again"),
        (
            ("3", HEAD, *ROWS[:2], "000003.jpg -1 -1 1"),
            "line 5 begins '000003.jpg -1 -1 1' and has 3 values; .* 5 values",
        ),
        (("3", HEAD, *ROWS[:2], "000003.jpg -1 -1 0 1 1"), "line 5 .* each 1 or -1"),
        (("3", HEAD, ROWS[0], "000002.jpg", ROWS[2]), "line 4 begins '000002.jpg' and has 0 values"),
    ],
)
def test_malformed(tmp_path, lines, words):
    path = write(tmp_path, *lines)
    with pytest.raises(InputError, match=words) as caught:
        read_attributes(path, NAMES, {"000001"})
    assert str(path) in str(caught.value)


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(MissingDataError, match="comes with CelebA"):
        read_attributes(tmp_path / "none.txt", NAMES, {"1"})
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\xff\xfe")
    for path in (tmp_path / "picture.txt", tmp_path):
        with pytest.raises(InputError, match="cannot be read as a list of attributes"):
            read_attributes(path, NAMES, {"1"})


def test_it_is_found_beside_the_pictures(tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    (tmp_path / "Anno").mkdir()
    inside = [Entry("000001.jpg", tmp_path / "img_align_celeba", False)]
    zipped = [Entry("000001.jpg", tmp_path / "val.zip", True)]
    assert find_attributes(inside) is find_attributes(zipped) is find_attributes([]) is None
    path = write(tmp_path / "Anno", "0", HEAD)
    assert find_attributes(inside) == find_attributes(zipped) == path
