"""A Ray cluster of several nodes on this machine; all of these tests are left out where Ray is not installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentface.cli import run

HERE = Path(__file__).parent
OBJECTS = 80 << 20
Call = Callable[..., tuple[int, list[str], str]]
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray leaves sockets, files and processes to the end of the process, and tells of changes to come."""
    for item in items:
        if HERE in Path(item.fspath).parents:
            for kind in ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning", "FutureWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}"))


@pytest.fixture(scope="session")
def ray() -> Any:
    return pytest.importorskip("ray", reason="these tests need Ray: pip install 'latentface[ray]'")


@pytest.fixture(scope="module")
def cluster(ray: Any) -> Iterator[Any]:
    """A cluster whose head has one core."""
    from ray.cluster_utils import Cluster

    source = HERE.parents[1] / "src"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(source), str(HERE)]))  # of the workers
        patch.setenv("RAY_worker_niceness", "0")
        head = {"num_cpus": 1, "object_store_memory": OBJECTS, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def add_node(cluster: Any) -> Iterator[Callable[[], Callable[[], None]]]:
    """Add a machine of one core; what is returned kills it."""
    nodes: list[Any] = []

    def remove() -> None:
        cluster.remove_node(nodes.pop(), allow_graceful=False)

    def add() -> Callable[[], None]:
        nodes.append(cluster.add_node(num_cpus=1, object_store_memory=OBJECTS))
        return remove

    yield add
    while nodes:
        remove()


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """A command line, run in this process: exit code, results' paths, words."""

    def call(*arguments: object) -> tuple[int, list[str], str]:
        code = run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out.splitlines(), err

    return call


@pytest.fixture
def upscale(call: Call, prior_file: Path) -> Call:
    """`latentface upscale` with the tiny prior, whose faces are none to a detector."""

    def upscale(*arguments: object, steps: int = 2) -> tuple[int, list[str], str]:
        return call(
            "upscale", *arguments, "-p", prior_file, "--steps", steps, "--device", "cpu", "--keep-all", "--aligned"
        )

    return upscale


def written_faces(folder: Path, count: int) -> Path:
    """Write faces of random numbers, 4 px, and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        values = np.random.default_rng(i).integers(40, 216, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{i:05d}.png")
    return folder
