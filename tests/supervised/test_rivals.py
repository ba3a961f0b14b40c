"""Files of Real-ESRGAN (ncnn) and RRDN (TensorFlow.js), small and of random numbers; and both as methods."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_faces

from latentface.degradation import Downscale
from latentface.errors import UnknownNameError, WeightsError
from latentface.explore.engine import explore
from latentface.metrics import weights
from latentface.metrics.weights import FILES
from latentface.restore.background import Background
from latentface.supervised.esrgan import RrdbNet, RrdbShape
from latentface.supervised.formats import load_baseline
from latentface.supervised.ncnn import read_ncnn
from latentface.supervised.rivals import open_rival
from latentface.supervised.rrdn import RrdnNet, read_tfjs

SHAPE = RrdbShape(blocks=2, features=6, growth=3, tail=(6, 6))
LEAKY = " 9=2 -23310=1,2.000000e-01"


def graph(blocks: int, features: int, growth: int, ups: int) -> list[str]:
    """Return the lines of an RRDBNet's .param as ncnn's converter writes them, blobs' names left plain."""
    lines = ["Input input 0 1 a"]

    def layer(kind: str, inputs: int, settings: str = "") -> None:
        lines.append(" ".join([kind, f"l{len(lines)}", str(inputs), "1", *["x"] * inputs, "y", settings]).strip())

    def conv(inputs: int, outputs: int, active: bool) -> None:
        layer("Convolution", 1, f"0={outputs} 1=3 4=1 5=1 6={9 * inputs * outputs}" + LEAKY * active)

    conv(3, features, False)
    for _ in range(blocks):
        for _ in range(3):
            layer("Split", 1)
            for i in range(4):
                conv(features + i * growth, growth, True)
                layer("Concat", i + 2)
            conv(features + 4 * growth, features, False)
            layer("Eltwise", 2, "0=1 -23301=2,2.000000e-01,1.000000e+00")
        layer("Eltwise", 2, "0=1 -23301=2,2.000000e-01,1.000000e+00")
    conv(features, features, False)
    layer("BinaryOp", 2)
    for _ in range(ups):
        layer("Interp", 1, "0=1 1=2.000000e+00 2=2.000000e+00")
        conv(features, features, True)
    conv(features, features, True)
    conv(features, 3, False)
    return lines


# A layer of 3 x 9 x 9 numbers is odd, so that its float16 are filled up.
def write_ncnn(folder: Path, net: RrdbNet, half: bool = True) -> Path:
    """Write a network as ncnn has it: a flag, (out, in, h, w) as float16 filled to four bytes, the bias as float32."""
    shape = net.shape
    lines = graph(shape.blocks, shape.features, shape.growth, len(shape.tail))
    (folder / "net.param").write_text("\n".join(["7767517", f"{len(lines)} 999", *lines, ""]))
    data = b""
    for module in net.modules():  # in the order in which they are used
        if isinstance(module, torch.nn.Conv2d):
            weight = module.weight.detach().numpy().astype("<f2" if half else "<f4").tobytes()
            assert module.bias is not None
            bias = module.bias.detach().numpy().astype("<f4").tobytes()
            data += (0x01306B47 if half else 0).to_bytes(4, "little") + weight + bytes(-len(weight) % 4) + bias
    (folder / "net.bin").write_bytes(data)
    return folder / "net.param"


@pytest.fixture
def net() -> RrdbNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = RrdbNet(SHAPE)
        for name, value in made.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(value, std=0.1)
    return made.half().float()  # as the file holds it


@pytest.mark.parametrize("half", [True, False])
def test_ncnns_files_hold_the_network_to_the_last_bit(net: RrdbNet, half: bool, tmp_path: Path) -> None:
    shape, tensors = read_ncnn(write_ncnn(tmp_path, net, half))
    assert shape == SHAPE
    wanted = net.state_dict()
    assert tensors.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(tensors[name], value), name


