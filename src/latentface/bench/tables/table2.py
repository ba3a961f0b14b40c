"""Table 2: RLSE with and without its discriminator semantic loss, at large factors and at given low sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latentface.bench.core import poster
from latentface.bench.core.progress import OnProgress, Progress, quiet
from latentface.bench.core.records import factor_text
from latentface.bench.core.runner import check_metrics
from latentface.bench.core.sets import set_figures
from latentface.bench.core.setup import batch_size, make_runner, open_prior, weights_from
from latentface.bench.core.sizes import high_side
from latentface.bench.core.tasks import low_side, task_with_truth
from latentface.bench.core.variants import Variant, make_variant
from latentface.bench.report.notes import notes
from latentface.bench.report.sheets import write_sheets
from latentface.bench.tables.tables import Row, aggregate, arrow, best, cell, differences, value_of, write_rows
from latentface.datasets import open_faces
from latentface.errors import InputError
from latentface.io.atomic import write_text
from latentface.metrics.registry import METRICS

if TYPE_CHECKING:
    from latentface.prior.prior import Prior

METRIC_NAMES = (
    "psnr",
    "psnr-y",
    "ssim",
    "lpips-alex",
    "squeezenet-distance",
    "niqe",
    "identity",
    "consistency",
    "null-space",
    "seconds",
)
WITH, WITHOUT = "rlse", "rlse-no-semantic"


def semantic_pairs(preset: str, projection: str) -> list[tuple[Variant, Variant]]:
    """Return (without, with) the semantic loss, once more with a projection where that is wanted.

    Raises:
        UnknownNameError: no such preset or choice.
    """
    endings = {"off": [""], "on": ["+projection"], "both": ["", "+projection"]}
    if projection not in endings:
        raise InputError(f"the choice for the projection is {projection!r}; expected off, on or both")
    return [
        (
            make_variant(f"rlse{ending}", preset, name=f"{WITHOUT}{ending}", semantic_weight=0.0),
            make_variant(f"rlse{ending}", preset),
        )
        for ending in endings[projection]
    ]


def run_table2(
    *,
    output: str | Path,
    high: str | Path,
    prior: Prior | str | Path | None = None,
    high_size: int | None = None,
    factors: Sequence[float] = (16, 32, 64),
    lows: Sequence[int] = (16, 8),
    preset: str = "equal",
    projection: str = "off",
    metrics: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    kernel: str = "bicubic",
    weights: str | Path | None = None,
    device: str = "auto",
    batch: int | None = None,
    fetch: bool = True,
    command: str = "",
    on_progress: OnProgress = quiet,
) -> Path:
    """Write table2.csv, table2.md and table2_faces.png into `output`; return table2.md. Resumes as `run_table1`.

    The poster's factors stand for other low sizes at another high size (its 64x may be 1024 -> 16 px), so the table is
    indexed by the low size too, and `lows` adds low sizes in px. Low sizes below 2 px are skipped, and the table says so.

    Raises:
        LatentfaceError: as `run_table1`.
    """
    wanted = check_metrics(metrics, METRIC_NAMES)
    pairs = semantic_pairs(preset, projection)
    faces = open_faces(high)
    loaded = open_prior(prior, device, fetch=fetch)
    side = high_side(loaded, high_size)
    sizes: list[int] = []
    skipped: list[str] = []
    for factor in factors:
        try:
            sizes.append(low_side(side, factor))
        except InputError as error:
            skipped.append(f"skipped: {error}")
            on_progress(Progress(skipped[-1]))
    sizes += [low for low in lows if 2 <= low < side]
    if not sizes:
        raise InputError(f"no low size is left to test at {side} px; use smaller factors")
    tasks = [task_with_truth(faces, side, low, kernel, limit) for low in sorted(set(sizes), reverse=True)]
    variants = [v for pair in pairs for v in pair]
    with weights_from(weights):
        runner, protocol = make_runner(
            prior=loaded,
            side=side,
            tasks=tasks,
            variants=variants,
            metrics=wanted,
            kernel=kernel,
            preset=preset,
            seed=seed,
            batch=batch_size(batch, loaded, output),
            output=output,
            fetch=fetch,
            curve=True,
            on_progress=on_progress,
        )
        runner.run()
        sets = set_figures(runner, {})
    write_sheets(runner, runner.folder, "table2_faces")
    runner.tidy()
    groups = [(t.dataset, factor_text(t.factor), list(t.entries)) for t in tasks]
    rows = aggregate(runner.records, groups, [v.name for v in variants], wanted, sets)
    apart = [m for m in wanted if METRICS[m].scope == "image"]
    gaps = differences(runner.records, groups, [(b.name, a.name) for a, b in pairs], apart)
    write_rows(runner.folder / "table2.csv", [*rows, *gaps])
    sides = {factor_text(t.factor): t.degradation.low for t in tasks}
    parts = ["## Table 2: the discriminator semantic loss"]
    for without, with_it in pairs:
        parts.append(f"### {with_it.title}, {faces.name}")
        parts.append(_markdown(rows, gaps, without.name, with_it.name, faces.name, sides, wanted))
    lines = [*skipped, *notes(runner, protocol, rows, command, marks=False)]
    parts.append("\n".join(f"- {line}" for line in lines))
    target = runner.folder / "table2.md"
    write_text(target, "\n\n".join(parts) + "\n")
    return target


def _markdown(
    rows: Sequence[Row],
    gaps: Sequence[Row],
    without: str,
    with_it: str,
    dataset: str,
    sides: dict[str, int],
    metrics: Sequence[str],
) -> str:
    """Lay the table out as the poster does: a line a factor and metric, without -> with, and the paired difference."""
    out = ["| factor | low | metric | without | with | with - without |", "|---|---|---|---|---|---|"]
    for factor, side in sides.items():
        for metric in metrics:
            values = {name: value_of(rows, dataset, name, factor, metric) for name in (without, with_it)}
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
            gap = value_of(gaps, dataset, f"{with_it} - {without}", factor, metric)
            line = [f"{factor}x", f"{side} px", f"{metric} {arrow(metric)}", *cells, cell(gap, metric) if gap.n else ""]
            out.append("| " + " | ".join(line) + " |")
    return "\n".join(out)
