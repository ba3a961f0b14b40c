"""What INPUT on the command line means: files, folders, globs and zips, and the name of each one's result."""

import glob
import lzma
import os
import re
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from latentface.errors import InputError, MissingDataError, PictureError
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
    def label(self) -> str:
        """How messages name it."""
        return f"{self.container}:{self.name}" if self.zipped else str(self.container / self.name)


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
    """Return the bytes of one picture file; a zip's member may unpack to `most` bytes.

    Raises PictureError: it cannot be read.
    """
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


_BESIDE = re.compile(r"(.+)-(?:\d+|spread|compare|steps)", re.DOTALL)  # what a result may have beside it


@dataclass(frozen=True, slots=True)
class Input:
    """One picture to work on; `target` is its result's path inside the output folder, without an ending."""

    entry: Entry
    target: Path


@dataclass(frozen=True, slots=True)
class Listing:
    """All inputs, and what was named but is not there: (name, reason)."""

    inputs: list[Input]
    failures: list[tuple[str, str]]


def list_inputs(arguments: Sequence[str], leave_out: Path | None = None) -> Listing:
    """Find the pictures that INPUT names; the same file named twice counts once.

    Folders keep their subfolders, zips theirs. Pictures whose results would have the same name get the ending into
    the name (`a.jpg`, `a.png` -> `a-jpg`, `a-png`), and a number where that is not enough; so does `a-1.png` beside
    `a.png`, whose first sample has that name. What lies in `leave_out`, the results' folder, inside a named folder is
    no input; where it is the named folder itself, its results are none.
    """
    found: dict[str, tuple[Entry, Path]] = {}
    failures: list[tuple[str, str]] = []
    for argument in arguments:
        path = Path(os.path.expanduser(argument))  # Path.expanduser raises where ~NAME is nobody
        if os.path.lexists(path):
            paths = [path]
        else:
            paths = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]
            if not paths:
                failures.append((argument, "there is no such file or folder"))
        for one in paths:
            entries = _entries(one, leave_out)
            if isinstance(entries, str):
                failures.append((str(one), entries))
                continue
            for entry, target in entries:
                found.setdefault(str((entry.container / entry.name).absolute()), (entry, target))
    return Listing(_distinct(list(found.values())), failures)


def _entries(path: Path, leave_out: Path | None) -> list[tuple[Entry, Path]] | str:
    if path.is_dir():
        results = leave_out.resolve() if leave_out is not None else None
        same = results == path.resolve()  # one folder for both: only their records tell results from inputs

        def made_here(p: Path) -> bool:
            return _is_result(p) if same else results is not None and p.resolve().is_relative_to(results)

        names = sorted(
            p.relative_to(path)
            for p in path.rglob("*")
            if is_picture_name(p.name) and os.path.isfile(p) and not made_here(p)
        )
        if not names and not same:
            return "no picture is in this folder"
        return [(Entry(str(name), path, False), name) for name in names]
    try:
        if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = sorted(n for n in archive.namelist() if is_picture_name(n))
            return [(Entry(n, path, True), _inside(n)) for n in members] or "no picture is in this zip"
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        return f"the zip cannot be read ({error})"
    return [(Entry(path.name, path.parent, False), Path(path.name))]


def _is_result(path: Path) -> bool:
    """Say whether a picture is a result of this package, or stands beside one, by the record of NAME.json."""
    from latentface.io.records import read_record

    owners = [path.name]
    found = _BESIDE.fullmatch(path.stem)
    if found:
        owners.append(f"{found[1]}.png")
    if path.parent.name.endswith("-faces"):
        owners.append(f"../{path.parent.name.removesuffix('-faces')}.png")
    records = (read_record(path.parent / owner) or {} for owner in owners)
    ending = path.suffix.lower()[1:]
    return any("input_sha256" in record and record.get("format", "png") == ending for record in records)


def _inside(member: str) -> Path:
    """A zip member's name as a path that cannot lead out of the output folder."""
    parts = [p for p in PurePosixPath(member.replace("\\", "/")).parts if p not in ("..", "/", ".") and ":" not in p]
    return Path(*parts) if parts else Path("picture")


def _distinct(found: list[tuple[Entry, Path]]) -> list[Input]:
    counts = Counter(str(target.with_suffix("")).lower() for _, target in found)
    taken: set[str] = set()
    out = []
    for entry, target in found:
        name = target.with_suffix("")
        derived = _BESIDE.fullmatch(str(name).lower())
        if target.suffix and (counts[str(name).lower()] > 1 or (derived and counts[derived[1]])):
            name = name.with_name(f"{name.name}-{target.suffix[1:].lower()}")
        base, number = name, 2
        while str(name).lower() in taken:
            name = base.with_name(f"{base.name}-n{number}")  # not -2: a result's second sample has that name
            number += 1
        taken.add(str(name).lower())
        out.append(Input(entry, name))
    return out
