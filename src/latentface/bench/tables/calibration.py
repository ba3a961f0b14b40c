"""Several answers: is the error large where they differ, and how good is their mean? `latentface bench samples`.

Each face gets N projected samples. Their deviation is compared with the error of their mean by rank, pixel by pixel,
and the truth should lie in their prediction intervals as often as these say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from latentface.bench.core.progress import OnProgress, Progress, quiet
from latentface.bench.core.protocol import Protocol, provenance
from latentface.bench.core.records import factor_text
from latentface.bench.core.runner import WALL, Runner, check_metrics
from latentface.bench.core.setup import batch_size, make_runner, open_prior, weights_from
from latentface.bench.core.sizes import high_side
from latentface.bench.core.statistics import NOTHING
from latentface.bench.core.tasks import Task, load_batch, low_side, task_with_truth, to_8_bit
from latentface.bench.core.variants import Variant, make_variant
from latentface.bench.report.notes import NOTICE
from latentface.bench.tables.ablation import gap_text
from latentface.bench.tables.tables import Row, aggregate, arrow, cell, differences, value_of, values_of, write_rows
from latentface.datasets import open_faces
from latentface.degradation import project
from latentface.errors import InputError
from latentface.io.atomic import write_text
from latentface.io.pictures import read_picture, write_picture
from latentface.io.sheets import comparison_sheet

if TYPE_CHECKING:
    from latentface.prior.prior import Prior

METRIC_NAMES = ("psnr", "ssim", "lpips-alex", "squeezenet-distance", "identity")
FLOOR = "bilinear+projection"
LEVELS = (0.5, 0.95)  # of the prediction intervals
SHOWN = 8


def run_samples(
    *,
    output: str | Path,
    high: str | Path,
    prior: Prior | str | Path | None = None,
    high_size: int | None = None,
    factors: Sequence[float] = (8, 16),
    method: str = "rlse",
    samples: int = 8,
    preset: str = "equal",
    metrics: Sequence[str] | None = None,
    limit: int | None = 64,
    seed: int = 0,
    kernel: str = "bicubic",
    weights: str | Path | None = None,
    device: str = "auto",
    batch: int | None = None,
    fetch: bool = True,
    command: str = "",
    on_progress: OnProgress = quiet,
) -> Path:
    """Write samples.csv, samples.md and samples.png into `output`; return samples.md. Resumes face by face.

    Args:
        samples: N, from 3 up; sample k of a face has the seed `seed` + k.

    Raises:
        LatentfaceError: as `run_table1`.
    """
    if samples < 3:
        raise InputError(f"samples is {samples}; a spread needs at least 3")
    wanted = check_metrics(metrics, METRIC_NAMES)
    faces = open_faces(high)
    loaded = open_prior(prior, device, fetch=fetch)
    side = high_side(loaded, high_size)
    tasks = [task_with_truth(faces, side, low_side(side, factor), kernel, limit) for factor in sorted(set(factors))]
    variant = make_variant(method, preset, project=True)
    with weights_from(weights):
        runner, protocol = make_runner(
            prior=loaded,
            side=side,
            tasks=tasks,
            variants=[variant],
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
        for task in tasks:
            _measure(runner, task, variant, samples)
    names = names_of(variant, samples)
    groups = [(t.dataset, factor_text(t.factor), list(t.entries)) for t in tasks]
    rows = aggregate(runner.records, groups, names[:3], wanted, {})
    rows += aggregate(runner.records, groups, names[3:], spread_metrics(), {})
    pairs = [(names[1], FLOOR), (names[0], FLOOR), (names[1], names[0])]
    gaps = differences(runner.records, groups, pairs, wanted)
    write_rows(runner.folder / "samples.csv", [*rows, *gaps])
    parts = ["## Several answers"]
    for task in tasks:
        parts += [f"### {task.label}", _markdown(rows, gaps, task, names, wanted), _across(runner, task, names[3])]
    parts.append("\n".join(f"- {line}" for line in _notes(runner, protocol, samples, command)))
    _sheet(runner, names)
    target = runner.folder / "samples.md"
    write_text(target, "\n\n".join(part for part in parts if part) + "\n")
    on_progress(Progress("done"))
    return target


def names_of(variant: Variant, samples: int) -> list[str]:
    """Return the rows: one sample, the mean, the floor, and what is said of the spread."""
    return [
        f"one of {samples} ({variant.name})",
        f"mean of {samples} ({variant.name})",
        FLOOR,
        f"spread of {samples} ({variant.name})",
    ]


def spread_metrics() -> list[str]:
    """Return what is measured of a face's samples."""
    return ["rank-correlation", *(f"inside-{level:.0%}" for level in LEVELS), "inside-range", "spread", "error"]


