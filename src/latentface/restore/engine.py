"""From jobs to answers: every face of a call, whatever picture it comes from, searched with one prior and one set of settings.

    job -> explore(prior) -> fade what disagrees -> projection -> answer

On a CPU each face is searched by itself, so that its result depends on its pixels and its seed alone: faces of small priors
side by side, one a thread; of large ones one after another, by all threads. On a GPU faces share batches of one size.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import project, resize
from latentface.devices import Batches, out_of_memory
from latentface.errors import InputError, LatentfaceError
from latentface.explore.coarse import coarse_steps, exit_for, explore_coarse
from latentface.explore.registry import find_method
from latentface.explore.result import Step, psnr_each
from latentface.explore.start.bank import WarmStart
from latentface.faces.trust import trusted
from latentface.prior.prior import Prior
from latentface.restore.job import Answer, Job, OnJobs
from latentface.restore.settings import UpscaleSettings

NOTICE = (
    "One plausible face among many, invented where the input says nothing. "
    "It is not evidence of who a person is and must not be used to identify anyone."
)
SMALL = 256  # px of a prior's faces up to which one thread a face is fastest (docs/performance.md)
MICRO_BATCH = 4  # rows on a GPU, where no number is asked for; always as many, so that a face's numbers stay the same
KEPT_PIXELS = 1 << 24  # of answers that wait for their place, at the prior's size: 200 MB
WARP_PIXELS = 1 << 21  # of inner sides above the smallest in one search: their weights take 550 MB
TRIAL_STEPS = 3
P = ParamSpec("P")
R = TypeVar("R")
_One = tuple[Tensor, int, float]  # high (3, s, s), best step, seconds


class Engine:
    """Searches for faces with one prior and one set of settings.

    Args:
        prior: on the device to compute on.
        batch: rows (faces times samples) computed together, halved when the device's memory is too small; None: the usual,
            with which a face is the same alone and among others.
        say: told in words when a batch was halved, and what is made of the prior at first use.
    """

    def __init__(
        self,
        prior: Prior,
        settings: UpscaleSettings | None = None,
        *,
        batch: int | None = None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        if batch is not None and batch < 1:
            raise InputError(f"the batch is {batch}; expected at least 1")
        self.prior, self.settings, self.say = prior, settings or UpscaleSettings(), say
        self.method = find_method(self.settings.method)
        self.method_settings: Any = self.settings.method_settings()
        self.start = WarmStart(prior, self.settings.start)
        self.coarse_steps = coarse_steps(
            self.method, prior, self.method_settings, self.settings.preset, self.settings.full_steps
        )
        on_cpu = prior.device.type == "cpu"
        self.padded = batch is None and not on_cpu
        self.batches = Batches(batch or (1 if on_cpu else MICRO_BATCH), prior.device, say)
        alone = on_cpu and batch is None and prior.resolution <= SMALL and self.method.searches
        self.workers = torch.get_num_threads() if alone else 0  # 0: the caller's own thread, with all of PyTorch's
        self._told: set[str] = set()

    # -- what is said of a search ------------------------------------------------------------------------------------------

    def request(self, low: tuple[int, int], high: tuple[int, int]) -> dict[str, Any]:
        """Return what decides a result besides the input, as plain JSON types, with the notice and the licence."""
        prior, start = self.prior, self.start
        coarse = {"coarse_steps": self.coarse_steps, "exits_sha256": prior.exits_sha256} if self.coarse_steps else {}
        return {
            "method": self.settings.method,
            "settings": {
                **asdict(self.settings),
                "samples": self.settings.count,
                "method_settings": asdict(self.method_settings),
            },
            "prior": prior.name,
            "prior_sha256": prior.sha256,
            "prior_licence": prior.licence,
            "judge": prior.judge and prior.judge.name,
            "judge_sha256": prior.judge and prior.judge.sha256,
            "seed": self.settings.seed,
            "start": start.kind,
            **coarse,
            **({"wander": list(start.wander)} if any(start.wander) else {}),
            **({"encoder_sha256": start.sha256} if start.sha256 else {}),
            "low_size": list(low),
            "high_size": list(high),
            "generated": True,
            "notice": NOTICE,
        }

    @property
    def machine(self) -> dict[str, Any]:
        """Return on what it is computed: with the same of all these, the same input gives the same face."""
        return {
            "device": str(self.prior.device),
            "steps_dtype": str(self.prior.fast_dtype or self.prior.dtype).removeprefix("torch."),
            "threads": 1 if self.workers else torch.get_num_threads(),
            "batch": self.batches.size,
        }

    def exit_side(self, job: Job) -> int | None:
        """Return the side of the exit at which a job is searched first, None for none."""
        return exit_for(self.prior, job.degradation, 1) if self.coarse_steps else None

    def seconds_a_face(self, job: Job) -> float:
        """Return the seconds that a sample of such a face takes, by a few steps; 0 where there is no search."""
        if not self.method.searches:
            return 0.0
        stamps, share, began = [], 0.0, time.perf_counter()

        def on_step(step: Step) -> None:
            nonlocal share
            stamps.append(time.perf_counter())
            share = step.part
            if len(stamps) == min(TRIAL_STEPS, step.total):
                raise _Enough

        def trial() -> None:
            with contextlib.suppress(_Enough):
                self._found([(job, self.settings.seed)], on_step)

        if self.workers:
            with self._threads() as pool:
                pool.submit(trial).result()
        else:
            trial()
        if len(stamps) < 2:
            return time.perf_counter() - began
        whole = stamps[0] - began + (stamps[-1] - stamps[0]) / (len(stamps) - 1) / share
        return whole / max(1, self.workers)

    @contextlib.contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """Give threads each of which computes with no other, and wait for them at the end."""
        own = torch.get_num_threads()
        pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(own)  # the number for further threads is the process's

    # -- the work ----------------------------------------------------------------------------------------------------------

    def explore(
        self, jobs: Sequence[Job], on_step: OnJobs | None = None
    ) -> Iterator[Answer | LatentfaceError | MemoryError]:
        """Yield each job's answer, in order, or the error that kept it from having one.

        Args:
            on_step: told at each step of a search, from one thread at a time; True stops all searches at their best so far.
        """
        count = self.settings.count
        most = max(1, KEPT_PIXELS // self.prior.resolution**2)
        if self.batches.size == 1 or not self.method.searches:
            most = len(jobs)  # each answer goes out as it is found
        for first in range(0, len(jobs), max(1, most)):
            part = range(first, min(first + most, len(jobs)))
            rows = [(n, k) for n in part for k in range(count)]
            found = self._each(jobs, rows, on_step) if self.batches.size == 1 else self._batched(jobs, rows, on_step)
            for n in part:
                made = [next(found) for _ in range(count)]
                error = next((m for m in made if isinstance(m, Exception)), None)
                whole = [m for m in made if not isinstance(m, Exception)]
                yield caught(self._answer, jobs[n], whole) if error is None else error

    def _each(
        self, jobs: Sequence[Job], rows: Sequence[tuple[int, int]], on_step: OnJobs | None
    ) -> Iterator[_One | LatentfaceError | MemoryError]:
        """Search every row by itself, in this thread or side by side in several."""
        lock, stop = threading.Lock(), threading.Event()

        def one(row: tuple[int, int]) -> _One | LatentfaceError | MemoryError:
            def tell(step: Step) -> bool:
                with lock:
                    if on_step is not None and on_step([row], step):
                        stop.set()
                return stop.is_set()

            alone = [(jobs[row[0]], self.settings.seed + row[1])]
            found = caught(self.batches.run, alone, lambda part: self._search(part, tell))
            return found if isinstance(found, Exception) else found[0]

        if not self.workers:
            yield from map(one, rows)
            return
        with self._threads() as pool:
            try:
                yield from pool.map(one, rows)
            finally:
                stop.set()  # Ctrl-C, or nobody wants the rest

    def _batched(
        self, jobs: Sequence[Job], rows: Sequence[tuple[int, int]], on_step: OnJobs | None
    ) -> Iterator[_One | LatentfaceError | MemoryError]:
        """Search rows in batches of those that may share one; similar sizes need little padding."""
        kinds = {n: (jobs[n].degradation.kind, self.exit_side(jobs[n]) or 0, jobs[n].size) for n, _ in rows}
        order = sorted(rows, key=lambda row: (str(kinds[row[0]]), jobs[row[0]].degradation.low_size, row))
        made: dict[tuple[int, int], _One | LatentfaceError | MemoryError] = {}

        def work(part: Sequence[tuple[int, int]]) -> list[_One]:
            full = [*part, *[part[-1]] * (self.batches.size - len(part))] if self.padded else list(part)
            tell = None if on_step is None else lambda step: on_step(part, _of_rows(step, len(part)))
            return self._search([(jobs[n], self.settings.seed + k) for n, k in full], tell)[: len(part)]

        for _, members in groupby(order, lambda row: kinds[row[0]]):
            group = list(members)
            inner = getattr(jobs[group[0][0]].degradation, "inner", 0)
            limit = max(1, WARP_PIXELS // inner**2) if inner > SMALL else len(group)
            for start in range(0, len(group), limit):
                part = group[start : start + limit]
                found = caught(self.batches.run, part, work)
                made |= dict.fromkeys(part, found) if isinstance(found, Exception) else zip(part, found, strict=True)
        yield from (made[row] for row in rows)

    def _search(self, rows: Sequence[tuple[Job, int]], on_step: Callable[[Step], bool | None] | None) -> list[_One]:
        """Search for faces that may share a batch, fade and project them."""
        began = time.perf_counter()
        high, best_step, low, degradation = self._found(rows, on_step)
        job = rows[0][0]
        if job.size != high.shape[-1]:
            high = resize(high, job.size).clamp(0, 1)
            degradation = degradation.at(job.size)
        if self.settings.projection:
            faded = trusted(degradation, high, low)
            high = project(degradation, faded, low, rounds=job.rounds, tolerance=job.tolerance)
        seconds = (time.perf_counter() - began) / len(rows)
        return [(face.cpu(), int(step), seconds) for face, step in zip(high, best_step, strict=True)]

    def _found(
        self, rows: Sequence[tuple[Job, int]], on_step: Callable[[Step], bool | None] | None
    ) -> tuple[Tensor, Tensor, Tensor, Any]:
        """Return pictures (B, 3, R, R), best steps (B,), the inputs (B, 3, h, w) and their common degradation."""
        degradation = rows[0][0].degradation.join([job.degradation for job, _ in rows])
        h, w = degradation.low_size
        low = torch.cat([F.pad(j.low, (0, w - j.low.shape[3], 0, h - j.low.shape[2])) for j, _ in rows])
        low = low.to(self.prior.device)
        seeds = [seed for _, seed in rows]
        self._tell_of(self.method_settings.made_first(self.prior, degradation))
        found = explore_coarse(
            self.method,
            self.prior,
            low,
            steps=self.coarse_steps,
            degradation=degradation,
            settings=self.method_settings,
            seeds=seeds,
            on_step=on_step,
            start=self.start(low, degradation, seeds),
        )
        return found.high.float(), found.best_step, low, degradation

    def _tell_of(self, words: str) -> None:
        if words and words not in self._told:
            self._told.add(words)
            self.say(words)

    def _answer(self, job: Job, made: Sequence[_One]) -> Answer:
        degradation = job.degradation.join([job.degradation])  # what it builds goes with it
        degradation = degradation if job.size == self.prior.resolution else degradation.at(job.size)
        samples = torch.stack([one[0] for one in made])
        high = samples[0]
        if self.settings.answer == "mean":
            high = samples.mean(0)
            if self.settings.projection:
                high = project(degradation, high[None], job.low, rounds=job.rounds, tolerance=job.tolerance)[0]
        consistency = float(psnr_each(degradation.forward(high[None]), job.low, degradation)[0])
        return Answer(high, samples, consistency, made[0][1], sum(one[2] for one in made))


def caught(work: Callable[P, R], *args: P.args, **named: P.kwargs) -> R | LatentfaceError | MemoryError:
    """Return what `work` returns, or the error in which it ended where that is this face's own and not the program's."""
    try:
        return work(*args, **named)
    except LatentfaceError as error:
        return error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return MemoryError(str(error))  # without the traceback, which holds what filled the memory


class _Enough(Exception):
    """A trial has seen its steps."""


def _of_rows(step: Step, count: int) -> Step:
    """Return a step of a padded batch as its first rows see it."""
    losses = {k: v[:count] for k, v in step.losses.items()}
    return replace(
        step, losses=losses, consistency_db=step.consistency_db[:count], preview=lambda: step.preview()[:count]
    )
