"""The trainer: it learns, resumes exactly, keeps the best, and refuses what cannot be done."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from latentface.errors import InputError, MissingDataError, TrainingError, UnknownNameError
from latentface.supervised.esrgan import RrdbShape
from latentface.supervised.formats import load_baseline
from latentface.supervised.fsrnet import FsrnetShape
from latentface.supervised.landmarks import COLUMNS
from latentface.supervised.losses import VggDiscriminator, perceptual, relativistic
from latentface.supervised.vdsr import VdsrShape
from latentface.train.settings import SupervisedSettings
from latentface.train.supervised import train_supervised

TINY = {
    "vdsr": VdsrShape(factor=4, depth=3, width=8, fold=2),
    "esrgan": RrdbShape(blocks=1, features=8, growth=4, tail=(8, 4), skip=True),
    "fsrnet": FsrnetShape(
        factor=4,
        width=8,
        encoder_blocks=1,
        prior_width=8,
        hourglasses=1,
        levels=2,
        decoder_width=8,
        norm=False,
        skip=True,
    ),
}
QUICK = SupervisedSettings(batch=4, checks=3, validation_pictures=4)


@pytest.fixture
def faces(tmp_path):
    """24 little pictures of edges, with landmarks for all but one."""
    folder = tmp_path / "faces"
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = ["image," + ",".join(f"{c}_{a}" for c in COLUMNS for a in "xy")]
    for i in range(24):
        y, x = np.mgrid[:16, :16]
        angle = random.uniform(0, 6.28)
        edge = ((x - 7.5) * np.cos(angle) + (y - 7.5) * np.sin(angle) > random.uniform(-4, 4))[:, :, None]
        picture = np.where(edge, random.integers(0, 100, 3), random.integers(150, 256, 3))
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{i:03}.png")
        if i:
            rows.append(f"{i:03}," + ",".join(str(v) for v in random.uniform(20, 100, 10).round(2)))
    (folder / "landmarks.csv").write_text("\n".join(rows) + "\n")
    return folder


def train(kind, faces, output, **options):
    options = {"factor": 4, "resolution": 16, "size": TINY[kind], "steps": 6, "settings": QUICK} | options
    return train_supervised(kind, [faces], output, **options)


def same(a, b):
    one, two = (load_baseline(p).network.state_dict() for p in (a, b))
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("kind", TINY)
def test_training_writes_everything(tmp_path, faces, kind):
    ticks = []
    path = train(kind, faces, tmp_path / "x.safetensors", on_tick=ticks.append)
    model = load_baseline(path)
    assert (model.kind, model.factor, model.resolution, model.stage) == (kind, 4, 16, "pixel")
    assert model.card["steps"] == 6
    assert model.card["pictures"] == 24
    assert {"psnr", "gain_db", "pictures", "step"} == set(model.card["figures"])
    assert model.card["data"] == "23 pictures of faces"
    assert ticks[-1].done == 1
    assert ticks[-1].saved
    folder = tmp_path / "x.safetensors.train"
    assert {"checkpoint.pt", "log.csv", "samples.png"} <= {p.name for p in folder.iterdir()}
    with open(folder / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2.0", "4.0", "6.0"]
    # the best of the validations was kept
    assert model.card["figures"]["psnr"] == pytest.approx(max(float(row["psnr"]) for row in rows), abs=1e-3)


def test_it_learns(tmp_path, faces):
    settings = SupervisedSettings(batch=8, checks=1, validation_pictures=24, rate=4e-3)
    shape = RrdbShape(blocks=1, features=16, growth=8, tail=(16, 16), skip=True)
    path = train("esrgan", faces, tmp_path / "x", size=shape, steps=80, settings=settings, validation=[faces])
    assert load_baseline(path).card["figures"]["gain_db"] > 0.3


def stop_at(step):
    def on_tick(tick):
        if tick.step == step:
            raise KeyboardInterrupt

    return on_tick


@pytest.mark.parametrize("kind", TINY)
def test_resuming_changes_nothing(tmp_path, faces, kind):
    whole = train(kind, faces, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(kind, faces, tmp_path / "cut", on_tick=stop_at(3))
    cut = train(kind, faces, tmp_path / "cut", resume=True)
    assert load_baseline(cut).card["steps"] == 6
    assert same(whole, cut)


def test_second_stage(tmp_path, faces):
    first = train("esrgan", faces, tmp_path / "first", steps=2)
    second = train("esrgan", faces, tmp_path / "second", stage="gan", init=first, steps=4)
    model = load_baseline(second)
    assert model.stage == "gan"
    assert "discriminator" in model.card["perceptual loss"]
    assert not same(first, second)
    with pytest.raises(KeyboardInterrupt):
        train("esrgan", faces, tmp_path / "cut", stage="gan", init=first, steps=4, on_tick=stop_at(2))
    assert same(second, train("esrgan", faces, tmp_path / "cut", stage="gan", init=first, steps=4, resume=True))


def test_second_stage_with_a_trunk(tmp_path, faces):
    seen = []

    def trunk(pictures):
        seen.append(pictures.requires_grad)
        return [pictures.diff(dim=3)]

    path = train("esrgan", faces, tmp_path / "x", stage="gan", steps=2, features=trunk, features_name="slopes")
    assert load_baseline(path).card["perceptual loss"] == "slopes"
    assert seen == [False, True] * 2


def test_pairs_and_a_validation_of_its_own(tmp_path, faces):
    path = train("vdsr", faces, tmp_path / "x", pairs=2, validation=[faces / "003.png"])
    card = load_baseline(path).card
    assert card["data"] == "2 pictures of faces"
    assert card["validation"] == "1 pictures 003.png"


def test_a_budget_in_minutes(tmp_path, faces):
    ticks = []
    train("vdsr", faces, tmp_path / "x", steps=None, minutes=0.005, on_tick=ticks.append)
    assert ticks[-1].done == 1
    rates = [t.figures["rate"] for t in ticks if t.checked]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0]


def test_broken_pictures_are_named_and_their_landmarks_left_out(tmp_path, faces):
    (faces / "007.png").write_bytes(b"no picture")
    said = []
    path = train("fsrnet", faces, tmp_path / "x", steps=1, validation=[faces / "001.png"], say=said.append)
    assert load_baseline(path).card["data"] == "23 pictures of faces"
    assert any("007.png" in line for line in said)


def test_what_is_refused(tmp_path, faces):
    out = tmp_path / "x"
    with pytest.raises(UnknownNameError, match="baseline"):
        train_supervised("vdrs", [faces], out, factor=4, steps=1)
    for options, words in (
        ({"steps": None}, "how long"),
        ({"steps": 0}, "more than nothing"),
        ({"factor": 3}, "factor"),
        ({"resolution": 18}, "18 px cannot be shrunk 4 times"),
        ({"stage": "gan"}, "no second stage"),
        ({"stage": "l2"}, "stage is 'l2'"),
        ({"pairs": 0}, "pairs"),
        ({"pairs": 99}, "only 23 pictures"),
        ({"features": lambda p: [p]}, "second stage"),
    ):
        with pytest.raises(InputError, match=words):
            train("vdsr", faces, out, **options)
    with pytest.raises(TrainingError, match="no checkpoint to resume"):
        train("vdsr", faces, out, resume=True)
    (faces / "landmarks.csv").unlink()
    with pytest.raises(MissingDataError, match=r"landmarks\.csv"):
        train("fsrnet", faces, out)
    with pytest.raises(MissingDataError, match="no such file"):
        train("vdsr", tmp_path / "nothing", out)
    assert not out.exists()


def test_runs_are_not_mixed_up(tmp_path, faces):
    out = train("vdsr", faces, tmp_path / "x", steps=1)
    with pytest.raises(TrainingError, match="already there"):
        train("vdsr", faces, out, steps=1)
    with pytest.raises(TrainingError, match="the checkpoint's kind is vdsr"):
        train("esrgan", faces, out, steps=1, resume=True)
    with pytest.raises(InputError, match="holds a vdsr of another shape"):
        train("esrgan", faces, tmp_path / "y", init=out)
    (tmp_path / "x.train" / "checkpoint.pt").write_bytes(b"broken")
    with pytest.raises(TrainingError, match="cannot be read"):
        train("vdsr", faces, out, steps=2, resume=True)


def test_settings_are_checked():
    for options in ({"batch": 1}, {"rate": 0.0}, {"warmup": 1.0}, {"checks": 0}):
        with pytest.raises(InputError):
            SupervisedSettings(**options)


def test_relativistic_loss_follows_the_formula():
    real, fake = torch.randn(6, 1), torch.randn(6, 1)
    d_real, d_fake = torch.sigmoid(real - fake.mean()), torch.sigmoid(fake - real.mean())
    by_hand = -(d_real.log().mean()) - (1 - d_fake).log().mean()
    torch.testing.assert_close(relativistic(real, fake), by_hand)


def test_discriminator_and_perceptual_loss():
    with torch.no_grad():
        logits, features = VggDiscriminator(32, width=4)(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 1)
    assert [f.shape[-1] for f in features] == [16, 8, 4]
    assert float(perceptual(features, features)) == 0
    assert float(perceptual([2 * f for f in features], features)) == pytest.approx(1, abs=1e-4)


def test_half_precision_learns_alike(faces, tmp_path):
    found = {}
    for precision in ("fp32", "bf16"):
        settings = SupervisedSettings(batch=4, checks=3, validation_pictures=4, precision=precision)
        path = train("esrgan", faces, tmp_path / f"{precision}.safetensors", steps=40, settings=settings)
        found[precision] = load_baseline(path).network.state_dict()
    moved = [not torch.equal(a, found["bf16"][k]) for k, a in found["fp32"].items()]
    assert any(moved)  # it is another arithmetic ...
    errors = [(a - found["bf16"][k]).norm() / a.norm() for k, a in found["fp32"].items() if a.ndim == 4]
    assert max(errors) < 0.2  # ... of nearly the same steps
    with pytest.raises(InputError, match="precision is 'fp8'"):
        SupervisedSettings(precision="fp8")


class Guesser:
    """In the place of the network of 68 landmarks: all of them where the table has the left eye, but for one face."""

    @classmethod
    def load(cls):
        return cls()

    def find(self, pictures):
        assert pictures.dtype == torch.uint8
        return torch.full((len(pictures), 68, 2), 8.0)


def test_fsrnet_of_68_landmarks(tmp_path, faces, monkeypatch):
    monkeypatch.setattr("latentface.train.supervised.LandmarkNet", Guesser)
    said = []
    path = train("fsrnet", faces, tmp_path / "x", landmarks="68", say=said.append)
    model = load_baseline(path)
    assert model.title == "FSRNet (68 landmarks)"
    assert model.card["title"] == model.title
    assert model.network.shape.landmarks == 68
    assert load_baseline(train("fsrnet", faces, tmp_path / "five")).title == "FSRNet (5 landmarks)"
    known = next(int(words.split()[2]) for words in said if words.startswith("known of"))
    assert known < 23  # the table's random faces have their eyes elsewhere
    (faces / "landmarks.csv").unlink()
    train("fsrnet", faces, tmp_path / "without-a-table", landmarks="68", say=said.append)
    assert said[-1] == "known of 23 faces"
