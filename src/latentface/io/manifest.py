"""The inputs of a long run in a file, a JSON line each, and beside it, in NAME.done.jsonl, what became of them.

    {"input": "/data/a/1.jpg", "output": "a/1"}
    {"input": "/data/more.zip", "member": "b/2.png", "output": "b/2"}

A run reads a line when it has room for the picture, and one that is started again leaves out the lines that are done
without looking at their files. A manifest may be written by hand, or cut into several, each for a run of its own.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from latentface.errors import InputError, OutputError
from latentface.io.atomic import atomic_path
from latentface.io.inputs import Listing, list_inputs, walk_inputs
from latentface.io.result_names import Input
from latentface.io.sources import Entry


@dataclass(frozen=True, slots=True)
class Listed(Input):
    """A picture of a manifest; `line`: its number, from 0."""

    line: int = 0


@dataclass(slots=True)
class Manifest:
    """A manifest and what is known to be done of it: iterating yields the pictures that are left.

    Raises InputError: there is no such file, it cannot be read, or what is done is not of it.

    Attributes:
        lines: how many pictures it has; done: a byte a line, 1 where it is done.
    """

    path: Path
    lines: int = 0
    done: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        try:
            with open(self.path, "rb") as file:
                self.lines = sum(1 for line in file if line.strip())
            self.done = bytearray(self.lines)
            if self.log.exists():
                self._read_log()
        except OSError as error:
            raise InputError(f"{self.path}: the manifest cannot be read ({error.strerror})") from None

    @property
    def log(self) -> Path:
        """Where it is written what became of the pictures."""
        return self.path.with_name(f"{self.path.stem}.done.jsonl")

    @property
    def words(self) -> str:
        """How many of the pictures are done, for people."""
        return f"{self.lines - len(self)} of {self.lines} pictures are done"

    @classmethod
    def write(cls, path: Path, inputs: Iterable[Input]) -> Self:
        """List pictures in a new manifest. Raises OutputError."""
        with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            for item in inputs:
                entry = item.entry
                place = os.path.abspath(entry.container if entry.zipped else entry.container / entry.name)
                member = {"member": entry.name} if entry.zipped else {}
                file.write(json.dumps({"input": place, **member, "output": str(item.target)}) + "\n")
        return cls(path)

    def __len__(self) -> int:
        return self.lines - sum(self.done)

    def __iter__(self) -> Iterator[Listed]:
        with open(self.path, "rb") as file:
            for line, text in enumerate(text for text in file if text.strip()):
                if not self.done[line]:
                    yield self._listed(line, text)

    def finish(self, line: int, output: Path) -> None:
        """Note that a picture's result is there. Raises OutputError."""
        self.done[line] = 1
        self.note({"line": line, "output": str(output)})

    def note(self, what: dict[str, Any]) -> None:
        """Write a line of what became of a picture. Raises OutputError."""
        try:
            with open(self.log, "ab", buffering=0) as file:  # one write: a run that is killed leaves whole lines
                file.write(json.dumps(what).encode() + b"\n")
        except OSError as error:
            raise OutputError(f"{self.log}: it cannot be written ({error.strerror}); free some space") from error

    def _listed(self, line: int, text: bytes) -> Listed:
        try:
            told = json.loads(text)
            place, member = Path(told["input"]), told.get("member")
            target = Path(told["output"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f'{self.path}, line {line + 1}: expected {{"input": PATH, "output": NAME}}, got {text[:60]!r} ({error})'
            ) from None
        if target.is_absolute() or ".." in target.parts:
            raise InputError(
                f"{self.path}, line {line + 1}: the output {str(target)!r} leads out of the results' folder"
            )
        entry = Entry(place.name, place.parent, False) if member is None else Entry(member, place, True)
        return Listed(entry, target, line=line)

    def _read_log(self) -> None:
        text = b""
        with open(self.log, "rb+") as file:
            for text in file:
                try:
                    line = json.loads(text).get("line")
                except (ValueError, AttributeError):
                    continue  # cut off as the run was killed
                if line is not None and not (isinstance(line, int) and 0 <= line < self.lines):
                    raise InputError(f"{self.log}: it is of another manifest; take it away, or name another manifest")
                if line is not None:
                    self.done[line] = 1
            if text and not text.endswith(b"\n"):
                file.write(b"\n")


def list_manifest(path: Path, arguments: Sequence[str], leave_out: Path | None = None) -> Listing:
    """Return the pictures that are left of a manifest, which is made of INPUT where there is none; arguments as `list_inputs`.

    A single folder is listed subfolder by subfolder, see `walk_inputs`. Raises InputError, OutputError.
    """
    listing = Listing()
    folder = Path(arguments[0]).expanduser() if len(arguments) == 1 else None
    if path.exists():
        manifest = Manifest(path)
    elif folder is not None and folder.is_dir():
        manifest = Manifest.write(path, walk_inputs(folder, listing, leave_out))
    else:
        listing = list_inputs(arguments, leave_out)
        manifest = Manifest.write(path, listing.inputs)
    return replace(listing, inputs=manifest)
