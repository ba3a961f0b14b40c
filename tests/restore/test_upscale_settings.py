"""What settings may be, and what they come to."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import tiny_faces, tiny_prior

import latentface
from latentface.errors import InputError, UnknownNameError
from latentface.restore.settings import PhotoSettings, UpscaleSettings, face_numbers
from latentface.restore.upscaler import Upscaler, prior_named, upscale

LOW = tiny_faces(1, 4)[0]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"method": "rlce"}, UnknownNameError),
        ({"preset": "quick"}, UnknownNameError),
        ({"answer": "two"}, UnknownNameError),
        ({"start": "somewhere"}, UnknownNameError),
        ({"factor": 0.5}, InputError),
        ({"factor": float("nan")}, InputError),
        ({"factor": "x"}, InputError),
        ({"samples": 0}, InputError),
        ({"samples": "many"}, InputError),
        ({"steps": 0}, InputError),
        ({"seed": 2**70}, InputError),
        ({"seed": 0.5}, InputError),
        ({"method": "bicubic", "steps": 5}, InputError),
        ({"method": "bicubic", "samples": 2}, InputError),
        ({"method": "rls", "answer": "mean", "samples": 8}, InputError),
    ],
)
def test_keywords_of_upscale_are_checked(prior, changes, error):
    with pytest.raises(error):
        upscale(LOW, prior=prior, **changes)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"kernel": "cubic"}, UnknownNameError),
        ({"noise": -1.0}, InputError),
        ({"noise": float("inf")}, InputError),
        ({"noise": "much"}, InputError),
        ({"full_steps": -1}, InputError),
        ({"strength": 1.1}, InputError),
        ({"strength": float("nan")}, InputError),
    ],
)
def test_settings_are_checked(changes, error):
    with pytest.raises(error):
        UpscaleSettings(**changes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_face": 0},
        {"max_faces": -1},
        {"min_face": "small"},
        {"max_faces": "all"},
        {"min_score": 0.3},
        {"faces": "2"},
        {"faces": (0.5,)},
        {"skip_faces": 3},
    ],
)
def test_settings_of_photographs_are_checked(wrong):
    with pytest.raises(InputError, match="expected"):
        PhotoSettings(**wrong)


def test_numbers_of_faces():
    assert face_numbers("2,5-7, 3 - 3") == (2, 5, 6, 7, 3)
    chosen = PhotoSettings(faces=[7, np.int64(2), 7], skip_faces=range(1, 3))
    assert (chosen.faces, chosen.skip_faces) == ((2, 7), (1, 2))
    for words in ("", "a", "2-", "-2", "1,,2", "7-5", "1-999999"):
        with pytest.raises(InputError, match="expected numbers such as 2,5-7"):
            face_numbers(words)
    with pytest.raises(InputError, match="the largest face is number 1"):
        PhotoSettings(skip_faces=(0,))
    with pytest.raises(InputError, match="name at least one"):
        PhotoSettings(faces=())


def test_an_unknown_keyword_is_a_type_error_that_names_it(prior):
    with pytest.raises(TypeError, match="colour"):
        upscale(LOW, prior=prior, colour="blue")
    with pytest.raises(TypeError, match="sigma"):
        UpscaleSettings(sigma=0.1)


def test_seeds_may_be_numpys_whole_numbers(prior):
    for kind in (np.int32, np.int64, np.uint8):
        face = upscale(LOW, prior=prior, steps=1, seed=kind(7))
        assert face.record["seed"] == 7
        assert type(face.record["settings"]["seed"]) is int
    assert face.high.equal(latentface.upscale(LOW, prior=prior, steps=1, seed=7).high)


@pytest.mark.parametrize("detail", ["half", 1, 0, -3, 2.5, "16"])
def test_a_detail_that_is_none_is_refused(detail) -> None:
    with pytest.raises(InputError, match="expected auto, full, or a side"):
        UpscaleSettings(detail=detail)


def test_a_start_in_w_is_refused_where_z_is_searched() -> None:
    with pytest.raises(InputError, match="take the preset equal"):
        UpscaleSettings(method="dgp", start="bank").method_settings()
    assert UpscaleSettings(method="dgp", preset="equal", start="bank").method_settings().space == "w_plus"


def test_the_record_says_how_a_warm_start_searches() -> None:
    prior = tiny_prior(16)
    for start, together, betas in (("bank", 0.0, (0.8, 0.99)), ("random", 0.25, (0.9, 0.999))):
        made = Upscaler(prior, settings=UpscaleSettings(steps=2, start=start)).face(LOW).record
        assert made["settings"]["method_settings"]["together"] == together
        assert made["settings"]["method_settings"]["betas"] == betas
        assert made.get("wander") == ([0.1, 0.1] if start == "bank" else None)


def test_the_mean_is_of_eight_samples_unless_told():
    assert UpscaleSettings().count == 1
    assert UpscaleSettings(answer="mean").count == 8
    assert UpscaleSettings(answer="mean", samples=3).count == 3


def test_methods_without_a_search_take_the_embedded_prior():
    assert prior_named(None, "fsrnet") == prior_named(None, "bicubic") == "celeba128"
    assert prior_named(None, "rlse") is None  # the default
    assert prior_named("mine.safetensors", "fsrnet") == "mine.safetensors"
