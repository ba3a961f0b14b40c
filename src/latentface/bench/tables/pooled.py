"""One pooled test of the discriminator semantic loss: several seeds and factors, all metrics, fixed before it is run.

Each cell (seed, factor) is a run of Table 2. A face's difference is the mean of its cells' differences, and faces are
what the bootstrap draws: seeds and factors of one face are no independent witnesses.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from latentface.bench.core.progress import Progress
from latentface.bench.core.protocol import OWN_SEEDS, provenance
from latentface.bench.core.records import Records, factor_text
from latentface.bench.core.runner import check_metrics
from latentface.bench.core.settings import RunSettings
from latentface.bench.core.setup import open_table
from latentface.bench.core.statistics import Array, Estimate, difference, estimate
from latentface.bench.tables.notes import NOTICE
from latentface.bench.tables.settings import SemanticSettings
from latentface.bench.tables.table2 import WITH, WITHOUT, run_table2
from latentface.bench.tables.tables import Row, gap_text, headed, markdown, values_of, write_table
from latentface.errors import InputError
from latentface.metrics.registry import METRICS

METRIC_NAMES = (
    "psnr",
    "ssim",
    "lpips-alex",
    "lpips-vgg",
    "squeezenet-distance",
    "niqe",
    "identity",
    "identity-sface",
    "consistency",
    "null-space",
)
POOLED = "pooled"  # stands where a cell has its factor and seed


def run_pooled(table: SemanticSettings, run: RunSettings) -> Path:
    """Write semantic.csv and semantic.md, and a Table 2 for each seed into seed-N; return semantic.md. Resumes.

    Raises InputError: no seed, one twice, or as `run_table2`.
    """
    seeds = table.seeds
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"seeds are {', '.join(map(str, seeds)) or 'none'}; expected some, each once")
    wanted = check_metrics(table.metrics, METRIC_NAMES)
    prior, side = open_table(table, run)
    cells: dict[int, Records] = {}
    for seed in seeds:
        cell = replace(table, prior=prior, seed=seed, metrics=tuple(wanted))

        def told(progress: Progress, seed: int = seed) -> None:
            run.on_progress(replace(progress, message=f"seed {seed}: {progress.message}"))

        folder = run.folder / f"seed-{seed}"
        run_table2(cell, replace(run, output=folder, on_progress=told))
        cells[seed] = Records(folder / "per_image.csv")
    names = [m for m in wanted if METRICS[m].scope == "image"]
    rows = pooled_rows(cells, names)
    lines = [
        f"With the semantic loss minus without, over {max((r.value.n for r in rows), default=0)} faces, {len(cells)} seeds and the factors "
        f"{', '.join(factor_text(f) + 'x' for f in table.factors)}; prior {prior.name} ({prior.sha256[:12] or 'in memory'}), preset {table.preset}, "
        f"{table.kernel} kernel, faces of {side} px, each searched from {OWN_SEEDS}.",
        "The test was fixed before it was run: these seeds, factors and metrics, the pooled row, its 95 % interval by bootstrap "
        "over faces (a face's value is the mean over its cells). **Bold**: better with the loss for certain; *italic*: worse.",
        provenance(run.command),
        NOTICE,
    ]
    parts = ["## The semantic loss, one pooled test", pooled_table(rows, names)]
    return write_table(run.folder, "semantic", rows, parts, lines)


def pooled_rows(cells: dict[int, Records], metrics: Sequence[str]) -> list[Row]:
    """Return the difference of each cell and, first, the pooled one, as rows of a table; `factor` holds factor and seed."""
    first = next(iter(cells.values()))  # every seed has the same faces and factors
    groups = first.groups()
    rows: list[Row] = []
    for metric in metrics:
        gaps: list[Array] = []
        apart: list[Row] = []
        for dataset, factor in groups:
            images = list(first.images(dataset, WITH, factor))
            for seed, records in cells.items():
                left, right = (values_of(records, dataset, name, factor, metric, images) for name in (WITH, WITHOUT))
                gap = difference(left, right)
                if gap.n:
                    gaps.append(left - right)
                    apart.append(_row(dataset, f"{factor}x seed {seed}", metric, gap))
        if gaps:
            pooled = estimate(np.stack(gaps).mean(0))  # a face that lacks a cell is left out: NaN
            rows += [_row(groups[0][0], POOLED, metric, pooled), *apart]
    return rows


def _row(dataset: str, cell: str, metric: str, value: Estimate) -> Row:
    return Row(dataset=dataset, method=f"{WITH} - {WITHOUT}", factor=cell, metric=metric, value=value)


def pooled_table(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """Return a line a cell, the pooled one first, and a column a metric, as Markdown."""
    found = {(r.factor, r.metric): r.value for r in rows}
    shown = [m for m in metrics if any(r.metric == m for r in rows)]
    lines = [
        [f"**{cell}**" if cell == POOLED else cell]
        + [gap_text(found[cell, m], m) if (cell, m) in found else "" for m in shown]
        for cell in dict.fromkeys(r.factor for r in rows)
    ]
    return markdown(["cell", *map(headed, shown)], lines)
