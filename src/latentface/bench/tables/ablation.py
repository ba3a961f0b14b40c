"""What makes RLSE win: one setting moved at a time on validation faces, paired against the defaults.

A second table asks the same of inputs that are not what the method assumes: noise, JPEG, another kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from latentface.bench.core.finished import FINISHED, finished_metrics, score_finished
from latentface.bench.core.progress import OnProgress, Progress, quiet
from latentface.bench.core.protocol import Protocol, provenance
from latentface.bench.core.records import Records, factor_text
from latentface.bench.core.runner import Runner, check_metrics
from latentface.bench.core.setup import batch_size, make_runner, open_prior, weights_from
from latentface.bench.core.sizes import high_side
from latentface.bench.core.statistics import Estimate
from latentface.bench.core.tasks import Task, low_side, task_with_truth
from latentface.bench.core.unexpected import KINDS, Damage, DamagedTask
from latentface.bench.report.notes import NOTICE
from latentface.bench.tables.ablation_rows import DEFAULT, UNEXPECTED, group_of, make_rows
from latentface.bench.tables.tables import Row, aggregate, arrow, cell, differences, digits, value_of, write_rows
from latentface.datasets import FaceSet, open_faces
from latentface.degradation import project
from latentface.errors import InputError
from latentface.io.atomic import write_text
from latentface.io.pictures import read_picture
from latentface.metrics.psnr import psnr
from latentface.metrics.registry import METRICS

if TYPE_CHECKING:
    from latentface.prior.prior import Prior

METRIC_NAMES = ("psnr", "ssim", "lpips-alex", "squeezenet-distance", "identity", "consistency", "seconds")
FINISHED_TABLE = "ablation-finished.csv"
PROJECTED = "psnr-projected"  # of the same result, put onto the faces that shrink to the input


def refuse_test(faces: FaceSet, source: str | Path) -> None:
    """Refuse test faces: what is tuned on them cannot be reported on them. Raises InputError."""
    name = Path(str(source).partition("#")[0]).name.lower()
    if faces.partition == "test" or name in ("test.zip", "test"):
        raise InputError(
            f"{source} is a test partition, and settings must not be chosen on it; give validation faces, such as val.zip"
        )


def run_ablation(
    *,
    output: str | Path,
    high: str | Path,
    prior: Prior | str | Path | None = None,
    high_size: int | None = None,
    factors: Sequence[float] = (8, 16),
    rows: Sequence[str] | None = None,
    damages: Sequence[str] | None = None,
    damage_rows: Sequence[str] | None = None,
    preset: str = "equal",
    metrics: Sequence[str] | None = None,
    limit: int | None = 64,
    seed: int = 0,
    kernel: str = "bicubic",
    finished: bool = False,
    weights: str | Path | None = None,
    device: str = "auto",
    batch: int | None = None,
    fetch: bool = True,
    command: str = "",
    on_progress: OnProgress = quiet,
) -> Path:
    """Write ablation.csv and ablation.md into `output`; return ablation.md. Resumes as `run_table1`.

    With `finished` there is a table more of the same results, and ablation-finished.csv: as `upscale` writes them.

    Args:
        high: validation faces; rows: names of groups or rows (see `ablation_rows`), None for all.
        damages: what is done to the inputs of the second table, such as noise0.05, noise0.05told, jpeg30, box; None: the
            usual ones; empty: no second table. damage_rows: its rows, None for those that `UNEXPECTED` names.

    Raises:
        InputError: test faces, or as `run_table1`.
    """
    wanted = check_metrics(metrics, METRIC_NAMES)
    faces = open_faces(high)
    refuse_test(faces, high)
    variants = make_rows(rows, preset)
    others = make_rows(UNEXPECTED if damage_rows is None else damage_rows, preset)
    kinds = [Damage.named(name) for name in (KINDS if damages is None else damages)]
    loaded = open_prior(prior, device, fetch=fetch)
    side = high_side(loaded, high_size)
    tasks = [task_with_truth(faces, side, low_side(side, factor), kernel, limit) for factor in sorted(set(factors))]
    if not tasks:
        raise InputError("no factor is named; give --factors 8,16")
    damaged: list[Task] = [DamagedTask.of(task, damage) for damage in kinds for task in tasks]
    folder = Path(output).expanduser()
    for stale in (FINISHED, FINISHED_TABLE):
        (folder / stale).unlink(missing_ok=True)
    table: list[Row] = []
    finished_table: list[Row] = []
    parts = ["## Ablation"]
    with weights_from(weights):
        for some, compared, title in ((tasks, variants, ""), (damaged, others, "Inputs that are not what is assumed")):
            if not some:
                continue
            runner, protocol = make_runner(
                prior=loaded,
                side=side,
                tasks=some,
                variants=compared,
                metrics=wanted,
                kernel=kernel,
                preset=preset,
                seed=seed,
                batch=batch_size(batch, loaded, output),
                output=output,
                fetch=fetch,
                curve=False,
                on_progress=on_progress,
            )
            runner.run()
            apart = [m for m in wanted if METRICS[m].scope != "set"]
            if "psnr" in wanted:
                on_progress(Progress("projecting the results"))
                score_projected(runner)
                apart.insert(1, PROJECTED)
            parts += [f"## {title}"] if title else []
            parts += compare(runner, runner.records, apart, table)
            if finished:
                on_progress(Progress("finishing the results as upscale does"))
                kept = finished_metrics(runner, wanted)
                parts += compare(runner, score_finished(runner, kept), kept, finished_table, ", as upscale writes them")
            parts.append("\n".join(f"- {line}" for line in _notes(runner, protocol, finished, command)))
    write_rows(folder / "ablation.csv", table)
    if finished:
        write_rows(folder / FINISHED_TABLE, finished_table)
    target = folder / "ablation.md"
    write_text(target, "\n\n".join(parts) + "\n")
    return target


def compare(runner: Runner, records: Records, metrics: Sequence[str], table: list[Row], title: str = "") -> list[str]:
    """Put the means of a run's rows and their differences to the default into `table`; return a Markdown table a task."""
    groups = [(t.dataset, factor_text(t.factor), list(t.entries)) for t in runner.tasks]
    names = [v.name for v in runner.variants]
    means = aggregate(records, groups, names, metrics, {})
    gaps = differences(records, groups, [(n, DEFAULT) for n in names if n != DEFAULT], metrics)
    table += [*means, *gaps]
    parts = []
    for task in runner.tasks:
        parts.append(f"### {task.dataset} at {factor_text(task.factor)}x ({task.degradation.low} px){title}")
        parts.append(ablation_table(means, gaps, task, names, metrics))
    return parts


