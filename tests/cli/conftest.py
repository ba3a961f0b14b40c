"""Calling the command line in this process, and faces to call it with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from latentface.cli import run


@dataclass
class Outcome:
    code: int
    out: list[str]
    err: str


@pytest.fixture
def call(capsys):
    """Run a command line; no error may ever show as a traceback, and stdout is results only."""

    def call(*arguments) -> Outcome:
        code = run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Outcome(code, out.splitlines(), err)

    return call


@pytest.fixture
def upscale(call, prior_file):
    """`latentface upscale` with the tiny prior and few steps."""

    def upscale(*arguments, steps: int = 2) -> Outcome:
        return call("upscale", *arguments, "-p", prior_file, "--steps", steps, "--device", "cpu")

    return upscale


@pytest.fixture
def face():
    """Write a random picture and return its path."""

    def face(path, size=(4, 4), seed=0, mode="RGB"):
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(seed).integers(40, 216, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(values).convert(mode).save(path)
        return path

    return face
