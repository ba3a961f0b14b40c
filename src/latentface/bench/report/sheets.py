"""The picture sheet of a table: low, each method, truth, a face a row. It shows people: it stays in the output folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from latentface.bench.core.runner import WALL, Runner
from latentface.bench.core.tasks import Task
from latentface.bench.core.variants import title_of
from latentface.io.pictures import write_picture
from latentface.io.sheets import comparison_sheet

FACES = 4  # a factor


def columns_of(runner: Runner, task: Task, most: int = WALL) -> dict[str, list[Path]]:
    """Return name -> files of a task's first faces: "low", each variant that has all of them, "truth"."""
    images = list(task.entries)[:most]
    names = ["low", *(v.name for v in runner.variants), "truth"]
    images = [i for i in images if runner.path(task, "low", i).exists()]
    found = {name: [runner.path(task, name, i) for i in images] for name in names}
    return {name: paths for name, paths in found.items() if paths and all(p.exists() for p in paths)}


def write_sheets(runner: Runner, folder: Path, name: str = "faces") -> list[Path]:
    """Write `faces.png` of the tasks with truth, `faces-native.png` of those without; their factors stand below each other.

    Raises:
        OutputError: it cannot be written.
    """
    written = []
    for has_truth, file in ((True, f"{name}.png"), (False, f"{name}-native.png")):
        tasks = [t for t in runner.tasks if t.has_truth == has_truth and t.entries]
        columns = [columns_of(runner, task, FACES) for task in tasks]
        shared = [n for n in (columns[0] if columns else {}) if all(n in c for c in columns)]
        if shared:
            sheet = {title_of(n): _open([p for c in columns for p in c[n]]) for n in shared}
            write_picture(
                folder / file, comparison_sheet(sheet, side=160), {"latentface": "generated; invented detail"}
            )
            written.append(folder / file)
    return written


def _open(paths: Sequence[Path]) -> list[Image.Image]:
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(picture.convert("RGB"))
    return pictures
