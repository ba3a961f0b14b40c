"""Training an encoder: it learns, it resumes exactly, and what it writes is what `upscale --start encoder` reads."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from small_training import same
from tiny import tiny_faces, tiny_prior

from latentface.cli import run
from latentface.degradation import Downscale
from latentface.errors import InputError, TrainingError
from latentface.explore.start.encoder import EncoderShape, read_encoder
from latentface.prior.exits import beside
from latentface.train import encoder as module
from latentface.train.encoder import EncoderFit, EncoderSettings, train_encoder

SHAPE = EncoderShape(rows=4, width=10, parts=20, hidden=24, blocks=1, rank=4)
QUICK = EncoderSettings(batch=8, largest_factor=4, checks=2, kept=128)


@pytest.fixture(autouse=True)
def few_faces(monkeypatch):
    monkeypatch.setattr(module, "HELD", 8)


@pytest.fixture
def small():
    return tiny_prior(8)


def train(prior, path, steps=6, settings=QUICK, **more):
    return train_encoder(prior, path, steps=steps, settings=settings, shape=SHAPE, **more)


def test_it_learns_to_answer(small):
    fit = EncoderFit(small, SHAPE, EncoderSettings(batch=16, largest_factor=4, rate=1e-3, kept=256))
    fit.begin()
    losses = [fit.step(k / 60) for k in range(60)]
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])
    fit.check(losses[-1])
    assert set(fit.figures()) == {"step", "seconds", "loss", "psnr", "consistency"}


def test_half_precision_answers_alike(small):
    found = []
    for precision in ("fp32", "bf16"):
        losses = []
        for seed in range(4):
            fit = EncoderFit(
                small, SHAPE, EncoderSettings(batch=8, largest_factor=4, precision=precision, seed=seed, kept=128)
            )
            fit.begin()
            losses.append(fit.step(0.5))
        found.append(losses)
    assert found[0] != found[1]  # another arithmetic ...
    assert found[1] == pytest.approx(found[0], rel=0.05)  # ... of the same losses
    with pytest.raises(InputError, match="precision is 'fp8'"):
        EncoderSettings(precision="fp8")


def test_a_step_descends_the_stated_loss(small):
    fit = EncoderFit(small, SHAPE, QUICK)
    fit.begin()
    random = torch.Generator().manual_seed(QUICK.seed * 1_000_003)
    high, own = fit.batch(random)
    side = fit.sides(1, random)[0]
    v = fit.network(fit.views(high, side, random), torch.log2(torch.full((8,), 8 / side)))
    answer, down = small.synthesis(small.degaussianise(v)), Downscale(side, 8)
    low_error = (down.forward(answer) - down.forward(high)).square().mean()
    expected = (answer - high).square().mean() + QUICK.low_weight * low_error
    expected = expected + QUICK.latent_weight * (v - own).square().mean()
    torch.testing.assert_close(small.synthesis(small.degaussianise(own)).clamp(0, 1), high, atol=0.002, rtol=0)
    assert fit.step(0.5) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_it_begins_at_the_best_linear_answer(small):
    fit = EncoderFit(small, SHAPE, QUICK)
    views = torch.randn(500, 768, generator=torch.Generator().manual_seed(0)) @ torch.randn(768, 768) / 10
    fit.network.fit_stem(views.view(500, 3, 16, 16))
    x = fit.network.stem(views).detach()
    v = x @ torch.randn(20, 10, generator=torch.Generator().manual_seed(1)) + 2
    fit.network.fit_linear(views.view(500, 3, 16, 16), v)
    torch.testing.assert_close(fit.network.linear(x).detach(), v, atol=0.06 * float(v.std()) * 3, rtol=0.06)


def test_the_stem_whitens_what_it_sees(small):
    fit = EncoderFit(small, SHAPE, QUICK)
    views = (
        5
        * torch.randn(400, 30, generator=torch.Generator().manual_seed(0))
        @ torch.randn(30, 768, generator=torch.Generator().manual_seed(1))
    )
    fit.network.fit_stem(views.view(400, 3, 16, 16))
    parts = fit.network.stem(views).double()
    torch.testing.assert_close(torch.cov(parts.t(), correction=0), torch.eye(20).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(parts.mean(0), torch.zeros(20).double(), atol=1e-3, rtol=0)


def test_sizes_and_noise_are_as_the_settings_say():
    fit = EncoderFit(tiny_prior(32), EncoderShape(rows=8, width=10), EncoderSettings(largest_factor=8, noise=0.5))
    sides = fit.sides(600, torch.Generator().manual_seed(0))
    assert (min(sides), max(sides)) == (4, 16)
    assert 0.4 < sum(s < 8 for s in sides) / 600 < 0.6  # every octave alike
    flat = torch.full((64, 3, 32, 32), 0.5)
    spread = (fit.views(flat, 8, torch.Generator().manual_seed(0)) - 0.5).flatten(1).std(1)
    assert spread.min() < 0.05
    assert 0.15 < spread.max() < 0.5


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(small, tmp_path):
    train(small, tmp_path / "whole.safetensors")

    def stop(tick):
        if tick.step == 3:
            raise KeyboardInterrupt

    path = tmp_path / "cut.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(small, path, on_tick=stop, save_seconds=0)
    train(small, path, resume=True)
    one, other = (
        torch.load(tmp_path / f"{name}.safetensors.train" / "checkpoint.pt", weights_only=True)
        for name in ("whole", "cut")
    )
    assert one["steps"] == other["steps"] == 6
    assert same(one["network"], other["network"])
    assert same(one["optimiser"], other["optimiser"])


def test_what_is_written(small, tmp_path):
    ticks = []
    path = train(small, tmp_path / "e.safetensors", on_tick=ticks.append)
    encoder = read_encoder(path, small)
    assert encoder.card["prior_sha256"] == small.sha256
    assert encoder.card["licence"] == small.licence
    assert (encoder.card["steps"], encoder.card["faces"]) == (6, 140)  # 128 that are kept, and 2 a step
    with open(tmp_path / "e.safetensors.train" / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["step"]) for row in rows] == [3, 6]
    assert encoder.card["figures"]["psnr"] == pytest.approx(float(rows[-1]["psnr"]), abs=0.01)
    assert (tmp_path / "e.safetensors.train" / "samples.png").stat().st_size > 500
    assert [t.step for t in ticks] == [1, 2, 3, 4, 5, 6]
    assert ticks[-1].saved
    assert ticks[-1].done == 1
    assert ticks[2].done == 0.5


def test_a_budget_of_minutes_ends(small, tmp_path):
    path = train(small, tmp_path / "e.safetensors", steps=None, minutes=0.02)
    minutes = read_encoder(path, small).card["minutes"]
    assert 0.02 <= minutes < 0.1


def test_runs_that_cannot_start(small, tmp_path):
    path = tmp_path / "e.safetensors"
    with pytest.raises(InputError, match="how long"):
        train(small, path, steps=None)
    with pytest.raises(InputError, match="more than nothing"):
        train(small, path, steps=0)
    with pytest.raises(TrainingError, match="no checkpoint"):
        train(small, path, resume=True)
    train(small, path, steps=1)
    with pytest.raises(TrainingError, match="already there"):
        train(small, path, steps=1)
    with pytest.raises(TrainingError, match="settings is"):
        train(small, path, resume=True, settings=EncoderSettings(batch=9))
    with pytest.raises(TrainingError, match="prior is"):
        train(tiny_prior(8, seed=1), path, resume=True)
    (tmp_path / "e.safetensors.train" / "checkpoint.pt").write_bytes(b"broken")
    with pytest.raises(TrainingError, match="cannot be read"):
        train(small, path, resume=True)
    small.sha256 = ""
    with pytest.raises(InputError, match="in memory"):
        train(small, tmp_path / "other.safetensors")


def test_a_loss_that_is_not_finite_ends_the_run(small, tmp_path):
    with pytest.raises(TrainingError, match="diverged"):
        train(
            small, tmp_path / "e.safetensors", settings=EncoderSettings(batch=2, largest_factor=4, rate=1e20), steps=40
        )


def test_settings_are_checked():
    for change in ({"batch": 0}, {"rate": 0.0}, {"warmup": 1.0}, {"checks": 0}, {"noise": -0.1}, {"largest_factor": 1}):
        with pytest.raises(InputError, match=next(iter(change))):
            EncoderSettings(**change)


def test_from_training_to_upscaling_on_the_command_line(prior_file, tmp_path, capsys):
    own = tmp_path / "mine.safetensors"
    own.write_bytes(prior_file.read_bytes())
    from latentface.io.pictures import write_picture

    write_picture(tmp_path / "face.png", tiny_faces(1)[0])
    call = ["upscale", tmp_path / "face.png", "-p", own, "-o", tmp_path / "out", "--start", "encoder", "--steps", "2"]
    call += ["--device", "cpu", "--json"]
    assert run([str(c) for c in call]) == 1
    assert "train encoder" in capsys.readouterr().err
    arguments = ["train", "encoder", "-p", own, "--steps", "2", "--batch", "2", "--device", "cpu"]
    assert run([str(a) for a in arguments]) == 0
    assert capsys.readouterr().out.strip() == str(beside(own, "encoder"))
    assert run([str(c) for c in call]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["settings"]["start"] == "encoder"
    assert len(record["encoder_sha256"]) == 64
