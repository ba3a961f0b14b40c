"""Several answers: is the error large where they differ, and how good is their mean? `latentface bench samples`.

Each face gets N projected samples. Their deviation is compared with the error of their mean by rank, pixel by pixel,
and the truth should lie in their prediction intervals as often as these say.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentface.bench.core.progress import Progress
from latentface.bench.core.runner import WALL, Runner, check_metrics
from latentface.bench.core.settings import RunSettings
from latentface.bench.core.setup import open_table, shrunk
from latentface.bench.core.tasks import Task, load_batch, seed_of, to_8_bit
from latentface.bench.core.variants import Variant, make_variant
from latentface.bench.tables.notes import last_lines, protocol_line
from latentface.bench.tables.settings import SamplesSettings
from latentface.bench.tables.sheets import write_sheets
from latentface.bench.tables.tables import (
    aggregate,
    cell,
    differences,
    markdown,
    paired_table,
    value_of,
    values_of,
    write_table,
)
from latentface.datasets import open_faces
from latentface.degradation import project
from latentface.devices import Batches
from latentface.errors import InputError
from latentface.io.pictures import write_picture
from latentface.prior.prior import Prior

METRIC_NAMES = ("psnr", "ssim", "lpips-alex", "lpips-vgg", "squeezenet-distance", "identity", "identity-sface")
FLOOR = "bilinear+projection"
LEVELS = (0.5, 0.95)  # of the prediction intervals
SPREAD = ("rank-correlation", *(f"inside-{level:.0%}" for level in LEVELS), "inside-range", "spread", "error")
SHOWN = 8


def run_samples(table: SamplesSettings, run: RunSettings) -> Path:
    """Write samples.csv, samples.md and samples.png; return samples.md. Resumes, and raises, as `run_table1`."""
    count = table.samples
    if count < 3:
        raise InputError(f"samples is {count}; a spread needs at least 3")
    wanted = check_metrics(table.metrics, METRIC_NAMES)
    faces = open_faces(table.high)
    prior, side = open_table(table, run)
    tasks = shrunk(faces, side, sorted(set(table.factors)), table)
    variant = make_variant(table.method, table.preset, project=True)
    runner = Runner(table, run, prior, side, tasks, [variant], wanted)
    for task in tasks:
        _measure(runner, task, variant, count)
    names = names_of(variant, count)
    one, mean, spread = names[0], names[1], names[3]
    rows = aggregate(runner.records, tasks, names[:3], wanted)
    rows += aggregate(runner.records, tasks, names[3:], SPREAD)
    gaps = differences(runner.records, tasks, [(mean, FLOOR), (one, FLOOR), (mean, one)], wanted)
    parts = ["## Several answers"]
    for task in tasks:
        told = {m: value_of(rows, task.dataset, spread, task.factor_text, m) for m in SPREAD}
        parts += [
            f"### {task.label}",
            paired_table(rows, gaps, task, {name: [name] for name in names[:3]}, wanted, FLOOR, [""])
            + "\n\n"
            + markdown([spread, *told], [["", *(cell(v, m) for m, v in told.items())]]),
            _across(runner, task, spread),
        ]
    heads = {"low": "low", one: "one", mean: "mean", "truth": "truth", spread: "spread x4", "error": "error x4"}
    write_sheets(runner, "samples", heads, faces=SHOWN, side=128)
    run.on_progress(Progress("done"))
    return write_table(runner.folder, "samples", [*rows, *gaps], parts, _notes(runner, count))


def names_of(variant: Variant, samples: int) -> list[str]:
    """Return the rows: one sample, the mean, the floor, and what is said of the spread."""
    return [
        f"one of {samples} ({variant.name})",
        f"mean of {samples} ({variant.name})",
        FLOOR,
        f"spread of {samples} ({variant.name})",
    ]


def _measure(runner: Runner, task: Task, variant: Variant, samples: int) -> None:
    names = names_of(variant, samples)
    for done, image in enumerate(task.entries):
        if runner.records.get(runner.key(task, names[3], image)):
            continue
        read, truth, low, _ = load_batch(task, [image], 1)
        if not read or truth is None or low is None:
            continue
        seeds = [seed_of(runner.seed + k, image) for k in range(samples)]
        found = draw_answers(runner.prior, low, task, variant, seeds, runner.batch)
        middle = to_8_bit(project(task.degradation, found.mean(0, keepdim=True), low))
        floor = to_8_bit(project(task.degradation, task.degradation.fit(low), low))
        each = runner.suite.score(found, truth.expand_as(found), low.expand(samples, -1, -1, -1), task.degradation)
        rows = {names[0]: {m: float(np.mean(v)) for m, v in each.items()}}
        for name, picture in ((names[1], middle), (FLOOR, floor)):
            scores = runner.suite.score(picture, truth, low, task.degradation)
            rows[name] = {m: v[0] for m, v in scores.items()}
        rows[names[3]] = spread_figures(found, middle[0], truth[0])
        if done < min(WALL, SHOWN):
            error = (middle[0] - truth[0]).square().mean(0).sqrt()
            shown = {names[0]: found[0], names[1]: middle[0], "truth": truth[0], "low": low[0]}
            grey = {names[3]: deviation(found), "error": error}
            for name, picture in (shown | {k: (4 * v).clamp(0, 1).expand(3, -1, -1) for k, v in grey.items()}).items():
                write_picture(runner.path(task, name, image), picture)
        runner.records.add({runner.key(task, name, image): row for name, row in rows.items()})
        runner.on_progress(Progress(f"{task.label} {names[3]}", done + 1, len(task.entries)))


def draw_answers(prior: Prior, low: Tensor, task: Task, variant: Variant, seeds: Sequence[int], batch: int) -> Tensor:
    """Return samples of one face (N, 3, R, R) on the CPU at 8 bits' precision; low (1, 3, h, w)."""

    def search(some: Sequence[int]) -> list[Tensor]:
        return list(variant(prior, low.expand(len(some), -1, -1, -1), task.degradation, some).high.cpu().float())

    return to_8_bit(torch.stack(Batches(batch, prior.device).run(seeds, search)))


