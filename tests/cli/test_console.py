"""What goes to the screen beside a bar, and what to a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import latentface
from latentface.cli.console import Talk


def test_results_reach_stdout_while_a_bar_is_on_the_screen(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Talk().progress("work", 2) as bar:
        sys.stdout.write("result\n")
        bar.advance(bar.task_ids[0])
    captured = capsys.readouterr()
    assert captured.out == "result\n"
    assert "work" in captured.err


def test_threads_wait_without_spinning_unless_the_user_says_otherwise():
    code = (
        "import os, sys; from latentface import cli; "
        "said = lambda: (os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules); "
        "cli.run = lambda words: print(*said()) or 0; cli.main()"
    )
    plain = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    plain["PYTHONPATH"] = str(Path(latentface.__file__).parents[1])
    for said, wanted in (
        ({}, "PASSIVE 1000 False"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None False"),
        ({"GOMP_SPINCOUNT": "0"}, "PASSIVE 0 False"),
    ):
        env = {**plain, **said}
        done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
        assert done.stdout.strip() == wanted  # read when PyTorch is imported, which has not happened yet
