"""A search that somebody watches: what was found so far, a few times a second, and at the end the result.

The search runs in a thread of its own; what it tells meanwhile is put together here, so that a slow reader sees the latest
state and never holds the search up.
"""

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from latentface.degradation import resize
from latentface.devices import return_memory
from latentface.explore.result import Step
from latentface.io.pictures import to_pillow
from latentface.io.sheets import sheet_of
from latentface.restore.upscaler import Found, Result, Upscaler
from latentface.words import duration

EVERY = 5  # steps, after which a face's preview is drawn again
SIDE = 160  # px of a preview
TELLING = 0.03  # share of a search after which the time left is told
PAUSE = 0.4  # seconds between two states at least


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is.

    Attributes:
        share: of its time that is done, from 0 to 1; seconds: since it began.
        faces: by number, the best face so far, (3, s, s) in [0, 1], s at most `SIDE`; of the first sample.
        losses: by step, the sum of the losses, a mean over the faces and samples that have come so far.
    """

    share: float
    seconds: float
    faces: Mapping[int, Tensor]
    losses: Mapping[int, float]

    @property
    def left(self) -> float:
        """Seconds that the rest will take, about; infinite before the first step."""
        return self.seconds * (1 - self.share) / self.share if self.share else math.inf

    @property
    def preview(self) -> Image.Image | None:
        """The best faces so far, in rows with their numbers; None before the first."""
        return sheet_of({str(number): to_pillow(face) for number, face in sorted(self.faces.items())}, SIDE)

    @property
    def words(self) -> str:
        """How far it is, for people; without the time that is left until that can be told.

        Faces that are far from their inputs are searched on after the last step, and then all are finished: "finishing".
        """
        if self.share > 1 - 1e-6:
            return "finishing"
        return f"{100 * self.share:.0f} %" + (f", about {duration(self.left)} left" if self.share > TELLING else "")


class Watch:
    """Searches for the faces of one picture; iterate over it for `Progress` and, last, the result.

    Args:
        most: seconds, after which the search ends by itself at its best faces so far.

    Attributes:
        stop: set it, and the search ends at its best faces so far, at the next step; the record says `stopped_early`.
    """

    def __init__(self, upscaler: Upscaler, found: Found, most: float = math.inf) -> None:
        self.stop = threading.Event()
        self._most = most
        self._upscaler, self._found = upscaler, found
        self._rows = max(1, len(found.jobs) * upscaler.settings.count)
        self._lock, self._news = threading.Lock(), threading.Event()
        self._began, self._share, self._stopped = 0.0, 0.0, False
        self._faces: dict[int, Tensor] = {}
        self._losses: dict[int, list[float]] = {}
        self._outcome: Any = None

    def __iter__(self) -> Iterator[Progress | Result]:
        """Yield what was found so far, and last the result; where the reader goes away, stop. Raises what the search raises."""
        self._began = time.monotonic()
        thread = threading.Thread(target=self._search, name="latentface search")
        thread.start()
        try:
            while thread.is_alive():
                if self._news.wait(PAUSE) and thread.is_alive():
                    self._news.clear()
                    yield self._now()
                    thread.join(PAUSE)
        finally:
            self.stop.set()
            thread.join()
            return_memory()  # each search has threads of its own, whose freed memory no later one uses
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        early = {"stopped_early": True} if self._stopped else {}
        yield replace(self._outcome, record={**self._outcome.record, **early})

    def _search(self) -> None:
        try:
            self._outcome = next(self._upscaler.finish([self._found], self._tell))
        except BaseException as error:  # raised in the reader's thread
            self._outcome = error

    def _tell(self, rows: Sequence[tuple[int, int]], step: Step) -> bool:
        """Note a step of some rows, (job, sample); return whether to stop."""
        with self._lock:
            self._share += len(rows) * step.part / self._rows
            told = torch.stack(list(step.losses.values())).sum(0).tolist()
            self._losses.setdefault(step.number, []).extend(value for value in told if math.isfinite(value))
            numbers = [getattr(self._found.jobs[job], "number", 1) for job, _ in rows]
            first = {n for n, (_, k) in zip(numbers, rows, strict=True) if k == 0}
            if first - self._faces.keys() or step.number % EVERY == 0 or step.number == step.total:
                drawn = step.preview()
                drawn = resize(drawn, SIDE).clamp(0, 1) if drawn.shape[-1] > SIDE else drawn
                self._faces |= {n: face.cpu() for n, (_, k), face in zip(numbers, rows, drawn, strict=True) if k == 0}
        self._news.set()
        self._stopped |= self.stop.is_set() or time.monotonic() - self._began > self._most
        return self._stopped

    def _now(self) -> Progress:
        seconds = time.monotonic() - self._began
        with self._lock:
            losses = {number: sum(v) / len(v) for number, v in sorted(self._losses.items()) if v}
            return Progress(min(1.0, self._share), seconds, dict(self._faces), losses)