def deviation(found: Tensor) -> Tensor:
    """Return the samples' deviation in each pixel, over colours: (N, 3, R, R) -> (R, R)."""
    return found.var(0).mean(0).sqrt()


def spread_figures(found: Tensor, middle: Tensor, truth: Tensor) -> dict[str, float]:
    """Compare the spread of samples (N, 3, R, R) with the error of their mean (3, R, R), and with the truth.

    Returns:
        rank-correlation: Spearman's, over pixels. inside-L: share of values in Student's prediction interval of level L
        for one more draw; inside-range: between the least and the greatest sample, where (N - 1) / (N + 1) of draws would
        be. spread, error: root mean squares over the face.
    """
    from scipy import stats

    n = len(found)
    spread, error = deviation(found), (middle - truth).square().mean(0).sqrt()
    centre, scale = found.mean(0), found.var(0).sqrt() * math.sqrt(1 + 1 / n)
    away = (truth - centre).abs()
    inside = {
        f"inside-{level:.0%}": float(
            (away <= scale * float(stats.t.ppf((1 + level) / 2, n - 1)) + 1e-6).double().mean()
        )
        for level in LEVELS
    }
    between = (truth >= found.amin(0)) & (truth <= found.amax(0))
    return {
        "rank-correlation": rank_correlation(spread.flatten(), error.flatten()),
        **inside,
        "inside-range": float(between.double().mean()),
        "spread": float(found.var(0).mean().sqrt()),
        "error": float((middle - truth).square().mean().sqrt()),
    }


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Return Spearman's rank correlation of two vectors; NaN where one is constant or shorter than 3."""
    from scipy import stats

    if len(a) < 3 or float(a.max() - a.min()) == 0 or float(b.max() - b.min()) == 0:
        return math.nan
    return float(stats.spearmanr(a.double().numpy(), b.double().numpy()).statistic)


def _across(runner: Runner, task: Task, name: str) -> str:
    spread, error = (
        torch.from_numpy(values_of(runner.records, task.dataset, name, task.factor_text, m, list(task.entries)))
        for m in ("spread", "error")
    )
    known = torch.isfinite(spread) & torch.isfinite(error)
    value = rank_correlation(spread[known], error[known])
    said = f"Across {int(known.sum())} faces, spread and error have the rank correlation {value:.2f}."
    return "" if math.isnan(value) else said


def _notes(runner: Runner, samples: int) -> list[str]:
    return [
        protocol_line(runner),
        f"{samples} projected samples a face, the runs' seeds {runner.seed} to {runner.seed + samples - 1}; `one`: their mean score; `mean`: the score of their mean, projected again. "
        f"Below a figure stands its difference to `{FLOOR}` over the same faces.",
        "`rank-correlation`: Spearman's, of the samples' deviation and the mean's error over a face's pixels. `inside-50%`, `inside-95%`: share of the truth's values in "
        f"Student's prediction interval of that level; `inside-range`: between the least and greatest sample ({(samples - 1) / (samples + 1):.0%} if the truth were one more sample). "
        "`spread`, `error`: root mean squares of the grey range. Samples that differ too little put less inside than the level says.",
        *last_lines(runner),
    ]
