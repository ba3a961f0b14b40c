"""The workers of a Ray cluster: each holds what it computes with, and takes parcels of work until there are none.

Ray places the workers, starts again those that die, and carries what is sent. Here is chosen which worker gets what next.
"""

import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from latentface import __version__
from latentface.cluster.settings import ClusterSettings
from latentface.errors import ClusterError, LatentfaceError, require
from latentface.words import counted

AHEAD = 2  # parcels a worker has: one is computed, and one waits, so that it need not wait for this machine
PATIENCE = 30.0  # seconds without a worker, after which it is told that there is none
OBJECTS = 200 << 20  # bytes of shared memory for what is carried, where the cluster is this machine alone


class Computes(Protocol):
    """What a worker holds."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What its results depend on, which must be the same on all machines."""

    @property
    def rows(self) -> int:
        """How many faces it takes at a time."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what came of a parcel's load. Errors that are the parcel's own are returned, not raised."""


@dataclass(slots=True, eq=False)
class Parcel:
    """Work for one worker.

    Attributes:
        key: says what it is, and stays here; load: is sent.
        most: so many workers may die of it before it is given up; died: how many have.
    """

    key: Any
    load: tuple[Any, ...]
    most: int = 3
    died: int = 0


class Actor:
    """The process of a worker, run by Ray; `cores`: how many threads it computes with.

    Each call brings `made`, which is `make`, pickled: a worker that was started again has forgotten it.
    """

    def __init__(self, cores: int) -> None:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see `cli.wait_passively`; read when PyTorch is loaded
        import torch

        torch.set_num_threads(cores)
        self.computes: Computes | None = None

    def hello(self, made: bytes) -> tuple[Mapping[str, Any], int] | ClusterError:
        """Make ready, and return facts and rows, or why this machine cannot."""
        try:
            own = self._ready(made)
        except LatentfaceError as error:
            return ClusterError(f"the worker on {socket.gethostname()}: {error}")
        return {"version": __version__, **own.facts}, own.rows

    def work(self, made: bytes, *load: Any) -> Any:
        """Compute a parcel."""
        return self._ready(made)(*load)

    def _ready(self, made: bytes) -> Computes:
        if self.computes is None:
            from ray import cloudpickle

            self.computes = cloudpickle.loads(made)()
        return self.computes


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker as it is seen from here: what it has been sent, in order, and its greeting while that is awaited."""

    actor: Any
    greeting: Any
    sent: dict[Any, Parcel] = field(default_factory=dict)


class Workers:
    """Workers that are the same everywhere; a context manager, which ends them.

    Raises MissingExtraError: Ray is not installed. ClusterError: the cluster cannot be reached or has no room.

    Args:
        make: pickled, and called by each worker for what it computes with.
        facts: see `Computes`: a worker that has others is not used.
        device: as it was asked for; a worker has a GPU of its own unless that is "cpu" or there is none.
        say: is told in words of workers that die or cannot be used.
    """

    def __init__(
        self,
        settings: ClusterSettings,
        make: Callable[[], Computes],
        facts: Mapping[str, Any],
        *,
        device: str = "auto",
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.facts, self.say = {"version": __version__, **facts}, say
        self.ray, self.own = connect(settings.ray or "auto")
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        cores, gpus = settings.ray_cores, 0 if device == "cpu" else sum(int(node.get("GPU", 0)) for node in nodes)
        self.count = settings.ray_workers or gpus or sum(int(node.get("CPU", 0)) // cores for node in nodes)
        if not self.count:
            self.close()
            raise ClusterError(f"no machine of the cluster has {cores} cores; give a smaller --ray-cores")
        each = "a GPU" if gpus else counted(cores, "core")
        machines = counted(len(nodes), "machine")
        self.words = f"{counted(self.count, 'worker')} of {each}, on {machines} of a Ray cluster"
        options = {"num_cpus": cores, "num_gpus": min(1, gpus), "max_restarts": -1}
        self.made = self.ray.put(self.ray.cloudpickle.dumps(make))
        actors = [self.ray.remote(Actor).options(**options).remote(cores) for _ in range(self.count)]
        self.workers = [_Worker(actor, self._greeted(actor)) for actor in actors]
        self.again: deque[Parcel] = deque()
        self.rows = 1
        self.told: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, and the cluster where it was started here."""
        for worker in getattr(self, "workers", ()):
            with contextlib.suppress(self.ray.exceptions.RayError, ValueError):
                self.ray.kill(worker.actor)
        if self.own:
            self.ray.shutdown()

    def run(self, more: Callable[[], Parcel | None]) -> Iterator[tuple[Parcel, Any]]:
        """Yield parcels with what came of them, as they are finished; a ClusterError where workers died of it.

        `more` is asked for a parcel whenever a worker has room, and gives None while there is nothing to send. It ends
        when that is so and nothing is being computed. What an earlier call left is forgotten.
        """
        self.again.clear()
        for worker in self.workers:
            worker.sent.clear()
        while True:
            while (free := self._free()) is not None:
                parcel = self.again.popleft() if self.again else more()
                if parcel is None:
                    break
                free.sent[free.actor.work.remote(self.made, *parcel.load)] = parcel
            if free is not None and not any(worker.sent for worker in self.workers):
                return
            yield from self._arrived()

    def _greeted(self, actor: Any) -> Any:
        return actor.hello.options(max_task_retries=-1).remote(self.made)  # waits while the worker is started again

    def _free(self) -> _Worker | None:
        """Return the ready worker that has been sent least, None where each has enough."""
        ready = [worker for worker in self.workers if worker.greeting is None and len(worker.sent) < AHEAD]
        return min(ready, key=lambda worker: len(worker.sent), default=None)

    def _arrived(self) -> Iterator[tuple[Parcel, Any]]:
        """Wait for something, and yield what is finished. Raises ClusterError: no worker is left."""
        if not self.workers:
            raise ClusterError("no worker of the cluster can be used")
        errors = self.ray.exceptions
        refs = {ref: worker for worker in self.workers for ref in (*worker.sent, worker.greeting) if ref is not None}
        done, _ = self.ray.wait([*refs], timeout=PATIENCE)
        done, _ = self.ray.wait([*refs], num_returns=len(refs), timeout=0) if done else (done, None)
        if not done and not any(worker.greeting is None for worker in self.workers):
            self._tell("no worker of the cluster is ready yet; waiting (`ray status` shows whether it has room)")
        lost: dict[_Worker, None] = {}
        for ref in done:
            worker = refs[ref]
            try:
                came = self.ray.get(ref)
            except (errors.RayActorError, errors.ObjectLostError, errors.OutOfMemoryError) as error:
                if ref is not worker.greeting:
                    lost[worker] = None
                    continue
                came = ClusterError(f"a worker cannot be started ({str(error).splitlines()[0]})")
            if ref is worker.greeting:
                self._greet(worker, came)
            else:
                yield worker.sent.pop(ref), came
        for worker in lost:
            yield from self._lost(worker)

    def _greet(self, worker: _Worker, came: tuple[Mapping[str, Any], int] | ClusterError) -> None:
        """Take a worker that is ready, or do without it."""
        if not isinstance(came, ClusterError):
            facts, self.rows = came
            other = sorted(key for key in self.facts if facts.get(key) != self.facts[key])
            if not other:
                worker.greeting = None
                return
            came = ClusterError(
                f"a worker differs from this machine in {', '.join(other)}; install the same version and files on all"
            )
        self.workers.remove(worker)
        if not self.workers:
            raise came
        self._tell(f"{came}; going on without it")

    def _lost(self, worker: _Worker) -> Iterator[tuple[Parcel, ClusterError]]:
        """Give what a dead worker had to others: the first was being computed."""
        parcels, worker.sent = [*worker.sent.values()], {}
        worker.greeting = self._greeted(worker.actor)
        self.say("a worker died: what it had is computed again, and Ray starts it anew")
        first = parcels[0]
        first.died += 1
        if first.died == first.most:
            yield parcels.pop(0), ClusterError(f"{first.died} workers died of it: of its size, or of a library's fault")
        self.again.extendleft(reversed(parcels))

    def _tell(self, message: str) -> None:
        if message not in self.told:
            self.told.add(message)
            self.say(message)


