"""What the workers of tests hold: some of its loads end the process, as a fault in a library would."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from latentface.cluster.faces import Search
from latentface.errors import WeightsError


class Doubles:
    """Doubles a number; -1 ends the process."""

    rows = 1

    def __init__(self, facts: dict[str, Any], seconds: float = 0.0) -> None:
        self.facts, self.seconds = facts, seconds

    def __call__(self, number: int) -> tuple[int, int]:
        """Return twice the number, and the process."""
        time.sleep(self.seconds)
        if number == -1:
            os._exit(1)
        return 2 * number, os.getpid()


def nothing() -> Doubles:
    """Make ready, on a machine that has no prior."""
    raise WeightsError("no/such.safetensors: there is no such file")


class Poisoned(Search):
    """A search that ends the process at a face whose first pixel is black."""

    def __call__(self, jobs: Sequence[Any]) -> Any:
        """Search as usual, or die."""
        if any(float(job.low[0, :, 0, 0].sum()) == 0 for job in jobs):
            os._exit(1)
        return super().__call__(jobs)
