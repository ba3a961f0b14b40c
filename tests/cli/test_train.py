"""`latentface train prior`: a tiny run from the command line, going on with it, and wrong options."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from latentface.cli.train import table_of
from latentface.errors import InputError
from latentface.train.session import saved_settings

TINY = [
    "--resolution",
    8,
    "--channels",
    "4:4,8:4",
    "--latent",
    8,
    "--mapping-layers",
    1,
    "--batch",
    4,
    "--device",
    "cpu",
]


@pytest.fixture
def data(face, tmp_path):
    for i in range(8):
        face(tmp_path / "data" / f"{i}.png", (8, 8), i)
    return tmp_path / "data"


def test_train_then_resume_then_use(call, data, face, tmp_path):
    prior = tmp_path / "my.safetensors"
    done = call("train", "prior", "--data", data, "-o", prior, "--pictures", 8, *TINY)
    assert done.code == 0, done.err
    assert done.out == [str(prior)]
    refused = call("train", "prior", "--data", data, "-o", prior, "--pictures", 16, *TINY)
    assert refused.code == 1
    assert "--resume" in refused.err
    assert (
        call("train", "prior", "--data", data, "-o", prior, "--pictures", 16, "--resume", "--device", "cpu").code == 0
    )
    assert "pictures: 16" in call("models", "info", prior).out
    assert (
        call("upscale", face(tmp_path / "a.png", (2, 2)), "-o", tmp_path / "out", "-p", prior, "--steps", 1).code == 0
    )


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ([], 2, "--minutes or --pictures"),
        (["--pictures", 8, "--alignment", "passport"], 2, "expected one of"),
        (["--pictures", 8, "--channels", "4=8"], 2, "expected a table"),
        (["--pictures", 8, "--resume"], 1, "no checkpoint to resume"),
        (["--pictures", 8, "--init", "no.safetensors"], 1, "no such file"),
        (["--pictures", 8, "--resolution", 33], 2, "33"),
    ],
)
def test_wrong_options(call, data, tmp_path, options, code, words):
    done = call("train", "prior", "--data", data, "-o", tmp_path / "p.safetensors", "--device", "cpu", *options)
    assert done.code == code, done.err
    assert words in done.err


def test_no_data(call, tmp_path):
    done = call("train", "prior", "--data", tmp_path / "no", "-o", tmp_path / "p.safetensors", "--pictures", 8, *TINY)
    assert done.code == 1
    assert "there is no such file or folder" in done.err


def test_help_says_what_each_option_means_without_pytorch():
    code = (
        "import sys; from latentface.cli import run\n"
        "codes = [run(['train', *kind, '--help']) for kind in ([], ['prior'], ['encoder'], ['exits'], ['judge'], ['esrgan'])]\n"
        "assert not any(codes) and 'torch' not in sys.modules"
    )
    env = {**os.environ, "COLUMNS": "200"}
    shown = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout
    for words in ("--output -o", "Weight of R1.", "Half-life of the generator", "[choices: pixel, gan]"):
        assert words in shown
    assert "--g-rate" not in shown
    assert "--warmup" not in shown


def test_a_run_that_goes_on_takes_only_what_is_named(call, data, tmp_path):
    prior = tmp_path / "p.safetensors"
    first = ("train", "prior", "--data", data, "-o", prior, "--pictures", 8, *TINY, "--gamma", 3, "--rate", 0.001)
    assert call(*first, "--seed", 5).code == 0
    command = ("train", "prior", "--data", data, "-o", prior, "--device", "cpu", "--resume")
    assert call(*command, "--pictures", 16, "--gamma", 0.1, "--seed", 6).code == 0  # 0.1 is the default, but named
    settings = saved_settings(prior)
    assert (settings.batch, settings.gamma, settings.g_rate, settings.seed) == (4, 0.1, 0.001, 5)
    assert call(*command, "--pictures", 20, "--rate", 0.002).code == 0
    assert saved_settings(prior) == replace(settings, g_rate=0.002, d_rate=0.002)


def test_the_channel_table():
    assert table_of("4:128,8:64") == {4: 128, 8: 64}
    with pytest.raises(InputError, match="expected a table"):
        table_of("4:x")
