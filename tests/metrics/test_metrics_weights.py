"""Looking for weights, checking and fetching them: from a folder's file:// address, never the internet."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from latentface.errors import MissingDataError, UnknownNameError, WeightsError
from latentface.metrics import weights
from latentface.metrics.weights import FILES, find, folders, locate, read_state


@pytest.fixture
def published(no_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small .pth file at a public address, registered as niqe's."""
    path = tmp_path / "public" / "small.pth"
    path.parent.mkdir()
    torch.save({"a": torch.ones(2), "note": 3}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.delenv("LATENTFACE_OFFLINE")
    monkeypatch.setitem(FILES, "niqe", replace(FILES["niqe"], sha256=digest, address=path.as_uri()))
    return path


def test_it_is_fetched_once_into_the_cache(published: Path, no_weights: Path) -> None:
    assert find("niqe") is None
    with pytest.raises(MissingDataError, match=r"fetch it from file:.*LATENTFACE_WEIGHTS"):
        locate("niqe", fetch=False)
    path = locate("niqe")
    assert path == no_weights / "niqe_pris_params.npz"
    assert path.read_bytes() == published.read_bytes()
    published.unlink()
    assert locate("niqe") == path
    assert list(read_state("niqe")) == ["a"]
    assert [p.name for p in no_weights.iterdir()] == [path.name]


def test_the_users_folder_comes_first(published: Path, no_weights: Path) -> None:
    mine = folders()[0]
    mine.mkdir()
    (mine / FILES["niqe"].file).write_bytes(published.read_bytes())
    locate("niqe", fetch=False)
    assert find("niqe") == mine / FILES["niqe"].file
    assert not no_weights.exists()


def test_offline_nothing_is_fetched(published: Path, no_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTFACE_OFFLINE", "1")
    with pytest.raises(MissingDataError, match="is not at hand"):
        locate("niqe")


def test_other_contents_are_refused(published: Path, no_weights: Path) -> None:
    path = locate("niqe")
    path.write_bytes(b"something else")
    os.utime(path, (1, 1))
    with pytest.raises(WeightsError, match="SHA-256 starts with"):
        locate("niqe")
    path.unlink()
    published.write_bytes(b"cut off")
    with pytest.raises(WeightsError, match="nothing was kept"):
        locate("niqe")
    assert list(no_weights.iterdir()) == []


def test_without_an_answer_one_line_says_what_to_do(published: Path, no_weights: Path) -> None:
    published.unlink()
    with pytest.raises(
        MissingDataError, match=r"does not answer .*put niqe_pris_params\.npz into the folder"
    ) as caught:
        locate("niqe")
    assert "\n" not in str(caught.value)
    assert list(no_weights.iterdir()) == []
    with pytest.raises(MissingDataError, match=r"put MobileFaceNet\.onnx into"):
        locate("mobilefacenet")
    with pytest.raises(UnknownNameError, match="weights file"):
        locate("resnet")


def test_the_table_is_whole() -> None:
    for file in FILES.values():
        assert len(file.sha256) in (8, 64)
        if file.address is None or "download.pytorch.org" in file.address:
            continue
        assert len(file.sha256) == 64
    for name in ("alexnet", "vgg16", "squeezenet"):
        assert FILES[name].file.removesuffix(".pth").endswith(f"-{FILES[name].sha256}")
        assert str(FILES[name].address).endswith(FILES[name].file)


def test_the_reference_weights_are_those_of_the_table(weights_folder: Path) -> None:
    present = [name for name, file in FILES.items() if (weights_folder / file.file).is_file()]
    if not present:
        pytest.skip("the folder of reference weights holds none of the table's files")
    for name in present:
        assert weights.locate(name, fetch=False).parent == weights_folder
