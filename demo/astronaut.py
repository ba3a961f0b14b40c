"""Upscale a real face: NASA's astronaut, cut out, shrunk to 32 and to 16 px, and enlarged again by each prior at hand.

    python demo/astronaut.py [SHEET.jpg]

Writes a sheet (input, bicubic, a column a prior, truth) and the single faces to `.demo/`, and the sheet as a JPEG too where
one is named. Without a network there is the embedded prior alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from latentface.cli import wait_passively

SIDES = (32, 16)  # px of the inputs
CELL = 384  # px of a face in the sheet


def main(jpeg: Path | None = None, *, folder: Path = Path(".demo"), steps: int | None = None) -> int:
    """Make the low pictures, enlarge them and say where the results are; `steps` of each search, None: as many as usual."""
    wait_passively()  # before anything below imports PyTorch
    import skimage.data

    import latentface
    from latentface.cli.console import Talk
    from latentface.degradation import resize
    from latentface.faces import crop, detect
    from latentface.faces.kind import square_of
    from latentface.io.pictures import read_picture, to_pillow, to_tensor, write_picture
    from latentface.io.sheets import comparison_sheet
    from latentface.restore.engine import NOTICE

    talk = Talk()
    priors = {p.name: p for p in (latentface.load_prior("celeba128"), latentface.load_prior(say=talk.say))}
    settings = latentface.UpscaleSettings(steps=steps)
    upscalers = [latentface.Upscaler(prior, settings=settings) for prior in priors.values()]
    photograph = to_tensor(skimage.data.astronaut())
    square = square_of(detect(photograph)[0], upscalers[0].prior.alignment)
    truth = crop(photograph, square, round(square.scale))[0].clamp(0, 1)
    write_picture(folder / "astronaut-truth.png", truth)

    lows = {}
    for side in SIDES:
        name = folder / f"astronaut-{side}px.png"
        write_picture(name, resize(truth[None], side)[0].clamp(0, 1))
        lows[name] = read_picture(name)  # so that `latentface upscale` makes the same of the file
    faces = len(lows) * len(upscalers)
    talk.say(f"{faces} faces to explore: a minute or two on a CPU")
    rows = []
    with talk.progress("exploring", faces, counted=False) as bar:
        for name, low in lows.items():
            row = {"input": to_pillow(low), "bicubic": low}
            for up in upscalers:
                result = up.face(low, on_step=lambda step: bar.advance(bar.task_ids[0], step.part))
                result.save(name.with_name(f"{name.stem}-{up.prior.name}.png"))
                row[f"{up.prior.name} ({up.prior.resolution} px)"] = result.high
            rows.append({**row, "truth": truth})
            for title in rows[-1].keys() - {"input"}:  # the sheet would show pixels
                rows[-1][title] = resize(rows[-1][title][None], CELL)[0].clamp(0, 1)
    sheet = comparison_sheet({title: [row[title] for row in rows] for title in rows[0]}, side=CELL)
    write_picture(folder / "sheet.png", sheet, {"latentface": NOTICE})
    if jpeg is not None:
        sheet.save(jpeg, quality=88)
    print(f"\nThe sheet is {folder / 'sheet.png'}; the single faces are beside it. {NOTICE}")
    print("Now your own face: .venv/bin/latentface upscale FACE.png -o results")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
