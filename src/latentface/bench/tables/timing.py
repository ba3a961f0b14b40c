"""The table of times: seconds a face at equal hardware, one face alone and in the best batch, split by where they go."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from latentface.bench.core.progress import OnProgress, Progress, duration, quiet
from latentface.bench.core.protocol import Protocol, provenance, resume
from latentface.bench.core.records import Records, factor_text
from latentface.bench.core.setup import open_prior
from latentface.bench.core.sizes import high_side
from latentface.bench.core.statistics import Estimate, estimate
from latentface.bench.core.stopwatch import network_time
from latentface.bench.core.tasks import Task, load_batch, low_side, task_with_truth
from latentface.bench.core.variants import Variant, make_variants
from latentface.bench.tables.tables import Row, write_rows
from latentface.datasets import open_faces
from latentface.devices import out_of_memory
from latentface.errors import InputError, LatentfaceError
from latentface.io.atomic import write_text

if TYPE_CHECKING:
    from latentface.prior.prior import Prior

BATCHES = (1, 2, 4, 8, 16, 32, 64)
GAIN = 0.97  # a larger batch is tried while the last one made a face at least 3 % cheaper
PARTS = ("seconds", "seconds-networks", "seconds-rest", "passes")


@dataclass(frozen=True, slots=True)
class Timing:
    """One call, a face: seconds in all, in networks, in the rest; passes of the generator."""

    seconds: float
    networks: float
    passes: float

    def figures(self) -> dict[str, float]:
        """Return them by the names of `PARTS`."""
        return dict(
            zip(PARTS, (self.seconds, self.networks, max(0.0, self.seconds - self.networks), self.passes), strict=True)
        )


def measure(variant: Variant, prior: Prior, low: Tensor, task: Task, seed: int, most: int | None = None) -> Timing:
    """Time one call on a batch; with `most`, only that many steps, the rest being reckoned from them."""
    total = 0
    stamps: list[float] = []

    def on_step(step: object) -> bool:
        nonlocal total
        number, total = step.number, step.total  # type: ignore[attr-defined]
        stamps.append(time.perf_counter())
        return most is not None and number >= most

    with network_time(prior.device) as split:
        began = time.perf_counter()
        found = variant(prior, low, task.degradation, [seed] * len(low), on_step)
        float(found.high.flatten()[0])  # waits for a device
        spent = time.perf_counter() - began
    stretch = 1.0
    if most is not None and len(stamps) > 1:
        step_time = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
        stretch = (spent + step_time * max(0, total - len(stamps))) / spent
    count = len(low)
    return Timing(spent * stretch / count, split.networks * stretch / count, found.passes * stretch)


def best_batch(variant: Variant, prior: Prior, task: Task, seed: int, batches: Sequence[int]) -> int:
    """Return the batch size at which a face is cheapest, by a few steps of each size until it stops paying off."""
    best, least = 1, math.inf
    for size in sorted(batches):
        low = _batch(task, size)
        try:
            measure(variant, prior, low, task, seed, most=2)  # the first call of a size sets things up
            seconds = measure(variant, prior, low, task, seed, most=4).seconds
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            break
        if seconds < least * GAIN:
            best, least = size, seconds
        elif size > 1:
            break
    return best


def run_time(
    *,
    output: str | Path,
    high: str | Path,
    prior: Prior | str | Path | None = None,
    high_size: int | None = None,
    factors: Sequence[float] = (8,),
    methods: Sequence[str] | None = None,
    preset: str = "equal",
    batches: Sequence[int] = BATCHES,
    repeats: int = 3,
    seed: int = 0,
    kernel: str = "bicubic",
    device: str = "auto",
    command: str = "",
    on_progress: OnProgress = quiet,
) -> Path:
    """Write time.csv, time_runs.csv and time.md into `output`; return time.md. A method that is timed is not timed again.

    Each method restores one face alone and the batch that suits it best, `repeats` times each, on one machine.

    Args:
        batches: sizes that may be tried; the rest as in `run_table1`.

    Raises:
        LatentfaceError: data, names or numbers that cannot be used, or a folder of other hardware.
    """
    if repeats < 1 or not batches or min(batches) < 1:
        raise InputError(f"repeats is {repeats} and batches {tuple(batches)}; expected numbers from 1 up")
    variants = make_variants(methods, preset)
    loaded = open_prior(prior, device)
    side = high_side(loaded, high_size)
    faces = open_faces(high)
    lows = [low_side(side, f) for f in dict.fromkeys(factors)]
    tasks = [task_with_truth(faces, side, low, kernel, max(batches)) for low in lows]
    folder = Path(output).expanduser()
    protocol = Protocol(
        sets={faces.name: faces.crop.summary},
        resolution=side,
        painted=loaded.resolution if loaded.resolution != side else None,
        kernel=kernel,
        prior=loaded.name,
        prior_sha256=loaded.sha256,
        preset=preset,
        seed=seed,
        batch=max(batches),
        device=loaded.device.type,
        variants={v.name: v.described(loaded) for v in variants},
    )
    resume(folder / "time.json", protocol)
    records = Records(folder / "time_runs.csv")
    unavailable: dict[tuple[str, str], str] = {}
    jobs = [(task, variant) for task in tasks for variant in variants]
    for done, (task, variant) in enumerate(jobs):
        place = (task.dataset, variant.name, factor_text(task.factor))
        if {f"best{r}" for r in range(repeats)} <= set(records.images(*place)):
            continue
        try:
            measure(variant, loaded, _batch(task, 1), task, seed, most=2)
            reckoned = measure(variant, loaded, _batch(task, 1), task, seed, most=4).seconds
            on_progress(
                Progress(f"{task.label} {variant.name}: about {duration(reckoned)} a face alone", done, len(jobs), None)
            )
            _time_one(task, variant, loaded, records, place, seed, batches, repeats)
        except LatentfaceError as error:
            unavailable[variant.name, factor_text(task.factor)] = str(error)
            on_progress(Progress(f"{task.label} {variant.name}: not available ({error})", done + 1, len(jobs)))
    on_progress(Progress("done", len(jobs), len(jobs), 0.0))
    rows = [row for task in tasks for variant in variants for row in _rows(records, task, variant.name, repeats)]
    write_rows(folder / "time.csv", rows)
    write_text(folder / "time.md", _markdown(rows, tasks, variants, unavailable, protocol, command))
    return folder / "time.md"


def _time_one(
    task: Task,
    variant: Variant,
    prior: Prior,
    records: Records,
    place: tuple[str, str, str],
    seed: int,
    batches: Sequence[int],
    repeats: int,
) -> None:
    size = best_batch(variant, prior, task, seed, batches)
    for name, count in (("one", 1), ("best", size)):
        low = _batch(task, count)
        for r in range(repeats):
            found = measure(variant, prior, low, task, seed)
            records.add({(*place, f"{name}{r}"): {**found.figures(), "batch": count}})


def _batch(task: Task, size: int) -> Tensor:
    _, _, low, reasons = load_batch(task, list(task.entries)[:size], size)
    if low is None:
        raise InputError(f"{task.dataset}: not one picture could be read ({reasons[0] if reasons else 'it is empty'})")
    return low


def _rows(records: Records, task: Task, name: str, repeats: int) -> list[Row]:
    factor = factor_text(task.factor)
    rows = []
    for kind, suffix in (("one", "@1"), ("best", "@best")):
        runs = [records.get((task.dataset, name, factor, f"{kind}{r}")) for r in range(repeats)]
        for metric in (*PARTS, "batch"):
            values = np.array([math.nan if (v := run.get(metric)) is None else v for run in runs], dtype=np.float64)
            rows.append(
                Row(
                    dataset=task.dataset,
                    method=name,
                    factor=factor,
                    metric=metric + suffix,
                    value=estimate(values),
                )
            )
    return rows


def _markdown(
    rows: Sequence[Row],
    tasks: Sequence[Task],
    variants: Sequence[Variant],
    unavailable: dict[tuple[str, str], str],
    protocol: Protocol,
    command: str,
) -> str:
    found = {(r.factor, r.method, r.metric): r.value for r in rows}

    def text(value: Estimate, digits: int = 3) -> str:
        return f"{value.mean:.{digits}f}" if value.n else "n/a"

    parts = ["## Time: seconds a face"]
    for task in tasks:
        factor = factor_text(task.factor)
        out = [
            "| method | passes | alone | networks | rest | best batch | seconds a face | networks | rest |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for variant in variants:
            f = {k: found[factor, variant.name, k] for k in (p + s for p in (*PARTS, "batch") for s in ("@1", "@best"))}
            line = [variant.title, text(f["passes@1"], 0)]
            for suffix in ("@1", "@best"):
                line += [text(f["batch@best"], 0)] if suffix == "@best" else []
                line += [text(f[p + suffix]) for p in PARTS[:3]]
            out.append("| " + " | ".join(line) + " |")
        parts += [f"### {task.label}", "\n".join(out)]
    n = max((r.value.n for r in rows), default=0)
    notes = [
        f"Seconds of wall-clock time a face, the mean of {n} calls after a warm-up; networks: forward and backward passes; rest: drawing, "
        "losses' forward passes, the optimiser, keeping the best iterate.",
        f"High side {protocol.resolution} px, {protocol.searched}prior {protocol.prior}, preset {protocol.preset}, device {protocol.device}.",
        *(f"{name} at {factor}x is not available: {reason}." for (name, factor), reason in unavailable.items()),
        provenance(command),
    ]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in notes)]) + "\n"
