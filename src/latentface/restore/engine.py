"""From jobs to answers: every face of a call, whatever picture it comes from, searched with one prior and one set of settings.

    job -> explore(prior) -> fade what disagrees -> projection -> is it a face? -> answer

A face's result depends on its pixels and its seed alone. On a CPU faces of small priors are searched in threads that
compute with no other; on a GPU batches have always as many rows.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import project, resize
from latentface.devices import Batches, free_memory, out_of_memory, single_threads
from latentface.errors import InputError, LatentfaceError
from latentface.explore.coarse import coarse_facts, coarse_steps, explore_coarse, steps_at_sides
from latentface.explore.registry import find_method
from latentface.explore.result import Step, psnr_each
from latentface.explore.start.bank import WarmStart, usual_start
from latentface.faces.place import SMALL as SMALL_INNER
from latentface.faces.trust import mixed, trusted
from latentface.io.atomic import read_bytes, sha256
from latentface.io.pictures import LUMA
from latentface.prior.alone import rows_are_alone
from latentface.prior.exits import exit_for
from latentface.prior.prior import Prior
from latentface.restore.job import Answer, Job, OnJobs
from latentface.restore.settings import UpscaleSettings
from latentface.restore.verdict import face_errors, reason_against, reason_of_most

NOTICE = (
    "One plausible face among many, invented where the input says nothing. "
    "It is not evidence of who a person is and must not be used to identify anyone."
)
SMALL = 256  # px of a prior's faces up to which a thread for some faces is faster than all for one
TOGETHER = 8  # rows of a thread's batch at most: from 16 on PyTorch convolves by another algorithm
BYTES_A_NUMBER = 40  # of the generator's features that a row of a search takes, the judge and all gradients included
MICRO_BATCH = 4  # rows on a GPU, where no number is asked for; always as many, so that a face's numbers stay the same
KEPT_PIXELS = 1 << 24  # of answers that wait for their place, at the prior's size: 200 MB
WARP_PIXELS = 1 << 21  # of inner sides above the smallest in one search: their weights take 550 MB
R = TypeVar("R")
_One = tuple[Tensor, int, float, str | None]  # high (3, s, s), best step, seconds, why it is no face
_Outcome = _One | LatentfaceError | MemoryError


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
        settings = settings or UpscaleSettings()
        self.method = find_method(settings.method)
        self.coarse_steps = coarse_steps(
            self.method, prior, settings.method_settings(), settings.preset, settings.full_steps
        )
        if settings.start == "auto":
            settings = replace(settings, start=usual_start(prior, self.coarse_steps))
        self.prior, self.settings, self.say = prior, settings, say
        self.method_settings: Any = settings.method_settings()
        weights = getattr(self.method_settings, "weights", None)
        self.weights_sha256 = None if weights is None else sha256(read_bytes(weights))
        self.start = WarmStart(prior, settings.start)
        on_cpu = prior.device.type == "cpu"
        self.padded = batch is None and not on_cpu
        apart = on_cpu and batch is None and prior.resolution <= SMALL and self.method.searches
        self.workers = torch.get_num_threads() if apart else 0  # 0: the caller's own thread, with all of PyTorch's
        together = rows_that_fit(prior, self.workers) if apart and self.method.batch_independent else 1
        size = batch or (together if on_cpu else MICRO_BATCH)
        self.batches = Batches(min(size, self.method_settings.at_once(prior) or size), prior.device, say)
        self._alone: dict[int, bool] = {}
        self._told: set[str] = set()

    def request(self, low: tuple[int, int], high: tuple[int, int]) -> dict[str, Any]:
        """Return what decides a result besides the input, as plain JSON types, with the notice and the licence."""
        prior, start = self.prior, self.start
        method, own = self.settings.method, asdict(self.method_settings)
        if self.weights_sha256 is not None:  # records name files, and not where they lie on somebody's disk
            own |= {"weights": Path(own["weights"]).name, "weights_sha256": self.weights_sha256}
            method = Path(method).name
        return {
            "method": method,
            "settings": {
                **asdict(self.settings),
                "method": method,
                "samples": self.settings.count,
                "method_settings": own,
            },
            "prior": prior.name,
            "prior_sha256": prior.sha256,
            "prior_licence": prior.licence,
            "judge": prior.judge and prior.judge.name,
            "judge_sha256": prior.judge and prior.judge.sha256,
            "seed": self.settings.seed,
            "start": start.kind,
            **coarse_facts(prior, self.method_settings, self.coarse_steps, raced=start.kind == "random"),
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
            "batch": 1 if self.workers else self.batches.size,  # a thread's faces are as each alone
        }

    def exit_side(self, job: Job) -> int | None:
        """Return the side of the exit at which a job is searched first, None for none."""
        if not self.coarse_steps:
            return None
        steps = self.method_settings.steps
        sides = steps_at_sides(self.prior, job.degradation, 1, steps, self.coarse_steps, self._last_size(job))
        return next(iter(sides), None)

    def _last_size(self, job: Job) -> int | None:
        """Return how many px the last steps of a search need, None for all that the prior has."""
        return job.size if self.settings.full_steps == 0 else None

    def explore(
        self, jobs: Sequence[Job], on_step: OnJobs | None = None
    ) -> Iterator[Answer | LatentfaceError | MemoryError]:
        """Yield each job's answer, in order, or the error that kept it from having one.

        Args:
            on_step: told at each step of a search, from one thread at a time; True stops all searches at their best so far.
        """
        count = self.settings.count
        most = max(1, KEPT_PIXELS // self.prior.resolution**2)
        for first in range(0, len(jobs), most):
            part = range(first, min(first + most, len(jobs)))
            made: dict[tuple[int, int], _Outcome] = {}
            found = self._rows(jobs, [(n, k) for n in part for k in range(count)], on_step)
            for n in part:
                own = [(n, k) for k in range(count)]
                while not all(row in made for row in own):
                    made |= next(found)
                outcomes = [made.pop(row) for row in own]
                error = next((one for one in outcomes if isinstance(one, Exception)), None)
                whole = [one for one in outcomes if not isinstance(one, Exception)]
                yield caught(partial(self._answer, jobs[n], whole)) if error is None else error

    def _rows(
        self, jobs: Sequence[Job], rows: Sequence[tuple[int, int]], on_step: OnJobs | None
    ) -> Iterator[dict[tuple[int, int], _Outcome]]:
        """Search rows, (job, sample), in batches of those that may share one, and yield what came of each batch."""
        kinds: dict[Hashable, list[tuple[int, int]]] = {}
        for n, k in rows:
            job = jobs[n]
            shape = job.degradation.low_size if self.workers else None  # padding would round
            # On this exit depend the stages, also those that leave it out, and the choice of an encoder's start.
            smallest = exit_for(self.prior.exits, job.degradation, 1) if self.coarse_steps else None
            kinds.setdefault((job.degradation.kind, smallest, job.size, shape), []).append((n, k))
        # 0 workers: the caller's own thread, with all of PyTorch's
        with single_threads(self.workers) if self.workers else contextlib.nullcontext() as pool:
            parts: list[list[tuple[int, int]]] = []
            for group in kinds.values():
                group.sort(key=lambda row: jobs[row[0]].degradation.low_size)  # similar sizes need little padding
                size = self._size(pool, len(group), getattr(jobs[group[0][0]].degradation, "inner", 0))
                parts += [group[i : i + size] for i in range(0, len(group), size)]
            parts.sort()
            lock, stop = threading.Lock(), threading.Event()

            def work(part: list[tuple[int, int]]) -> dict[tuple[int, int], _Outcome]:
                def tell(own: Sequence[tuple[int, int]], step: Step) -> bool:
                    with lock:
                        if on_step is not None and on_step(own, _of_rows(step, len(own))):
                            stop.set()
                    return stop.is_set()

                def search(own: Sequence[tuple[int, int]]) -> list[_One]:
                    more = self.batches.size - len(own) if self.padded else 0
                    found = [(jobs[n], self.settings.seed + k) for n, k in (*own, *[own[-1]] * more)]
                    return self._search(found, lambda step: tell(own, step))[: len(own)]

                found = caught(partial(self.batches.run, part, search))
                if isinstance(found, Exception):  # each alone, to know which of them failed
                    alone = [caught(partial(self.batches.run, [own], search)) for own in part]
                    ones = [one if isinstance(one, Exception) else one[0] for one in alone]
                    return dict(zip(part, ones, strict=True))
                return dict(zip(part, found, strict=True))

            try:
                yield from map(work, parts) if pool is None else pool.map(work, parts)
            finally:
                stop.set()  # Ctrl-C, or the caller has stopped reading

    def _size(self, pool: ThreadPoolExecutor | None, rows: int, inner: int) -> int:
        """Return how many of so many rows of one kind share a batch."""
        most = self.batches.size
        if pool is not None:
            most = min(most, -(-rows // self.workers))
            if most > 1:
                if most not in self._alone:
                    self._alone[most] = pool.submit(rows_are_alone, self.prior, most).result()
                if not self._alone[most]:
                    return 1
        return most if inner <= SMALL_INNER else max(1, min(most, WARP_PIXELS // inner**2))

    def _search(self, rows: Sequence[tuple[Job, int]], on_step: Callable[[Step], bool | None] | None) -> list[_One]:
        """Search for faces that may share a batch, fade, project and judge them."""
        began = time.perf_counter()
        found, best_step, low, degradation = self._found(rows, on_step)
        job, settings = rows[0][0], self.settings
        if job.size != found.shape[-1]:
            found = resize(found, job.size).clamp(0, 1)
        if job.size != degradation.high_size[0]:
            degradation = degradation.at(job.size)
        faded = trusted(degradation, found, low) if settings.projection else found
        high = self._projected(degradation, faded, low, job)
        reasons: list[str | None] = [None] * len(rows)
        if self.method.searches and not settings.keep_all:
            errors = face_errors(degradation, found, low).tolist()
            reasons = [reason_against(*one, self.prior.alignment) for one in zip(high, errors, strict=True)]
        if settings.strength < 1:
            high = self._projected(degradation, mixed(degradation, faded, low, settings.strength), low, job)
        seconds = (time.perf_counter() - began) / len(rows)
        return [(face.cpu(), int(step), seconds, why) for face, step, why in zip(high, best_step, reasons, strict=True)]

    def _projected(self, degradation: Any, high: Tensor, low: Tensor, job: Job) -> Tensor:
        """Return pictures projected onto the low ones, or as they are where no projection is asked for."""
        if not self.settings.projection:
            return high
        return project(degradation, high, low, rounds=job.rounds, tolerance=job.tolerance)

    def _found(
        self, rows: Sequence[tuple[Job, int]], on_step: Callable[[Step], bool | None] | None
    ) -> tuple[Tensor, Tensor, Tensor, Any]:
        """Return pictures of as many px as are wanted or more, best steps (B,), the inputs and their common degradation."""
        degradation = rows[0][0].degradation.join([job.degradation for job, _ in rows])
        h, w = degradation.low_size
        low = torch.cat([F.pad(j.low, (0, w - j.low.shape[3], 0, h - j.low.shape[2])) for j, _ in rows])
        low = low.to(self.prior.device)
        seeds = [seed for _, seed in rows]
        words = self.method_settings.made_first(self.prior, degradation)
        if words and words not in self._told:
            self._told.add(words)
            self.say(words)
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
            size=self._last_size(rows[0][0]),
        )
        return found.high.float(), found.best_step, low, degradation

    def _answer(self, job: Job, made: Sequence[_One]) -> Answer:
        degradation = job.degradation.join([job.degradation])  # what it builds goes with it
        degradation = degradation if job.size == self.prior.resolution else degradation.at(job.size)
        samples = torch.stack([one[0] for one in made])
        reason = reason_of_most([one[3] for one in made])
        if reason is not None:
            plain = self._projected(degradation, degradation.fit(job.low).clamp(0, 1), job.low, job)
            samples = plain.expand_as(samples)
        if job.grey:  # luma is linear: it shrinks to a grey input just as well
            weights = samples.new_tensor(LUMA)[:, None, None]
            samples = (samples * weights).sum(1, keepdim=True).repeat(1, 3, 1, 1)
        high = samples[0]
        if self.settings.answer == "mean" and reason is None:
            high = self._projected(degradation, samples.mean(0)[None], job.low, job)[0]
        consistency = float(psnr_each(degradation.forward(high[None]), job.low, degradation)[0])
        return Answer(high, samples, consistency, made[0][1], sum(one[2] for one in made), reason)


def rows_that_fit(prior: Prior, workers: int) -> int:
    """Return how many rows each thread may compute together in the memory that is free, from 1 to TOGETHER."""
    free = free_memory()
    if free is None:
        return TOGETHER
    return max(1, min(TOGETHER, free // (max(1, workers) * BYTES_A_NUMBER * prior.generator.arch.features)))


def caught(work: Callable[[], R]) -> R | LatentfaceError | MemoryError:
    """Return what `work` returns, or the error in which it ended where that is this face's own and not the program's."""
    try:
        return work()
    except LatentfaceError as error:
        return error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return MemoryError(str(error))  # without the traceback, which holds what filled the memory


def _of_rows(step: Step, count: int) -> Step:
    """Return a step of a padded batch as its first rows see it."""
    losses = {k: v[:count] for k, v in step.losses.items()}
    return replace(
        step, losses=losses, consistency_db=step.consistency_db[:count], preview=lambda: step.preview()[:count]
    )
