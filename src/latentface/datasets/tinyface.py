"""TinyFace's official folder: faces that were small when the photograph was taken, so that no truth exists."""

from pathlib import Path

from latentface.datasets.crop import CROPS, Crop
from latentface.datasets.faceset import FaceSet, missing_piece
from latentface.errors import InputError
from latentface.io.sources import Entry, Pictures, open_source

HOLDS = (
    "Training_Set/ and Testing_Set/ with Gallery_Match, Gallery_Distractor, Probe and the two *_img_ID_pairs.mat files"
)
FOLDERS = {
    "probe": "Testing_Set/Probe",
    "match": "Testing_Set/Gallery_Match",
    "distractor": "Testing_Set/Gallery_Distractor",
    "train": "Training_Set",
}
PAIRS = {
    "probe": ("probe_img_ID_pairs.mat", "probe_set", "probe_ids"),
    "match": ("gallery_match_img_ID_pairs.mat", "gallery_set", "gallery_ids"),
}


def open_tinyface(root: Path, part: str, crop: Crop | None = None) -> FaceSet:
    """Open a part of TinyFace: "probe", "match", "distractor", "train" or "test" (probe and match together).

    Who is who is read from the MATLAB files of the test set, and from the folders of the training set.

    Raises MissingDataError: a piece of the folder is not there. InputError: a MATLAB file cannot be read.
    """
    if (root / "tinyface").is_dir():
        root = root / "tinyface"  # the archive unpacks to tinyface/
    entries: list[Entry] = []
    person: dict[str, str] = {}
    for piece in ("probe", "match") if part == "test" else (part,):
        folder = root / FOLDERS[piece]
        if not folder.is_dir():
            raise missing_piece("tinyface", root, FOLDERS[piece], HOLDS)
        found = open_source(folder).entries
        entries += found
        if piece in PAIRS:
            person |= _pairs(root / "Testing_Set", *PAIRS[piece])
        elif piece == "train":
            person |= {e.stem: Path(e.name).parts[0] for e in found if len(Path(e.name).parts) > 1}
    return FaceSet(
        name=f"tinyface-{part}",
        pictures=Pictures(f"{root} ({part})", entries),
        crop=crop or CROPS["centre"],
        person=person,
        partition="train" if part == "train" else "test",
    )


def _pairs(folder: Path, file: str, names: str, ids: str) -> dict[str, str]:
    path = folder / file
    if not path.is_file():
        return {}
    import numpy as np
    from scipy.io import loadmat

    try:
        table = loadmat(path, squeeze_me=True)
        pairs = zip(np.atleast_1d(table[names]), np.atleast_1d(table[ids]), strict=True)
        return {Path(str(name)).stem: str(int(number)) for name, number in pairs}
    except (KeyError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise InputError(f"{path}: it cannot be read ({error}); expected {names} and {ids} in it") from None
