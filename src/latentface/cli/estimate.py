"""How long a run will take, told from its first steps."""

import time
from collections.abc import Callable, Sequence

from latentface.restore.aligned import AlignedFace
from latentface.restore.upscaler import Found
from latentface.words import counted, duration

SEEN = 3  # steps after which the time is told


class Estimate:
    """Says once how long all searches of a window will take, by the first steps of the first of them."""

    def __init__(self, window: Sequence[Found], say: Callable[[str], None]) -> None:
        aligned = sum(isinstance(found, AlignedFace) for found in window)
        faces = sum(len(found.jobs) for found in window) - aligned
        self.words = [counted(aligned, "aligned face")] if aligned else []
        if faces:
            self.words += [f"{counted(faces, 'face')} in {counted(len(window) - aligned, 'photograph')}"]
        self.say, self.began, self.done, self.said = say, time.perf_counter(), 0.0, False
        self.stamps: list[tuple[float, float]] = []  # seconds and the share done after each step

    def step(self, share: float, last: bool) -> None:
        """Note a step that takes this share of all the time; `last`: no other comes of its search."""
        if self.said:
            return
        self.done += share
        self.stamps.append((time.perf_counter() - self.began, self.done))
        if len(self.stamps) == SEEN or last:
            (first, some), (now, more) = self.stamps[0], self.stamps[-1]
            seconds = now + (1 - more) * ((now - first) / (more - some) if more > some else now / more)
            self.say(f"{' and '.join(self.words)} to upscale: about {duration(seconds)}")
            self.said = True
