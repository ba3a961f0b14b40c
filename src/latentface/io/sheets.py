"""Pictures laid out side by side: grids and comparison sheets."""

from __future__ import annotations

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
    columns: Mapping[str, Sequence[Tensor | Image.Image]], side: int = 192, gap: int = 6
) -> Image.Image:
    """Draw named columns of pictures side by side, a row a face, every picture enlarged to `side` px by its own pixels.

    Pictures smaller than `side` are enlarged without smoothing, so that a reader sees what there really was.
    """
    rows = max((len(v) for v in columns.values()), default=0)
    size = max(16, side // 12)
    font = ImageFont.load_default(size=size)
    head = size + 10
    sheet = Image.new("RGB", (gap + len(columns) * (side + gap), head + rows * (side + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (name, pictures) in enumerate(columns.items()):
        left = gap + i * (side + gap)
        draw.text((left + side / 2, head / 2), name, fill="black", font=font, anchor="mm")
        for j, picture in enumerate(pictures):
            image = picture if isinstance(picture, Image.Image) else to_pillow(picture)
            smooth = Image.Resampling.NEAREST if image.width < side else Image.Resampling.LANCZOS
            sheet.paste(image.convert("RGB").resize((side, side), smooth), (left, head + j * (side + gap)))
    return sheet
