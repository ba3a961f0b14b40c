"""What a picture's result is called inside the output folder: the same in every run, as far as that can be.

The rules, in this order:
    1. A file of a folder or zip keeps its subfolders, a file named alone its name, without the ending.
    2. Where its folder holds another picture of that name, the ending is part of it: `a.jpg`, `a.png` -> `a-jpg`, `a-png`;
       so where the name is that of something beside another's result, as `a-1.png` beside `a.png`.
    3. Pictures of several folders that would have one name keep their folders: `d1/face`, `d2/face`.
    4. What is still equal, on a disk that takes `A` for `a`, gets a number.
A name that an earlier run gave by these rules, when there were other files, is kept: see `Input.others`.
"""

from __future__ import annotations

import itertools
import os
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from latentface.io.records import read_record
from latentface.io.sources import STDIN, Entry, is_picture_name

_BESIDE = re.compile(r"(.+)-(?:\d+|spread|compare|steps)", re.DOTALL)  # what a result may have beside it
MORE_FOLDERS = 3  # of a file's own, in the names that an earlier run may have given


@dataclass(frozen=True, slots=True)
class Input:
    """One picture to work on.

    Attributes:
        target: its result's path inside the output folder, without an ending.
        others: further such paths that an earlier run may have given to its result.
    """

    entry: Entry
    target: Path
    others: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A picture: the folders that it lies in and its name, and how many of these, the last ones, are its simple name."""

    entry: Entry
    parts: tuple[str, ...]
    kept: int

    def name(self, kept: int, ending: bool) -> Path:
        """Return the last `kept` parts, with the ending as part of the name or without it."""
        last = Path(self.parts[-1])
        named = f"{last.stem}-{last.suffix[1:].lower()}" if ending and last.suffix else last.stem
        return Path(*self.parts[max(0, len(self.parts) - kept) : -1], named)


def result_names(found: Sequence[Found], results: Path | None = None) -> list[Input]:
    """Return each picture with its result's name; `results` is the folder that results go to."""
    siblings = _Siblings(results)
    endings = [siblings.has_twin(one.entry) for one in found]
    kept = [one.kept for one in found]
    groups = defaultdict(list)
    for i, one in enumerate(found):
        groups[_key(one.name(kept[i], endings[i]))].append(i)
    for group in groups.values():
        folders = {found[i].parts[:-1] for i in group}
        if len(folders) > 1:
            shared = _shared(folders)
            for i in group:
                kept[i] = max(kept[i], len(found[i].parts) - shared)
    names = _numbered(one.name(n, ending) for one, n, ending in zip(found, kept, endings, strict=True))
    taken = {_key(name) for name in names}
    return [Input(one.entry, name, _others(one, taken)) for one, name in zip(found, names, strict=True)]


def _shared(folders: Iterable[tuple[str, ...]]) -> int:
    """Return how many parts, from the first on, are the same in all."""
    return len(list(itertools.takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))))


def _key(name: Path) -> str:
    return str(name).lower()


def _numbered(names: Iterable[Path]) -> list[Path]:
    taken: set[str] = set()
    out = []
    for base in names:
        name, number = base, 2
        while _key(name) in taken:
            name = base.with_name(f"{base.name}-n{number}")  # not -2: a result's second sample has that name
            number += 1
        taken.add(_key(name))
        out.append(name)
    return out


def _others(one: Found, taken: set[str]) -> tuple[Path, ...]:
    if one.entry == STDIN:
        return ()
    deepest = min(len(one.parts), one.kept + MORE_FOLDERS)
    names = (one.name(kept, ending) for kept in range(one.kept, deepest + 1) for ending in (False, True))
    return tuple(name for name in dict.fromkeys(names) if _key(name) not in taken)


class _Siblings:
    """Knows the names of the pictures in each folder; a folder is listed once."""

    def __init__(self, results: Path | None) -> None:
        self.results = Path(os.path.realpath(results)) if results is not None else None
        self.known: dict[PurePath, dict[str, Counter[str]]] = {}  # by source, by folder in it

    def has_twin(self, entry: Entry) -> bool:
        """Say whether another picture of the folder would have the same result, or this one's name beside its own."""
        if entry == STDIN:
            return False
        name = _member(entry.name) if entry.zipped else entry.container / entry.name
        source = entry.container if entry.zipped else name.parent
        if source not in self.known:
            self.known[source] = _stems(_members(source) if entry.zipped else self._pictures(name.parent))
        counts = self.known[source][str(name.parent)]
        stem = name.stem.lower()
        derived = _BESIDE.fullmatch(stem)
        own = is_picture_name(name.name)  # a file that was named may have any ending
        return counts[stem] > own or bool(derived and counts[derived[1]])

    def _pictures(self, folder: PurePath) -> list[PurePath]:
        place = Path(folder)
        try:
            paths = [place / name for name in os.listdir(place) if is_picture_name(name)]
        except OSError:
            return []
        if self.results is None or not Path(os.path.realpath(place)).is_relative_to(self.results):
            return [*paths]
        return [path for path in paths if not is_result(path)]


def _stems(pictures: Iterable[PurePath]) -> dict[str, Counter[str]]:
    """Count the names without endings, in lower case, by folder."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for picture in pictures:
        counts[str(picture.parent)][picture.stem.lower()] += 1
    return counts


def _members(archive: PurePath) -> list[PurePath]:
    with zipfile.ZipFile(Path(archive)) as file:
        return [_member(name) for name in file.namelist() if is_picture_name(name)]


def _member(name: str) -> PurePath:
    return PurePosixPath(name.replace("\\", "/"))


def is_result(path: Path) -> bool:
    """Say whether a picture is a result of this package, or stands beside one, by the record of NAME.json."""
    owners = [path.name]
    found = _BESIDE.fullmatch(path.stem)
    if found:
        owners.append(f"{found[1]}.png")
    if path.parent.name.endswith("-faces"):
        owners.append(f"../{path.parent.name.removesuffix('-faces')}.png")
    records = (read_record(path.parent / owner) or {} for owner in owners)
    ending = path.suffix.lower()[1:]
    return any("input_sha256" in record and record.get("format", "png") == ending for record in records)
