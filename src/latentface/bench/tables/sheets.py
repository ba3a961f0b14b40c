"""The picture sheet of a table: low, each method, truth, a face a row. It shows people: it stays in the output folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from latentface.bench.core.runner import Runner
from latentface.bench.core.tasks import Task
from latentface.bench.core.variants import title_of
from latentface.io.pictures import read_picture, write_picture
from latentface.io.sheets import comparison_sheet

FACES, SIDE = 4, 160  # a factor; px


def write_sheets(
    runner: Runner, name: str, heads: Mapping[str, str] | None = None, *, faces: int = FACES, side: int = SIDE
) -> None:
    """Write NAME.png of the tasks with truth, NAME-native.png of those without; their factors stand below each other.

    Args:
        heads: what has a column -> its head; None: low, the variants and the truth. What lacks a face has none.

    Raises:
        OutputError: it cannot be written.
    """
    heads = heads or {n: title_of(n) for n in ("low", *(v.name for v in runner.variants), "truth")}
    for has_truth, file in ((True, f"{name}.png"), (False, f"{name}-native.png")):
        tasks = [t for t in runner.tasks if t.has_truth == has_truth and t.entries]
        columns = [_columns(runner, task, heads, faces) for task in tasks]
        shared = [n for n in (columns[0] if columns else {}) if all(n in c for c in columns)]
        if shared:
            sheet = {heads[n]: [read_picture(path) for c in columns for path in c[n]] for n in shared}
            said = {"latentface": "generated; invented detail"}
            write_picture(runner.folder / file, comparison_sheet(sheet, side=side), said)


def _columns(runner: Runner, task: Task, names: Mapping[str, str], most: int) -> dict[str, list[Path]]:
    """Return name -> files of a task's first faces, where all of them are there."""
    images = [i for i in list(task.entries)[:most] if runner.path(task, "low", i).exists()]
    found = {name: [runner.path(task, name, i) for i in images] for name in names}
    return {name: paths for name, paths in found.items() if paths and all(p.exists() for p in paths)}
