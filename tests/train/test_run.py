"""What all trainings share: how a signal stops them, what a full disk leaves, and a budget that grows."""

from __future__ import annotations

import csv
import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_training import same
from tiny import tiny_prior

from latentface.cli import run
from latentface.errors import OutputError
from latentface.explore.start.encoder import EncoderShape
from latentface.supervised.vdsr import VdsrShape
from latentface.train import encoder as module
from latentface.train.companions import EncoderSettings
from latentface.train.encoder import EncoderFit, train_encoder
from latentface.train.settings import SupervisedSettings
from latentface.train.supervised import train_supervised


@pytest.fixture(autouse=True)
def few_faces(monkeypatch):
    monkeypatch.setattr(module, "HELD", 8)


def an_encoder(folder, steps, **more):
    shape = EncoderShape(rows=4, width=10, parts=20, hidden=24, blocks=1, rank=4)
    settings = EncoderSettings(batch=8, largest_factor=4, checks=2, kept=64)
    return train_encoder(tiny_prior(8), folder / "e.safetensors", steps=steps, settings=settings, shape=shape, **more)


def a_baseline(folder, steps, **more):
    if not (folder / "faces").exists():
        (folder / "faces").mkdir()
        for i in range(12):
            values = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(values).save(folder / "faces" / f"{i:02}.png")
    settings = SupervisedSettings(batch=4, checks=2, validation_pictures=4)
    shape = VdsrShape(factor=4, depth=3, width=8, fold=2)
    given = {"factor": 4, "resolution": 16, "size": shape, "settings": settings, "steps": steps, **more}
    return train_supervised("vdsr", [folder / "faces"], folder / "v.safetensors", **given)


TRAININGS = pytest.mark.parametrize("training", [an_encoder, a_baseline])


def beside(path):
    return path.with_name(path.name + ".train")


def checkpoint(path):
    return torch.load(beside(path) / "checkpoint.pt", weights_only=True)


def signalled_in_step(monkeypatch, step, number):
    """Send this process a signal at the beginning of a step of an encoder's training."""
    whole = EncoderFit.step

    def interrupted(fit, done):
        if fit.steps == step - 1:
            os.kill(os.getpid(), number)
        return whole(fit, done)

    monkeypatch.setattr(EncoderFit, "step", interrupted)


@pytest.mark.parametrize(
    ("number", "stops"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["int", "term"]
)
def test_an_encoder_that_is_stopped_in_its_first_minute_goes_on(tmp_path, monkeypatch, number, stops):
    before, said = signal.getsignal(number), []
    with monkeypatch.context() as patch:
        signalled_in_step(patch, 2, number)
        with pytest.raises(stops) as caught:
            an_encoder(tmp_path, 6, say=said.append)
    told = str(caught.value) if stops is KeyboardInterrupt else said[-1]
    assert told == "stopped at step 2; the same command with --resume goes on from there"
    assert signal.getsignal(number) is before
    path = tmp_path / "e.safetensors"
    assert checkpoint(path)["steps"] == 2
    cut = checkpoint(an_encoder(tmp_path, 6, resume=True))
    (tmp_path / "whole").mkdir()
    whole = checkpoint(an_encoder(tmp_path / "whole", 6))
    assert all(same(cut[name], whole[name]) for name in ("network", "optimiser", "steps"))


def test_the_command_line_says_where_a_run_stopped(prior_file, tmp_path, monkeypatch, capsys):
    path = tmp_path / "e.safetensors"
    command = ["train", "encoder", "-p", str(prior_file), "-o", str(path), "--steps", "3", "--device", "cpu"]
    with monkeypatch.context() as patch:
        signalled_in_step(patch, 1, signal.SIGINT)
        assert run(command) == 130
    assert "stopped at step 1; the same command with --resume goes on from there" in capsys.readouterr().err
    assert checkpoint(path)["steps"] == 1
    assert run([*command, "--resume"]) == 0


def test_the_command_line_says_that_nothing_is_there_before_the_first_step(prior_file, tmp_path, monkeypatch, capsys):
    def stopped(fit):
        raise KeyboardInterrupt

    monkeypatch.setattr(EncoderFit, "begin", stopped)
    command = ["train", "encoder", "-p", str(prior_file), "-o", str(tmp_path / "e.safetensors"), "--steps", "3"]
    assert run([*command, "--device", "cpu"]) == 130
    assert "stopped before the first step; what is on the disk is as it was" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@TRAININGS
def test_a_full_disk_is_one_line_and_leaves_whole_files(training, tmp_path, monkeypatch):
    path = training(tmp_path, 2)
    names = {path.name, *(p.name for p in beside(path).iterdir())}
    failed: list[str] = []
    for place in range(len(names)):  # the disk fills up at each file in turn
        before, written = {p: p.read_bytes() for p in (path, *beside(path).iterdir())}, []

        def full(descriptor, place=place, written=written):
            written.append(descriptor)
            if len(written) > place:
                raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OutputError, match="the disk is full; free some space") as caught:
                training(tmp_path, checkpoint(path)["steps"] + 1, resume=True)
        assert "\n" not in str(caught.value)
        failed.append(Path(str(caught.value).partition(":")[0]).name)
        assert not list(tmp_path.rglob("*.part"))
        changed = {p.name for p, data in before.items() if p.read_bytes() != data}
        assert not changed & {*failed[-1:], *(names - {"checkpoint.pt", *failed})}
    assert failed[0] == "checkpoint.pt"
    assert set(failed) == names
    assert checkpoint(training(tmp_path, 8, resume=True))["steps"] == 8


@TRAININGS
def test_a_larger_budget_is_checked_to_its_end(training, tmp_path):
    training(tmp_path, 4)
    path = training(tmp_path, 8, resume=True)
    with open(beside(path) / "log.csv") as file:
        assert [float(row["step"]) for row in csv.DictReader(file)] == [2, 4, 8]
