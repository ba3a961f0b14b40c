"""Where picture files are: folders, zips, single files and standard input; each is an `Entry` that can be read."""

import lzma
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latentface.errors import InputError, MissingDataError, PictureError
from latentface.io import PIPE
from latentface.io.atomic import read_bytes
from latentface.io.pictures import PICTURE_SUFFIXES


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture file: `name` is its path inside the source, `container` the folder or zip that holds it."""

    name: str
    container: Path
    zipped: bool

    @property
    def stem(self) -> str:
        """The name without folders and ending."""
        return Path(self.name).stem

    @property
    def file(self) -> str:
        """The name without folders."""
        return Path(self.name).name

    @property
    def label(self) -> str:
        """How messages name it."""
        if self == STDIN:
            return self.name
        return f"{self.container}:{self.name}" if self.zipped else str(self.container / self.name)


STDIN = Entry("standard input", Path(PIPE), False)

_archives = threading.local()
KEPT_OPEN = 16  # archives a thread keeps open
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


def _archive(path: Path) -> zipfile.ZipFile:
    # A ZipFile is not safe between threads, and opening one reads its whole index: a thread keeps the last few open, so
    # that pictures in shuffled order over several archives do not open one each.
    kept: dict[Path, zipfile.ZipFile] = _archives.__dict__.setdefault("kept", {})
    archive = kept.pop(path, None)
    if archive is None:
        archive = zipfile.ZipFile(path)
        while len(kept) >= KEPT_OPEN:
            kept.pop(next(iter(kept))).close()
    kept[path] = archive  # at the end: the one used last goes last
    return archive


def read_entry(entry: Entry, most: int = 1 << 28) -> bytes:
    """Return the bytes of one picture file; a zip's member may unpack to `most` bytes. `STDIN` can be read once.

    Raises PictureError: it cannot be read.
    """
    if entry == STDIN:
        return sys.stdin.buffer.read()
    if not entry.zipped:
        return read_bytes(entry.container / entry.name)
    try:
        archive = _archive(entry.container)
        member = archive.getinfo(entry.name)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise PictureError(f"{entry.label}: only stored and deflated members of an archive are read")
        if member.file_size <= most:
            with archive.open(member) as file:
                data = file.read(most + 1)  # the index may lie
            if len(data) <= most:
                return data
        raise PictureError(f"{entry.label}: it unpacks to more than {most >> 20} MiB")
    except (*_BROKEN_ZIP, OSError, KeyError, RuntimeError, ValueError) as error:
        raise PictureError(f"{entry.label}: it cannot be read from the archive ({error})") from None


@dataclass(frozen=True, slots=True)
class Pictures:
    """A list of picture files with a name for messages."""

    name: str
    entries: list[Entry] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)


def is_picture_name(name: str) -> bool:
    """Say whether a file name has a picture's ending and is not hidden or an archive's leftover."""
    path = Path(name)
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and "__MACOSX" not in path.parts


def open_source(source: str | Path) -> Pictures:
    """List the pictures of a folder (with subfolders), a zip, or a single file, in the order of their names.

    Raises MissingDataError: the path does not exist or holds no picture. InputError: it is no folder, zip or picture.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        names = sorted(str(p.relative_to(path)) for p in path.rglob("*") if is_picture_name(p.name) and p.is_file())
        entries = [Entry(name, path, False) for name in names]
    elif path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = [Entry(name, path, True) for name in sorted(archive.namelist()) if is_picture_name(name)]
    elif path.is_file():
        if not is_picture_name(path.name):
            raise InputError(f"{source}: expected a folder, a zip or a picture")
        entries = [Entry(path.name, path.parent, False)]
    else:
        raise MissingDataError(f"{source}: there is no such file or folder")
    if not entries:
        raise MissingDataError(f"{source}: no picture is in it")
    return Pictures(str(source), entries)


def open_sources(sources: Sequence[str | Path]) -> Pictures:
    """List the pictures of several sources, one after the other. Raises as `open_source`."""
    if not sources:
        raise MissingDataError("no data was named; give at least one folder or zip of pictures")
    parts = [open_source(source) for source in sources]
    return Pictures(", ".join(p.name for p in parts), [entry for part in parts for entry in part])
