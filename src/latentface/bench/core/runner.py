"""Run variants over tasks, face by face: what is finished stays finished, the rest is searched, kept and scored.

For each face the result goes to `faces/DATASET/FACTORx/VARIANT/IMAGE.png` and its figures to `per_image.csv`. Figures are
always of the picture in that file, at 8 bits' precision: what a person would get, and what a second run would score.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from latentface.bench.core.curve import Curve
from latentface.bench.core.progress import Progress
from latentface.bench.core.protocol import resume
from latentface.bench.core.records import Key, Records
from latentface.bench.core.settings import FaceSettings, RunSettings
from latentface.bench.core.setup import PROTOCOL, batch_size, make_protocol
from latentface.bench.core.spread import Restore, facts_of
from latentface.bench.core.stopwatch import time_call
from latentface.bench.core.tasks import Task, load_batch, seed_of, to_8_bit
from latentface.bench.core.variants import TRUTH, Variant
from latentface.cluster.workers import Parcel, Workers
from latentface.devices import Batches, out_of_memory
from latentface.errors import ClusterError, InputError, LatentfaceError, UnknownNameError, require
from latentface.io.pictures import read_picture, write_picture
from latentface.metrics.registry import METRICS
from latentface.metrics.suite import Suite
from latentface.metrics.weights import locate
from latentface.prior.prior import Prior
from latentface.words import duration

WALL = 12  # faces whose low picture and truth are kept for the picture wall
TRIAL_STEPS = 4


class Runner:
    """One run of a table: the metrics are loaded, and the folder's figures must belong to the same protocol.

    Raises InputError: the folder holds figures of another protocol. OutputError: it cannot be written.

    Attributes:
        side: px of the faces that are compared, `sizes.high_side`.
        suite: the metrics that are at hand; metrics: those that the table wants, `seconds` included.
        folder: of the output; records, curve, set_records: its `per_image.csv`, `steps.csv` and `sets.csv`.
        protocol, command: printed under the table; remarks: further lines there.
        unavailable: (dataset, factor, variant) -> why there are no figures; filled while it runs.
    """

    def __init__(
        self,
        table: FaceSettings,
        run: RunSettings,
        prior: Prior,
        side: int,
        tasks: Sequence[Task],
        variants: Sequence[Variant],
        metrics: Sequence[str],
        *,
        curve: bool = False,
    ) -> None:
        self.prior, self.side, self.tasks, self.variants, self.metrics = prior, side, tasks, variants, metrics
        self.folder, self.command, self.on_progress = run.folder, run.command, run.on_progress
        if run.cluster.ray is not None:
            require("ray", "ray", "--ray")
        self.cluster, self.source = run.cluster, (table.prior, run.device, not run.no_fetch)
        self.batch, self.seed = batch_size(run.batch_size, prior, self.folder), table.seed
        self.fetch = not run.no_fetch
        self.protocol = make_protocol(table, prior, side, tasks, variants, self.batch)
        resume(self.folder / PROTOCOL, self.protocol)
        self.on_progress(Progress("loading the metrics"))
        self.suite = Suite(metrics, device=prior.device, fetch=not run.no_fetch)
        for name, reason in self.suite.missing.items():
            self.on_progress(Progress(f"the metric {name} is not at hand: {reason}"))
        self.records = Records(self.folder / "per_image.csv")
        self.curve = Records(self.folder / "steps.csv") if curve else None
        self.set_records = Records(self.folder / "sets.csv")
        self.unavailable: dict[tuple[str, str, str], str] = {}
        self.remarks: dict[str, None] = {}  # lines, each once
        self._cost: dict[tuple[str, int], float] = {}  # (variant, low side) -> seconds a batch
        self._left: dict[tuple[str, str, str], int] = {}  # place -> faces that are not done
        self._correction = 1.0

    def run(self) -> None:
        """Do what is not done yet; a method that cannot be used is noted in `unavailable`. Raises OutputError."""
        self._left = {self._place(t, v): len(self.pending(t, v)) for t in self.tasks for v in self.variants_of(t)}
        self._announce()
        with self._workers() as workers:
            for task in self.tasks:
                self._keep_wall(task)
                self._score_truth(task)
                for variant in self.variants_of(task):
                    self._run_variant(task, variant, workers)
        self._tell("done")

    def seeds(self, images: Sequence[str], size: int) -> list[int]:
        """Return the seeds of some faces, filled up to `size` as `load_batch` fills a batch."""
        own = [seed_of(self.seed, image) for image in images]
        return own + own[-1:] * (size - len(own))

    def tidy(self) -> None:
        """Put the lines of `per_image.csv` and `steps.csv` in the order of the table, whatever order they came in."""
        names = [TRUTH, *(v.name for v in self.variants)]
        for records in (self.records, self.curve):
            if records is not None:
                order = (self.key(t, name, image) for t in self.tasks for name in names for image in t.entries)
                records.rewrite(order, self.metrics)

    def variants_of(self, task: Task) -> list[Variant]:
        """Return the variants that a task is for."""
        return [v for v in self.variants if not task.only or v.name in task.only]

    @property
    def total(self) -> int:
        """Faces times methods, over all tasks."""
        return sum(len(task.entries) * len(self.variants_of(task)) for task in self.tasks)

    def expected(self, task: Task, truth_row: bool = False) -> set[str]:
        """Return the metrics that a face of a task gets a figure for."""
        at_hand = self.suite.available("image")

        def applies(name: str) -> bool:
            metric = METRICS[name]
            if truth_row:
                return name in at_hand and metric.reference == "none"
            has = task.has_truth or metric.reference in ("none", "input")
            return metric.scope == "run" or (name in at_hand and has)

        return set(filter(applies, self.metrics))

    @staticmethod
    def _place(task: Task, variant: Variant) -> tuple[str, str, str]:
        return task.dataset, task.factor_text, variant.name

    def key(self, task: Task, name: str, image: str) -> Key:
        """Return a face's place in the records."""
        return task.dataset, name, task.factor_text, image

    def path(self, task: Task, name: str, image: str) -> Path:
        """Return where a face's picture is kept; `name` is a variant's, "low" or "truth"."""
        return self.folder / "faces" / task.dataset / f"{task.factor_text}x" / name / f"{image}.png"

    def pending(self, task: Task, variant: Variant) -> list[str]:
        """Return the faces that still need figures."""
        expected = self.expected(task)
        return [i for i in task.entries if not expected <= set(self.records.get(self.key(task, variant.name, i)))]

    def _searched(self, task: Task, variant: Variant, image: str) -> bool:
        """Whether the search itself is done, so that only figures are missing."""
        timed = "seconds" not in self.metrics or "seconds" in self.records.get(self.key(task, variant.name, image))
        return timed and self.path(task, variant.name, image).exists()

    def _announce(self) -> None:
        left = sum(self._left.values())
        if left == 0:
            self._tell("every face is finished already")
            return
        self._tell(f"{left} restorations of {self.total} to do")
        for variant in self.variants:
            task = next((t for t in self.tasks if self._left.get(self._place(t, variant))), None)
            if task is not None:
                self._time(task, variant)
        self._tell(f"this will take about {duration(self._seconds_left())} on {self.prior.device}")

    def _time(self, task: Task, variant: Variant) -> None:
        """Measure a few steps of a variant on one batch, and its scoring."""
        image = self.pending(task, variant)[0]
        read, truth, low, _ = load_batch(task, [image], self.batch)
        if low is None or not read:
            return
        self._tell(f"timing a few steps of {variant.name}")
        try:
            for file in variant.method.files:
                locate(file, fetch=self.fetch)
            for _ in range(2):  # something may be made once, as RLS makes its flow: then look again
                call = time_call(variant, self.prior, low, task.degradation, self.seeds(read, len(low)), TRIAL_STEPS)
                if call.setup <= max(3, 0.2 * call.seconds):
                    break
        except (LatentfaceError, RuntimeError, MemoryError) as error:
            if isinstance(error, LatentfaceError) or out_of_memory(error):
                return  # it will be said when its turn comes
            raise
        began = time.perf_counter()
        self.suite.score(
            to_8_bit(call.found.high.cpu()[:1]), None if truth is None else truth[:1], low[:1], task.degradation
        )
        spent = call.seconds + (time.perf_counter() - began) * self.batch
        for other in self.tasks:
            self._cost[variant.name, other.degradation.low] = spent

    def _seconds_left(self) -> float:
        sides = {task.dataset + task.factor_text: task.degradation.low for task in self.tasks}
        seconds = sum(
            math.ceil(left / self.batch) * self._cost.get((name, sides[dataset + factor]), 0.0)
            for (dataset, factor, name), left in self._left.items()
        )
        return seconds * self._correction

    def _tell(self, message: str) -> None:
        left = self._seconds_left() if self._cost else None
        self.on_progress(Progress(message, self.total - sum(self._left.values()), self.total, left))

    def _keep_wall(self, task: Task) -> None:
        for image in list(task.entries)[:WALL]:
            if not self.path(task, "low", image).exists():
                _, truth, low, _ = load_batch(task, [image], 1)
                for name, pictures in (("truth", truth), ("low", low)):
                    if pictures is not None:
                        write_picture(self.path(task, name, image), pictures[0])

    def _score_truth(self, task: Task) -> None:
        """Score the truth itself by the metrics that need no reference."""
        names = self.expected(task, truth_row=True)
        if not task.has_truth or not names:
            return
        todo = [i for i in task.entries if not names <= set(self.records.get(self.key(task, TRUTH, i)))]
        for start in range(0, len(todo), 16):
            read, truth, _, _ = load_batch(task, todo[start : start + 16], 1)
            if truth is not None:
                self._record(task, TRUTH, read, self.suite.score(truth, names=sorted(names)), names)

    @contextlib.contextmanager
    def _workers(self) -> Iterator[Workers | None]:
        """Give the workers of the cluster that was asked for, None for this process. Raises as `Workers`."""
        if self.cluster.ray is None or not any(self._left.values()):
            yield None
            return
        make = partial(Restore, *self.source)
        with Workers(self.cluster, make, facts_of(self.prior), device=self.source[1], say=self._tell) as workers:
            self._tell(f"on {workers.words}")
            yield workers

    def _run_variant(self, task: Task, variant: Variant, workers: Workers | None) -> None:
        pending = self.pending(task, variant)
        finished = [i for i in pending if self._searched(task, variant, i)]
        for start in range(0, len(finished), self.batch):  # only figures are missing: of a metric that was not at hand
            read, truth, low, _ = load_batch(task, finished[start : start + self.batch], 1)
            self._score(task, variant, read, truth, low)
        batches = Batches(self.batch, self.prior.device, self._tell)
        todo = [i for i in pending if i not in set(finished)]
        filled = todo + todo[-1:] * (-len(todo) % self.batch)  # every batch of a run has one size
        searched: set[str] = set()

        def search(images: Sequence[str]) -> Sequence[str]:
            for file in variant.method.files:
                locate(file, fetch=self.fetch)
            if fresh := [i for i in dict.fromkeys(images) if i not in searched]:
                self._search(task, variant, fresh, len(images))
                searched.update(fresh)
            return images

        try:
            if workers is None:
                batches.run(filled, search)
            else:
                self._spread(task, variant, todo, workers)
        except ClusterError:
            raise
        except LatentfaceError as error:
            self.unavailable[self._place(task, variant)] = str(error)
            self._left[self._place(task, variant)] = 0
            self._tell(f"{task.label} {variant.name}: not available ({error})")

    def _spread(self, task: Task, variant: Variant, todo: Sequence[str], workers: Workers) -> None:
        """Restore faces on a cluster, batch by batch, and keep them as they come. Raises what a batch ended in."""
        starts = iter(range(0, len(todo), self.batch))

        def more() -> Parcel | None:
            for start in starts:
                faces = self._load(task, variant, todo[start : start + self.batch], self.batch)
                if faces is not None:
                    curved = faces.truth if self._has_curve(task, variant) else None
                    seeds = self.seeds(faces.read, len(faces.low))
                    return Parcel(faces, (variant, faces.low, task.degradation, seeds, curved))
            return None

        began = time.perf_counter()
        for parcel, came in workers.run(more):
            if isinstance(came, Exception):
                raise InputError(str(came)) if isinstance(came, ClusterError) else came
            high, seconds, curve = came
            self._keep(task, variant, parcel.key, high, seconds, curve, began)
            began = time.perf_counter()

    def _search(self, task: Task, variant: Variant, images: Sequence[str], size: int) -> None:
        faces = self._load(task, variant, images, size)
        if faces is None:
            return
        began = time.perf_counter()
        curve = Curve(faces.truth) if faces.truth is not None and self._has_curve(task, variant) else None
        found = variant(self.prior, faces.low, task.degradation, self.seeds(faces.read, len(faces.low)), curve)
        self._keep(task, variant, faces, found.high, found.seconds, curve, began)

    def _load(self, task: Task, variant: Variant, images: Sequence[str], size: int) -> "_Faces | None":
        """Return a batch of faces, None where none can be read; those that cannot are told."""
        read, truth, low, reasons = load_batch(task, images, size)
        for reason in reasons:
            self._tell(f"left out: {reason}")
            self.remarks[f"Left out: {reason}."] = None
        self._left[self._place(task, variant)] -= len(reasons)
        return None if low is None else _Faces(read, truth, low)

    def _has_curve(self, task: Task, variant: Variant) -> bool:
        return task.has_truth and self.curve is not None and not variant.projects

    def _keep(
        self,
        task: Task,
        variant: Variant,
        faces: "_Faces",
        high: Tensor,
        seconds: float,
        curve: Curve | None,
        began: float,
    ) -> None:
        """Write what was found, (B, 3, R, R), and score it; `seconds`: of the search, `began`: when its batch did."""
        for i, image in enumerate(faces.read):
            write_picture(self.path(task, variant.name, image), high[i])
        if curve is not None and self.curve is not None:
            self.curve.add({self.key(task, variant.name, image): curve.of(i) for i, image in enumerate(faces.read)})
        self._score(task, variant, faces.read, faces.truth, faces.low, seconds / len(faces.low))
        spent = time.perf_counter() - began
        expected = self._cost.setdefault((variant.name, task.degradation.low), spent)
        if expected != spent:
            self._correction = 0.7 * self._correction + 0.3 * spent / expected

    def _score(
        self,
        task: Task,
        variant: Variant,
        images: Sequence[str],
        truth: Tensor | None,
        low: Tensor | None,
        seconds: float | None = None,
    ) -> None:
        """Score the pictures that are kept; `seconds`: a face's share of its search, where that is new."""
        if low is None:
            return
        names, count = self.expected(task), len(images)
        result = torch.stack([read_picture(self.path(task, variant.name, image)) for image in images])
        scored = [n for n in names if METRICS[n].scope == "image"]
        truth = None if truth is None else truth[:count]
        scores = self.suite.score(result, truth, low[:count], task.degradation, scored)
        if seconds is not None:
            scores["seconds"] = [seconds] * count
        self._record(task, variant.name, images, scores, names)
        self._left[self._place(task, variant)] -= count
        self._tell(f"{task.label} {variant.name}")

    def _record(
        self, task: Task, name: str, images: Sequence[str], scores: Mapping[str, Sequence[float]], names: set[str]
    ) -> None:
        order = [m for m in self.metrics if m in names and (m != "seconds" or m in scores)]
        self.records.add(
            {
                self.key(task, name, image): {m: scores[m][i] if m in scores else math.nan for m in order}
                for i, image in enumerate(images)
            }
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Faces:
    """A batch of faces: the keys of those that could be read, truth (B, 3, R, R) or None, low (B, 3, h, w)."""

    read: list[str]
    truth: Tensor | None
    low: Tensor


def check_metrics(names: Sequence[str] | None, default: Sequence[str]) -> list[str]:
    """Return the wanted metrics. Raises UnknownNameError: one does not exist. InputError: none is named."""
    wanted = list(dict.fromkeys(default if names is None else (n.strip() for n in names if n.strip())))
    for name in wanted:
        if name not in METRICS:
            raise UnknownNameError("metric", name, METRICS)
    if not wanted:
        raise InputError("no metric is named; leave the option out for the usual ones")
    return wanted
