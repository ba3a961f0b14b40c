"""`latentface methods`, help, version and wrong commands."""

from __future__ import annotations

import json
import re

from latentface import __version__
from latentface.explore.registry import METHODS


def test_methods(call):
    lines = call("methods").out
    assert [line.split()[0] for line in lines] == list(METHODS)
    rows = json.loads("\n".join(call("methods", "--json").out))
    assert [r["name"] for r in rows] == list(METHODS)
    assert all(r["summary"] and r["source"] and {"paper", "equal"} <= set(r["presets"]) for r in rows)


def test_version_and_help(call):
    assert call("--version").out == [__version__]
    text = "\n".join(call("--help").out)
    for command in ("upscale", "degrade", "train", "models", "methods", "doctor", "web"):
        assert re.search(rf"{command} +[A-Z][a-z]+", text), command  # with its line of text
    assert "must not be used to identify" in " ".join(text.split())


def test_a_wrong_command_is_one_line(call):
    done = call("enlarge")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "--help" in done.err
