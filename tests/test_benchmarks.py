"""The scripts in benchmarks/ run: each is used by hand only, and would otherwise break unseen."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_engine_beside_bare_passes(prior_file, monkeypatch, capsys):
    options = ["--prior", str(prior_file), "--batch", "1", "--steps", "3", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["engine.py", *options])
    script("engine").main()
    ratio = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("engine / bare"))
    assert 0.5 < float(ratio.split()[4].rstrip(",")) < 20  # the steps are made: stating a problem alone takes no time


@pytest.mark.slow
def test_whole_runs(monkeypatch, capsys):
    performance = script("performance")
    quick = ("-p", "celeba128", "--steps", "2")
    monkeypatch.setattr(
        performance, "RUNS", {"a face": ("face-16px.png", quick), "a photograph": ("photograph-160px.png", quick)}
    )
    performance.runs(1)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| a ")]
    assert len(lines) == 2
    for line in lines:
        clock, result, memory = (float(cell.split()[0]) for cell in line.split("|")[2:5])
        assert 0 < result < clock < 300
        assert 0 < memory < 10
