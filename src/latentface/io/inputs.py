"""What INPUT on the command line means: files, folders, globs, zips and "-"; and what of it is left out, by kind."""

from __future__ import annotations

import glob
import itertools
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from latentface.io import PIPE
from latentface.io.result_names import Found, Input, is_result, result_names
from latentface.io.sources import STDIN, Entry, is_picture_name

VIDEOS = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"),
        *(".flv", ".3gp", ".mts", ".m2ts", ".ogv", ".ts", ".vob"),
    }
)
LINKED, VIDEO, ZIP, HIDDEN, OTHER, SPECIAL, DEAD, TWICE = KINDS = (
    "linked folder",
    "video",
    "zip inside a folder",
    "hidden file",
    "other file",
    "special file",
    "link that leads nowhere",
    "further way to the same picture",
)
PLURALS = {"zip inside a folder": "zips inside folders", LINKED: "linked folders", DEAD: "links that lead nowhere"}
PLURALS |= {TWICE: "further ways to the same pictures"}
NAMED = 5  # names of a kind that are told


class Inputs(Sized, Iterable[Input], Protocol):
    """Pictures whose number is known, and which are given one by one."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All inputs; what was named but cannot be read, as (name, reason); and what was left out, names by kind."""

    inputs: Inputs = ()
    failures: list[tuple[str, str]] = field(default_factory=list)
    left: dict[str, dict[str, None]] = field(default_factory=dict)

    def leave(self, kind: str, name: object) -> None:
        """Note what is left out; `kind` is one of KINDS."""
        self.left.setdefault(kind, {})[str(name)] = None

    def left_words(self) -> str:
        """Say what was left out, by kind, with numbers and the first names; empty where nothing was."""
        parts = []
        for kind in KINDS:
            names = list(self.left.get(kind, ()))
            if names:
                noun = kind if len(names) == 1 else PLURALS.get(kind, f"{kind}s")
                more = ", ..." if len(names) > NAMED else ""
                parts.append(f"{len(names)} {noun} ({', '.join(names[:NAMED])}{more})")
        return f"left out: {'; '.join(parts)}" if parts else ""


def list_inputs(arguments: Sequence[str], leave_out: Path | None = None) -> Listing:
    """Find the pictures that INPUT names; a file reached by two ways counts once. `PIPE` is standard input.

    Folders are searched with their subfolders; linked folders in them are named, not entered. What lies in `leave_out`,
    the results' folder, inside a named folder is no input; where it is the named folder itself, its results are none.
    See `result_names` for the names of the results.
    """
    listing = Listing()
    found: dict[str, Found] = {}
    for argument in arguments:
        for path in _paths(argument, listing):
            for one in _pictures(path, leave_out, listing):
                key = os.path.realpath(one.entry.container / one.entry.name)
                before = found.setdefault(key, one)
                if before is one:
                    continue
                again = one
                if _is_link(before) and not _is_link(one):  # the file itself before a link to it
                    found[key], again = one, before
                listing.leave(TWICE, again.entry.label)
    return replace(listing, inputs=result_names(list(found.values()), leave_out))


def walk_inputs(folder: Path, listing: Listing, leave_out: Path | None = None) -> Iterator[Input]:
    """Yield the pictures of a folder, subfolder by subfolder, under the names that `list_inputs` gives them.

    It takes the memory of one subfolder. A file and a link to it count as two. What is left out is noted in `listing`.
    """
    paths = _pictures_below(folder, leave_out, listing)
    for _, some in itertools.groupby(paths, key=lambda path: path.parent):
        names = sorted(path.relative_to(folder) for path in some)
        yield from result_names([_found(name, folder) for name in names], leave_out)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises where a link leads to itself


def _is_link(found: Found) -> bool:
    return os.path.islink(found.entry.container / found.entry.name)


def _paths(argument: str, listing: Listing) -> list[Path]:
    if argument == PIPE:
        return [STDIN.container]
    path = Path(os.path.expanduser(argument))  # Path.expanduser raises where ~NAME is nobody
    if os.path.lexists(path):
        return [path]
    paths = sorted(_recursive(path, listing)) if "**" in path.parts else [Path(p) for p in sorted(glob.glob(str(path)))]
    if not paths:
        listing.failures.append((argument, "there is no such file or folder"))
    return [path for path in paths if os.path.isdir(path) or _is_file(path, listing)]


def _is_file(path: Path, listing: Listing) -> bool:
    """Say whether it is a regular file; else note what it is: to open a pipe would wait for whoever writes to it."""
    if os.path.isfile(path):
        return True
    listing.leave(DEAD if os.path.islink(path) and not os.path.exists(path) else SPECIAL, path)
    return False


