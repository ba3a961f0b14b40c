"""Upscale a real face: NASA's astronaut, cut out, aligned, shrunk to a few pixels, and enlarged again.

Writes a sheet (input, bilinear, RLSE, truth) and the single faces to `.demo/`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import skimage.data
import torch.nn.functional as F
from rich.progress import Progress

import latentface
from latentface.faces import align, crop, detect
from latentface.images import comparison_sheet, read_picture, to_tensor, write_picture
from latentface.restore import Upscaler

FOLDER = Path(".demo")


def main() -> None:
    """Make the low pictures, enlarge them and say where the results are."""
    prior = latentface.load_prior("celeba128")
    photograph = to_tensor(skimage.data.astronaut())
    found = detect(photograph)[0]
    truth = crop(photograph, align(found.landmarks, prior.alignment), prior.resolution)[0].clamp(0, 1)[None]
    rows: dict[str, list[object]] = {"input": [], "bilinear": [], "RLSE": [], "truth": []}
    factors = (4, 8)
    with Progress() as bar:
        task = bar.add_task("exploring", total=100 * len(factors))
        for factor in factors:
            low = latentface.Downscale(prior.resolution // factor, prior.resolution).forward(truth).clamp(0, 1)
            name = FOLDER / f"astronaut-{low.shape[-1]}px"
            write_picture(name.with_suffix(".png"), low[0])
            low = read_picture(name.with_suffix(".png"))[
                None
            ]  # so that `latentface upscale` makes the same of the file
            result = Upscaler(prior).upscale(low, lambda rows, step: bar.advance(task))[0]
            result.save(name.with_name(name.name + "-rlse.png"))
            size = (prior.resolution, prior.resolution)
            rows["input"].append(low[0])
            rows["bilinear"].append(F.interpolate(low, size=size, mode="bilinear", align_corners=False)[0])
            rows["RLSE"].append(result.high)
            rows["truth"].append(truth[0])
    write_picture(FOLDER / "sheet.png", comparison_sheet(rows))
    print(f"\nThe sheet is {FOLDER / 'sheet.png'}; the single faces are beside it.")
    print("Now your own face: .venv/bin/latentface upscale FACE.png -o results")


if __name__ == "__main__":
    sys.exit(main())
