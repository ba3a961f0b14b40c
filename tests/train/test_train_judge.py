"""Training a judge: it learns to tell samples from photographs, resumes exactly, and what is written is what a prior takes."""

from __future__ import annotations

import csv
import json

import pytest
import torch
import torch.nn.functional as F
from small_training import coloured, same, write_pictures
from tiny import mobile_prior, tiny_prior

from latentface.cli import run
from latentface.degradation import Downscale
from latentface.errors import InputError, TrainingError
from latentface.io.weights import read_card
from latentface.prior import load_prior
from latentface.prior.exits import beside
from latentface.prior.judge import Judge, signed
from latentface.train import judge as module
from latentface.train.companions import JudgeSettings
from latentface.train.gan import logistic_loss, r1_penalty
from latentface.train.judge import JudgeFit, blurred, shifted, train_judge
from latentface.train.samples import wandering_rows

QUICK = JudgeSettings(batch=4, checks=2, r1_every=3, kept=7)


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch):
    monkeypatch.setattr(module, "HELD", 12)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return [write_pictures(tmp_path_factory.mktemp("faces"), 16, 16)]


def fit_of(prior, settings=QUICK, pictures=None):
    return JudgeFit(prior, prior.judge, coloured(40, 16) if pictures is None else pictures, settings)


def train(prior, data, path, steps=6, settings=QUICK, **more):
    return train_judge(prior, data, path, **{"start": prior.judge, "steps": steps, "settings": settings, **more})


def checkpoint(path):
    return torch.load(path.with_name(path.name + ".train") / "checkpoint.pt", weights_only=True)


# -- what it learns ----------------------------------------------------------------------------------------------------


def test_it_tells_apart_what_it_never_saw(prior):
    fit = fit_of(prior, JudgeSettings(batch=8, rate=0.01, average=0.9, sample_every=1))
    fit.check(0.0)
    for k in range(60):
        fit.step(k / 60)
    fit.check(0.0)
    before, after = fit.history
    assert after["auc"] > max(0.95, before["auc"])
    assert after["auc_blurred"] > 0.9
    assert after["real"] > after["made"] + 1


def test_it_cannot_tell_samples_from_samples(prior):
    samples = fit_of(prior).paint(120, torch.Generator().manual_seed(99))
    fit = fit_of(prior, JudgeSettings(batch=8, average=0.9, sample_every=1), samples)
    fit.check(0.0)
    fit._sets = tuple(x.float() / 255 for x in fit.paint(400, torch.Generator().manual_seed(98)).split(200))
    for k in range(20):
        fit.step(k / 20)
    fit.check(0.0)
    assert 0.35 < fit.figures()["auc"] < 0.65  # both kinds come to it alike


def test_a_step_descends_the_stated_loss(prior):
    fit = fit_of(prior, JudgeSettings(batch=4, gamma=3.0, r1_every=1, average=0.5))
    random = fit._random(0)
    pool = fit.paint(4, random)
    shown = fit.pictures[fit.shown[fit.order.indices(0, 4)]]
    made = pool[torch.randint(4, (4,), generator=random)]
    seen = signed(fit.views(torch.cat([shown, made]), random))
    one = torch.cat([fit.network(x) for x in seen.split(1)])  # each alone
    expected = F.softplus(one[4:]).mean() + F.softplus(-one[:4]).mean()
    before = {k: v.clone() for k, v in fit.network.state_dict().items()}
    assert fit.step(0.5) == pytest.approx(float(expected.detach()), rel=1e-5)
    steps = {int(s["step"]) for s in fit.optimiser.state_dict()["state"].values()}
    assert steps <= {1, 2}
    assert 2 in steps  # R1's
    for name, value in fit.average.named_parameters():
        torch.testing.assert_close(value, (before[name] + fit.network.state_dict()[name]) / 2)


def test_the_losses_are_those_of_the_papers():
    real, made = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    expected = -(torch.sigmoid(real).log().mean() + torch.sigmoid(-made).log().mean())
    torch.testing.assert_close(logistic_loss(real, made), expected)
    pictures = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    penalty = r1_penalty(lambda x: x.square().sum((1, 2, 3)), pictures)  # whose slope is 2 x
    torch.testing.assert_close(penalty, 4 * pictures.square().sum((1, 2, 3)).mean())