@torch.no_grad()
def score_projected(runner: Runner) -> None:
    """Record for each result the PSNR that it has after the projection, which costs no search."""
    for task in runner.tasks:
        for variant in runner.variants:
            for image in task.entries:
                key, path = runner.key(task, variant.name, image), runner.path(task, variant.name, image)
                if PROJECTED in runner.records.get(key) or not path.exists():
                    continue
                truth, low = task.load(image)
                if truth is not None:
                    found = project(task.degradation, read_picture(path)[None], low[None])
                    runner.records.add({key: {PROJECTED: float(psnr(found, truth[None]))}})


def ablation_table(
    means: Sequence[Row], gaps: Sequence[Row], task: Task, names: Sequence[str], metrics: Sequence[str]
) -> str:
    """Return a line a row: the default's means, then each row's mean and its paired difference to the default."""
    factor = factor_text(task.factor)
    shown = [m for m in metrics if any(r.metric == m and r.value.n for r in means)]
    out = [
        "| group | row | " + " | ".join(f"{m} {arrow(plain_name(m))}" for m in shown) + " |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for name in names:
        cells = []
        for metric in shown:
            value = value_of(means, task.dataset, name, factor, metric)
            gap = value_of(gaps, task.dataset, f"{name} - {DEFAULT}", factor, metric)
            plain = cell(Estimate(value.mean, math.nan, math.nan, value.n), plain_name(metric))
            cells.append(plain if name == DEFAULT or not gap.n else f"{plain}<br>{gap_text(gap, metric)}")
        out.append(f"| {group_of(name) or 'default'} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def gap_text(gap: Estimate, metric: str) -> str:
    """Write a difference with its interval: bold where the row is better for certain, italic where it is worse."""
    metric = plain_name(metric)
    d = digits(metric)
    text = f"{gap.mean:+.{d}f} [{gap.low:+.{d}f}, {gap.high:+.{d}f}]"
    sign = -1 if metric in METRICS and METRICS[metric].direction == "lower" else 1
    if sign * gap.low > 0 and sign * gap.high > 0:
        return f"**{text}**"
    return f"*{text}*" if sign * gap.low < 0 and sign * gap.high < 0 else text


def plain_name(metric: str) -> str:
    """Return the registered metric that a metric of this table is printed as."""
    return "psnr" if metric == PROJECTED else metric


def _notes(runner: Runner, protocol: Protocol, finished: bool, command: str) -> list[str]:
    counts = {t.dataset: len(t.entries) for t in runner.tasks}
    out = [
        protocol.line(counts),
        f"Below each mean stands its difference to the row `{DEFAULT}` over the same faces, with its paired 95 % interval: "
        "**bold** where the row is better than the default for certain, *italic* where it is worse. Many rows are compared: one in "
        "twenty intervals misses by chance.",
        "A row that would be the default itself is left out. `ratio` is the length of the semantic loss's gradient against the pixel loss's.",
        f"`{PROJECTED}`: PSNR of the same results, projected onto the faces that shrink to the input.",
        *(f"`{name}` is not available: {reason}." for name, reason in runner.suite.missing.items()),
        *(
            f"{name} at {factor}x on {dataset} is not available: {reason}."
            for (dataset, factor, name), reason in runner.unavailable.items()
        ),
    ]
    if finished:
        out.append(
            "As upscale writes them: the same results, their detail faded where they disagree with the input, and projected (with "
            "`--detail full`: each face taken at its own size)."
        )
    if any(isinstance(task, DamagedTask) for task in runner.tasks):
        out.append(
            "noiseS: Gaussian noise of standard deviation S on the low picture, which the method is not told of (`told`: it is); jpegQ: coded at quality Q; "
            f"a kernel's name: shrunk with it, while the method assumes {protocol.kernel}."
        )
    return [*out, *runner.remarks, provenance(command), NOTICE]
