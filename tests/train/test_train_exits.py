"""Training exits: they learn what they should paint, resume, and what is written is what a prior reads."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from tiny import mobile_prior, prior_with_exits, tiny_prior, written_prior

from latentface.cli import run
from latentface.errors import InputError, OutputError, TrainingError
from latentface.io.pictures import write_picture
from latentface.io.weights import KEYS, read_card
from latentface.prior.exits import beside, read_exits, rows_of
from latentface.prior.prior import Prior
from latentface.train import exits as module
from latentface.train.exits import ExitFit, ExitSettings, train_exits
from latentface.train.samples import wandering_rows

QUICK = ExitSettings(resolutions=(16, 32), widths=(6, 4), batch=2, looks=2)


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(module, "HELD", 4)


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    prior = written_prior(tmp_path_factory.mktemp("prior"))
    paints = prior.generator.synthesis.b32.image
    for values in (paints.weight, paints.bias):
        values.mul_(0.004)  # of random numbers its pictures are a hundred times as bright as faces
    return prior


def train(prior, path, steps=6, settings=QUICK, **more):
    return train_exits(prior, path, steps=steps, settings=settings, **more)


def checkpoint(path):
    return path.with_name(path.name + ".train") / "checkpoint.pt"


def test_it_learns_what_it_never_saw(mobile):
    fit = ExitFit(mobile, ExitSettings(resolutions=(16, 32), widths=(8, 3), rate=1e-2, average=0.9))
    fit.check()
    before = fit.psnr.copy()
    for k in range(120):
        fit.step(k / 120)
    fit.check()
    for r in (16, 32):
        assert fit.psnr[r][0] > before[r][0] + 8
        assert fit.psnr[r][1] > before[r][1] + 8


def test_its_target_has_the_rows_above_the_exit_tied(mobile, monkeypatch):
    monkeypatch.setattr("latentface.prior.prior.fast_dtype", lambda device: None)
    fit = ExitFit(mobile, QUICK)
    drawn = wandering_rows(mobile, torch.Generator().manual_seed(0), 1)
    assert (drawn[:, 3] - drawn[:, 7]).abs().max() > 0.1  # as a search has them: they differ
    rows, picture = fit.sample(torch.Generator().manual_seed(0), 16)
    assert torch.equal(rows, drawn[:, :4])
    assert rows_of(16) == 4
    tied = torch.cat([drawn[:, :4], *[drawn[:, 3:4]] * (mobile.num_ws - 4)], 1)
    expected = F.avg_pool2d(mobile.synthesis(tied), 4).clamp(0, 1)
    torch.testing.assert_close(picture / 255, expected, atol=0.5 / 255 + 1e-5, rtol=0)
    torch.testing.assert_close(fit.features(rows, 16), mobile.leave(drawn, 8)[1], atol=1e-5, rtol=1e-5)


def test_a_small_exit_learns_what_a_larger_one_paints(tmp_path, monkeypatch):
    """It is written beside the prior's other exits, whose numbers and words stay."""
    monkeypatch.setattr("latentface.prior.prior.fast_dtype", lambda device: None)
    monkeypatch.setattr(module, "SMALL", 4)
    prior = prior_with_exits(tmp_path, sizes=(32,))
    prior.exits[32].bias.add_(0.3)  # other than the prior's own picture
    settings = replace(QUICK, resolutions=(16,), widths=(4,))
    rows, picture = ExitFit(prior, settings).sample(torch.Generator().manual_seed(0), 16)
    painted = prior.at(32).synthesis(torch.cat([rows, rows[:, -1:].expand(-1, 2, -1)], 1))
    expected = F.avg_pool2d(painted, 2).clamp(0, 1)
    torch.testing.assert_close(picture / 255, expected, atol=0.5 / 255 + 1e-5, rtol=0)

    kept = {name: value.clone() for name, value in prior.exits[32].state_dict().items()}
    path = train(prior, tmp_path / "more.safetensors", settings=settings)
    heads = read_exits(path, prior.generator, prior.sha256)
    assert sorted(heads) == [16, 32]
    for name, value in heads[32].state_dict().items():
        torch.testing.assert_close(value, kept[name], atol=1e-3, rtol=1e-3)


def test_words_of_exits_that_are_kept_are_kept_too(tmp_path):
    prior = written_prior(tmp_path)
    train(prior, beside(prior.path), steps=2, settings=replace(QUICK, resolutions=(32,), widths=(4,)))
    prior = Prior.read(prior.path)
    path = train(prior, tmp_path / "more.safetensors", steps=3, settings=replace(QUICK, resolutions=(16,), widths=(4,)))
    card = read_card(path, "exits")
    assert {r: run["steps"] for r, run in card["runs"].items()} == {"16": 3, "32": 2}
    assert sorted(card["psnr"]) == ["16", "32"]


