"""The picture sheet of `bench prior`: samples, their nearest training faces, inversions, interpolations. It stays in the output folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from latentface.io.pictures import to_pillow, write_picture

SIDE, GAP, HEAD = 96, 4, 30  # px


@dataclass(frozen=True, slots=True)
class Section:
    """A titled grid: rows of pictures, (3, S, S) in [0, 1] each."""

    title: str
    rows: Sequence[Sequence[Tensor]]


def in_rows(pictures: Sequence[Tensor], columns: int = 12) -> list[Sequence[Tensor]]:
    """Cut a run of pictures into rows."""
    return [pictures[i : i + columns] for i in range(0, len(pictures), columns)]


def write_prior_sheet(path: Path, sections: Sequence[Section]) -> None:
    """Draw the sections below each other, every picture at 96 px. Raises OutputError."""
    kept = [s for s in sections if any(s.rows)]
    columns = max((len(row) for s in kept for row in s.rows), default=1)
    height = sum(HEAD + len(s.rows) * (SIDE + GAP) for s in kept) + GAP
    sheet = Image.new("RGB", (GAP + columns * (SIDE + GAP), max(height, 1)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    top = 0
    for section in kept:
        draw.text((GAP, top + HEAD / 2), section.title, fill="black", font=font, anchor="lm")
        top += HEAD
        for row in section.rows:
            for i, picture in enumerate(row):
                face = to_pillow(picture)
                smooth = Image.Resampling.BICUBIC if face.width < SIDE else Image.Resampling.LANCZOS
                sheet.paste(face.resize((SIDE, SIDE), smooth), (GAP + i * (SIDE + GAP), top))
            top += SIDE + GAP
    write_picture(path, sheet, {"latentface": "faces of a prior and of its data: keep it out of publications"})
