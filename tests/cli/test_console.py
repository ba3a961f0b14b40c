"""What goes to the screen beside a bar, and what to a file."""

from __future__ import annotations

import sys

from latentface.cli.console import Talk


def test_results_reach_stdout_while_a_bar_is_on_the_screen(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Talk().progress("work", 2) as bar:
        sys.stdout.write("result\n")
        bar.advance(bar.task_ids[0])
    captured = capsys.readouterr()
    assert captured.out == "result\n"
    assert "work" in captured.err
