"""CelebA's official folder: `img_align_celeba`, `list_eval_partition.txt`, `identity_CelebA.txt`."""

from pathlib import Path

from latentface.datasets.crop import CROPS, Crop
from latentface.datasets.faceset import FaceSet, missing_piece
from latentface.datasets.people import read_pairs
from latentface.io.sources import Pictures, open_source

HOLDS = "img_align_celeba (a folder or img_align_celeba.zip), list_eval_partition.txt and, for who is who, identity_CelebA.txt"
PARTITIONS = {"0": "train", "1": "val", "2": "test"}


def find_piece(root: Path, *names: str) -> Path | None:
    """Return the first of some files or folders in `root` or where CelebA's archives unpack them (Img, Eval, Anno)."""
    for name in names:
        for place in (root, root / "Img", root / "Eval", root / "Anno", root / "img_align_celeba"):
            if (place / name).exists():
                return place / name
    return None


def open_celeba(root: Path, part: str, crop: Crop | None = None) -> FaceSet:
    """Open CelebA's aligned pictures: `part` is "train", "val", "test" or "all"; the crop is "ffhq" by default.

    Partitions are by person, as `list_eval_partition.txt` has them.

    Raises MissingDataError: a piece of the folder is not there.
    """
    images = find_piece(root, "img_align_celeba", "img_align_celeba.zip")
    if images is None:
        raise missing_piece("celeba", root, "img_align_celeba", HOLDS)
    entries = open_source(images).entries
    if part != "all":
        list_file = find_piece(root, "list_eval_partition.txt", "list_eval_partition.csv")
        if list_file is None:
            raise missing_piece("celeba", root, f"list_eval_partition.txt, which the part {part!r} needs,", HOLDS)
        partition = read_pairs(list_file)
        entries = [e for e in entries if PARTITIONS.get(partition.get(e.stem, "")) == part]
    if not entries:
        raise missing_piece("celeba", root, f"every picture of the part {part!r}", HOLDS)
    identity_file = find_piece(root, "identity_CelebA.txt")
    return FaceSet(
        name=f"celeba-{part}",
        pictures=Pictures(f"{root} ({part})", entries),
        crop=crop or CROPS["ffhq"],
        person=read_pairs(identity_file) if identity_file else {},
        partition="test" if part == "all" else part,
    )