def connect(address: str) -> tuple[Any, bool]:
    """Join a Ray cluster, and return Ray and whether the cluster was started here and is ended with the run.

    "auto" is the cluster that `ray start` began on this machine, or that RAY_ADDRESS names, else a new one that no other
    machine can reach. Raises MissingExtraError, ClusterError.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = require("ray", "ray", "--ray")
    from ray._private import ray_constants, worker

    # Ray tells of dead workers on standard output, where results are.
    worker.print_to_stdstream = lambda *_, **__: None
    if ray.is_initialized():
        return ray, False
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    if address != "auto":
        try:  # Ray itself would ask again and again, for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address=address, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise ClusterError(f"there is no Ray cluster at {address} ({str(error).splitlines()[0]})") from None
        return ray, False
    many, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False  # listen on 127.0.0.1 alone
    own = {"object_store_memory": OBJECTS, "include_dashboard": False, "_system_config": {"worker_niceness": 0}}
    with contextlib.suppress(ValueError):  # `ray start` has begun one, of which `own` cannot be chosen
        ray.init(**own, **quiet)
        return ray, True
    try:
        ray_constants.ENABLE_RAY_CLUSTER = many
        ray.init(**quiet)
        return ray, False
    except ConnectionError:  # it has ended, and Ray's file of its address is left
        ray_constants.ENABLE_RAY_CLUSTER = False
        ray.init(address="local", **own, **quiet)
        return ray, True
