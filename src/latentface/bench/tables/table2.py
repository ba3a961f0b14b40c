"""Table 2: RLSE with and without its discriminator semantic loss, at large factors and at given low sizes.

The poster's factors stand for other low sizes at another high size (its 64x may be 1024 -> 16 px), so the table is
indexed by the low size too.
"""

from collections.abc import Sequence
from pathlib import Path

from latentface.bench.core import poster
from latentface.bench.core.progress import Progress
from latentface.bench.core.runner import Runner, check_metrics
from latentface.bench.core.sets import set_figures
from latentface.bench.core.settings import RunSettings
from latentface.bench.core.setup import open_table
from latentface.bench.core.tasks import Task, low_side, task_with_truth
from latentface.bench.core.variants import ENDINGS, Variant, make_variant, title_of
from latentface.bench.tables.notes import notes
from latentface.bench.tables.settings import Table2Settings
from latentface.bench.tables.sheets import write_sheets
from latentface.bench.tables.tables import (
    Row,
    aggregate,
    best,
    cell,
    differences,
    headed,
    markdown,
    value_of,
    write_table,
)
from latentface.datasets import open_faces
from latentface.errors import InputError
from latentface.metrics.registry import METRICS

METRIC_NAMES = (
    *("psnr", "psnr-y", "ssim", "lpips-alex", "lpips-vgg", "squeezenet-distance", "niqe", "identity"),
    *("identity-sface", "consistency", "null-space", "seconds"),
)
WITH, WITHOUT = "rlse", "rlse-no-semantic"


def semantic_pairs(preset: str, projection: str) -> list[tuple[Variant, Variant]]:
    """Return (without, with) the semantic loss, with a projection as asked. Raises InputError, UnknownNameError."""
    if projection not in ENDINGS:
        raise InputError(f"the choice for the projection is {projection!r}; expected off, on or both")
    return [
        (
            make_variant(f"rlse{ending}", preset, name=f"{WITHOUT}{ending}", semantic_weight=0.0),
            make_variant(f"rlse{ending}", preset),
        )
        for ending in ENDINGS[projection]
    ]


def run_table2(table: Table2Settings, run: RunSettings) -> Path:
    """Write table2.csv, table2.md and table2_faces.png; return table2.md. Resumes, and raises, as `run_table1`."""
    wanted = check_metrics(table.metrics, METRIC_NAMES)
    pairs = semantic_pairs(table.preset, table.projection)
    faces = open_faces(table.high)
    prior, side = open_table(table, run)
    sizes: list[int] = []
    skipped: list[str] = []
    for factor in table.factors:
        try:
            sizes.append(low_side(side, factor))
        except InputError as error:
            skipped.append(f"skipped: {error}")
            run.on_progress(Progress(skipped[-1]))
    sizes += [low for low in table.lows if 2 <= low < side]
    if not sizes:
        raise InputError(f"no low size is left to test at {side} px; use smaller factors")
    lows = sorted(set(sizes), reverse=True)
    tasks = [task_with_truth(faces, side, low, table.kernel, table.limit) for low in lows]
    variants = [v for pair in pairs for v in pair]
    runner = Runner(table, run, prior, side, tasks, variants, wanted, curve=True)
    runner.run()
    rows = aggregate(runner.records, tasks, [v.name for v in variants], wanted, set_figures(runner, {}))
    apart = [m for m in wanted if METRICS[m].scope == "image"]
    gaps = differences(runner.records, tasks, [(b.name, a.name) for a, b in pairs], apart)
    write_sheets(runner, "table2_faces")
    runner.tidy()
    parts = ["## Table 2: the discriminator semantic loss"]
    for without, with_it in pairs:
        parts.append(f"### {title_of(with_it.name)}, {faces.name}")
        parts.append(_markdown(rows, gaps, without.name, with_it.name, tasks, wanted))
    return write_table(runner.folder, "table2", [*rows, *gaps], parts, [*skipped, *notes(runner, rows, marks=False)])


def _markdown(
    rows: Sequence[Row], gaps: Sequence[Row], without: str, with_it: str, tasks: Sequence[Task], metrics: Sequence[str]
) -> str:
    """Lay the table out as the poster does: a line a factor and metric, without -> with, and the paired difference."""
    lines = []
    for task in tasks:
        factor = task.factor_text
        for metric in metrics:
            values = {name: value_of(rows, task.dataset, name, factor, metric) for name in (without, with_it)}
            first = best(values, metric)
            cells = [
                cell(
                    value,
                    metric,
                    poster.table2_figure(name == with_it, float(factor), metric) if "+" not in name else None,
                    bold=name == first,
                )
                for name, value in values.items()
            ]
            gap = value_of(gaps, task.dataset, f"{with_it} - {without}", factor, metric)
            last = cell(gap, metric) if gap.n else ""
            lines.append([f"{factor}x", f"{task.degradation.low} px", headed(metric), *cells, last])
    return markdown(["factor", "low", "metric", "without", "with", "with - without"], lines)
