"""The faces of many pictures on many machines: their jobs go to the workers, and each picture ends when its last face is back.

Pictures are read, and results put together, on this machine; searches run on the workers. A face's result depends on its
pixels and its seed alone, so it does not matter who computes it.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, TypeVar

from latentface.cluster.settings import ClusterSettings
from latentface.cluster.workers import Parcel, Workers
from latentface.errors import ClusterError, LatentfaceError
from latentface.restore.aligned import AlignedFace
from latentface.restore.engine import Engine
from latentface.restore.job import Answer, Job
from latentface.restore.upscaler import WINDOW_PIXELS, Found, Result, Upscaler, result_of, taken_of

LOOK_AHEAD = 4  # parcels' worth of jobs that wait here, while more pictures follow
MOST_DEATHS = 3  # of workers, of one face; of several it is found out at once which it is
WINDOW_FACES = 512  # finished pictures and jobs that wait, at most, where no worker has room

K = TypeVar("K")


class Search:
    """What a worker holds: an engine. Arguments are those of `Upscaler`."""

    def __init__(self, **upscaler: Any) -> None:
        self.engine = Upscaler(**upscaler, say=print).engine  # into Ray's log of the worker
        self.facts = facts_of(self.engine)
        self.rows = self.engine.batches.size

    def __call__(self, jobs: Sequence[Job]) -> tuple[list[Answer | LatentfaceError | MemoryError], Mapping[str, Any]]:
        """Return the jobs' answers, or the errors that they ended in, and on what they were computed."""
        return [alone(answer) for answer in self.engine.explore(jobs)], self.engine.machine


def facts_of(engine: Engine) -> dict[str, Any]:
    """Return what results depend on besides the pictures: the same on all machines."""
    return engine.request((1, 1), (1, 1))


def alone(answer: Any) -> Any:
    """Return an answer whose tensors share no memory: what is carried has each number once for each."""
    return answer if isinstance(answer, Exception) else replace(answer, high=answer.high.clone())


@dataclass(slots=True, eq=False)
class Picture(Generic[K]):
    """A picture whose faces are being computed.

    Attributes:
        taken: by job, what it keeps of the answer, see `taken_of`; machines: on what they were computed.
    """

    key: K
    found: Found
    taken: dict[int, Any] = field(default_factory=dict)
    machines: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def pixels(self) -> int:
        """How much of the memory it takes."""
        return 0 if isinstance(self.found, AlignedFace) else math.prod(self.found.photo.size)

    @property
    def finished(self) -> bool:
        """Whether all of its faces are back."""
        return len(self.taken) == len(self.found.jobs)

    def take(self, number: int, answer: Answer | LatentfaceError | MemoryError, machine: Mapping[str, Any]) -> None:
        """Keep what is needed of a job's answer."""
        self.taken[number] = taken_of(self.found, self.found.jobs[number], answer)
        self.machines.append(machine)

    def result(self) -> Result | LatentfaceError | MemoryError:
        """Return the picture's result, whose record says on what it was computed, or the error that it ended in."""
        result = result_of(self.found, [self.taken[n] for n in range(len(self.found.jobs))])
        if isinstance(result, Exception):
            return result
        record = {**result.record, **common(self.machines)}
        return replace(result, record=record)


def common(machines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is the same on all machines, and of what is not a list of all that there are."""
    found: dict[str, Any] = {}
    for name in machines[0] if machines else ():
        values = list(dict.fromkeys(machine[name] for machine in machines))
        found[name] = values[0] if len(values) == 1 else sorted(values)
    return found


class Spread(Generic[K]):
    """Enlarges pictures on the workers of a cluster; a context manager, which ends them. Raises as `Workers`.

    Args:
        upscaler: reads pictures and makes their jobs; its own prior is not searched.
        given: what `upscaler` was made with, for the workers' own; device: of the workers.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        upscaler: Upscaler,
        given: Mapping[str, Any],
        *,
        device: str = "auto",
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        make = partial(Search, **given, device=device)
        self.workers = Workers(settings, make, facts_of(upscaler.engine), device=device, say=say)
        self.count = upscaler.settings.count
        self.most = WINDOW_PIXELS * self.workers.count
        self.open: dict[Picture[K], None] = {}
        self.jobs: deque[tuple[Picture[K], int]] = deque()
        self.single: deque[tuple[Picture[K], int]] = deque()  # jobs of which one killed a worker
        self.finished: deque[Picture[K]] = deque()
        self.following = True

    def __enter__(self) -> "Spread[K]":
        return self

    def __exit__(self, *_: object) -> None:
        self.workers.close()

    def finish(self, pictures: Iterable[tuple[K, Found]]) -> Iterator[tuple[K, Found, Any]]:
        """Yield pictures with their results, or the errors that they ended in, as they are finished.

        `pictures` is asked for the next one only while few enough are open, so that the memory that is needed does not
        depend on how many there are.
        """
        source = iter(pictures)
        self.following = True
        while self.following or self.jobs or self.single:
            for parcel, came in self.workers.run(partial(self._parcel, source)):
                self._take(parcel.key, came)
                yield from self._results()
            yield from self._results()

    def _parcel(self, source: Iterator[tuple[K, Found]]) -> Parcel | None:
        """Return the next jobs to send, after reading as many pictures as are needed to fill some parcels."""
        size = max(1, self.workers.rows // self.count)
        while self.following and len(self.jobs) < LOOK_AHEAD * size and self._has_room():
            self._read(source)
        if self.single:
            own = [self.single.popleft()]
        elif self.jobs:
            even = math.ceil(len(self.jobs) / self.workers.count)
            wanted = size if self.following else min(size, even)
            own = [self.jobs.popleft() for _ in range(min(wanted, len(self.jobs)))]
        else:
            return None
        load = [sent(picture.found.jobs[number]) for picture, number in own]
        return Parcel(own, (load,), most=1 if len(own) > 1 else MOST_DEATHS)

    def _has_room(self) -> bool:
        pixels = sum(picture.pixels for picture in self.open)
        return pixels < self.most and len(self.finished) < WINDOW_FACES

    def _read(self, source: Iterator[tuple[K, Found]]) -> None:
        following = next(source, None)
        if following is None:
            self.following = False
            return
        picture = Picture(*following)
        self.open[picture] = None
        self.jobs.extend((picture, number) for number in range(len(picture.found.jobs)))
        if picture.finished:
            self.finished.append(picture)

    def _take(self, own: Sequence[tuple[Picture[K], int]], came: Any) -> None:
        """Keep the answers of a parcel. One that killed its workers is sent again, each job alone."""
        if isinstance(came, ClusterError) and len(own) > 1:
            self.single.extend(own)
            return
        answers, machine = ([came], {}) if isinstance(came, ClusterError) else came
        for (picture, number), answer in zip(own, answers, strict=True):
            picture.take(number, answer, machine)
            if picture.finished:
                self.finished.append(picture)

    def _results(self) -> Iterator[tuple[K, Found, Any]]:
        while self.finished:
            picture = self.finished.popleft()
            del self.open[picture]
            yield picture.key, picture.found, picture.result()


def sent(job: Job) -> Job:
    """Return a job as it travels: without what only its picture needs, and with numbers of its own."""
    return Job(job.low.clone(), job.degradation, job.size, grey=job.grey, rounds=job.rounds, tolerance=job.tolerance)