# -- what it sees ------------------------------------------------------------------------------------------------------


def test_samples_are_painted_at_full_size_and_shrunk():
    large = mobile_prior(32, tiny_prior(16).judge)
    large.sha256 = "1" * 64
    for share in (0.0, 1.0):
        fit = fit_of(large, JudgeSettings(wandering=share))
        found = fit.paint(3, torch.Generator().manual_seed(5))
        random = torch.Generator().manual_seed(5)
        rows = large.mapping(torch.randn(3, large.z_dim, generator=random))
        torch.rand(3, 1, 1, generator=random)
        rows = wandering_rows(large, random, 3) if share else rows
        high = large.synthesis(rows, fast=True).clamp(0, 1)
        expected = Downscale(16, 32, "lanczos").forward(high).clamp(0, 1) * 255
        assert found.shape == (3, 3, 16, 16)
        assert (found.float() - expected).abs().max() < 0.51


def test_old_samples_make_room(prior):
    fit = fit_of(prior)  # four samples in the first step, and one in every second one
    for k in range(9):
        fit.step(k / 9)
    assert (len(fit.pool), fit.painted) == (7, 8)
    assert torch.equal(fit.pool[0], fit.paint(1, fit._random(8))[0])
    assert torch.equal(fit.pool[6], fit.paint(1, fit._random(6))[0])


