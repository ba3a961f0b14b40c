"""A finished photograph: its faces, the picture they are pasted into, and the sheets that show what was done."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentface.faces import Face, Patch, Similarity, paste_faces
from latentface.io.metadata import Metadata
from latentface.io.photo import Photo
from latentface.io.pictures import shallow, to_pillow
from latentface.io.records import text_chunks
from latentface.io.sheets import comparison_sheet, mark_boxes
from latentface.restore.background import Background
from latentface.restore.faceresult import spread_of

SHEET_WIDTH = 1600  # px of the before-and-after picture
SHEET_FACES = 40  # rows of a comparison sheet at most

Box = tuple[int, int, int, int]  # left, top, width, height


@dataclass(frozen=True, slots=True, eq=False)
class PhotoFace:
    """A face that was enlarged.

    Attributes:
        found: where it is; transform: the unit square -> the photograph; number: among all found, the largest is 1.
        high: (3, R, R) in [0, 1], upright; samples: (N, 3, R, R). Fewer pixels where no more are asked for.
        low: (3, s, s), about as many pixels as the photograph has there, upright; bilinear: (3, R, R), enlarged from them.
        factor: the prior's resolution over the side of its square in the photograph; sigma: the noise that was reckoned with.
        detail: px of its square that were searched with: the square's side, or fewer for a soft face.
        exit_side: px of the prior's exit at which it was searched first, None for none.
        consistency_db: PSNR of `high`, seen in those pixels, against them; best_step: of the first sample.
    """

    found: Face
    transform: Similarity
    high: Tensor
    samples: Tensor
    low: Tensor
    bilinear: Tensor
    factor: float
    detail: float
    sigma: float
    consistency_db: float
    best_step: int
    exit_side: int | None = None
    number: int = 0

    @property
    def soft(self) -> bool:
        """Whether it has more pixels than detail."""
        return self.detail != self.transform.scale

    @property
    def spread(self) -> Tensor:
        """See `spread_of`."""
        return spread_of(self.samples)

    @property
    def record(self) -> dict[str, Any]:
        """Return what the JSON says about it; pixels of the photograph, turned as it is shown."""
        x, y = self.transform.centre
        return {
            **found_record(self.found, self.number),
            "upscaled": True,
            "square": {
                "centre": [round(x, 2), round(y, 2)],
                "side": round(self.transform.scale, 2),
                "degrees": round(self.transform.degrees, 2),
            },
            "factor": round(self.factor, 3),
            "detail": round(self.detail, 2),
            "sigma": round(self.sigma, 5),
            **({} if self.exit_side is None else {"exit_side": self.exit_side}),
            "consistency_db": round(self.consistency_db, 2),
            "best_step": self.best_step,
        }


def found_record(face: Face, number: int) -> dict[str, Any]:
    """Return what the JSON says about any face that was found."""
    return {"number": number, "box": [round(v, 1) for v in face.box], "score": round(face.score, 3)}


@dataclass(frozen=True, slots=True, eq=False)
class LeftFace:
    """A face that was left, for a `reason` in words; `wants`: px of a prior that would enlarge it, or None.

    `number`: among all that were found, the largest is 1.
    """

    found: Face
    reason: str
    wants: int | None = None
    number: int = 0

    @property
    def record(self) -> dict[str, Any]:
        """Return what the JSON says about it."""
        wants = {} if self.wants is None else {"wants_prior_px": self.wants}
        return {**found_record(self.found, self.number), "upscaled": False, "reason": self.reason, **wants}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PhotoUpscaled:
    """A photograph enlarged by `factor`, its faces by the prior.

    Attributes:
        photo: the input; faces: enlarged ones, the largest first; left: found, but not enlarged.
        record: everything about how it was made, as plain JSON types.
        background: what enlarges all that is no face; None: bicubic interpolation.
    """

    photo: Photo
    factor: float
    faces: Sequence[PhotoFace]
    left: Sequence[LeftFace]
    record: Mapping[str, Any]
    background: Background | None = None

    @property
    def consistency_db(self) -> float | None:
        """Of the face that agrees least with the photograph; None without faces."""
        return min((f.consistency_db for f in self.faces), default=None)

    @property
    def count(self) -> int:
        """How many faces were made of each; 1 for a photograph without any."""
        return max((len(f.samples) for f in self.faces), default=1)

    @property
    def summary(self) -> str:
        """What was done, in words."""
        if not self.faces and not self.left:
            improved = "nothing was improved" if self.background is None else "all of it is the background network's"
            return f"no face was found: {improved}"
        count = len(self.faces) + len(self.left)
        parts = [f"{len(self.faces)} of {count} face{'s' if count != 1 else ''} upscaled"]
        reasons = [face.reason for face in self.left]
        parts += [
            f"{n} left as {'it is' if n == 1 else 'they are'} ({reason})" for reason, n in Counter(reasons).items()
        ]
        if self.record.get("turned"):
            parts.append(f"found by turning the photograph {self.record['turned']} degrees clockwise")
        return ", ".join(parts)

    def __repr__(self) -> str:
        """Say in a line what it is, for people at a prompt."""
        height, width = self.photo.enlarged_size(self.factor)
        return f"<photograph of {width} x {height} px: {self.summary}>"

    def enlarged(self) -> Photo:
        """Return the photograph enlarged without its faces."""
        if self.background is None:
            return self.photo.enlarged(self.factor)
        return self.background.enlarged(self.photo, self.factor)

    def render(self, sample: int | None = None, on: Photo | None = None) -> Photo:
        """Return the enlarged photograph with its faces pasted in; with `sample`, that one of each face's.

        Pixels outside the faces' squares are those of `enlarged`, bit for bit. `on`: what `enlarged` returned, where it
        is needed several times; it is not changed.
        """
        faces = [f.high if sample is None else f.samples[sample] for f in self.faces]
        return self._paste(self.enlarged() if on is None else replace(on, pixels=on.pixels.copy()), faces)

    def render_spread(self) -> Photo:
        """Return each face's spread at its place on black."""
        size = self.photo.enlarged_size(self.factor)
        return self._paste(Photo(self.photo.name, np.zeros((*size, 3), np.uint8)), [f.spread for f in self.faces])

    def _paste(self, large: Photo, faces: Sequence[Tensor]) -> Photo:
        homes = [f.transform.scaled(self.factor) for f in self.faces]
        for box, members in _groups(homes, large.size):
            region = large.region(box)
            shifted = [replace(homes[i], dx=homes[i].dx - box[0], dy=homes[i].dy - box[1]) for i in members]
            patches = [Patch(faces[i].cpu().float(), home) for i, home in zip(members, shifted, strict=True)]
            cover = large.cover(box)
            pasted = paste_faces(region, patches, in_place=cover is None)
            large.put(box, pasted if cover is None else torch.where(cover > 0, pasted, region))
        return large

    def save(self, path: str | Path, quality: int = 92, *, strip_location: bool = False) -> Path:
        """Write the photograph with the record, in the format of the name's ending. Raises InputError, OutputError."""
        made = self.render()
        (made.without_location() if strip_location else made).save(path, text_chunks(self.record), quality)
        return Path(path)

    @property
    def image(self) -> Image.Image:
        """The enlarged photograph as a Pillow image, which notebooks display."""
        return self.render().image()

    def save_faces(self, folder: str | Path, ending: str = ".png", quality: int = 92) -> list[Path]:
        """Write each enlarged face, upright, as FOLDER/01.png ..., by its number.

        They have the photograph's colour profile, and nothing else that its file says. Raises OutputError, InputError.
        """
        written = []
        whole = {k: v for k, v in self.record.items() if k != "faces"}
        for face in self.faces:
            written.append(Path(folder) / f"{face.number:02d}{ending}")
            drawn = replace(self.photo, alpha=None, metadata=Metadata(icc=self.photo.metadata.icc)).drawn(face.high)
            drawn.save(written[-1], text_chunks({**whole, "face": face.record}), quality)
        return written

    def comparison(self, after: Photo | None = None) -> Image.Image:
        """Draw the photograph before, its faces numbered, and after, and each face: low, bilinear, result, spread."""
        after = after or self.render()
        width = min(SHEET_WIDTH, after.size[1])
        size = (width, max(1, round(width * after.size[0] / after.size[1])))
        every = [*((f.number, f.found) for f in self.faces), *((f.number, f.found) for f in self.left)]
        before = marked(self.photo, size, every)
        parts = [before, viewed(after, size, Image.Resampling.LANCZOS)]
        shown = self.faces[:SHEET_FACES]
        if shown:
            columns: dict[str, list[Tensor | Image.Image]] = {
                "low": [to_pillow(f.low) for f in shown],
                "bilinear": [f.bilinear for f in shown],
                str(self.record.get("method", "result")): [f.high for f in shown],
            }
            if self.count > 1:
                columns["spread"] = [f.spread for f in shown]
            parts.append(comparison_sheet(columns, rows=[str(f.number) for f in shown]))
        sheet = Image.new("RGB", (max(p.width for p in parts), sum(p.height for p in parts) + 6 * len(parts)), "white")
        top = 0
        for part in parts:
            sheet.paste(part, (0, top))
            top += part.height + 6
        return sheet


