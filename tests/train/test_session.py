"""A training run on disk: what it writes, how it goes on, and what stops it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_training import ARCH, same, settings, write_pictures

from latentface.errors import InputError, OutputError, TrainingError
from latentface.prior.architecture import Architecture
from latentface.prior.formats import read_card, read_prior, write_prior
from latentface.prior.mobilestylegan import MobileArchitecture, MobileGenerator
from latentface.prior.statistics import latent_statistics
from latentface.prior.stylegan2 import Generator
from latentface.train import session
from latentface.train.gan import GanTrainer
from latentface.train.session import train_prior


@pytest.fixture(autouse=True)
def _quick(monkeypatch, request):
    monkeypatch.setattr(session, "latent_statistics", lambda mapping, dim, count: latent_statistics(mapping, dim, 200))
    if "curves" not in request.node.name:
        monkeypatch.setattr(session, "CURVES", ())


@pytest.fixture
def data(tmp_path):
    return write_pictures(tmp_path / "faces")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "mine.safetensors"


def train(data, output, **changes):
    """Train for 12 pictures (3 steps) unless told otherwise."""
    given = {"arch": ARCH, "settings": settings(), "pictures": 12, **changes}
    return train_prior([data], output, **given)


def checkpoint(output):
    return torch.load(output.with_name(output.name + ".train") / "checkpoint.pt", weights_only=True)


def without_time(saved):
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in saved["history"]]
    return {**saved, "seconds": 0, "history": history}


# -- what it writes ----------------------------------------------------------------------------------------------------


def test_files_and_card_and_curves(data, output):
    pytest.importorskip("matplotlib")
    said, ticks = [], []
    card = {"alignment": "celeba", "licence": "for tests"}
    assert train(data, output, card=card, say=said.append, on_tick=ticks.append, save_seconds=0.0) == output
    folder = output.with_name(output.name + ".train")
    assert {p.name for p in folder.iterdir()} == {"checkpoint.pt", "samples.png", "log.csv", "curves.png"}
    assert {p.name for p in output.parent.iterdir()} == {output.name, folder.name}
    with Image.open(folder / "samples.png") as samples, Image.open(folder / "curves.png") as curves:
        assert samples.size == (8 * 10 + 2, 8 * 10 + 2)  # 64 faces of 8 px
        assert curves.width == 800
    lines = (folder / "log.csv").read_text().splitlines()
    assert lines[0] == "pictures,seconds,g_loss,d_loss,real_sign,r1,augment_p"
    assert [line.split(",")[0] for line in lines[1:]] == ["4.0", "8.0", "12.0"]  # each step once

    read = read_card(output)
    assert (read["alignment"], read["licence"], read["pictures"]) == ("celeba", "for tests", 12)
    assert read["data"] == "20 pictures of faces"
    assert read["training"]["batch"] == 4
    assert said == ["reading 20 pictures at 8 px"]
    assert [(t.figures["pictures"], t.done, t.saved) for t in ticks] == [
        (4, 4 / 12, True),
        (8, 8 / 12, True),
        (12, 1, True),
    ]


def test_the_prior_is_the_average_of_the_checkpoint(data, output):
    train(data, output)
    saved = checkpoint(output)
    generator, discriminator, _, _ = read_prior(output)
    for written, kept in ((generator, saved["average"]), (discriminator, saved["discriminator"])):
        assert same(dict(written.state_dict()), {k: v.half().float() for k, v in kept.items()})


def test_a_broken_picture_is_named_and_left_out(data, output):
    (data / "007.png").write_bytes(b"broken")
    said = []
    train(data, output, say=said.append)
    assert [line for line in said if "007.png" in line and line.startswith("left out")]
    assert read_card(output)["data"] == "19 pictures of faces"


# -- how it goes on ----------------------------------------------------------------------------------------------------


def test_resuming_is_exact(data, output, tmp_path):
    whole = tmp_path / "whole.safetensors"
    train(data, whole, pictures=24)
    train(data, output, pictures=12)
    train_prior([data], output, resume=True, pictures=24)
    a, b = without_time(checkpoint(whole)), without_time(checkpoint(output))
    assert len(b.pop("history")) == 2
    assert len(a.pop("history")) == 1  # a row for each end of a run
    assert same(a, b)
    tensors = [dict(zip("gdw", read_prior(path), strict=False)) for path in (whole, output)]
    assert same(tensors[0]["g"].state_dict(), tensors[1]["g"].state_dict())
    assert same(tensors[0]["w"], tensors[1]["w"])


def test_starting_from_a_published_prior(data, output, tmp_path):
    train(data, output)
    second = tmp_path / "second.safetensors"
    slow = settings(g_rate=1e-9, d_rate=1e-9)
    train_prior([data], second, init=output, settings=slow, pictures=4)
    for mine, theirs in zip(read_prior(second)[:2], read_prior(output)[:2], strict=True):
        for name, value in theirs.named_parameters():
            torch.testing.assert_close(mine.get_parameter(name), value, rtol=2e-3, atol=1e-4)
    assert read_card(second)["pictures"] == 12 + 4
    assert checkpoint(second)["pictures"] == 4
    steps = [s["step"].item() for s in checkpoint(second)["g_optimiser"]["state"].values()]
    assert set(steps) == {1.0}  # fresh optimisers


def test_what_the_card_says_of_alignment_and_licence_is_handed_on(data, output, tmp_path):
    train(data, output, card={"alignment": "celeba", "licence": "mine"})
    train(data, output, arch=None, resume=True, pictures=16)
    second, third = tmp_path / "second.safetensors", tmp_path / "third.safetensors"
    train_prior([data], second, init=output, settings=settings(), pictures=4)
    for path in (output, second):
        assert (read_card(path)["alignment"], read_card(path)["licence"]) == ("celeba", "mine")
    train_prior([data], third, init=output, settings=settings(), pictures=4, card={"licence": "yours"})
    assert (read_card(third)["alignment"], read_card(third)["licence"]) == ("celeba", "yours")


def test_augmentation_can_be_switched_off_on_the_way(data, output):
    train(data, output)
    saved = checkpoint(output)
    path = output.with_name(output.name + ".train") / "checkpoint.pt"
    torch.save({**saved, "augment_p": 0.4}, path)
    train(data, output, arch=None, resume=True, settings=settings(augment_target=0.0), pictures=16)
    assert checkpoint(output)["augment_p"] == 0
    assert read_card(output)["augment_p"] == 0


def test_an_existing_run_is_never_overwritten(data, output):
    train(data, output)
    before = output.read_bytes()
    with pytest.raises(TrainingError, match="already there; go on with --resume"):
        train(data, output)
    (output.with_name(output.name + ".train") / "checkpoint.pt").unlink()
    with pytest.raises(TrainingError, match="already there"):
        train(data, output)
    assert output.read_bytes() == before


def test_what_cannot_start(data, output):
    with pytest.raises(InputError, match="--minutes or --pictures"):
        train(data, output, pictures=None)
    with pytest.raises(TrainingError, match="no checkpoint to resume; start without --resume"):
        train(data, output, resume=True)
    train(data, output)
    other = Architecture(resolution=8, channels={4: 2, 8: 2})
    with pytest.raises(InputError, match="another architecture"):
        train(data, output, resume=True, arch=other)
    with pytest.raises(InputError, match="not the one asked for"):
        train(data, output.with_name("b.safetensors"), init=output, arch=other)


@pytest.mark.parametrize("family", [True, False])
def test_a_start_from_another_family_or_without_a_discriminator(data, output, tmp_path, family):
    generator = Generator(ARCH)
    if family:
        generator = MobileGenerator(MobileArchitecture(resolution=8, channels={4: 3}, z_dim=4, w_dim=4))
    start, mapping = tmp_path / "start.safetensors", generator.mapping
    write_prior(start, generator, None, latent_statistics(mapping, generator.arch.z_dim, 200), {})
    with pytest.raises(InputError, match=r"start\.safetensors: training goes on from StyleGAN2's generator"):
        train(data, output, init=start, arch=None)


@pytest.mark.parametrize("value", [b"", b"text", torch.zeros(3), [1, 2], {"step": 3}])
def test_checkpoints_that_are_none(data, output, value):
    file = output.with_name(output.name + ".train") / "checkpoint.pt"
    file.parent.mkdir(parents=True)
    if isinstance(value, bytes):
        file.write_bytes(value)
    else:
        torch.save(value, file)
    with pytest.raises(TrainingError, match=r"cannot be read|no checkpoint of a prior") as caught:
        train(data, output, resume=True)
    assert "\n" not in str(caught.value)


# -- what stops it -----------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_while_saving_leaves_the_old_files(data, output):
    resource = pytest.importorskip("resource")
    train(data, output)
    folder = output.with_name(output.name + ".train")
    before = {p: p.read_bytes() for p in (output, *folder.iterdir())}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"checkpoint\.pt: it cannot be written \(File too large\)"):
            train_prior([data], output, resume=True, pictures=16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {p: p.read_bytes() for p in (output, *folder.iterdir())} == before


def test_an_interrupted_write_leaves_the_old_checkpoint(data, output, monkeypatch):
    train(data, output)
    good = checkpoint(output)
    write = Path.write_bytes

    def half(path, content):
        write(path, bytes(content)[:1000])
        raise MemoryError

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(MemoryError):
        train_prior([data], output, resume=True, pictures=16)
    assert same(checkpoint(output), good)
    assert not list(output.with_name(output.name + ".train").glob(".*"))


@pytest.mark.parametrize("cause", ["loss", "weights"])
def test_divergence_keeps_the_last_good_checkpoint(data, output, monkeypatch, cause):
    train(data, output)
    good, prior = checkpoint(output), output.read_bytes()
    average = GanTrainer.average_weights

    def spoil(self):
        average(self)
        if self.state.step == 6:  # a loss that is not finite shows at the next step, weights only when they are saved
            self.state.generator.synthesis.b8.conv1.weight.data[0, 0, 0, 0] = float("nan")

    monkeypatch.setattr(GanTrainer, "average_weights", spoil)
    with pytest.raises(TrainingError, match=r"diverged at picture 2[48] .* last checkpoint"):
        train_prior([data], output, resume=True, pictures=24 if cause == "weights" else 40)
    assert same(checkpoint(output), good)
    assert output.read_bytes() == prior


def test_huge_rates_diverge_and_keep_a_checkpoint(data, output):
    with pytest.raises(TrainingError, match="diverged"):
        train(data, output, settings=settings(g_rate=1e30, d_rate=1e30), pictures=400, save_seconds=1e9)
    assert not output.exists()


@pytest.fixture
def handlers():
    """Put back the handlers that a test changes."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def signal_in_step(monkeypatch, step, number):
    """Send this process a signal in the middle of a step, when D is updated and G is not."""
    update = GanTrainer.update

    def interrupted(self, module, optimiser):
        update(self, module, optimiser)
        if self.state.step == step - 1 and module is self.state.discriminator:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(GanTrainer, "update", interrupted)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(
    ("number", "stops"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["int", "term"]
)
def test_a_signal_stops_after_the_step_with_everything_saved(
    data, output, tmp_path, monkeypatch, handlers, number, stops, background
):
    if background:  # a shell starts `command &` so
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        signal_in_step(patch, 2, number)
        with pytest.raises(stops) as caught:
            train(data, output, pictures=24)
    if stops is SystemExit:
        assert caught.value.code == 128 + signal.SIGTERM
    else:
        assert str(caught.value) == "stopped at picture 8; the same command with --resume goes on from there"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert checkpoint(output)["step"] == 2
    assert read_card(output)["pictures"] == 8
    if background:
        return
    train_prior([data], output, resume=True, pictures=24)  # the step was whole: the rest is as if nothing had happened
    whole = tmp_path / "whole.safetensors"
    train(data, whole, pictures=24)
    a, b = without_time(checkpoint(whole)), without_time(checkpoint(output))
    assert same({**a, "history": []}, {**b, "history": []})


def test_handlers_come_back_after_an_error(data, output, monkeypatch, handlers):
    monkeypatch.setattr(GanTrainer, "step", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(data, output)
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_another_thread_trains_without_handlers(data, output):
    installed, result = [], []

    def work():
        now = lambda tick: installed.append(signal.getsignal(signal.SIGTERM))  # noqa: E731
        result.append(train(data, output, on_tick=now, save_seconds=0.0))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert result == [output]
    assert set(installed) == {before}
