"""The script that cuts the tables' faces out of CelebA's folder."""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from latentface.datasets import open_faces, read_face
from latentface.errors import MissingDataError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cut_faces.py"


def script_with(names: list[str], folder: Path) -> ModuleType:
    shutil.copy(SCRIPT, folder)
    for part in ("test", "val"):
        (folder / f"celeba-{part}.txt").write_text("\n".join(names))
    spec = importlib.util.spec_from_file_location("cut_faces", folder / SCRIPT.name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def celeba(folder: Path) -> Path:
    (folder / "img_align_celeba").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = rng.integers(0, 256, (218, 178, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "img_align_celeba" / f"{i:06d}.jpg")
    return folder


def test_the_faces_of_the_list_are_what_the_data_set_gives(tmp_path: Path) -> None:
    root, script = celeba(tmp_path / "celeba"), script_with(["000002", "000000"], tmp_path)
    assert script.cut(root, "test", tmp_path / "test.zip") == 2
    with zipfile.ZipFile(tmp_path / "test.zip") as archive:
        assert sorted(archive.namelist()) == ["000000.png", "000002.png"]
    got, wanted = open_faces(str(tmp_path / "test.zip")), open_faces(f"celeba:{root}#all")
    direct = {e.stem: read_face(e, 128, wanted.crop) for e in wanted.pictures.entries}
    for entry in got.pictures.entries:
        assert (read_face(entry, 128) == direct[entry.stem]).all()
    assert script.cut(root, "val", tmp_path / "val.zip") == 2
    with zipfile.ZipFile(tmp_path / "val.zip") as archive:
        assert sorted(archive.namelist()) == ["000000.webp", "000002.webp"]


def test_a_missing_picture_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    script = script_with(["000001", "999999"], tmp_path)
    with pytest.raises(MissingDataError, match=r"1 pictures of test .* 999999"):
        script.cut(celeba(tmp_path / "celeba"), "test", tmp_path / "test.zip")
    assert not (tmp_path / "test.zip").exists()


def test_the_lists_are_those_of_the_tables() -> None:
    test, val = ((SCRIPT.with_name(f"celeba-{part}.txt")).read_text().split() for part in ("test", "val"))
    assert (len(test), len(val)) == (400, 4535)
    assert all(182638 <= int(n) <= 202599 for n in test)  # CelebA's official partitions
    assert all(162771 <= int(n) <= 182637 for n in val)
