"""Put a run together: prior, device, sets, metrics, protocol and the folder that a run resumes in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latentface.bench.core.progress import OnProgress, Progress
from latentface.bench.core.protocol import Protocol, resume, stored_batch
from latentface.bench.core.records import Records
from latentface.bench.core.runner import Runner
from latentface.bench.core.tasks import Task
from latentface.bench.core.variants import Variant
from latentface.datasets import FaceSet, open_faces
from latentface.errors import InputError, MissingDataError
from latentface.metrics.suite import Suite

if TYPE_CHECKING:
    from latentface.prior.prior import Prior

PROTOCOL = "bench.json"  # one folder, one protocol: its tables share what is finished
BATCH = {"cpu": 4, "cuda": 32}
MEANT_FOR = 256  # px of the pictures, up to which these fit


def open_prior(prior: Prior | str | Path | None, device: str, *, fetch: bool = True) -> Prior:
    """Return a prior on its device; "auto" is CUDA where it works, else the CPU. Raises as `load_prior`.

    Without a name it is the embedded one: figures must not depend on what a machine could fetch.
    """
    import torch

    from latentface.prior.prior import Prior
    from latentface.prior.registry import EMBEDDED, load_prior

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        target = torch.device(device)
        torch.empty(1, device=target)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it does not answer"
        raise InputError(f"the device {device!r} cannot be used ({reason}); use --device cpu") from None
    if isinstance(prior, Prior):
        return prior if prior.device == target else prior.to(target)
    return load_prior(EMBEDDED if prior is None else prior, target, offline=not fetch)


def batch_size(batch: int | None, prior: Prior, folder: str | Path) -> int:
    """Return how many faces are searched together: as asked for, as the run in the folder began, or the device's usual.

    Above 256 px the usual number falls with the pictures' area, as memory asks.

    Raises:
        InputError: it is below 1.
    """
    if batch is None:
        usual = BATCH.get(prior.device.type, 8)
        fitting = max(1, usual * MEANT_FOR**2 // max(MEANT_FOR, prior.resolution) ** 2)
        return stored_batch(Path(folder).expanduser() / PROTOCOL) or fitting
    if batch < 1:
        raise InputError(f"the batch size is {batch}; expected at least 1")
    return batch


def open_pair(high: str | Path | None, native: str | Path | None) -> tuple[FaceSet | None, FaceSet | None]:
    """Open the set with truth and the one without. Raises InputError, MissingDataError."""
    if high is None and native is None:
        raise MissingDataError("no data was named; give --high SOURCE (with truth), --native SOURCE (without), or both")
    with_truth = open_faces(high) if high is not None else None
    without = open_faces(native) if native is not None else None
    if with_truth and without and with_truth.name == without.name:
        raise InputError(
            f"both sets are called {without.name!r}; rename one of the folders, so that the table can tell them"
        )
    return with_truth, without


def make_runner(
    *,
    prior: Prior,
    side: int,
    tasks: Sequence[Task],
    variants: Sequence[Variant],
    metrics: Sequence[str],
    kernel: str,
    preset: str,
    seed: int,
    batch: int,
    output: str | Path,
    fetch: bool,
    curve: bool,
    on_progress: OnProgress,
) -> tuple[Runner, Protocol]:
    """Load the metrics, check that the folder's figures belong to the same protocol, and return what runs the tasks.

    Args:
        side: the table's high size in px, `high_side`.

    Raises:
        InputError: the folder holds figures of another protocol. OutputError: it cannot be written.
    """
    folder = Path(output).expanduser()
    protocol = Protocol(
        sets={task.dataset: task.faces.crop.summary for task in tasks},
        resolution=side,
        painted=prior.resolution if prior.resolution != side else None,
        kernel=kernel,
        prior=prior.name,
        prior_sha256=prior.sha256,
        preset=preset,
        seed=seed,
        batch=batch,
        device=prior.device.type,
        variants={v.name: v.described(prior) for v in variants},
    )
    resume(folder / PROTOCOL, protocol)
    on_progress(Progress("loading the metrics"))
    suite = Suite(metrics, device=prior.device, fetch=fetch)
    for name, reason in suite.missing.items():
        on_progress(Progress(f"the metric {name} is not at hand: {reason}"))
    runner = Runner(
        prior=prior,
        side=side,
        tasks=tasks,
        variants=variants,
        suite=suite,
        metrics=metrics,
        folder=folder,
        records=Records(folder / "per_image.csv"),
        curve=Records(folder / "steps.csv") if curve else None,
        set_records=Records(folder / "sets.csv"),
        seed=seed,
        batch=batch,
        on_progress=on_progress,
    )
    return runner, protocol


@contextlib.contextmanager
def weights_from(folder: str | Path | None) -> Iterator[None]:
    """Look for the metrics' weights in a folder while the block runs.

    Raises:
        MissingDataError: there is no such folder.
    """
    if folder is None:
        yield
        return
    if not Path(folder).is_dir():
        raise MissingDataError(f"{folder}: there is no such folder of metric weights")
    before = os.environ.get("LATENTFACE_WEIGHTS")
    os.environ["LATENTFACE_WEIGHTS"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("LATENTFACE_WEIGHTS", None)
        else:
            os.environ["LATENTFACE_WEIGHTS"] = before