def test_it_begins_as_the_generators_own_block(mobile):
    block, head = mobile.generator.synthesis.b16, ExitFit(mobile, QUICK).heads["16"]
    assert torch.equal(head.up.weight, block.up.weight)
    assert torch.equal(head.conv1.depthwise, block.conv1.depthwise)
    assert torch.equal(head.conv1.weight, block.conv1.weight[:6])
    assert head.conv1.weight.data_ptr() != block.conv1.weight.data_ptr()  # the generator is not trained


def test_the_judge_has_its_say(mobile):
    rows = torch.Generator().manual_seed(0)
    judged = mobile.with_judge(tiny_prior(16).judge)
    losses = []
    for weight in (0.0, 1.0):
        fit = ExitFit(judged, replace(QUICK, judge_weight=weight))
        sample = fit.sample(rows, 32)
        losses.append(fit._look(32, [sample], torch.Generator().manual_seed(0)))
        rows.manual_seed(0)
    assert losses[1] > losses[0]


def test_what_is_written_is_read_by_the_prior(mobile, tmp_path):
    ticks = []
    path = train(mobile, tmp_path / "e.safetensors", on_tick=ticks.append, checks=2)
    heads = read_exits(path, mobile.generator, mobile.sha256)
    assert {r: len(head.conv2.bias) for r, head in heads.items()} == {16: 6, 32: 3}  # of 3 in its block
    with safe_open(str(path), "pt") as file:
        card = json.loads(file.metadata()[KEYS["exits"]])
    assert (card["licence"], card["prior"]) == (mobile.licence, "mobile")
    assert [card["runs"][r]["steps"] for r in ("16", "32")] == [6, 6]
    assert card["psnr"] == {str(r): [round(v, 2) for v in pair] for r, pair in ticks[-1].figures["psnr"].items()}
    assert [t.step for t in ticks] == [1, 2, 3, 4, 5, 6]
    assert [t.saved for t in ticks] == [False] * 5 + [True]
    assert ticks[2].done == 0.5
    assert ticks[-1].done == 1
    saved = torch.load(checkpoint(path), weights_only=True)
    for name, value in saved["average"].items():  # the average is what is written
        r, _, rest = name.partition(".")
        torch.testing.assert_close(heads[int(r)].state_dict()[rest], value, atol=1e-3, rtol=1e-3)


def test_a_run_that_was_cut_off_goes_on(mobile, tmp_path):
    def stop(tick):
        if tick.step == 3:
            raise KeyboardInterrupt

    path = tmp_path / "e.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(mobile, path, on_tick=stop)
    saved = torch.load(checkpoint(path), weights_only=True)
    assert saved["steps"] == 3
    seen = []
    train(mobile, path, resume=True, on_tick=seen.append)
    assert [t.step for t in seen] == [4, 5, 6]
    after = torch.load(checkpoint(path), weights_only=True)
    assert after["steps"] == 6
    assert after["seconds"] > saved["seconds"]
    assert after["optimiser"]["state"][0]["step"] == 6  # of the first exit: every second step, two looks each
    before = path.read_bytes()
    path.unlink()
    train(mobile, path, resume=True)  # its budget is spent; the file is written again
    assert path.read_bytes() == before


def test_runs_that_cannot_start(mobile, tmp_path):
    path = tmp_path / "e.safetensors"
    for budget, words in (
        ({"steps": None}, "how long"),
        ({"steps": 0}, "more than nothing"),
        ({"steps": -1, "minutes": 1}, "more than nothing"),
    ):
        with pytest.raises(InputError, match=words):
            train(mobile, path, **budget)
    with pytest.raises(TrainingError, match="no checkpoint to resume"):
        train(mobile, path, resume=True)
    with pytest.raises(InputError, match="no MobileStyleGAN"):
        train(tiny_prior(64), path)
    with pytest.raises(InputError, match="in memory"):
        train(mobile_prior(64), path)
    for r in (64, 128, 48):
        with pytest.raises(InputError, match=f"an exit of {r} px is not between"):
            train(mobile, path, settings=ExitSettings(resolutions=(r,), widths=(4,)))
    assert list(tmp_path.iterdir()) == []
    train(mobile, path, steps=1)
    with pytest.raises(TrainingError, match="already there"):
        train(mobile, path, steps=2)
    with pytest.raises(TrainingError, match="the checkpoint's settings is"):
        train(mobile, path, resume=True, settings=ExitSettings(resolutions=(16,), widths=(6,)))


@pytest.mark.parametrize("content", [b"", b"broken", b"PK\x03\x04" + b"\0" * 40])
def test_a_broken_checkpoint(mobile, tmp_path, content):
    path = tmp_path / "e.safetensors"
    train(mobile, path, steps=1)
    checkpoint(path).write_bytes(content)
    with pytest.raises(TrainingError, match="cannot be read"):
        train(mobile, path, resume=True)
    torch.save({"encoder": {}, "optimiser": {}}, checkpoint(path))
    with pytest.raises(TrainingError, match="no checkpoint of exits"):
        train(mobile, path, resume=True)


