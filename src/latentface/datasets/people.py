"""Who is who in a data set: by the identity files that data sets come with, or by names; as picture stem -> person."""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from latentface.errors import InputError


@dataclass(frozen=True, slots=True)
class People:
    """person: picture stem -> person; partition: picture stem -> "train", "val" or "test". Either may be empty."""

    person: Mapping[str, str] = field(default_factory=dict)
    partition: Mapping[str, str] = field(default_factory=dict)


def read_identities_csv(path: Path) -> People:
    """Read `identities.csv` (columns image, person and perhaps partition). Raises InputError: a column is missing."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = {"image", "person"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(
                    f"{path}: the column {min(missing)!r} is missing; expected image, person and perhaps partition"
                )
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: it cannot be read ({error})") from None
    person = {Path(row["image"]).stem: row["person"] for row in rows}
    partition = {Path(row["image"]).stem: row["partition"] for row in rows if row.get("partition")}
    return People(person, partition)


def read_pairs(path: Path) -> dict[str, str]:
    """Read a text file of lines `000001.jpg 2880`, as `identity_CelebA.txt` and `list_eval_partition.txt` are.

    Raises InputError: it cannot be read, or a line is no pair.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: it cannot be read ({error})") from None
    out: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        parts = line.replace(",", " ").split()  # Kaggle's copy is a CSV with a head line
        if not parts or parts[0] == "image_id":
            continue
        if len(parts) != 2:
            raise InputError(f"{path}: line {number} is {line!r}; expected a picture's name and one number")
        out[Path(parts[0]).stem] = parts[1]
    return out


def people_beside(path: Path) -> People:
    """Return what the identity file in a folder, or beside a zip or file, says; empty where there is none."""
    folder = path if path.is_dir() else path.parent
    for name in ("identities.csv", "identity_CelebA.txt"):
        for place in (folder / name, folder.parent / name) if path.is_dir() else (folder / name,):
            if place.is_file():
                return read_identities_csv(place) if name.endswith(".csv") else People(read_pairs(place))
    return People()


def people_by_name(stems: Iterable[str]) -> dict[str, str]:
    """Return who is who where a set's names say it: `london-010-neutral` and `london-010-smiling` are one person.

    These are the names of the Face Research Lab London Set (DeBruine, Jones 2017) when it is cut to aligned faces.
    """
    found = {stem: re.fullmatch(r"(london-\d+)-(?:neutral|smiling)", stem) for stem in stems}
    return {stem: match[1] for stem, match in found.items() if match}
