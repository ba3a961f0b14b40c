"""Cut the faces of the tables out of CelebA's own folder: python benchmarks/cut_faces.py CELEBA test test.zip

CELEBA holds `img_align_celeba` (a folder or its zip) as CelebA comes. `celeba-test.txt` (400 people, one photograph each) and
`celeba-val.txt` (4,535 photographs) beside this file name the pictures. The test faces are kept without loss; the validation
faces, with which settings were chosen, as WebP of quality 85, as they were when they were measured.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from pathlib import Path

from PIL import Image

from latentface.datasets import CROPS, open_faces
from latentface.errors import LatentfaceError, MissingDataError
from latentface.io.atomic import atomic_path
from latentface.io.pictures import open_picture
from latentface.io.sources import read_entry

SIDE = 128  # px
KEPT: dict[str, tuple[str, dict[str, int]]] = {"test": ("png", {}), "val": ("webp", {"quality": 85})}


def cut(celeba: Path, part: str, output: Path) -> int:
    """Write the faces of `part`, "test" or "val", into the zip `output`; return how many.

    Raises:
        MissingDataError: a picture of the list, or the folder, is not there. OutputError: the zip cannot be written.
    """
    kind, options = KEPT[part]
    wanted = Path(__file__).with_name(f"celeba-{part}.txt").read_text().split()
    held = {entry.stem: entry for entry in open_faces(f"celeba:{celeba}#all").pictures.entries}
    missing = [name for name in wanted if name not in held]
    if missing:
        raise MissingDataError(
            f"{celeba}: {len(missing)} pictures of {part} are not there, the first is {missing[0]}.jpg"
        )
    with atomic_path(output) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        for name in wanted:
            face = CROPS["ffhq"](open_picture(read_entry(held[name]), held[name].label), SIDE, held[name].label)
            data = io.BytesIO()
            Image.fromarray(face).save(data, kind, **options)
            archive.writestr(f"{name}.{kind}", data.getvalue())
    return len(wanted)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("celeba", type=Path)
    parser.add_argument("part", choices=sorted(KEPT))
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    try:
        print(f"{given.output}: {cut(given.celeba, given.part, given.output)} faces")
    except (LatentfaceError, OSError) as error:
        sys.exit(str(error))
