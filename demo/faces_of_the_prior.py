"""Draw docs/images/faces-of-the-prior.jpg: six faces that the prior makes, put small and tilted into a photograph, then enlarged.

    python demo/faces_of_the_prior.py [OUTPUT.jpg]

The composed photograph and everything that `latentface upscale` makes of it stay in `.demo/`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

import latentface
from latentface.cli import run

FOLDER = Path(".demo")
SIDES = (56, 48, 40, 34, 28, 24)  # px in the photograph
ANGLES = (0, 12, -8, 25, -20, 6)  # degrees
SEEDS = (11, 23, 31, 47, 67, 61)
FACES_WIDTH, FACES_HEIGHT = 600, 1226  # px: of the sheet's rows of faces with their titles
FINE = 8  # everything is put together so many times as large, then shrunk as a camera would


def compose() -> Image.Image:
    """Return the photograph, 480 x 160 px."""
    prior = latentface.load_prior("celeba128")
    z = torch.cat([torch.randn(1, prior.z_dim, generator=torch.Generator().manual_seed(s)) for s in SEEDS])
    w = prior.generator.style(z, truncation=0.7)
    faces = (prior.synthesis(w).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    colours = np.random.default_rng(4).integers(60, 180, (3, 7, 3), dtype=np.uint8)
    canvas = Image.fromarray(colours).resize((480 * FINE, 160 * FINE), Image.Resampling.BICUBIC)
    for i, (face, side, angle) in enumerate(zip(faces, SIDES, ANGLES, strict=True)):
        size = side * FINE
        large = Image.fromarray(face).resize((size, size), Image.Resampling.BICUBIC)
        mask = Image.new("L", (size, size), 0)
        edge = size // 12
        mask.paste(255, (edge, edge, size - edge, size - edge))
        mask = mask.filter(ImageFilter.GaussianBlur(edge / 2))
        turned, kept = (p.rotate(angle, Image.Resampling.BICUBIC, expand=True) for p in (large, mask))
        centre = ((40 + 80 * i) * FINE, (80 + (-1) ** i * 24) * FINE)
        canvas.paste(turned, (centre[0] - turned.width // 2, centre[1] - turned.height // 2), kept)
    return canvas.resize((480, 160), Image.Resampling.BOX)


def main(output: Path = Path("docs/images/faces-of-the-prior.jpg")) -> int:
    """Compose, enlarge three times, and keep the sheet as a JPEG."""
    FOLDER.mkdir(exist_ok=True)
    photograph = FOLDER / "faces-of-the-prior.png"
    compose().save(photograph)
    code = run(
        [
            "upscale",
            str(photograph),
            "-o",
            str(FOLDER / "large"),
            "-f",
            "3",
            "-p",
            "celeba128",
            "--compare",
            "--overwrite",
        ]
    )
    if code == 0:
        sheet = Image.open(FOLDER / "large" / f"{photograph.stem}-compare.png").convert("RGB")
        faces = sheet.crop((0, sheet.height - FACES_HEIGHT, FACES_WIDTH, sheet.height))  # without the whole photographs
        faces.save(output, quality=88)
        print(f"{output}: {faces.width} x {faces.height} px")
    return code


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