def test_a_file_is_a_background_and_a_baseline(net: RrdbNet, tmp_path: Path) -> None:
    path = write_ncnn(tmp_path, net)
    low = tiny_faces(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(load_baseline(path).restore(low), net(low).clamp(0, 1), atol=1e-5, rtol=0)
    assert Background.read(path).record["factor"] == 4


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("7767517", "7767518", "does not begin with 7767517"),
        ("2.000000e-01,1.000000e+00", "1.000000e-01,1.000000e+00", "does not add 0.2 times"),
        ("0=1 1=2.000000e+00", "0=2 1=2.000000e+00", "does not repeat each pixel"),
        ("-23310=1,2.000000e-01", "-23310=1,1.000000e-01", "is not what body.0.rdb1.conv1 is"),
        ("1=3 4=1", "1=1 4=1", "is not what conv_first is"),
        ("Interp", "Sigmoid", "it is no RRDBNet"),
        ("6=162", "6=161", "has 161 weights, expected 162"),
    ],
)
def test_another_graph_is_refused(net: RrdbNet, tmp_path: Path, old: str, new: str, words: str) -> None:
    path = write_ncnn(tmp_path, net)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(WeightsError, match=words):
        read_ncnn(path)


def test_every_byte_is_accounted_for(net: RrdbNet, tmp_path: Path) -> None:
    path = write_ncnn(tmp_path, net)
    data = path.with_suffix(".bin").read_bytes()
    for changed, words in (
        (data + b"\0" * 4, "4 bytes are left over"),
        (data[:-4], "it ends after"),
        (b"\1" + data[1:], "expected float16 or float32"),
    ):
        path.with_suffix(".bin").write_bytes(changed)
        with pytest.raises(WeightsError, match=words):
            read_ncnn(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(WeightsError, match=r"net\.bin: it cannot be read .* both of ncnn's files"):
        load_baseline(path)


# -- RRDN --------------------------------------------------------------------------------------------------------------

FACTOR, FEATURES, GROWTH = 2, 4, 3


def write_tfjs(folder: Path) -> tuple[list[Path], dict[str, np.ndarray]]:
    """Write an RRDN of one block in the layers format, in two shards; return the files and the arrays, (h, w, in, out)."""
    random = np.random.default_rng(0)
    sizes = {"Pre_blocks_conv": (3, FEATURES), "post_blocks_conv": (FEATURES, FEATURES), "SR": (3, 3)}
    sizes["PreShuffle"] = (FEATURES, 3 * FACTOR**2)
    for dense in (1, 2, 3):
        for number in range(1, 5):
            sizes[f"F_1_{dense}_{number}"] = (FEATURES + (number - 1) * GROWTH, GROWTH)
        sizes[f"LFF_1_{dense}"] = (FEATURES + 4 * GROWTH, FEATURES)
    arrays = {}
    for name, (inputs, outputs) in sizes.items():
        arrays[f"{name}/kernel"] = random.normal(size=(3, 3, inputs, outputs), scale=0.3).astype(np.float32)
        arrays[f"{name}/bias"] = random.normal(size=outputs, scale=0.1).astype(np.float32)
    layers = [
        {"class_name": "MultiplyBeta", "config": {"beta": 0.2}},
        {"class_name": "Activation", "config": {"activation": "relu"}},
        {"class_name": f"PixelShuffle{FACTOR}x", "config": {"scale": FACTOR}},
    ]
    weights = [{"name": n, "shape": list(a.shape), "dtype": "float32"} for n, a in arrays.items()]
    model = {
        "modelTopology": {"model_config": {"config": {"layers": layers}}},
        "weightsManifest": [{"weights": weights}],
    }
    files = [folder / name for name in ("model.json", "a.bin", "b.bin")]
    files[0].write_text(json.dumps(model))
    data = b"".join(a.tobytes() for a in arrays.values())
    files[1].write_bytes(data[:1001])  # a shard may end inside a number
    files[2].write_bytes(data[1001:])
    return files, arrays


def conv(arrays: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    """Correlate (h, w, in) with a layer's kernel, in NumPy."""
    x = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (0, 1))
    return np.einsum("hwcij,ijco->hwo", windows, arrays[f"{name}/kernel"]) + arrays[f"{name}/bias"]


def rrdn(arrays: dict[str, np.ndarray], low: np.ndarray) -> np.ndarray:
    """Do what the graph of esrgan-thick says, on one picture (h, w, 3)."""
    first = x = conv(arrays, "Pre_blocks_conv", low)
    for dense in (1, 2, 3):
        seen = x
        for number in range(1, 5):
            new = np.maximum(conv(arrays, f"F_1_{dense}_{number}", seen), 0)
            seen = np.concatenate([seen, new], 2)
        x = x + 0.2 * conv(arrays, f"LFF_1_{dense}", seen)
    x = first + conv(arrays, "post_blocks_conv", first + 0.2 * x)
    x = conv(arrays, "PreShuffle", x)
    h, w, _ = x.shape  # depthToSpace: (h, w, row, column, colour) -> (h, row, w, column, colour)
    x = x.reshape(h, w, FACTOR, FACTOR, 3).transpose(0, 2, 1, 3, 4).reshape(h * FACTOR, w * FACTOR, 3)
    return conv(arrays, "SR", x)


def test_rrdn_does_what_its_graph_says(tmp_path: Path) -> None:
    files, arrays = write_tfjs(tmp_path)
    shape, tensors = read_tfjs(files[0], files[1:])
    net = RrdnNet(shape)
    net.load_state_dict(tensors)
    low = tiny_faces(1, 8)
    with torch.no_grad():
        got = net(low)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(got, rrdn(arrays, low[0].permute(1, 2, 0).numpy()), atol=1e-5)


def test_other_models_are_refused(tmp_path: Path) -> None:
    files, _ = write_tfjs(tmp_path)
    text = files[0].read_text()
    for old, new in (
        ("0.2}", "0.3}"),
        ('"relu"', '"tanh"'),
        ("SR/kernel", "XY/kernel"),
        ("float32", "float16"),
        ("{", ""),
    ):
        files[0].write_text(text.replace(old, new, 1))
        with pytest.raises(WeightsError, match=r"model\.json: it holds no RRDN"):
            read_tfjs(files[0], files[1:])
    files[0].write_text(text)
    files[2].write_bytes(files[2].read_bytes() + b"\0")
    with pytest.raises(WeightsError, match="1 bytes are left over"):
        read_tfjs(files[0], files[1:])


# -- methods -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(net: RrdbNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RrdbNet:
    """A small network in the place of Real-ESRGAN's files."""
    path = write_ncnn(tmp_path, net)
    monkeypatch.setenv("LATENTFACE_WEIGHTS", str(tmp_path))
    for index, file in enumerate((path, path.with_suffix(".bin"))):
        digest = sha256(file.read_bytes()).hexdigest()
        monkeypatch.setitem(FILES, f"realesrgan-{index}", replace(FILES["niqe"], file=file.name, sha256=digest))
    return net


def test_it_is_applied_until_it_is_large_enough(prior: Any, small: RrdbNet) -> None:
    low = tiny_faces(3, 4)
    with torch.no_grad():
        once = small(low).clamp(0, 1)
        twice = small(once).clamp(0, 1)
    for side, wanted in ((16, once), (32, F.avg_pool2d(twice, 2)), (64, twice), (12, None)):
        found = explore("realesrgan", prior, low, degradation=Downscale(4, side))
        assert found.high.shape == (3, 3, side, side)
        if wanted is not None:
            torch.testing.assert_close(found.high, wanted, atol=1e-5, rtol=0)
    alone = explore("realesrgan", prior, low[1:2], degradation=Downscale(4, 32)).high
    assert torch.equal(explore("realesrgan", prior, low, degradation=Downscale(4, 32)).high[1:2], alone)


def test_its_name_is_a_background(small: RrdbNet) -> None:
    assert Background.read("realesrgan").record == {"name": "realesrgan", "file": "Real-ESRGAN x4plus", "factor": 4}


def test_an_unknown_rival_is_said() -> None:
    with pytest.raises(UnknownNameError, match="realesrgan"):
        open_rival("gfpgan")


def test_the_published_files(tmp_path: Path) -> None:
    for name, factor, sides in (("realesrgan", 4, (64, 64)), ("rrdn", 8, (3, 3))):
        if any(weights.find(f"{name}-{i}") is None for i in range(2 if name == "realesrgan" else 9)):
            pytest.skip(f"the files of {name} are not at hand: {FILES[f'{name}-0'].advice}")
        model = open_rival(name, fetch=False)
        assert model.factor == factor
        assert model.network.conv_last.weight.shape[:2] == (3, sides[0])
        ramp = torch.linspace(0.2, 0.8, 16).expand(1, 3, 16, 16)
        wide = torch.linspace(0.2, 0.8, 16 * factor).expand(1, 3, 16 * factor, 16 * factor)
        assert (model.restore(ramp) - wide)[..., 8:-8].abs().mean() < 0.05  # a ramp stays one
