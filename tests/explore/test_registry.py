"""Every method that has a name can be called by it, with either preset."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch

import latentface
from latentface.errors import InputError, UnknownNameError, WeightsError
from latentface.explore.registry import METHODS, find_method


@pytest.mark.parametrize("name", METHODS)
def test_one_signature(name):
    method = find_method(name)
    parameters = inspect.signature(method.function).parameters
    assert list(parameters)[:6] == ["prior", "low", "degradation", "settings", "seeds", "on_step"]
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[2:])
    assert method.summary
    assert method.source


@pytest.mark.parametrize("name", METHODS)
def test_presets_make_settings_that_can_be_recorded(name):
    method = find_method(name)
    assert {"paper", "equal"} <= set(method.presets)
    for preset in method.presets:
        settings = method.settings(preset)
        assert "project" in {f.name for f in fields(settings)}
        json.dumps(asdict(settings))


def test_changes_and_wrong_names():
    rlse = find_method("rlse")
    assert rlse.settings("paper", steps=7).steps == 7
    assert rlse.settings("paper").steps == 100
    with pytest.raises(InputError, match=r"rlse: .*colour"):
        rlse.settings(colour="blue")
    with pytest.raises(UnknownNameError, match="preset of rlse 'fast'"):
        rlse.settings("fast")
    with pytest.raises(UnknownNameError, match="did you mean 'rlse'"):
        find_method("rlsee")


def test_a_weights_file_is_a_method(tmp_path):
    bundled = Path(latentface.__file__).parent / "supervised" / "bundled" / "esrgan-128-8x.safetensors"
    method = find_method(str(bundled))
    assert (method.name, method.settings().weights) == ("esrgan", str(bundled))
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"fc\.weight"):
        find_method(str(tmp_path / "other.pth"))
    with pytest.raises(WeightsError):
        find_method(str(tmp_path / "none.pth"))
