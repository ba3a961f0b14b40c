"""What a table is measured on: a set of faces at one factor, as pairs of a low picture and, where it exists, the truth."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentface.bench.core.records import factor_text
from latentface.datasets import FaceSet
from latentface.degradation import Downscale
from latentface.errors import InputError, PictureError
from latentface.io.pictures import open_picture
from latentface.io.sources import Entry, read_entry


def to_8_bit(picture: Tensor) -> Tensor:
    """Round a picture in [0, 1] to what an 8-bit file holds."""
    return picture.clamp(0, 1).mul(255).round().div(255)


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A set of faces at one factor.

    Attributes:
        dataset: the set's name in the CSV; faces: the set; entries: those of its pictures that take part, by key.
        degradation: from R px to the low size; has_truth: whether the pictures are high ones.
        left_out: pictures too small to be an input, or broken.
        only: names of the variants that it is for; empty: all of a run.
    """

    dataset: str
    faces: FaceSet
    entries: dict[str, Entry]
    degradation: Downscale
    has_truth: bool
    left_out: int = 0
    only: tuple[str, ...] = ()

    @property
    def factor(self) -> float:
        """R over the low side."""
        return self.degradation.high / self.degradation.low

    @property
    def factor_text(self) -> str:
        """The factor as tables write it."""
        return factor_text(self.factor)

    @property
    def label(self) -> str:
        """For messages: `val 8x (64 -> 8 px)`."""
        return f"{self.dataset} {self.factor_text}x ({self.degradation.low} -> {self.degradation.high} px)"

    def load(self, key: str) -> tuple[Tensor | None, Tensor]:
        """Return a face's truth (3, R, R), or None, and its low picture (3, h, w), at 8 bits. Raises PictureError."""
        entry, d = self.entries[key], self.degradation
        if self.has_truth:
            truth = self.faces.read(entry, d.high)
            return truth, to_8_bit(d.forward(truth[None])[0])
        side = square_side(self.faces, entry)
        picture = self.faces.read(entry, side)
        if side == d.low:
            return None, picture
        return None, to_8_bit(Downscale(d.low, side, d.kernel).forward(picture[None])[0])


def seed_of(seed: int, picture: str) -> int:
    """Return a face's own seed, so that faces share no random draws: 62 bits of SHA-256 of `SEED:PICTURE`."""
    digest = hashlib.sha256(f"{seed}:{picture}".encode(errors="backslashreplace")).digest()
    return int.from_bytes(digest[:8]) >> 2


def square_side(faces: FaceSet, entry: Entry) -> int:
    """Return the side in px that a picture's face has in the file. Raises PictureError."""
    box = faces.crop.box
    if box is not None:
        return round(box[2] - box[0])
    return min(open_picture(read_entry(entry), entry.label).size)


def keys_of(faces: FaceSet) -> dict[str, Entry]:
    """Name every picture by its stem, or by its path where stems meet."""
    stems = Counter(entry.stem for entry in faces)
    keys: dict[str, Entry] = {}
    for entry in faces:
        key = entry.stem if stems[entry.stem] == 1 else entry.name.rsplit(".", 1)[0].replace("/", "_")
        while key in keys:
            key += "_"
        keys[key] = entry
    return keys


def low_side(resolution: int, factor: float) -> int:
    """Return the low side in px. Raises InputError: it would be below 2 px, or the factor is below 1."""
    low = round(resolution / factor) if factor > 0 else 0
    if factor < 1:
        raise InputError(f"the factor is {factor:g}; expected a number from 1 up")
    if low < 2:
        raise InputError(
            f"{factor:g}x of {resolution} px leaves {low} px; at least 2 px are needed, use a smaller factor"
        )
    return low


def task_with_truth(faces: FaceSet, resolution: int, low: int, kernel: str, limit: int | None) -> Task:
    """Return the task of shrinking high pictures to `low` px and restoring them."""
    faces = faces.limited(limit)
    degradation = Downscale(low, resolution, kernel)
    return Task(dataset=faces.name, faces=faces, entries=keys_of(faces), degradation=degradation, has_truth=True)


def task_without_truth(faces: FaceSet, resolution: int, low: int, kernel: str, limit: int | None) -> Task:
    """Return the task of restoring pictures without truth: larger ones are shrunk to `low` px, smaller ones left out."""
    task = task_with_truth(faces, resolution, low, kernel, None)
    entries: dict[str, Entry] = {}
    left_out = 0
    for key, entry in task.entries.items():
        if limit is not None and len(entries) >= limit:
            break
        try:
            fits = square_side(faces, entry) >= low
        except PictureError:
            fits = False
        if fits:
            entries[key] = entry
        left_out += not fits
    return replace(task, entries=entries, has_truth=False, left_out=left_out)


def load_batch(task: Task, keys: Sequence[str], size: int) -> tuple[list[str], Tensor | None, Tensor | None, list[str]]:
    """Load some faces, filled up to `size` by repeating the last one, so that every batch of a run has one size.

    A face's result is then the same bits whoever its neighbours are, and a run that was cut off ends with the same table.

    Returns:
        The keys that could be read, truth (size, 3, R, R) or None, low (size, 3, h, w) or None, and why others could not.
    """
    read, truths, lows, reasons = [], [], [], []
    for key in keys:
        try:
            truth, low = task.load(key)
        except PictureError as error:
            reasons.append(str(error))
            continue
        read.append(key)
        lows.append(low)
        if truth is not None:
            truths.append(truth)
    if not read:
        return [], None, None, reasons
    fill = [len(read) - 1] * (size - len(read))
    places = [*range(len(read)), *fill]
    low_batch = torch.stack(lows)[places]
    return read, torch.stack(truths)[places] if truths else None, low_batch, reasons
