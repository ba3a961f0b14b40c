"""The table of times: seconds a face at equal hardware, one face alone and in the best batch, split by where they go."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from latentface.bench.core.progress import Progress
from latentface.bench.core.protocol import SHARED_SEEDS, provenance, resume
from latentface.bench.core.records import Records
from latentface.bench.core.settings import DeviceSettings
from latentface.bench.core.setup import make_protocol, open_table
from latentface.bench.core.statistics import estimate
from latentface.bench.core.stopwatch import time_call
from latentface.bench.core.tasks import Task, load_batch, low_side, task_with_truth
from latentface.bench.core.variants import Variant, make_variants, title_of
from latentface.bench.tables.settings import TimeSettings
from latentface.bench.tables.tables import Row, digits, headed, markdown, read_rows, value_of, values_of, write_table
from latentface.datasets import open_faces
from latentface.devices import out_of_memory
from latentface.errors import InputError, LatentfaceError
from latentface.prior.prior import Prior
from latentface.words import duration

GAIN = 0.97  # a larger batch is tried while the last one made a face at least 3 % cheaper
PARTS = ("seconds", "seconds-networks", "seconds-rest", "passes")
QUALITY = ("psnr", "lpips-alex", "niqe", "identity", "identity-sface")  # out of Table 1


def measure(
    variant: Variant, prior: Prior, low: Tensor, task: Task, seed: int, most: int | None = None
) -> dict[str, float]:
    """Return `PARTS` of one call, a face: seconds in all, in networks, in the rest; passes of the generator."""
    call = time_call(variant, prior, low, task.degradation, [seed] * len(low), most)
    seconds, networks = call.seconds / len(low), call.networks / len(low)
    return dict(zip(PARTS, (seconds, networks, max(0.0, seconds - networks), call.passes), strict=True))


def best_batch(variant: Variant, prior: Prior, task: Task, seed: int, batches: Sequence[int]) -> int:
    """Return the batch size at which a face is cheapest, by a few steps of each size until it stops paying off."""
    best, least = 1, math.inf
    for size in sorted(batches):
        low = _batch(task, size)
        try:
            measure(variant, prior, low, task, seed, most=2)  # the first call of a size sets things up
            seconds = measure(variant, prior, low, task, seed, most=4)["seconds"]
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            break
        if seconds < least * GAIN:
            best, least = size, seconds
        elif size > 1:
            break
    return best


def run_time(table: TimeSettings, run: DeviceSettings) -> Path:
    """Write time.csv, time_runs.csv and time.md; return time.md. A method that is timed is not timed again.

    Each method restores one face alone and the batch that suits it best, `repeats` times each, on one machine. Where the
    folder holds a Table 1 of the same faces, its figures stand beside the times. Raises LatentfaceError: data, names or numbers that cannot be used, or a folder of other hardware.
    """
    most = max(table.batches, default=0)
    if table.repeats < 1 or min(table.batches, default=0) < 1:
        raise InputError(f"repeats is {table.repeats} and batches {table.batches}; expected numbers from 1 up")
    variants = make_variants(table.methods, table.preset)
    prior, side = open_table(table, run)
    faces = open_faces(table.high)
    lows = [low_side(side, f) for f in dict.fromkeys(table.factors)]
    tasks = [task_with_truth(faces, side, low, table.kernel, most) for low in lows]
    protocol = replace(make_protocol(table, prior, side, tasks, variants, most), seeds=SHARED_SEEDS)
    resume(run.folder / "time.json", protocol)
    records = Records(run.folder / "time_runs.csv")
    unavailable: dict[tuple[str, str], str] = {}
    jobs = [(task, variant) for task in tasks for variant in variants]
    for done, (task, variant) in enumerate(jobs):
        place = (task.dataset, variant.name, task.factor_text)
        if set(_calls("best", table.repeats)) <= set(records.images(*place)):
            continue
        try:
            measure(variant, prior, _batch(task, 1), task, table.seed, most=2)
            reckoned = measure(variant, prior, _batch(task, 1), task, table.seed, most=4)["seconds"]
            said = f"{task.label} {variant.name}: about {duration(reckoned)} a face alone"
            run.on_progress(Progress(said, done, len(jobs)))
            size = best_batch(variant, prior, task, table.seed, table.batches)
            for kind, count in (("one", 1), ("best", size)):
                low = _batch(task, count)
                for call in _calls(kind, table.repeats):
                    found = measure(variant, prior, low, task, table.seed)
                    records.add({(*place, call): {**found, "batch": count}})
        except LatentfaceError as error:
            unavailable[variant.name, task.factor_text] = str(error)
            run.on_progress(Progress(f"{task.label} {variant.name}: not available ({error})", done + 1, len(jobs)))
    run.on_progress(Progress("done", len(jobs), len(jobs), 0.0))
    rows = [row for task in tasks for variant in variants for row in _rows(records, task, variant.name, table.repeats)]
    lines = [
        f"Seconds of wall-clock time a face, the mean of {max((r.value.n for r in rows), default=0)} calls after a warm-up; networks: forward and backward passes; rest: drawing, "
        "losses' forward passes, the optimiser, keeping the best iterate.",
        f"High side {protocol.resolution} px, {protocol.searched}prior {protocol.prior}, preset {protocol.preset}, device {protocol.device}.",
        *(f"{name} at {factor}x is not available: {reason}." for (name, factor), reason in unavailable.items()),
        provenance(run.command),
    ]
    beside = run.folder / "table1.csv"
    quality = read_rows(beside) if beside.is_file() else []
    return write_table(run.folder, "time", rows, _parts(rows, tasks, variants, quality), lines)


def _calls(kind: str, repeats: int) -> list[str]:
    return [f"{kind}{r}" for r in range(repeats)]


def _batch(task: Task, size: int) -> Tensor:
    _, _, low, reasons = load_batch(task, list(task.entries)[:size], size)
    if low is None:
        raise InputError(f"{task.dataset}: not one picture could be read ({reasons[0] if reasons else 'it is empty'})")
    return low


def _rows(records: Records, task: Task, name: str, repeats: int) -> list[Row]:
    rows = []
    for kind, suffix in (("one", "@1"), ("best", "@best")):
        for metric in (*PARTS, "batch"):
            values = values_of(records, task.dataset, name, task.factor_text, metric, _calls(kind, repeats))
            value, called = estimate(values), metric + suffix
            rows.append(Row(dataset=task.dataset, method=name, factor=task.factor_text, metric=called, value=value))
    return rows


def _parts(
    rows: Sequence[Row], tasks: Sequence[Task], variants: Sequence[Variant], quality: Sequence[Row]
) -> list[str]:
    head = ["method", "passes", "alone", "networks", "rest", "best batch", "seconds a face", "networks", "rest"]
    metrics = {
        "passes@1": 0,
        **{f"{p}@1": 3 for p in PARTS[:3]},
        "batch@best": 0,
        **{f"{p}@best": 3 for p in PARTS[:3]},
    }
    parts = ["## Time: seconds a face"]
    for task in tasks:
        lines = []
        scored = {m: [value_of(quality, task.dataset, v.name, task.factor_text, m) for v in variants] for m in QUALITY}
        shown = [m for m in QUALITY if any(value.n for value in scored[m])]
        for number, variant in enumerate(variants):
            values = [value_of(rows, task.dataset, variant.name, task.factor_text, metric) for metric in metrics]
            texts = [f"{v.mean:.{d}f}" if v.n else "n/a" for v, d in zip(values, metrics.values(), strict=True)]
            texts += [f"{value.mean:.{digits(m)}f}" if (value := scored[m][number]).n else "n/a" for m in shown]
            lines.append([title_of(variant.name), *texts])
        parts += [f"### {task.label}", markdown([*head, *map(headed, shown)], lines)]
    return parts
