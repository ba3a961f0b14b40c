"""Sizes: what a card may name, and the official tables."""

from __future__ import annotations

import json

import pytest

from latentface.prior.architecture import Architecture, default_channels, resolutions_of


def test_default_channels_are_configuration_f():
    full = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
    assert default_channels(1024) == full
    assert default_channels(256) == {r: c for r, c in full.items() if r <= 256}


def test_default_channels_of_half_the_base():
    assert default_channels(256, base=16384) == {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64}


@pytest.mark.parametrize(("resolution", "rows"), [(8, 4), (64, 10), (128, 12), (256, 14), (1024, 18)])
def test_style_rows(resolution, rows):
    arch = Architecture(resolution=resolution)
    assert arch.num_ws == rows
    assert sorted(arch.channels) == resolutions_of(resolution)
    assert arch.d_channels == arch.channels


def test_it_survives_json():
    arch = Architecture(resolution=16, channels={4: 3, 8: 5, 16: 7}, d_channels={4: 2, 8: 4, 16: 6}, clamp=256.0)
    assert Architecture(**json.loads(json.dumps(arch.to_json()))) == arch


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resolution": 4}, "resolution is 4"),
        ({"resolution": 48}, "powers of two from 8 to 1024"),
        ({"resolution": 64.0}, "whole number"),
        (
            {"resolution": 16, "channels": {4: 8, 8: 8}},
            r"channels is .* needs a positive number for each of \[4, 8, 16\]",
        ),
        ({"resolution": 8, "channels": {4: 8, 8: 0}}, "positive number"),
        ({"resolution": 8, "d_channels": {4: 8, 16: 8}}, "d_channels"),
        ({"resolution": 8, "z_dim": 0}, "z_dim is 0"),
        ({"resolution": 8, "w_dim": 2.5}, "w_dim is 2.5"),
        ({"resolution": 8, "mapping_layers": "8"}, "mapping_layers is '8'"),
        ({"resolution": 8, "mbstd_group": -1}, "mbstd_group"),
        ({"resolution": 8, "clamp": 0.0}, "clamp is 0.0"),
    ],
)
def test_sizes_that_cannot_be(changes, words):
    with pytest.raises(ValueError, match=words):
        Architecture(**changes)
