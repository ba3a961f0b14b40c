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
from latentface.explore.registry import METHODS, find_method, with_steps

SEARCH = ["prior", "low", "degradation", "settings", "seeds", "start"]
ANSWER = ["low", "degradation", "settings"]


@pytest.mark.parametrize("name", METHODS)
def test_one_signature(name):
    method = find_method(name)
    parameters = inspect.signature(method.function).parameters
    assert list(parameters) == (SEARCH if method.searches else [*ANSWER, *["seeds"] * method.seeded])
    keywords = [name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY]
    assert keywords == [name for name in parameters if name not in ("prior", "low")]
    assert all(p.default is p.empty for p in parameters.values())
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


def test_steps_of_several_stages_keep_their_shares():
    dgp, ilo = find_method("dgp").settings("paper"), find_method("ilo").settings("paper")
    assert with_steps(dgp, 105).steps == (21,) * 5
    assert with_steps(ilo, 150).steps == (50, 50, 25, 25)
    assert with_steps(ilo, 30).steps == (10, 10, 5, 5)
    for n in (4, 5, 17, 99):
        made = with_steps(ilo, n).steps
        assert sum(made) == n
        assert min(made) >= 1
    assert with_steps(find_method("rlse").settings("paper"), 7).steps == 7
    with pytest.raises(InputError, match="5 stages"):
        with_steps(dgp, 4)


PUBLISHED = {  # what the papers and their code have, in [0, 1] units: docs/methods.md
    "pulse": {"steps": 100, "rate": 0.4, "tied": False, "noise_maps": 5, "pixel_weight": 100, "geocross": 0.05, "eps": 2e-3, "schedule": "pulse"},
    "mganprior": {"codes": 20, "compose": 16, "steps": 2000, "rate": 1.0, "optimiser": "descent", "pixel_weight": 4, "feature_weight": 1e-3},
    "dgp": {"steps": (200,) * 5, "latent_rates": (2e-3, 1e-3, 2e-5, 1e-5, 1e-5), "generator_rates": (5e-5, 5e-5, 2e-5, 1e-5, 1e-5), "candidates": 500, "candidate_blocks": 3, "feature_weight": 1, "pixel_weight": 4, "prior_weight": 0.02, "space": "z"},
    "ilo": {"steps": (50, 50, 25, 25), "rate": 0.1, "pixel_weight": 4, "geocross": 0.01, "tied": False},
    "rls": {"steps": 500, "rate": 0.5, "pixel_weight": 20, "density_weight": 0.002, "norm_weight": 0.004, "cross_weight": 0.5},
    "rlse": {"steps": 100},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_preset_paper_is_what_was_published(name):
    assert {k: v for k, v in asdict(find_method(name).settings("paper")).items() if k in PUBLISHED[name]} == PUBLISHED[
        name
    ]


def test_changes_and_wrong_names():
    rlse = find_method("rlse")
    assert rlse.settings("paper", steps=7).steps == 7
    assert rlse.settings("paper").steps == 100
    with pytest.raises(InputError, match=r"rlse: .*colour"):
        rlse.settings(colour="blue")
    with pytest.raises(UnknownNameError, match="preset of rlse 'quick'"):
        rlse.settings("quick")
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
