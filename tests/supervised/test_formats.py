"""The weight file: round trips, and every way in which a file can be wrong."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from latentface.degradation import Downscale
from latentface.errors import InputError, WeightsError
from latentface.io.weights import KEYS, read_card
from latentface.supervised import methods
from latentface.supervised.esrgan import RrdbShape
from latentface.supervised.formats import load_baseline, write_baseline
from latentface.supervised.fsrnet import FsrnetShape
from latentface.supervised.registry import make_network
from latentface.supervised.vdsr import VdsrShape

TINY = {
    "vdsr": VdsrShape(factor=4, depth=3, width=8, fold=2),
    "esrgan": RrdbShape(blocks=1, features=8, growth=4, tail=(8, 4), skip=True),
    "fsrnet": FsrnetShape(factor=4, width=8, encoder_blocks=1, prior_width=8, hourglasses=1, levels=2, decoder_width=8),
}
CARD = {"resolution": 32, "stage": "pixel", "licence": "test"}


def write(path, kind, **card):
    torch.manual_seed(0)
    network = make_network(kind, TINY[kind]).half().float()
    write_baseline(path, kind, TINY[kind], network.state_dict(), {**CARD, **card})
    return network.eval()


def restored(kind, low, degradation, weights):
    settings = methods.SupervisedSettings(weights=str(weights))
    return getattr(methods, kind)(low, degradation=degradation, settings=settings)


@pytest.mark.parametrize("kind", TINY)
@torch.no_grad()
def test_round_trip(tmp_path, kind):
    path = tmp_path / "x.safetensors"
    network = write(path, kind)
    model = load_baseline(path)
    assert (model.kind, model.factor, model.resolution, model.stage) == (kind, 4, 32, "pixel")
    assert model.card["licence"] == "test"
    assert model.card["shape"]
    assert {v.dtype for k, v in load_file(path).items() if "num_batches" not in k} == {torch.float16}
    low = torch.rand(3, 3, 8, 8)
    high = restored(kind, low, Downscale(8, 32), path)
    torch.testing.assert_close(high, network(low).clamp(0, 1), atol=1e-5, rtol=0)
    assert high.shape == (3, 3, 32, 32)
    assert not high.requires_grad
    assert "pixel stage" in model.title or kind != "esrgan"


def test_a_batch_couples_nothing(tmp_path):
    for kind in TINY:
        write(tmp_path / kind, kind)
        model = load_baseline(tmp_path / kind)
        low = torch.rand(3, 3, 8, 8)
        torch.testing.assert_close(model.restore(low)[1:2], model.restore(low[1:2]), atol=1e-5, rtol=0)


def test_wrong_use(tmp_path):
    write(tmp_path / "x", "vdsr")
    model = load_baseline(tmp_path / "x")
    with pytest.raises(InputError, match="name the method vdsr"):
        restored("esrgan", torch.rand(1, 3, 8, 8), Downscale(8, 32), tmp_path / "x")
    with pytest.raises(InputError, match="trained for 4x"):
        restored("vdsr", torch.rand(1, 3, 8, 8), Downscale(8, 64), tmp_path / "x")
    with pytest.raises(InputError, match=r"expected a tensor \(B, 3, H, W\)"):
        model.restore(torch.rand(3, 8, 8))
    with pytest.raises(InputError, match="NaN"):
        model.restore(torch.full((1, 3, 8, 8), float("nan")))


def damaged(path, change, **metadata):
    tensors = load_file(path)
    card = read_card(path, "baseline")
    change(tensors, card)
    save_file(tensors, path, {KEYS["baseline"]: json.dumps(card), **metadata})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, c: t.pop("layers.0.weight"), "is missing"),
        (lambda t, c: t.update({"more": torch.zeros(1)}), "more is not part"),
        (lambda t, c: t.update({"layers.0.weight": torch.zeros(2, 2)}), r"has shape \(2, 2\), expected"),
        (lambda t, c: t["layers.0.weight"].fill_(float("inf")), "NaN or infinite"),
        (lambda t, c: c.update(format=9), "format is 9"),
        (lambda t, c: c.update(kind="gan"), "kind is 'gan'"),
        (lambda t, c: c.update(kind=["vdsr"]), "kind is"),
        (lambda t, c: c.update(shape={"factor": 3}), "factor is 3"),
        (lambda t, c: c.update(shape=[1]), "cannot be used"),
        (lambda t, c: c.pop("resolution"), "resolution or stage"),
    ],
)
def test_damaged_files(tmp_path, change, words):
    path = tmp_path / "x.safetensors"
    write(path, "vdsr")
    damaged(path, change)
    with pytest.raises(WeightsError, match=words):
        load_baseline(path)


def test_other_files(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(WeightsError, match="no such file"):
        load_baseline(path)
    with pytest.raises(WeightsError, match="a folder"):
        load_baseline(tmp_path)
    save_file({"a": torch.zeros(1)}, path, {"latentface": "{}"})
    with pytest.raises(WeightsError, match="a latentface prior"):
        load_baseline(path)
    save_file({"a": torch.zeros(1)}, path, {KEYS["baseline"]: "{"})
    with pytest.raises(WeightsError, match="card cannot be read"):
        load_baseline(path)
    write(path, "vdsr")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="broken"):
        load_baseline(path)
    for content in (b"", b"hello", b"\x80\x04.", b"PK\x03\x04 no zip"):
        path.write_bytes(content)
        with pytest.raises(WeightsError):
            load_baseline(path)


def test_numbers_that_do_not_fit_are_not_written(tmp_path):
    network = make_network("vdsr", TINY["vdsr"])
    tensors = {k: v * 1e9 for k, v in network.state_dict().items()}
    with pytest.raises(WeightsError, match="diverged"):
        write_baseline(tmp_path / "x", "vdsr", TINY["vdsr"], tensors, CARD)
    assert not list(tmp_path.iterdir())
