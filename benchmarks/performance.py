"""Repeat docs/performance.md by one command: a step of the search, what the engine adds to the networks, and whole runs.

    python benchmarks/performance.py [--repeats 2] [--only steps engine runs]

Prints Markdown. A run is `latentface upscale` in a process of its own, its start included, on the astronaut's photograph that
scikit-image carries. Leave the machine alone meanwhile: it takes 15 to 20 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
# What is run -> the input, the options.
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "face of 16 px": ("face-16px.png", ()),
    "face of 16 px, celeba128, 25 steps": ("face-16px.png", ("-p", "celeba128", "--steps", "25")),
    "face of 16 px, celeba128": ("face-16px.png", ("-p", "celeba128")),
    "16 faces of 16 px, celeba128": ("faces", ("-p", "celeba128")),
    "photograph of 160 x 160 px, -f 3": ("photograph-160px.png", ("-f", "3")),
    "photograph of 512 x 512 px": ("photograph-512px.png", ()),
}
FACES = 16


def write_inputs(folder: Path) -> None:
    """Cut the astronaut's face as both priors' alignment has it, and shrink her photograph."""
    import skimage.data

    from latentface.degradation import resize
    from latentface.faces import crop, detect
    from latentface.faces.kind import square_of
    from latentface.io.pictures import to_tensor, write_picture

    photograph = to_tensor(skimage.data.astronaut())
    square = square_of(detect(photograph)[0], "ffhq")
    face = resize(crop(photograph, square, round(square.scale))[0][None].clamp(0, 1), 16)[0].clamp(0, 1)
    write_picture(folder / "face-16px.png", face)
    for number in range(FACES):  # each a little darker than the one before
        write_picture(folder / "faces" / f"{number:02}.png", face * (1 - 0.02 * number))
    write_picture(folder / "photograph-512px.png", photograph)
    write_picture(folder / "photograph-160px.png", resize(photograph[None], 160)[0].clamp(0, 1))


def run(given: Path, options: tuple[str, ...]) -> tuple[float, float, float]:
    """Return seconds by the clock, a result's as its record has them (the mean of several), and the most memory in GB."""
    out = given.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "latentface", "upscale", str(given), "-o", str(out), "--quiet", *options]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    records = [json.loads(path.read_text()) for path in out.rglob("*.json")]
    return (
        seconds,
        sum(record["seconds"] for record in records) / len(records),
        used.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6),
    )


def runs(repeats: int) -> None:
    """Print the table of whole runs, one after another, so that a slow hour falls on all."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in RUNS}
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder))
        for _ in range(repeats):
            for name, (given, options) in RUNS.items():
                found[name].append(run(Path(folder) / given, options))
    print(f"| `latentface upscale`, {repeats} runs each | by the clock | a result | most memory |\n|---|---|---|---|")
    for name, values in found.items():
        clock, result, memory = zip(*values, strict=True)
        spread = " and ".join(f"{v:.1f}" for v in clock)
        print(f"| {name} | {spread} s | {' and '.join(f'{v:.1f}' for v in result)} s | {max(memory):.1f} GB |")


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="of the runs")
    parser.add_argument("--only", nargs="+", choices=["steps", "engine", "runs"], default=["steps", "engine", "runs"])
    arguments = parser.parse_args()
    if "steps" in arguments.only:
        print("## A step\n", flush=True)
        subprocess.run([sys.executable, HERE / "step.py", "--repeats", "5"], check=True)  # a plain step takes seconds
    if "engine" in arguments.only:
        print("\n## The engine beside bare passes of celeba128\n", flush=True)
        for batch in ("1", "8"):
            subprocess.run([sys.executable, HERE / "engine.py", "--batch", batch], check=True)
            print(flush=True)
    if "runs" in arguments.only:
        print("## Whole runs\n", flush=True)
        runs(arguments.repeats)


if __name__ == "__main__":
    main()
