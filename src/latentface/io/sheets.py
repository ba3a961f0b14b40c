"""Pictures laid out side by side: grids and comparison sheets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from latentface.io.pictures import to_pillow

if TYPE_CHECKING:
    from torch import Tensor


def grid(pictures: Tensor, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Lay a batch (B, 3, H, W) out as a grid on white."""
    count, _, height, width = pictures.shape
    columns = columns or max(1, round(count**0.5))
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(to_pillow(picture), (gap + (i % columns) * (width + gap), gap + (i // columns) * (height + gap)))
    return sheet


def comparison_sheet(
    columns: Mapping[str, Sequence[Tensor | Image.Image]], side: int = 192, gap: int = 6, rows: Sequence[str] = ()
) -> Image.Image:
    """Draw named columns of pictures side by side, a row a face, every picture enlarged to `side` px by its own pixels.

    Pictures smaller than `side` are enlarged without smoothing, so that a reader sees what there really was. `rows`: words
    to the left of each row.
    """
    count = max((len(v) for v in columns.values()), default=0)
    size = max(16, side // 12)
    font = ImageFont.load_default(size=size)
    head = size + 10
    margin = gap + (gap + math.ceil(max(font.getlength(name) for name in rows)) if rows else 0)
    sheet = Image.new("RGB", (margin + len(columns) * (side + gap), head + count * (side + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for j, name in enumerate(rows):
        draw.text((margin - gap, head + j * (side + gap) + side / 2), name, fill="black", font=font, anchor="rm")
    for i, (name, pictures) in enumerate(columns.items()):
        left = margin + i * (side + gap)
        draw.text((left + side / 2, head / 2), name, fill="black", font=font, anchor="mm")
        for j, picture in enumerate(pictures):
            image = picture if isinstance(picture, Image.Image) else to_pillow(picture)
            smooth = Image.Resampling.NEAREST if image.width < side else Image.Resampling.LANCZOS
            sheet.paste(image.convert("RGB").resize((side, side), smooth), (left, head + j * (side + gap)))
    return sheet


def sheet_of(pictures: Mapping[str, Image.Image], side: int, columns: int = 6) -> Image.Image | None:
    """Draw named pictures of `side` px in rows of so many, each below its name; None without any."""
    names = [*pictures]
    rows = [names[i : i + columns] for i in range(0, len(names), columns)]
    sheets = [comparison_sheet({name: [pictures[name]] for name in row}, side) for row in rows]
    if not sheets:
        return None
    whole = Image.new("RGB", (sheets[0].width, sum(sheet.height for sheet in sheets)), "white")
    for i, sheet in enumerate(sheets):
        whole.paste(sheet, (0, i * sheet.height))
    return whole


def mark_boxes(picture: Image.Image, boxes: Sequence[tuple[str, Sequence[float]]], size: int = 14) -> None:
    """Draw boxes (left, top, right, bottom in px) into a picture, each with its name at the upper left corner."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=size)
    for name, (left, top, right, bottom) in boxes:
        draw.rectangle((left, top, right, bottom), outline="yellow")
        width = font.getlength(name) + 4
        x = min(max(left, 0), max(0, picture.width - width))
        y = top - size - 2 if top >= size + 2 else min(bottom, picture.height - size - 2)
        draw.rectangle((x, y, x + width, y + size + 1), fill="yellow")
        draw.text((x + 2, y), name, fill="black", font=font)