def test_views_are_mirrored_shifted_and_blurred(prior):
    pictures = torch.randint(256, (64, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    x = pictures.float() / 255
    moved = shifted(x, torch.Generator().manual_seed(0))
    wide = F.pad(x, (2,) * 4, mode="reflect")
    for one, other in zip(moved[:8], wide[:8], strict=True):
        found = [torch.equal(one, other[:, i : i + 32, j : j + 32]) for i in range(5) for j in range(5)]
        assert sum(found) == 1
    soft = blurred(x, 8)
    expected = F.interpolate(Downscale(8, 32).forward(x).clamp(0, 1), size=32, mode="bilinear", align_corners=False)
    torch.testing.assert_close(soft, expected)
    small = pictures[:, :, :16, :16]
    sharp = fit_of(prior, JudgeSettings(blurred=0.0)).views(small, torch.Generator().manual_seed(1))
    always = [
        fit_of(prior, JudgeSettings(blurred=1.0)).views(small, torch.Generator().manual_seed(k)) for k in range(12)
    ]
    assert sharp.std() > 1.5 * max(x.std() for x in always)
    assert max(x.std() for x in always) > 1.2 * min(x.std() for x in always)  # of several sizes


def test_half_precision_learns_about_the_same(prior):
    found = []
    for precision in ("fp32", "bf16"):
        fit = fit_of(prior, JudgeSettings(batch=4, precision=precision))
        found.append([fit.step(k / 4) for k in range(4)])
    assert found[0] != found[1]
    assert found[1] == pytest.approx(found[0], rel=0.1)


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(prior, data, tmp_path):
    train(prior, data, tmp_path / "whole.safetensors")

    def stop(tick):
        if tick.step == 3:
            raise KeyboardInterrupt

    path = tmp_path / "cut.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(prior, data, path, on_tick=stop)
    assert checkpoint(path)["steps"] == 3
    train(prior, data, path, resume=True)
    one, other = checkpoint(tmp_path / "whole.safetensors"), checkpoint(path)
    assert one["steps"] == other["steps"] == 6
    for part in ("network", "average", "optimiser", "pool"):
        assert same(one[part], other[part]), part


def test_what_is_written(prior, data, tmp_path):
    path = train(prior, data, tmp_path / "j.safetensors", licence="for tests")
    card, judge = read_card(path, "judge"), Judge.read(path)
    assert (card["prior"], card["prior_sha256"], card["alignment"]) == ("tiny", prior.sha256, "celeba")
    assert (card["licence"], card["start"], card["steps"], card["held"]) == ("for tests", "tiny", 6, 4)
    assert (judge.name, judge.resolution, judge.network.arch.mbstd_group) == ("j", 16, 1)
    saved = checkpoint(path)
    for name, value in saved["average"].items():
        torch.testing.assert_close(judge.network.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    with open(tmp_path / "j.safetensors.train" / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["step"]) for row in rows] == [3, 6]
    assert card["figures"] == {name: pytest.approx(float(rows[-1][name]), abs=1e-4) for name in module.FIGURES}
    assert (tmp_path / "j.safetensors.train" / "samples.png").stat().st_size > 500


def test_runs_that_cannot_start(prior, data, tmp_path):
    path = tmp_path / "j.safetensors"
    with pytest.raises(InputError, match="how long"):
        train(prior, data, path, steps=None)
    with pytest.raises(InputError, match="mobile was made in memory"):
        train(mobile_prior(32), data, path, start=prior.judge)
    with pytest.raises(InputError, match=r"looks at 32 px, and the prior tiny makes faces of 16 px.*--init"):
        train(prior, data, path, start=tiny_prior(32).judge)
    with pytest.raises(TrainingError, match="3 pictures are too few"):
        fit_of(prior, pictures=coloured(3, 16))
    assert list(tmp_path.iterdir()) == []
    train(prior, data, path, steps=1)
    with pytest.raises(TrainingError, match="already there"):
        train(prior, data, path)
    with pytest.raises(TrainingError, match="the checkpoint's settings is"):
        train(prior, data, path, resume=True, settings=JudgeSettings(batch=3))
    with pytest.raises(TrainingError, match="the checkpoint's start is tiny, not tiny, untrained"):
        train(prior, data, path, resume=True, start=prior.judge.untrained())


def test_a_loss_that_is_not_finite_ends_the_run(prior, data, tmp_path):
    with pytest.raises(TrainingError, match="diverged"):
        train(prior, data, tmp_path / "j.safetensors", steps=40, settings=JudgeSettings(batch=2, rate=1e30))


def test_settings_are_checked():
    for change in (
        {"batch": 0},
        {"rate": 0.0},
        {"gamma": -1.0},
        {"average": 1.0},
        {"sample_every": 0},
        {"kept": 0},
        {"blurred": 1.5},
        {"wandering": -0.1},
        {"precision": "fp8"},
    ):
        with pytest.raises(InputError, match=next(iter(change))):
            JudgeSettings(**change)


def test_from_training_to_upscaling_on_the_command_line(data, prior_file, tmp_path, capsys):
    own = tmp_path / "mine.safetensors"
    own.write_bytes(prior_file.read_bytes())
    command = ["train", "judge", "-p", own, "--data", *data, "--init", prior_file, "--batch", 2, "--device", "cpu"]
    assert run([str(a) for a in (*command, "--steps", 2)]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(beside(own, "judge"))
    assert "area under the curve" in err
    assert run([str(a) for a in (*command, "--steps", 3)]) == 1
    assert "--resume" in capsys.readouterr().err
    assert run([str(a) for a in (*command, "--steps", 3, "--resume", "-q")]) == 0
    small = write_pictures(tmp_path / "small", 1, 4) / "000.png"
    call = ["upscale", small, "-p", own, "-o", tmp_path / "out", "--aligned", "--steps", 2, "--device", "cpu", "--json"]
    capsys.readouterr()
    assert run([str(c) for c in call]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["judge"], len(record["judge_sha256"])) == ("mine.judge", 64)
    assert record["judge_sha256"] == load_prior(own).judge.sha256
    for arguments, code, words in (
        (["--init", tmp_path / "no.safetensors"], 1, "no such file"),
        ([], 2, "celeba128 looks at 128 px"),
        (["--init", "none"], 2, "celeba128, untrained looks at 128 px"),
    ):
        base = ["train", "judge", "-p", own, "--data", *data, "-o", tmp_path / "x.safetensors", "--steps", 1]
        assert run([str(a) for a in (*base, *arguments)]) == code
        assert words in capsys.readouterr().err
