"""A search that is watched: what is told meanwhile, how it stops, and that the result is the one without a watcher."""

from __future__ import annotations

import threading
import time

import photo_scene
import pytest
import torch
from tiny import tiny_faces, tiny_prior

from latentface.errors import InputError
from latentface.restore.live import Progress, Watch
from latentface.restore.settings import PhotoSettings, UpscaleSettings
from latentface.restore.upscaler import Upscaler

FACE = tiny_faces(1)[0]


def slowed(upscaler: Upscaler, monkeypatch, pause: float = 0.02) -> Upscaler:
    """Let each step of a search take a moment, so that there is something to watch."""
    finish = upscaler.finish

    def slow(window, on_step):
        def told(rows, step):
            time.sleep(pause)
            return on_step(rows, step)

        return finish(window, told)

    monkeypatch.setattr(upscaler, "finish", slow)
    return upscaler


def test_it_tells_how_far_it_is_and_ends_in_the_same_face(prior, monkeypatch):
    upscaler = Upscaler(prior, settings=UpscaleSettings(steps=60, full_steps=60))
    expected = upscaler.face(FACE)
    watch = Watch(slowed(upscaler, monkeypatch), upscaler.look(FACE, kind="aligned"))
    *states, result = watch
    assert states
    assert all(isinstance(state, Progress) for state in states)
    shares = [state.share for state in states]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 1
    assert states[-1].faces[1].shape == (3, 16, 16)
    assert [*states[-1].losses] == sorted(states[-1].losses)
    assert states[-1].preview.size[0] > 160
    assert all(state.words == "finishing" if state.share == 1 else "%" in state.words for state in states)
    assert torch.equal(result.high, expected.high)
    assert "stopped_early" not in result.record


def test_the_time_left_is_told_until_the_last_step():
    told = [Progress(share, 10.0, {}, {}).words for share in (0.01, 0.5, 1.0)]
    assert told == ["1 %", "50 %, about 10 s left", "finishing"]


def test_stop_ends_it_at_the_best_so_far(prior, monkeypatch):
    upscaler = slowed(Upscaler(prior, settings=UpscaleSettings(steps=2000)), monkeypatch)
    watch = Watch(upscaler, upscaler.look(FACE, kind="aligned"))
    states = iter(watch)
    assert isinstance(next(states), Progress)
    watch.stop.set()
    *_, result = states
    assert result.record["stopped_early"] is True
    assert result.best_step < 2000
    assert result.consistency_db > 20  # it is projected, too


def test_it_ends_by_itself_after_the_time_that_it_may_take(prior, monkeypatch):
    upscaler = slowed(Upscaler(prior, settings=UpscaleSettings(steps=5000)), monkeypatch)
    began = time.monotonic()
    *_, result = Watch(upscaler, upscaler.look(FACE, kind="aligned"), most=0.5)
    assert result.record["stopped_early"] is True
    assert time.monotonic() - began < 20


def test_a_reader_who_goes_away_ends_it(prior, monkeypatch):
    upscaler = slowed(Upscaler(prior, settings=UpscaleSettings(steps=5000)), monkeypatch)
    states = iter(Watch(upscaler, upscaler.look(FACE, kind="aligned")))
    next(states)
    states.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "latentface search"]


def test_what_the_search_raises_reaches_the_reader(prior, monkeypatch):
    upscaler = Upscaler(prior, settings=UpscaleSettings(steps=3))
    monkeypatch.setattr(upscaler, "finish", lambda window, on_step: iter([InputError("no")]))
    with pytest.raises(InputError, match="no"):
        list(Watch(upscaler, upscaler.look(FACE, kind="aligned")))


def test_faces_that_are_known_are_not_looked_for_again(monkeypatch):
    prior = tiny_prior(32)
    prior.alignment = "ffhq"
    photo_scene.know(monkeypatch)
    picture = photo_scene.encoded(photo_scene.scene(prior))
    first = Upscaler(prior, photo=PhotoSettings(min_face=4.0)).look(picture, kind="photo")
    assert first.summary == "3 faces found"
    assert [record["number"] for record in first.records] == [1, 2, 3]

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr("latentface.restore.photo.detect_turned", never)
    one = Upscaler(prior, photo=PhotoSettings(min_face=4.0, faces=(2,)))
    again = one.look(picture, kind="photo", known=first.detected)
    assert [job.number for job in again.jobs] == [2]
    assert again.summary.count("will be left as it is: not asked for") == 2
    assert [a.box for a in again.detected[0]] == [b.box for b in first.detected[0]]
