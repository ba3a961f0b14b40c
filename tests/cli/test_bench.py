"""`latentface bench`: its options are the settings of the tables, each with its help."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from latentface.bench.core.settings import RunSettings
from latentface.bench.tables.settings import AblationSettings, FewSampleSettings, SamplesSettings
from latentface.cli.bench import app

COMMANDS = ("table1", "table2", "time", "ablation", "samples", "few-sample", "semantic", "prior")
FACES = ("--high", "faces", "-o", "out")


def read(command: str, *words: str) -> dict[str, object]:
    _, bound, _ = app.parse_args([command, *FACES, *words], exit_on_error=False, print_error=False)
    return bound.arguments


def test_words_become_settings() -> None:
    found = read(
        "ablation", "-f", "4,8", "--rows", "w, whitened;no constraint", "--damages", "none", "--finished", "-q"
    )
    assert found["table"] == AblationSettings(
        high="faces", factors=(4, 8), rows=("w, whitened", "no constraint"), damages=(), finished=True
    )
    assert found["run"] == RunSettings(output=Path("out"))
    assert found["quiet"] is True
    found = read("samples", "--metrics", "psnr, ssim", "--offline", "--batch-size", "2")
    assert found["table"] == SamplesSettings(high="faces", metrics=("psnr", "ssim"))
    assert found["run"] == RunSettings(output=Path("out"), no_fetch=True, batch_size=2)
    found = read("few-sample", "--train", "a", "b", "--pairs", "100, 1000,all", "--steps", "3")
    assert found["table"] == FewSampleSettings(high="faces", train=("a", "b"), pairs=(100, 1000, None), steps=3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("table1", "--factors", "8,x"), "--factors: it is '8,x'; expected numbers separated by commas, such as 8,16"),
        (("table2", "--lows", "4.5"), "--lows: it is '4.5'; expected whole numbers"),
        (("few-sample", "--train", "a", "--pairs", "some"), "--pairs: it is 'some'; expected whole numbers and all"),
        (("semantic", "--seed", "3"), "--seed"),
    ],
)
def test_words_that_cannot_be_used_are_said(call, words: tuple[str, ...], message: str) -> None:
    refused = call("bench", words[0], *FACES, *words[1:])
    assert refused.code == 2
    assert message in refused.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_its_help(call, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    rows = [
        re.split(r"  +", line.strip("│* ")) for line in call("bench", command, "--help").out if re.match("│.* --", line)
    ]
    assert len(rows) > 9
    assert [row[0] for row in rows if len(row) < 2 or (not row[1][0].isalnum() and row[1][0] != '"')] == []


def test_help_loads_no_torch() -> None:
    code = (
        "import sys; from latentface.cli import run; run(['bench', '--help']); run(['bench', 'table1', '--help'])\n"
        "print([m for m in sys.modules if m.startswith('torch')])"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "[]"
