"""What is made once and kept: read again, made again where the file is broken, and made each time where none is kept."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from latentface.cache import kept


def check(tensors):
    if tensors["x"].shape != (3,):
        raise ValueError("another shape")


def make():
    return {"x": torch.arange(6.0).view(3, 2).t()[0]}


def never():
    pytest.fail("it was made again")


def test_made_once_and_read_again(tmp_path):
    path = tmp_path / "folder" / "a.safetensors"
    made = kept(path, make, check)
    assert made["x"].tolist() == [0, 2, 4]
    assert torch.equal(kept(path, never, check)["x"], made["x"])


@pytest.mark.parametrize("broken", [b"", b"no safetensors", {"y": torch.zeros(3)}, {"x": torch.zeros(2)}])
def test_a_file_that_cannot_be_used_is_made_again(tmp_path, broken):
    path = tmp_path / "a.safetensors"
    path.write_bytes(broken) if isinstance(broken, bytes) else save_file(broken, path)
    assert kept(path, make, check)["x"].tolist() == [0, 2, 4]
    assert kept(path, never, check)["x"].tolist() == [0, 2, 4]


def test_no_file_and_a_folder_that_cannot_be_written(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path / "file"))
    assert kept(None, make, check)["x"].is_contiguous()
    assert not caplog.records
    (tmp_path / "file").write_text("a file where a folder is needed")
    for name in ("a", "b"):
        assert kept(tmp_path / "file" / f"{name}.safetensors", make, check)["x"].tolist() == [0, 2, 4]
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"the cache {tmp_path / 'file'} cannot be written (")
