"""Workers that die, are lost with their machine, or cannot be used: nothing is lost, and nothing comes twice."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from latentface.cluster.settings import ClusterSettings
from latentface.errors import ClusterError, InputError

from .conftest import HERE

FACTS = {"prior": "one"}


def workers(count: int | None, make: Any = None, said: list[str] | None = None, **settings: Any) -> Any:
    """Return workers that double numbers."""
    from poison import Doubles

    from latentface.cluster.workers import Workers

    asked = ClusterSettings(ray="auto", ray_workers=count, **settings)
    say = (lambda message: None) if said is None else said.append
    return Workers(asked, make or partial(Doubles, FACTS), FACTS, device="cpu", say=say)


def parcels(numbers: list[int]) -> Any:
    """Return what gives a parcel a number, until there are none."""
    from latentface.cluster.workers import Parcel

    left = iter(numbers)
    return lambda: next((Parcel(n, (n,)) for n in left), None)


@pytest.fixture(autouse=True)
def poisons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


def test_a_load_that_kills_its_workers_is_given_up_and_the_others_are_done_once(add_node: Any) -> None:
    add_node()
    said: list[str] = []
    numbers = [1, 2, -1, 3, 4, 5, 6]
    with workers(2, said=said) as two:
        came = [(parcel.key, outcome) for parcel, outcome in two.run(parcels(numbers))]
    assert sorted(key for key, _ in came) == sorted(numbers)
    assert {key: outcome[0] for key, outcome in came if key > 0} == {n: 2 * n for n in numbers if n > 0}
    (error,) = [outcome for key, outcome in came if key == -1]
    assert isinstance(error, ClusterError)
    assert len(said) in (3, 4)  # a finished neighbour, whose answer died with its worker, may be blamed once
    assert "a worker died" in said[0]


def test_a_machine_that_is_lost_and_does_not_come_back(add_node: Any) -> None:
    from poison import Doubles

    kill = add_node()
    sent, keys, processes = [], [], set()
    next_parcel = parcels(list(range(1000)))

    def more() -> Any:
        """Give parcels until the machine is lost and 30 are sent: the second worker may be slow to begin."""
        if kill is None and len(sent) >= 30:
            return None
        sent.append(next_parcel())
        return sent[-1]

    with workers(2, partial(Doubles, FACTS, 0.1)) as two:
        for parcel, (twice, process) in two.run(more):
            keys.append(parcel.key)
            processes.add(process)
            assert twice == 2 * parcel.key
            if len(processes) == 2 and kill is not None:
                kill()
                kill = None
    assert kill is None
    assert sorted(keys) == [parcel.key for parcel in sent]


def test_a_machine_that_joins_later_is_used(add_node: Any) -> None:
    from poison import Doubles

    processes, joined = set(), False
    with workers(2, partial(Doubles, FACTS, 0.1)) as two:
        for _, (_, process) in two.run(parcels(list(range(100)))):
            processes.add(process)
            if not joined:
                add_node()
                joined = True
    assert len(processes) == 2


@pytest.mark.usefixtures("cluster")
def test_machines_that_cannot_be_used() -> None:
    from poison import Doubles, nothing

    cases = (
        (nothing, r"the worker on .*: no/such.safetensors: there is no such file"),
        (partial(Doubles, {"prior": "another"}), "a worker differs from this machine in prior; install the same"),
    )
    for make, words in cases:
        with workers(1, make) as one, pytest.raises(ClusterError, match=words):
            list(one.run(parcels([1])))
    with pytest.raises(ClusterError, match="no machine of the cluster has 64 cores"):
        workers(None, ray_cores=64)


def test_no_cluster_is_there(ray: Any) -> None:
    from latentface.cluster.workers import connect

    ray.shutdown()  # who has joined a cluster stays in it
    with pytest.raises(ClusterError, match=r"there is no Ray cluster at 127.0.0.1:1 "):
        connect("127.0.0.1:1")


@pytest.mark.parametrize("settings", [{"ray_cores": 0}, {"ray_workers": 0}, {"ray": None, "ray_cores": 2}])
def test_wrong_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="--ray"):
        ClusterSettings(**{"ray": "auto", **settings})