def _measure(runner: Runner, task: Task, variant: Variant, samples: int) -> None:
    names = names_of(variant, samples)
    for done, image in enumerate(task.entries):
        if runner.records.get(runner.key(task, names[3], image)):
            continue
        read, truth, low, _ = load_batch(task, [image], 1)
        if not read or truth is None or low is None:
            continue
        found = draw_answers(runner.prior, low, task, variant, range(runner.seed, runner.seed + samples), runner.batch)
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
    parts = []
    for start in range(0, len(seeds), batch):
        some = list(seeds[start : start + batch])
        parts.append(variant(prior, low.expand(len(some), -1, -1, -1), task.degradation, some).high.cpu().float())
    return to_8_bit(torch.cat(parts))


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


def _markdown(
    rows: Sequence[Row], gaps: Sequence[Row], task: Task, names: Sequence[str], metrics: Sequence[str]
) -> str:
    factor = factor_text(task.factor)
    shown = [m for m in metrics if any(r.metric == m and r.value.n for r in rows)]
    out = ["| | " + " | ".join(f"{m} {arrow(m)}" for m in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for name in names[:3]:
        cells = []
        for metric in shown:
            gap = value_of(gaps, task.dataset, f"{name} - {FLOOR}", factor, metric)
            text = cell(value_of(rows, task.dataset, name, factor, metric), metric)
            cells.append(f"{text}<br>{gap_text(gap, metric)}" if gap.n > 1 else text)
        out.append(f"| {name} | " + " | ".join(cells) + " |")
    told = {m: value_of(rows, task.dataset, names[3], factor, m) for m in spread_metrics()}
    out += ["", "| " + names[3] + " | " + " | ".join(told) + " |", "|---" * (len(told) + 1) + "|"]
    out.append("| |" + " | ".join(cell(v if v.n else NOTHING, m) for m, v in told.items()) + " |")
    return "\n".join(out)


def _across(runner: Runner, task: Task, name: str) -> str:
    spread, error = (
        torch.from_numpy(values_of(runner.records, task.dataset, name, factor_text(task.factor), m, list(task.entries)))
        for m in ("spread", "error")
    )
    known = torch.isfinite(spread) & torch.isfinite(error)
    value = rank_correlation(spread[known], error[known])
    return (
        ""
        if math.isnan(value)
        else f"Across {int(known.sum())} faces, spread and error have the rank correlation {value:.2f}."
    )


def _notes(runner: Runner, protocol: Protocol, samples: int, command: str) -> list[str]:
    return [
        protocol.line({t.dataset: len(t.entries) for t in runner.tasks}),
        f"{samples} projected samples a face, seeds {runner.seed} to {runner.seed + samples - 1}; `one`: their mean score; `mean`: the score of their mean, projected again. "
        f"Below a figure stands its difference to `{FLOOR}` over the same faces.",
        "`rank-correlation`: Spearman's, of the samples' deviation and the mean's error over a face's pixels. `inside-50%`, `inside-95%`: share of the truth's values in "
        f"Student's prediction interval of that level; `inside-range`: between the least and greatest sample ({(samples - 1) / (samples + 1):.0%} if the truth were one more sample). "
        "`spread`, `error`: root mean squares of the grey range. Samples that differ too little put less inside than the level says.",
        *(f"`{name}` is not available: {reason}." for name, reason in runner.suite.missing.items()),
        provenance(command),
        NOTICE,
    ]


def _sheet(runner: Runner, names: Sequence[str]) -> None:
    columns: dict[str, list[Tensor]] = {}
    heads = {
        "low": "low",
        names[0]: "one",
        names[1]: "mean",
        "truth": "truth",
        names[3]: "spread x4",
        "error": "error x4",
    }
    for task in runner.tasks:
        for image in list(task.entries)[:SHOWN]:
            paths = {head: runner.path(task, name, image) for name, head in heads.items()}
            if all(p.exists() for p in paths.values()):
                for head, path in paths.items():
                    columns.setdefault(head, []).append(read_picture(path))
    if columns:
        write_picture(
            runner.folder / "samples.png",
            comparison_sheet(columns, side=128),
            {"latentface": "generated; invented detail"},
        )