def marked(photo: Photo, size: tuple[int, int], faces: Iterable[tuple[int, Face]]) -> Image.Image:
    """Return a photograph as 8-bit RGB of a size (W, H), with a box around each face and its number."""
    picture = viewed(photo, size, Image.Resampling.BICUBIC)
    scale = size[0] / photo.size[1]
    mark_boxes(
        picture, [(str(number), [v * scale for v in face.box]) for number, face in faces], max(14, size[0] // 64)
    )
    return picture


def viewed(photo: Photo, size: tuple[int, int], kernel: Image.Resampling) -> Image.Image:
    """Return a photograph as 8-bit RGB of a size, transparency laid on white."""
    pixels = shallow(photo.pixels)
    picture = Image.fromarray(pixels[:, :, 0] if photo.grey else pixels).convert("RGB").resize(size, kernel)
    if photo.alpha is None:
        return picture
    white = Image.new("RGB", size, "white")
    white.paste(picture, mask=Image.fromarray(photo.alpha).resize(size, kernel))
    return white


def _groups(homes: Sequence[Similarity], size: tuple[int, int]) -> Iterator[tuple[Box, list[int]]]:
    """Yield faces whose squares' boxes meet, and the box about them all: what must be pasted together, and no more."""
    boxes: list[tuple[Box, list[int]]] = []
    for i, home in enumerate(homes):
        low = np.floor(home.corners.min(0)).clip(0).astype(int)
        high = np.minimum(np.ceil(home.corners.max(0)), (size[1], size[0])).astype(int)
        if (high <= low).any():
            continue
        box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        members = [i]
        while True:  # a grown box may meet further ones
            met = [b for b in boxes if b[0][0] < box[2] and box[0] < b[0][2] and b[0][1] < box[3] and box[1] < b[0][3]]
            if not met:
                break
            boxes = [b for b in boxes if b not in met]
            lefts, tops, rights, bottoms = zip(box, *(b[0] for b in met), strict=True)
            box = (min(lefts), min(tops), max(rights), max(bottoms))
            members += [m for b in met for m in b[1]]
        boxes.append((box, sorted(members)))
    for (left, top, right, bottom), members in boxes:
        yield (left, top, right - left, bottom - top), members
