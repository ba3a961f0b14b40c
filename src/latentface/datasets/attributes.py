"""What CelebA's annotators wrote down of each picture: `list_attr_celeba.txt`, 40 attributes, each 1 or -1.

The official file: a line with the number of pictures, a line with the attributes' names, then a line a picture: its
name and a 1 or -1 for each attribute. CelebAMask-HQ's `CelebAMask-HQ-attribute-anno.txt` has the same form; Kaggle's
`list_attr_celeba.csv` has commas, and a head line that begins with `image_id` instead of the first two lines.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from latentface.datasets.celeba import find_piece
from latentface.errors import InputError, MissingDataError
from latentface.io.sources import Entry

NAMES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
VALUES = {"1": True, "-1": False}


def find_attributes(entries: Sequence[Entry]) -> Path | None:
    """Return the attribute file beside or in the folders or zips that hold some pictures, or None."""
    for container in dict.fromkeys(entry.container for entry in entries):
        for folder in (container, container.parent):
            if (found := find_piece(folder, *NAMES)) is not None:
                return found
    return None


def read_attributes(path: str | Path, names: Sequence[str], stems: Collection[str]) -> dict[str, dict[str, bool]]:
    """Return picture stem -> attribute -> value, for those of some pictures and some attributes that the file knows.

    Raises MissingDataError: there is no such file. InputError: it cannot be read, a line or the number of lines is not
    as it should be (named), or it has not one of the attributes.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise MissingDataError(
            f"{path}: there is no such file of attributes; {NAMES[0]} comes with CelebA (its folder Anno)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: it cannot be read as a list of attributes ({error})") from None
    rows = [(number, line.replace(",", " ").split()) for number, line in enumerate(lines, 1) if line.strip()]
    promised, columns, rows = _head(path, rows)
    places = {name: columns.index(name) for name in names if name in columns}
    if not places:
        raise InputError(f"{path}: it has none of the attributes {', '.join(names)}; expected CelebA's {NAMES[0]}")
    if promised is not None and promised != len(rows):
        raise InputError(
            f"{path}: its first line says {promised} pictures, but {len(rows)} follow; fetch it again, or correct that line"
        )
    found: dict[str, dict[str, bool]] = {}
    for number, (image, *values) in rows:
        if len(values) != len(columns) or not VALUES.keys() >= set(values):
            raise InputError(
                f"{path}: line {number} begins {' '.join([image, *values[:3]])!r} and has {len(values)} values; "
                f"expected a picture's name and {len(columns)} values, each 1 or -1"
            )
        if (stem := Path(image).stem) in stems:
            found[stem] = {name: VALUES[values[place]] for name, place in places.items()}
    return found


Rows = list[tuple[int, list[str]]]  # line number, words


def _head(path: str | Path, rows: Rows) -> tuple[int | None, list[str], Rows]:
    """Return how many pictures the head promises (None: it does not say), the attributes' names, and the other lines."""
    first = rows[0][1] if rows else []
    if len(first) == 1 and first[0].isdecimal() and len(rows) > 1:
        return int(first[0]), rows[1][1], rows[2:]
    if first[:1] == ["image_id"]:
        return None, first[1:], rows[1:]
    raise InputError(
        f"{path}: it begins {' '.join(first[:4])!r}; expected a line with the number of pictures and a line with the "
        f"attributes' names, as CelebA's {NAMES[0]} has"
    )
