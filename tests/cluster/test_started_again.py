"""`latentface upscale --ray auto` on this machine alone: killed, and started again by the same command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from latentface.io.manifest import Manifest

from .conftest import HERE, Call, written_faces
from .runs import results, when


@pytest.fixture
def own_cluster() -> dict[str, str]:
    """The environment of a command that starts a cluster of this machine's own."""
    return {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src"), "LATENTFACE_OFFLINE": "1"}


@pytest.mark.usefixtures("ray")
def test_a_command_that_is_killed_and_started_again(
    prior_file: Path, tmp_path: Path, own_cluster: dict[str, str], upscale: Call
) -> None:
    faces, alone, spread = written_faces(tmp_path / "in", 20), tmp_path / "alone", tmp_path / "spread"
    upscale(faces, "-o", alone, steps=5)
    command = [sys.executable, "-m", "latentface", "upscale", faces, "-o", spread, "-p", prior_file, "--steps", "5"]
    command += ["--device", "cpu", "--keep-all", "--aligned", "--ray", "auto", "--manifest", tmp_path / "list.jsonl"]
    first = subprocess.Popen(command, env=own_cluster, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    import psutil  # comes with Ray

    workers: list[Any] = []
    listening: set[str] = set()

    def kill() -> None:
        processes = psutil.Process(first.pid).children(recursive=True)
        workers.extend(process for process in processes if "Actor" in process.name())
        listening.update(*map(addresses, processes))
        first.send_signal(signal.SIGKILL)

    when(lambda: len(list(spread.glob("*.json"))) > 4 or first.poll() is not None, kill).join()
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    done = {p.stem: p.stat().st_mtime_ns for p in spread.glob("*.json")}
    assert 4 < len(done) < 20
    second = subprocess.run(command, env=own_cluster, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    made = [Path(line).stem for line in second.stdout.splitlines()]
    assert sorted([*made, *done]) == [f"{i:05d}" for i in range(20)]
    assert results(spread) == results(alone)
    assert {name: (spread / f"{name}.json").stat().st_mtime_ns for name in done} == done
    assert not len(Manifest(tmp_path / "list.jsonl"))


def addresses(process: Any) -> set[str]:
    """Return the addresses at which a process waits for others, none where that cannot be told."""
    import psutil

    try:
        found = process.net_connections(kind="tcp")
    except psutil.Error:
        return set()
    return {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}
