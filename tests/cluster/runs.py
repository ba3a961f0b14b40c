"""A run of the command and its results, for tests with a cluster and without."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

OF_A_RUN = ("seconds", "threads", "batch")


def results(folder: Path) -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Return the pixels and the record of each result, by its name."""
    found = {}
    for path in folder.rglob("*.png"):
        record = json.loads(path.with_suffix(".json").read_text())
        record = {k: v for k, v in record.items() if k not in OF_A_RUN}
        found[str(path.relative_to(folder))] = (np.asarray(Image.open(path)).tobytes(), record)
    return found


def when(there: Callable[[], bool], then: Callable[[], object]) -> threading.Thread:
    """Do something, in a thread of its own, as soon as something is there."""

    def watch() -> None:
        until = time.monotonic() + 600
        while not there() and time.monotonic() < until:
            time.sleep(0.02)
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread
