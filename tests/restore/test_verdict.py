"""What is no face is left as it is: the rule, the faces and photographs that it is applied to, and how it is told."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import photo_scene
import pytest
import torch
from tiny import tiny_faces, tiny_prior
from together import photographs_of

from latentface.degradation import Downscale
from latentface.faces import Face, Similarity, Warp
from latentface.faces.align import landmarks_of
from latentface.io.photo import Photo
from latentface.prior.prior import Prior
from latentface.restore import verdict
from latentface.restore.settings import PhotoSettings, UpscaleSettings
from latentface.restore.upscaler import Upscaler
from latentface.restore.verdict import NO_FACE, UNLIKE, face_errors, reason_against, reason_of_most

QUICK = UpscaleSettings(steps=2, noise=0.0)


@pytest.fixture(scope="module")
def ffhq() -> Prior:
    made = tiny_prior(32)
    made.alignment = "ffhq"
    return made


def seen(score: float, moved: float = 0.0, alignment: str = "ffhq") -> list[Face]:
    """A detector's answer: a face of that score whose landmarks are off by `moved` of the side."""
    marks = np.insert(landmarks_of(alignment), 2, (0.5, 0.6), axis=0) * verdict.SEEN
    marks[0, 0] += moved * verdict.SEEN
    return [Face((30.0, 30.0, 100.0, 120.0), marks, score)]


@pytest.mark.parametrize(
    ("found", "error", "side", "reason"),
    [
        (seen(0.9), 0.05, 128, None),
        (seen(0.9, alignment="celeba"), 0.05, 128, None),
        (seen(0.9, 0.09), 0.05, 1024, None),
        (seen(0.7), 0.05, 128, NO_FACE),
        (seen(0.7), 0.05, 32, None),  # a small result is seen enlarged
        (seen(0.6), 0.05, 32, NO_FACE),
        (seen(0.9, 0.2), 0.05, 128, NO_FACE),
        (seen(0.9, 0.2) + seen(0.8), 0.05, 128, None),
        ([], 0.05, 128, NO_FACE),
        (seen(0.9), 0.15, 128, UNLIKE),
    ],
)
def test_the_rule(
    monkeypatch: pytest.MonkeyPatch, found: list[Face], error: float, side: int, reason: str | None
) -> None:
    shown = []
    monkeypatch.setattr(verdict, "detect", lambda picture, **_: shown.append(picture.shape) or found)
    assert reason_against(torch.rand(3, side, side), error, "ffhq") == reason
    assert shown == [(3, 128, 128)]


def test_the_detector_itself_sees_no_face_in_noise() -> None:
    noise = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert reason_against(noise, 0.0, "celeba") == NO_FACE


def test_most_samples_decide() -> None:
    assert reason_of_most([None]) is None
    assert reason_of_most([UNLIKE]) == UNLIKE
    assert reason_of_most([None, NO_FACE]) is None
    assert reason_of_most([NO_FACE, None, UNLIKE]) == NO_FACE


def test_errors_count_in_the_middle_of_the_face_alone() -> None:
    high = torch.full((2, 3, 32, 32), 0.5)
    down = Downscale(8, 32)
    low = down.forward(high)
    low[0, :, :, :1] += 0.3  # beside the face
    low[1, :, 5] += 0.3  # across the mouth
    beside, across = face_errors(down, high, low)
    assert beside < 1e-5
    assert 0.05 < across < 0.3
    even = face_errors(down, high, down.forward(high) + 0.1)
    torch.testing.assert_close(even, torch.full((2,), 0.1))


def test_errors_of_a_photographs_face_are_those_of_its_own_pixels() -> None:
    """Turned, and partly outside: what lies beyond the border is no error."""
    high = torch.full((1, 3, 32, 32), 0.5)
    for place in (Similarity.square((20.0, 20.0), 12.0, 20.0), Similarity.square((1.0, 20.0), 12.0)):
        warp = Warp([place], 32, (40, 40))
        error = float(face_errors(warp, high, warp.forward(high) + 0.1 * warp.mask)[0])
        assert math.isclose(error, 0.1, abs_tol=0.02)


def test_an_aligned_face_that_became_none_is_enlarged_plainly(ffhq: Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    low = tiny_faces(1, 8)[0]
    face = Upscaler(ffhq, settings=replace(QUICK, samples=2)).face(low)
    told = []
    monkeypatch.setattr(
        "latentface.restore.engine.reason_against", lambda high, error, alignment: told.append(error) or NO_FACE
    )
    plain = Upscaler(ffhq, settings=replace(QUICK, strength=0.0, keep_all=True)).face(low)
    assert told == []  # nothing is judged where all are kept
    left = Upscaler(ffhq, settings=replace(QUICK, samples=2)).face(low)
    assert len(told) == 2
    assert left.reason == left.record["reason"] == NO_FACE
    assert (left.record["upscaled"], left.record["generated"]) == (False, False)
    assert (face.reason, face.record["generated"]) == (None, True)
    torch.testing.assert_close(left.high, plain.high)
    assert torch.equal(left.samples[0], left.samples[1])
    assert left.consistency_db > 50


def test_a_photographs_faces_that_became_none_are_left_and_numbered(
    ffhq: Prior, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_scene.know(monkeypatch)
    photo = Photo.read(photo_scene.encoded(photo_scene.scene(ffhq)), "scene.png")
    reasons = iter([None, NO_FACE, UNLIKE])
    monkeypatch.setattr("latentface.restore.engine.reason_against", lambda *_: next(reasons))
    up = Upscaler(ffhq, settings=QUICK, photo=PhotoSettings(min_face=4), batch_size=1)
    (result,) = photographs_of(up, [photo])
    assert [face.number for face in result.faces] == [1]
    assert [(face.number, face.reason) for face in result.left] == [(2, NO_FACE), (3, UNLIKE)]
    assert [face["number"] for face in result.record["faces"]] == [1, 2, 3]
    assert result.record["faces"][1]["reason"] == NO_FACE
    assert (result.record["faces_found"], result.record["faces_upscaled"]) == (3, 1)
    assert result.summary == f"1 of 3 faces upscaled, 1 left as it is ({NO_FACE}), 1 left as it is ({UNLIKE})"


def test_strength_goes_from_the_plain_enlargement_to_the_face(ffhq: Prior) -> None:
    low = tiny_faces(1, 8)[0]
    none, half, whole = (
        Upscaler(ffhq, settings=replace(QUICK, strength=s, projection=False)).face(low).high for s in (0.0, 0.5, 1.0)
    )
    torch.testing.assert_close(none, Downscale(8, 32).fit(low[None])[0])
    torch.testing.assert_close(half, (none + whole) / 2)
    assert float((none - whole).abs().max()) > 0.05
    projected = Upscaler(ffhq, settings=replace(QUICK, strength=0.5)).face(low)
    assert projected.consistency_db > 50
    assert projected.record["settings"]["strength"] == 0.5
