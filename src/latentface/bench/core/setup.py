"""What a run is put together from: prior, device, tasks, batch and protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from latentface.bench.core.protocol import Protocol, stored_batch
from latentface.bench.core.settings import DeviceSettings, FaceSettings, PriorSource, TableSettings
from latentface.bench.core.sizes import high_side
from latentface.bench.core.tasks import Task, low_side, task_with_truth
from latentface.bench.core.variants import Variant
from latentface.datasets import FaceSet
from latentface.devices import pick_device
from latentface.errors import InputError
from latentface.prior import registry
from latentface.prior.prior import Prior

PROTOCOL = "bench.json"  # one folder, one protocol: its tables share what is finished
BATCH = {"cpu": 4, "cuda": 32}
MEANT_FOR = 256  # px of the pictures, up to which these fit


def open_prior(prior: PriorSource | None, device: str = "auto", *, fetch: bool = True) -> Prior:
    """Return a prior on its device. Raises as `load_prior` and `pick_device`.

    Without a name it is the embedded one: figures must not depend on what a machine could fetch.
    """
    target = pick_device(device)
    if isinstance(prior, Prior):
        return prior if prior.device == target else prior.to(target)
    return registry.load_prior(registry.EMBEDDED if prior is None else prior, target, offline=not fetch)


def open_table(table: FaceSettings, run: DeviceSettings) -> tuple[Prior, int]:
    """Return a table's prior and its high size in px. Raises as `open_prior` and `high_side`."""
    prior = open_prior(table.prior, run.device, fetch=not run.no_fetch)
    return prior, high_side(prior, table.high_size)


def shrunk(faces: FaceSet, side: int, factors: Iterable[float], table: TableSettings) -> list[Task]:
    """Return the tasks with truth of a set at some factors. Raises InputError where there is none, and as `low_side`."""
    tasks = [task_with_truth(faces, side, low_side(side, f), table.kernel, table.limit) for f in factors]
    if not tasks:
        raise InputError("no factor is named; expected some, as in --factors 8,16")
    return tasks


def batch_size(batch: int | None, prior: Prior, folder: Path) -> int:
    """Return how many faces are searched together: as asked for, as the run in the folder began, or the device's usual.

    Above 256 px the usual number falls with the pictures' area, as memory asks.

    Raises:
        InputError: it is below 1.
    """
    if batch is None:
        usual = BATCH.get(prior.device.type, 8)
        fitting = max(1, usual * MEANT_FOR**2 // max(MEANT_FOR, prior.resolution) ** 2)
        return stored_batch(folder / PROTOCOL) or fitting
    if batch < 1:
        raise InputError(f"the batch size is {batch}; expected at least 1")
    return batch


def make_protocol(
    table: FaceSettings, prior: Prior, side: int, tasks: Sequence[Task], variants: Sequence[Variant], batch: int
) -> Protocol:
    """Return what the figures of some tasks and variants depend on; `side`: the table's high size in px."""
    return Protocol(
        sets={task.dataset: task.faces.crop.summary for task in tasks},
        resolution=side,
        painted=prior.resolution if prior.resolution != side else None,
        kernel=table.kernel,
        prior=prior.name,
        prior_sha256=prior.sha256,
        preset=table.preset,
        seed=table.seed,
        batch=batch,
        device=prior.device.type,
        variants={v.name: v.described(prior) for v in variants},
    )
