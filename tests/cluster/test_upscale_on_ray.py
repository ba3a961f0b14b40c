"""`latentface upscale --ray`: the same results as without it, whatever dies or fills up."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import HERE, Call, written_faces
from .runs import results, when


def test_equal_to_a_run_without_it_though_a_machine_is_killed(add_node: Any, upscale: Call, tmp_path: Path) -> None:
    kill = add_node()
    faces, alone, spread = written_faces(tmp_path / "in", 30), tmp_path / "alone", tmp_path / "spread"
    (faces / "cut.png").write_bytes((faces / "00000.png").read_bytes()[:60])
    assert upscale(faces, "-o", alone, steps=10)[0] == 1
    killed = when(lambda: len(list(spread.glob("*.json"))) > 8, kill)
    code, out, err = upscale(faces, "-o", spread, "--ray", "auto", "--ray-workers", 2, steps=10)
    killed.join()
    assert code == 1
    assert "cut.png" in err
    assert "2 workers of 1 core, on 2 machines" in err
    assert "30 done" in err
    assert "1 failed" in err
    assert sorted(out) == sorted(str(spread / f"{i:05d}.png") for i in range(30))
    assert results(spread) == results(alone)
    assert not list(spread.rglob("*.part"))
    again = upscale(faces, "-o", spread, "--ray", "auto", steps=10)
    assert again[1] == []
    assert "30 already there; 1 failed" in again[2]


@pytest.mark.usefixtures("cluster")
def test_a_face_that_kills_workers_is_told_and_the_others_are_done(
    upscale: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(HERE)
    from poison import Poisoned

    faces, alone, spread = written_faces(tmp_path / "in", 9), tmp_path / "alone", tmp_path / "spread"
    values = np.asarray(Image.open(faces / "00004.png")).copy()
    values[0, 0] = 0
    Image.fromarray(values).save(faces / "00004.png")
    upscale(faces, "-o", alone)
    monkeypatch.setattr("latentface.cluster.faces.Search", Poisoned)
    code, out, err = upscale(faces, "-o", spread, "--ray", "auto", "--ray-workers", 1)
    assert code == 1
    assert err.count("00004.png: 3 workers died of it") == 1
    expected = results(alone)
    expected.pop("00004.png")
    assert results(spread) == expected
    assert len(out) == 8


@pytest.mark.usefixtures("cluster")
def test_a_full_disk_ends_the_run_and_the_same_command_goes_on(upscale: Call, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("this test may not mount a tmpfs here")
    try:
        faces = written_faces(tmp_path / "in", 12)
        command = (faces, "-o", disk / "out", "--ray", "auto", "--manifest", disk / "list.jsonl")
        (disk / "ballast").write_bytes(b"x" * (160 * 1024 - 10 * 4096))
        code, out, err = upscale(*command)
        assert code == 1
        assert err.count("the disk is full; free some space") == 1
        assert "not tried" in err
        assert 0 < len(out) < 12
        (disk / "ballast").unlink()
        code, more, err = upscale(*command)
        assert code == 0, err
        assert sorted(out + more) == sorted(str(disk / "out" / f"{i:05d}.png") for i in range(12))
        assert len(results(disk / "out")) == 12
    finally:
        subprocess.run(["umount", disk], check=True)
