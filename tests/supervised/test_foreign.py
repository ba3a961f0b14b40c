"""Other people's ESRGAN files, in each layout, and files that are something else or mean harm."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from latentface.errors import UnsafeFileError, WeightsError
from latentface.supervised.baseline import Baseline
from latentface.supervised.esrgan import RrdbNet, RrdbShape
from latentface.supervised.formats import load_baseline


def network(ups: int = 2, unshuffle: int = 1) -> RrdbNet:
    torch.manual_seed(1)
    return RrdbNet(RrdbShape(blocks=2, features=8, growth=4, tail=(8,) * ups, unshuffle=unshuffle)).eval()


def new_layout(net: RrdbNet) -> dict[str, torch.Tensor]:
    return {_numbered(k, "conv_ups.", "conv_up"): v for k, v in net.state_dict().items()}


def middle_layout(net: RrdbNet) -> dict[str, torch.Tensor]:
    swaps = {"body.": "RRDB_trunk.", ".rdb": ".RDB", "conv_hr": "HRconv"}
    result = {}
    for name, value in net.state_dict().items():
        name = name.replace("conv_body", "trunk_conv")
        for ours, theirs in swaps.items():
            name = name.replace(ours, theirs)
        result[_numbered(name, "conv_ups.", "upconv")] = value
    return result


def old_layout(net: RrdbNet) -> dict[str, torch.Tensor]:
    ups = len(net.shape.tail)
    places = {"conv_first": "model.0", "conv_body": f"model.1.sub.{net.shape.blocks}"}
    places |= {f"conv_ups.{i}": f"model.{3 + 3 * i}" for i in range(ups)}
    places |= {"conv_hr": f"model.{2 + 3 * ups}", "conv_last": f"model.{4 + 3 * ups}"}
    result = {}
    for name, value in net.state_dict().items():
        stem, _, end = name.rpartition(".")
        if stem.startswith("body."):
            _, block, rdb, layer = stem.split(".")
            result[f"model.1.sub.{block}.{rdb.upper()}.{layer}.0.{end}"] = value
        else:
            result[f"{places[stem]}.{end}"] = value
    return result


def _numbered(name: str, ours: str, theirs: str) -> str:
    if not name.startswith(ours):
        return name
    number, _, rest = name[len(ours) :].partition(".")
    return f"{theirs}{int(number) + 1}.{rest}"


@pytest.mark.parametrize("layout", [new_layout, middle_layout, old_layout])
@pytest.mark.parametrize("ups", [0, 1, 2, 3])
@torch.no_grad()
def test_layouts(tmp_path, layout, ups):
    net = network(ups)
    path = tmp_path / "x.pth"
    torch.save({"params_ema": {f"module.{k}": v for k, v in layout(net).items()}}, path)
    model = load_baseline(path)
    assert (model.kind, model.factor, model.resolution) == ("esrgan", 2**ups, None)
    assert model.card["layout"] in layout.__name__
    low = torch.rand(1, 3, 6, 5)
    torch.testing.assert_close(model.restore(low), net(low).clamp(0, 1), atol=1e-5, rtol=0)


def test_the_published_network_is_read_from_its_own_names():
    names = set(old_layout(network()))
    assert {"model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight", "model.1.sub.2.weight", "model.3.bias"} <= names
    assert {"model.6.weight", "model.8.weight", "model.10.weight"} <= names  # as in RRDB_ESRGAN_x4_old_arch.pth
    assert {"conv_up1.weight", "conv_up2.weight", "body.1.rdb3.conv5.bias"} <= set(new_layout(network()))
    assert {"upconv1.weight", "HRconv.weight", "RRDB_trunk.0.RDB1.conv1.weight"} <= set(middle_layout(network()))


@pytest.mark.parametrize("unshuffle", [2, 4])
def test_unshuffled_networks_and_safetensors(tmp_path, unshuffle):
    net = network(2, unshuffle)
    save_file(new_layout(net), tmp_path / "x.pth")  # the ending says nothing
    model = load_baseline(tmp_path / "x.pth")
    assert model.factor == 4 // unshuffle
    assert model.upscale(torch.rand(3, 9, 7)).shape == (3, 9 * model.factor, 7 * model.factor)


def test_tiles_make_the_whole():
    net = network(1)
    model = Baseline(kind="esrgan", network=net, factor=net.factor, resolution=None, stage="unknown", card={})
    picture = torch.rand(3, 40, 33)
    whole = model.upscale(picture, tile=64)
    tiled = model.upscale(picture, tile=16, overlap=40)  # sees everything a layer can see
    torch.testing.assert_close(whole, tiled, atol=1e-5, rtol=0)
    assert float((model.upscale(picture, tile=16, overlap=8) - whole).abs().max()) < 0.05


class Harm:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_malicious_file_does_nothing(tmp_path, writer):
    trace, path = tmp_path / "trace", tmp_path / "x.pth"
    content = {"params": new_layout(network()), "extra": Harm(f"touch {trace}")}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content["extra"], protocol=2))
    with pytest.raises(UnsafeFileError, match="nothing was run"):
        load_baseline(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"layers.0.attn.qkv.weight": torch.zeros(3, 3)}, r"layers\.0\.attn\.qkv\.weight \(3, 3\).*a transformer"),
        ({"conv1.weight": torch.zeros(4, 3, 3, 3)}, "1 tensors were seen.*expected an ESRGAN"),
        ({"epoch": 3}, "no tensors"),
        ([1, 2], "holds a list"),
        (torch.zeros(3), "holds a Tensor"),
    ],
)
def test_other_networks_are_named(tmp_path, content, words):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=words):
        load_baseline(tmp_path / "x.pth")


def test_esrgans_that_cannot_be_used(tmp_path):
    path = tmp_path / "x.pth"
    grey = new_layout(network()) | {"conv_first.weight": torch.zeros(8, 1, 3, 3)}
    torch.save(grey, path)
    with pytest.raises(WeightsError, match="from 1 to 3 channels"):
        load_baseline(path)
    torch.save(new_layout(network()) | {"attention.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"attention\.weight is not part"):
        load_baseline(path)
    short = new_layout(network())
    short.pop("conv_hr.bias")
    torch.save(short, path)
    with pytest.raises(WeightsError, match=r"conv_hr\.bias is missing"):
        load_baseline(path)
    short.pop("conv_last.weight")
    torch.save(short, path)
    with pytest.raises(WeightsError, match="begins like an ESRGAN"):
        load_baseline(path)