def test_a_full_disk_leaves_the_old_files(mobile, tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "e.safetensors"
    train(mobile, path, steps=1)
    before = {p: p.read_bytes() for p in (path, checkpoint(path))}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"checkpoint\.pt: it cannot be written \(File too large\)"):
            train(mobile, path, steps=2, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {p: p.read_bytes() for p in (path, checkpoint(path))} == before


def test_a_loss_that_is_not_finite_ends_the_run(mobile, tmp_path):
    settings = ExitSettings(resolutions=(16,), widths=(4,), rate=1e20)
    with pytest.raises(TrainingError, match="diverged"):
        train(mobile, tmp_path / "e.safetensors", settings=settings, steps=40)


def test_old_samples_make_room(mobile):
    fit = ExitFit(mobile, ExitSettings(resolutions=(16,), widths=(4,), batch=2, looks=1, kept=1))
    for k in range(5):
        fit.step(k / 5)
    assert len(fit.pools[16]) == 2  # a batch at least
    random = torch.Generator().manual_seed(4)
    newest = fit.sample(random, 16)[1]
    assert any(torch.equal(newest, picture) for _, picture in fit.pools[16])


def test_double_precision_too(mobile):
    fit = ExitFit(mobile.to(torch.float64), QUICK)
    fit.step(0.5)
    fit.check()
    assert set(fit.psnr) == {16, 32}


def test_settings_are_checked_and_fit_the_prior(mobile):
    for change in ({"resolutions": (16,)}, {"widths": (0, 4)}, {"rate": 0.0}, {"average": 1.0}, {"batch": 0}):
        with pytest.raises(InputError):
            ExitSettings(**change)
    with pytest.raises(InputError, match="8 px is too small"):
        ExitSettings(resolutions=(8,), widths=(4,))
    for resolution, sizes in ((1024, (128, 256, 512)), (256, (128,)), (64, (128,))):
        large = tiny_prior(8)
        large.resolution = resolution
        assert ExitSettings.for_prior(large).resolutions == sizes


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def call(capsys):
    def call(*arguments):
        code = run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out.split(), err

    return call


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return written_prior(tmp_path_factory.mktemp("large"), 256)


def test_from_training_to_upscaling_on_the_command_line(call, large, prior_file, tmp_path):
    own = tmp_path / "mine.safetensors"
    own.write_bytes(large.path.read_bytes())
    command = ("train", "exits", "-p", own, "--device", "cpu")
    code, out, err = call(*command, "--steps", 2)
    assert (code, out) == (0, [str(beside(own))]), err
    assert "step 2" in err
    assert "128 px" in err
    assert list(Prior.read(own).exits) == [128]
    code, out, err = call(*command, "--steps", 3)
    assert (code, out) == (1, [])
    assert "--resume" in err
    code, out, err = call(*command, "--steps", 3, "--resume", "-q")
    assert (code, out, err) == (0, [str(beside(own))], "")
    write_picture(tmp_path / "face.png", torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)))
    words = (
        "-p",
        own,
        "-o",
        tmp_path / "out",
        "--aligned",
        "--steps",
        3,
        "--device",
        "cpu",
        "--json",
        "-q",
        "--judge",
        prior_file,
    )
    code, out, err = call("upscale", tmp_path / "face.png", *words)
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "face.json").read_text())
    assert record["coarse_steps"] == 2
    assert record["exit_side"] == 128
    assert record["exits_sha256"] == Prior.read(own).exits_sha256


def test_ctrl_c_then_resume(call, large, tmp_path, monkeypatch):
    step, made = ExitFit.step, []

    def interrupted(fit, done):
        if len(made) == 1:
            os.kill(os.getpid(), signal.SIGINT)  # in the middle of the second step
        made.append(done)
        return step(fit, done)

    path = tmp_path / "e.safetensors"
    command = ("train", "exits", "-p", large.path, "-o", path, "--device", "cpu", "--steps", 3)
    monkeypatch.setattr(ExitFit, "step", interrupted)
    code, out, err = call(*command)
    assert (code, out) == (130, [])
    assert "stopped at step 2; the same command with --resume goes on" in err
    code, out, err = call(*command, "--resume")
    assert (code, out) == (0, [str(path)]), err
    assert len(made) == 3


def test_wrong_command_lines(call, large, prior_file, tmp_path):
    path = tmp_path / "e.safetensors"
    command = ("train", "exits", "-o", path, "--device", "cpu")
    for arguments, code, words in (
        (("-p", large.path), 2, "say how long"),
        (("-p", large.path, "--steps", 0), 2, "more than nothing"),
        (("-p", large.path, "--steps", 1, "--resume"), 1, "no checkpoint to resume"),
        (("-p", prior_file, "--steps", 1), 2, "no MobileStyleGAN"),
        (("-p", tmp_path / "absent.safetensors", "--steps", 1), 1, "no such file"),
    ):
        found, out, err = call(*command, *arguments)
        assert (found, out) == (code, []), err
        assert words in err
        assert len([line for line in err.splitlines() if line.startswith("latentface:")]) == 1
    assert not path.exists()