def _recursive(pattern: Path, listing: Listing) -> Iterator[Path]:
    """Yield what a pattern with `**` names. Linked folders are named, not entered: they may lead round in a circle."""
    at = pattern.parts.index("**")
    rest = pattern.parts[at:]
    rest = (*rest, "*") if rest[-1] == "**" else rest
    hidden = any(part.startswith(".") for part in rest)
    for base in sorted(glob.glob(str(Path(*pattern.parts[:at])))):
        if not os.path.isdir(base):
            continue
        for _ in _files(Path(base), None, listing):  # for what it notes
            pass
        for path in Path(base).glob("/".join(rest)):
            parts = path.relative_to(base).parts
            folders = [Path(base, *parts[:n]) for n in range(1, len(parts))] + [path] * path.is_dir()
            linked = any(os.path.islink(folder) for folder in folders)
            if not linked and (hidden or not any(part.startswith(".") for part in parts)):
                yield path


def _pictures(path: Path, leave_out: Path | None, listing: Listing) -> list[Found]:
    """Return the pictures of a file, folder or zip, in the order of their names; what is none is noted."""
    if path == STDIN.container:
        return [Found(STDIN, ("stdin",), 1)]
    try:
        if os.path.isdir(path):
            return _of_folder(path, leave_out, listing)
        if os.path.isfile(path) and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path)):
            return _of_zip(path, listing)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        listing.failures.append((str(path), f"the zip cannot be read ({error})"))
        return []
    if path.suffix.lower() in VIDEOS:
        listing.leave(VIDEO, path)
        return []
    return [_found(Path(path.name), path.parent)]


def _found(name: Path, folder: Path) -> Found:
    return Found(Entry(str(name), folder, False), _places(folder) + name.parts, len(name.parts))


def _places(folder: Path) -> tuple[str, ...]:
    return Path(os.path.abspath(folder)).parts[1:]


def _of_folder(folder: Path, leave_out: Path | None, listing: Listing) -> list[Found]:
    failures = len(listing.failures)
    names = [path.relative_to(folder) for path in _pictures_below(folder, leave_out, listing)]
    same = leave_out is not None and _real(leave_out) == _real(folder)
    if not names and not same and len(listing.failures) == failures:
        listing.failures.append((str(folder), "no picture is in this folder"))
    return [_found(name, folder) for name in sorted(names)]


def _pictures_below(folder: Path, leave_out: Path | None, listing: Listing) -> Iterator[Path]:
    """Yield the pictures of a folder and its subfolders, those of a subfolder one after the other."""
    results = _real(leave_out) if leave_out is not None else None
    same = results == _real(folder)  # one folder for both: only their records tell results from inputs
    for path in _files(folder, results, listing):
        if same and (is_result(path) or path.suffix == ".json"):
            continue
        if _is_taken(path.name, path, listing):
            yield path


def _files(folder: Path, results: Path | None, listing: Listing) -> Iterator[Path]:
    """Yield the files below a folder without the results' folder. Note linked and unreadable folders, and what is no file."""
    root = _real(folder)
    if results is not None and root != results and root.is_relative_to(results):
        return

    def unreadable(error: OSError) -> None:
        listing.failures.append((str(error.filename), f"the folder may not be read ({error.strerror})"))

    for where, folders, files in os.walk(folder, onerror=unreadable):
        place = Path(where)
        folders.sort()
        for name in list(folders):
            linked = os.path.islink(place / name)
            if results is not None and _real(place / name) == results and root != results:
                folders.remove(name)
            elif linked:
                listing.leave(LINKED, place / name)
        for name in files:
            path = place / name
            made = results and root != results and os.path.islink(path) and _real(path).is_relative_to(results)
            if _is_file(path, listing) and not made:
                yield path


def _of_zip(path: Path, listing: Listing) -> list[Found]:
    with zipfile.ZipFile(path) as archive:
        members = sorted(n for n in archive.namelist() if not n.endswith("/"))
    taken = [n for n in members if _is_taken(n, f"{path}:{n}", listing)]
    if not taken:
        listing.failures.append((str(path), "no picture is in this zip"))
    place = _places(path.with_suffix(""))
    inside = [_inside(n).parts for n in taken]
    return [Found(Entry(n, path, True), place + parts, len(parts)) for n, parts in zip(taken, inside, strict=True)]


def _is_taken(name: str, label: object, listing: Listing) -> bool:
    """Say whether a file of a folder or zip is a picture by its name, else note of which kind it is."""
    if is_picture_name(name):
        return True
    suffix = Path(name).suffix.lower()
    kind = VIDEO if suffix in VIDEOS else ZIP if suffix == ".zip" else OTHER
    path = Path(name)
    listing.leave(HIDDEN if path.name.startswith(".") or "__MACOSX" in path.parts else kind, label)
    return False


def _inside(member: str) -> Path:
    """A zip member's name as a path that cannot lead out of the output folder."""
    parts = [p for p in PurePosixPath(member.replace("\\", "/")).parts if p not in ("..", "/", ".") and ":" not in p]
    return Path(*parts) if parts else Path("picture")
