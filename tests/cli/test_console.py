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
        "cli.run = lambda words: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules) or 0; cli.main()"
    )
    plain = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    plain["PYTHONPATH"] = str(Path(latentface.__file__).parents[1])
    for env, wanted in ((plain, "PASSIVE False"), ({**plain, "OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE False")):
        done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
        assert done.stdout.strip() == wanted  # read when PyTorch is imported, which has not happened yet
