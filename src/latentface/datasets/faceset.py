"""A set of faces for tables: its pictures, its crop, who is on them; opened by a path or a name such as `celeba:PATH#test`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from latentface.datasets.crop import CROPS, Crop, read_face
from latentface.datasets.people import people_beside, people_by_name
from latentface.errors import InputError, MissingDataError, UnknownNameError
from latentface.io.sources import Entry, Pictures, open_source

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceSet:
    """Faces with what a table says about them.

    Attributes:
        name: short, for the column `dataset`; pictures: the files; crop: which square of each is the face.
        person: picture stem -> person, empty where nobody says; partition: "train", "val", "test" or "" (not known).
    """

    name: str
    pictures: Pictures
    crop: Crop = CROPS["centre"]
    person: Mapping[str, str] = field(default_factory=dict)
    partition: str = ""

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.pictures)

    def read(self, entry: Entry, resolution: int) -> Tensor:
        """Return one face, (3, R, R) in [0, 1]. Raises PictureError."""
        return read_face(entry, resolution, self.crop)

    def limited(self, count: int | None) -> FaceSet:
        """Return the first `count` faces, in the order of their names (None: all)."""
        if count is None or count >= len(self):
            return self
        if count < 1:
            raise InputError(f"the limit is {count}; expected at least 1 face")
        return replace(self, pictures=Pictures(self.pictures.name, self.pictures.entries[:count]))

    def person_of(self, entry: Entry) -> str | None:
        """Return who is on a picture, or None."""
        return self.person.get(entry.stem)


@dataclass(frozen=True, slots=True)
class Layout:
    """A published data set: where its reader is, its parts (the first is the default), and who gives it away."""

    module: str
    parts: tuple[str, ...]
    publisher: str


LAYOUTS: dict[str, Layout] = {
    "celeba": Layout(
        "celeba",
        ("test", "val", "train", "all"),
        "Liu et al., CUHK: https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (research only)",
    ),
    "celebahq": Layout(
        "highquality",
        ("all", "test", "val", "train"),
        "https://github.com/tkarras/progressive_growing_of_gans or https://github.com/switchablenorms/CelebAMask-HQ (research only)",
    ),
    "ffhq": Layout(
        "highquality",
        ("all", "train", "val", "thumbnails"),
        "NVIDIA: https://github.com/NVlabs/ffhq-dataset (CC BY-NC-SA 4.0)",
    ),
    "tinyface": Layout(
        "tinyface",
        ("probe", "match", "distractor", "train", "test"),
        "Cheng, Zhu, Gong: https://qmul-tinyface.github.io (research only)",
    ),
}


def open_faces(source: str | Path) -> FaceSet:
    """Open a set of faces.

    Args:
        source: a folder, zip or picture; or `NAME:PATH`, `NAME:PATH#PART`, `NAME:PATH#PART,CROP` with NAME one of
            celeba, celebahq, ffhq, tinyface, as in `celeba:~/data/CelebA#test,square178`; or several of them joined by "+",
            as one set, their faces in turn.

    Raises MissingDataError: the path does not exist, or a piece of the data set is not there. InputError: it cannot be
    used. UnknownNameError: no such data set, part or crop.
    """
    text = str(source)
    if "+" in text and not Path(text).expanduser().exists():
        return _joined([open_faces(part) for part in text.split("+")], text)
    match = re.match(r"^([A-Za-z][\w-]+):(?!//)(.*)$", text, re.DOTALL)  # two letters at least: C:\ is no data set
    if match is None or Path(text).expanduser().exists():
        return open_plain(text)
    name, rest = match[1].lower().replace("-", ""), match[2]
    if name not in LAYOUTS:
        raise UnknownNameError("data set", match[1], LAYOUTS)
    layout = LAYOUTS[name]
    path_text, _, choice = rest.partition("#")
    part, _, crop = choice.partition(",")
    part = part or layout.parts[0]
    if part not in layout.parts:
        raise UnknownNameError(f"part of {name}", part, layout.parts)
    if crop and crop not in CROPS:
        raise UnknownNameError("crop", crop, CROPS)
    path = Path(path_text).expanduser()
    if not path_text or not path.exists():
        raise MissingDataError(
            f"{path_text or source}: there is no such folder; {name} is published by {layout.publisher}"
        )
    module = importlib.import_module(f"latentface.datasets.{layout.module}")
    reader: Callable[[Path, str, Crop | None], FaceSet] = getattr(module, f"open_{name}")
    return reader(path, part, CROPS[crop] if crop else None)


def _joined(sets: Sequence[FaceSet], source: str) -> FaceSet:
    """Return several sets as one, their faces in turn: the first of each, then the second of each.

    So a limited set has faces of all. Raises InputError: their crops differ, or two pictures have one stem.
    """
    if len({faces.crop for faces in sets}) > 1:
        raise InputError(
            f"{source}: these sets are cropped differently; name the same crop for each, or open them alone"
        )
    entries = [entry for turn in zip_longest(*sets) for entry in turn if entry is not None]
    if len({entry.stem for entry in entries}) < sum(len({entry.stem for entry in faces}) for faces in sets):
        raise InputError(
            f"{source}: pictures of these sets have the same name; rename them, so that people can be told"
        )
    name = "+".join(faces.name for faces in sets)
    partitions = {faces.partition for faces in sets}
    return FaceSet(
        name=name,
        pictures=Pictures(name, entries),
        crop=sets[0].crop,
        person={stem: person for faces in sets for stem, person in faces.person.items()},
        partition=partitions.pop() if len(partitions) == 1 else "test" if "test" in partitions else "",
    )


def open_plain(source: str | Path) -> FaceSet:
    """Open a folder, zip or picture; identities come from `identities.csv` in it or beside it, or from names that tell.

    Raises as `open_source`.
    """
    pictures = open_source(source)
    path = Path(source).expanduser()
    people = people_beside(path)
    stems = {entry.stem for entry in pictures}
    found = {people.partition[s] for s in stems if s in people.partition}
    guess = re.search(r"(?:^|[^a-z])(train|val|test)(?:[^a-z]|$)", path.stem.lower())
    partition = found.pop() if len(found) == 1 else (guess[1] if guess and not found else "")
    if "test" in found:
        partition = "test"  # one test picture in it makes it a test set
    return FaceSet(
        name=path.stem if path.is_file() else path.resolve().name,
        pictures=pictures,
        person=people_by_name(stems) | {s: people.person[s] for s in stems if s in people.person},
        partition=partition,
    )


def missing_piece(name: str, path: Path, piece: str, holds: str) -> MissingDataError:
    """Return the error for a data set's folder without one of its pieces."""
    return MissingDataError(
        f"{path}: {piece} is not there; a folder of {name} holds {holds}; it is published by {LAYOUTS[name].publisher}"
    )
