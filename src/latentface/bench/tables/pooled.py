"""One pooled test of the discriminator semantic loss: several seeds and factors, all metrics, fixed before it is run.

Each cell (seed, factor) is a run of Table 2. A face's difference is the mean of its cells' differences, and faces are
what the bootstrap draws: seeds and factors of one face are no independent witnesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentface.bench.core.progress import OnProgress, quiet
from latentface.bench.core.protocol import provenance
from latentface.bench.core.records import Records, factor_text
from latentface.bench.core.setup import open_prior
from latentface.bench.core.sizes import high_side
from latentface.bench.core.statistics import Array, Estimate, difference, estimate
from latentface.bench.report.notes import NOTICE
from latentface.bench.tables.ablation import gap_text
from latentface.bench.tables.table2 import WITH, WITHOUT, run_table2
from latentface.bench.tables.tables import Row, arrow, values_of, write_rows
from latentface.errors import InputError
from latentface.io.atomic import write_text
from latentface.metrics.registry import METRICS

if TYPE_CHECKING:
    from latentface.prior.prior import Prior

METRIC_NAMES = ("psnr", "ssim", "lpips-alex", "squeezenet-distance", "niqe", "identity", "consistency", "null-space")
POOLED = "pooled"  # stands where a cell has its factor and seed


def run_pooled(
    *,
    output: str | Path,
    high: str | Path,
    prior: Prior | str | Path | None = None,
    high_size: int | None = None,
    factors: Sequence[float] = (16, 32),
    seeds: Sequence[int] = (0, 1, 2),
    preset: str = "equal",
    metrics: Sequence[str] | None = None,
    limit: int | None = None,
    kernel: str = "bicubic",
    weights: str | Path | None = None,
    device: str = "auto",
    batch: int | None = None,
    fetch: bool = True,
    command: str = "",
    on_progress: OnProgress = quiet,
) -> Path:
    """Write semantic.csv and semantic.md into `output`, a Table 2 for each seed into `output`/seed-N; return semantic.md.

    Resumes as `run_table1`.

    Args:
        factors, seeds: the cells. limit: the first faces of the set.

    Raises:
        InputError: no seed, one twice, or as `run_table2`.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"seeds are {', '.join(map(str, seeds)) or 'none'}; expected some, each once")
    wanted = list(METRIC_NAMES if metrics is None else metrics)
    loaded = open_prior(prior, device, fetch=fetch)
    side = high_side(loaded, high_size)
    folder = Path(output).expanduser()
    cells: dict[int, Records] = {}
    for seed in seeds:
        run_table2(
            output=folder / f"seed-{seed}",
            high=high,
            prior=loaded,
            high_size=high_size,
            factors=factors,
            lows=(),
            preset=preset,
            metrics=wanted,
            limit=limit,
            seed=seed,
            kernel=kernel,
            weights=weights,
            device=device,
            batch=batch,
            fetch=fetch,
            command=command,
            on_progress=_of_seed(on_progress, seed),
        )
        cells[seed] = Records(folder / f"seed-{seed}" / "per_image.csv")
    names = [m for m in wanted if METRICS[m].scope == "image"]
    rows = pooled_rows(cells, names)
    write_rows(folder / "semantic.csv", rows)
    n = max((r.value.n for r in rows), default=0)
    lines = [
        f"With the semantic loss minus without, over {n} faces, {len(cells)} seeds and the factors "
        f"{', '.join(factor_text(f) + 'x' for f in factors)}; prior {loaded.name} ({loaded.sha256[:12] or 'in memory'}), preset {preset}, {kernel} kernel, faces of {side} px.",
        "The test was fixed before it was run: these seeds, factors and metrics, the pooled row, its 95 % interval by bootstrap "
        "over faces (a face's value is the mean over its cells). **Bold**: better with the loss for certain; *italic*: worse.",
        provenance(command),
        NOTICE,
    ]
    parts = ["## The semantic loss, one pooled test", pooled_table(rows, names)]
    target = folder / "semantic.md"
    write_text(target, "\n\n".join([*parts, "\n".join(f"- {line}" for line in lines)]) + "\n")
    return target


def _of_seed(on_progress: OnProgress, seed: int) -> OnProgress:
    return lambda progress: on_progress(replace(progress, message=f"seed {seed}: {progress.message}"))


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
    out = ["| cell | " + " | ".join(f"{m} {arrow(m)}" for m in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for cell in dict.fromkeys(r.factor for r in rows):
        texts = [gap_text(found[cell, m], m) if (cell, m) in found else "" for m in shown]
        out.append(f"| {'**pooled**' if cell == POOLED else cell} | " + " | ".join(texts) + " |")
    return "\n".join(out)
