"""Commands that cannot run on a cluster: a line says what to do, before anything is loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .conftest import Call, written_faces

INSTALL = "pip install 'latentface[ray]'"


def test_ray_is_not_installed(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    faces = written_faces(tmp_path / "in", 1)
    table = ("bench", "table1", "--high", faces, "--methods", "bilinear", "--metrics", "psnr")
    for command in (("upscale", faces), table):
        code, out, err = call(*command, "-o", tmp_path / "out", "-p", "celeba128", "--ray", "auto", "-q")
        assert code == 1
        assert out == []
        assert INSTALL in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--manifest", "list.jsonl"], "add --ray auto"),
        (["--ray-cores", "2"], "name it with --ray"),
        (["--ray", "auto", "--ray-workers", "0"], "expected at least 1"),
        (["--ray", "auto", "--manifest", "list.jsonl", "--all-frames"], "leave --all-frames out"),
    ],
)
def test_options_that_do_not_go_together(call: Call, tmp_path: Path, options: list[str], words: str) -> None:
    code, out, err = call("upscale", written_faces(tmp_path / "in", 1), "-o", tmp_path / "out", *options)
    assert (code, out) == (2, [])
    assert words in err
    assert err.count("\n") == 1


def test_steps_are_of_searches_on_this_machine(call: Call, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="this test needs Ray")
    code, _, err = call("upscale", written_faces(tmp_path / "in", 1), "--ray", "auto", "--save-steps")
    assert code == 2
    assert "leave it out with --ray" in err
