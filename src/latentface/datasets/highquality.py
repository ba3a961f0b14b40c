"""CelebA-HQ's and FFHQ's folders as they are published: square pictures of up to 1024 px."""

import bisect
from pathlib import Path

from latentface.datasets.celeba import PARTITIONS, find_piece
from latentface.datasets.crop import CROPS, Crop
from latentface.datasets.faceset import FaceSet, missing_piece
from latentface.datasets.people import read_pairs
from latentface.errors import InputError
from latentface.io.sources import Entry, Pictures, open_source

HQ_HOLDS = (
    "the pictures (CelebA-HQ-img/0.jpg ... or a flat folder) and, for partitions, CelebA-HQ-to-CelebA-mapping.txt; "
    "for who is who, identity_CelebA.txt"
)
FFHQ_HOLDS = "images1024x1024/ or thumbnails128x128/ (or the pictures themselves, 00000.png to 69999.png)"
FFHQ_TRAIN = 60_000  # FFHQ's own split: the first 60,000 are for training
CELEBA_STARTS = (1, 162_771, 182_638)  # where CelebA's train, val and test numbers begin (list_eval_partition.txt)


def open_celebahq(root: Path, part: str, crop: Crop | None = None) -> FaceSet:
    """Open CelebA-HQ: `part` is "all", or CelebA's partition of each picture's original, found through the mapping.

    Raises MissingDataError: a piece of the folder is not there. InputError: the mapping cannot be read.
    """
    folder = next((root / n for n in ("CelebA-HQ-img", "celeba_hq", "images") if (root / n).is_dir()), root)
    entries = open_source(folder).entries
    mapping_file = root / "CelebA-HQ-to-CelebA-mapping.txt"
    numbers = _mapping(mapping_file) if mapping_file.is_file() else {}
    if part != "all":
        if not numbers:
            raise missing_piece("celebahq", root, f"{mapping_file.name}, which the part {part!r} needs,", HQ_HOLDS)
        entries = [e for e in entries if _partition(numbers.get(_number(e))) == part]
    if not entries:
        raise missing_piece("celebahq", root, f"every picture of the part {part!r}", HQ_HOLDS)
    identity_file = find_piece(root, "identity_CelebA.txt")
    identities = read_pairs(identity_file) if identity_file else {}
    originals = {e.stem: f"{numbers[n]:06d}" for e in entries if (n := _number(e)) in numbers and n is not None}
    return FaceSet(
        name=f"celebahq-{part}",
        pictures=Pictures(f"{root} ({part})", entries),
        crop=crop or CROPS["centre"],
        person={stem: identities[o] for stem, o in originals.items() if o in identities},
        partition="test" if part == "all" else part,
    )


def open_ffhq(root: Path, part: str, crop: Crop | None = None) -> FaceSet:
    """Open FFHQ: `part` is "all", "train" (the first 60,000), "val" (the last 10,000) or "thumbnails" (128 px).

    Raises MissingDataError: a piece of the folder is not there.
    """
    names = ("thumbnails128x128",) if part == "thumbnails" else ("images1024x1024", "thumbnails128x128")
    folder = next((root / n for n in names if (root / n).is_dir()), None if part == "thumbnails" else root)
    if folder is None:
        raise missing_piece("ffhq", root, "thumbnails128x128", FFHQ_HOLDS)
    entries = open_source(folder).entries
    if part in ("train", "val"):
        entries = [e for e in entries if (n := _number(e)) is not None and (n < FFHQ_TRAIN) == (part == "train")]
    if not entries:
        raise missing_piece("ffhq", root, f"every picture of the part {part!r}", FFHQ_HOLDS)
    return FaceSet(
        name=f"ffhq-{part}",
        pictures=Pictures(f"{root} ({part})", entries),
        crop=crop or CROPS["centre"],
        partition=part if part in ("train", "val") else "",
    )


def _number(entry: Entry) -> int | None:
    return int(entry.stem) if entry.stem.isdecimal() else None


def _partition(original: int | None) -> str:
    return "" if original is None else PARTITIONS[str(bisect.bisect_right(CELEBA_STARTS, original) - 1)]


def _mapping(path: Path) -> dict[int | None, int]:
    """Read `idx orig_idx orig_file` lines: CelebA-HQ's number -> the number in the name of CelebA's file."""
    out: dict[int | None, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()[1:], 2):
        parts = line.split()
        if not parts:
            continue
        try:
            out[int(parts[0])] = int(Path(parts[2]).stem)
        except (IndexError, ValueError):
            raise InputError(f"{path}: line {number} is {line!r}; expected idx, orig_idx and orig_file") from None
    return out
