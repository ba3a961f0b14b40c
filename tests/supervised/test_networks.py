"""The networks: sizes, shapes, starting points."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from latentface.errors import InputError, UnknownNameError
from latentface.supervised.blocks import enlarge, luma
from latentface.supervised.fsrnet import Fsrnet, FsrnetShape
from latentface.supervised.registry import (
    KINDS,
    PLAIN,
    count_parameters,
    make_network,
    make_shape,
)
from latentface.supervised.vdsr import Vdsr, VdsrShape


@pytest.mark.parametrize(
    ("kind", "count"), [("vdsr", 664_704), ("esrgan", 16_734_915), ("fsrnet", 3_140_560)]
)  # the papers: 0.665 M, 16.7 M, 3.26 M (which counts the heads of many more landmarks and of parsing maps)
def test_published_sizes_at_8x(kind, count):
    with torch.device("meta"):
        assert count_parameters(make_network(kind, "published", 8)) == count


def test_all_small_files_fit_8_mb():
    stages = {"vdsr": 1, "esrgan": 2, "fsrnet": 1}
    numbers = sum(n * count_parameters(make_network(k, "small", f)) for k, n in stages.items() for f in (8, 16))
    assert 2 * numbers < 7.8e6  # float16, with room for the cards


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("factor", "side"), [(2, 8), (4, 4), (8, 8), (16, 4), (32, 2)])
@torch.no_grad()
def test_any_power_of_two(kind, factor, side):
    network = make_network(kind, "small", factor).eval()
    low = torch.rand(2, 3, side, side)
    assert network(low).shape == (2, 3, side * factor, side * factor)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_sides_of_no_power_of_two(kind):
    assert make_network(kind, "small", 4).eval()(torch.rand(1, 3, 5, 7)).shape == (1, 3, 20, 28)


@pytest.mark.parametrize("kind", ["vdsr", "fsrnet"])
@torch.no_grad()
def test_published_networks_run(kind):
    assert make_network(kind, "published", 4).eval()(torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize("kind", PLAIN)
@torch.no_grad()
def test_small_networks_start_near_bicubic(kind):
    torch.manual_seed(0)
    low = torch.rand(2, 3, 8, 8)
    difference = make_network(kind, "small", 8).eval()(low) - enlarge(low, 8)
    assert float(difference.abs().mean()) < 0.02


@torch.no_grad()
def test_vdsr_leaves_colour_differences_to_bicubic():
    low = torch.rand(1, 3, 4, 4)
    network = Vdsr(VdsrShape(factor=4, depth=3, width=8))
    torch.nn.init.normal_(network.layers[-1].weight)
    change = network(low) - enlarge(low, 4)
    assert float(change.abs().mean()) > 0.01
    torch.testing.assert_close(change[:, 0], change[:, 1])
    torch.testing.assert_close(luma(change), change[:, :1])


def test_fsrnet_stages():
    shape = FsrnetShape(factor=4, width=8, encoder_blocks=1, prior_width=8, hourglasses=2, levels=2, decoder_width=8)
    out = Fsrnet(shape).stages(torch.rand(2, 3, 8, 8))
    assert out.fine.shape == out.coarse.shape == (2, 3, 32, 32)
    assert [m.shape for m in out.heatmaps] == [(2, 5, 16, 16)] * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["small", "published"])
def test_shapes_survive_json(kind, size):
    shape = make_shape(kind, size, 8)
    assert KINDS[kind].shape(**json.loads(json.dumps(asdict(shape)))) == shape
    assert shape.factor == 8


@pytest.mark.parametrize("factor", [0, 3, 128])
def test_bad_factors(factor):
    for kind in KINDS:
        with pytest.raises(InputError, match="factor"):
            make_shape(kind, "small", factor)


def test_bad_names_and_numbers():
    with pytest.raises(UnknownNameError, match="did you mean 'vdsr'"):
        make_network("vdrs")
    with pytest.raises(UnknownNameError, match="size"):
        make_network("vdsr", "large")
    with pytest.raises(InputError, match="width"):
        VdsrShape(factor=8, width=0)
    with pytest.raises(InputError, match="strides"):
        FsrnetShape(factor=8, stride=3)
