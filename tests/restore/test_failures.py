"""What fails, fails one picture alone; a batch that does not fit the memory is halved."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import photo_scene
import pytest
import torch
from tiny import tiny_faces, tiny_prior
from together import faces_of

from latentface.devices import Batches
from latentface.errors import InputError, WeightsError
from latentface.io.given import read
from latentface.io.photo import Photo
from latentface.prior.prior import Prior
from latentface.restore.settings import PhotoSettings, UpscaleSettings
from latentface.restore.upscaler import Upscaler

CPU = torch.device("cpu")
FULL = "DefaultCPUAllocator: can't allocate memory"
ERRORS = [
    MemoryError,
    lambda: torch.OutOfMemoryError("full"),
    lambda: RuntimeError(FULL),
    lambda: RuntimeError("CUDA out of memory"),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One search after another, so that calls can be counted."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Counted:
    """Counts the calls of `Prior.synthesis`, and raises in a chosen one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.broken, self.error = 0, -1, MemoryError
        real = Prior.synthesis

        def synthesis(prior, *arguments, **named):
            self.calls += 1
            if self.calls == self.broken:
                raise self.error()
            return real(prior, *arguments, **named)

        monkeypatch.setattr(Prior, "synthesis", synthesis)


@pytest.fixture
def counted(monkeypatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture
def breaking(monkeypatch):
    """Let the searches of chosen inputs (B, 3, h, w), with their degradation, end in an error."""
    from latentface.restore import engine

    real = engine.explore_coarse

    def breaks(chosen, error):
        def explored(method, prior, low, *, degradation, **named):
            if chosen(low, degradation):
                raise error()
            return real(method, prior, low, degradation=degradation, **named)

        monkeypatch.setattr(engine, "explore_coarse", explored)

    return breaks


@pytest.mark.parametrize("error", [*ERRORS, lambda: WeightsError("no judge")])
def test_an_error_of_one_aligned_face(prior, breaking, error):
    up = Upscaler(prior, settings=UpscaleSettings(steps=2, detail="full"), device="cpu")
    lows = tiny_faces(3)
    whole = faces_of(up, lows)
    breaking(lambda low, degradation: any(torch.equal(one, lows[1]) for one in low), error)
    first, second, third = faces_of(up, lows)
    assert isinstance(second, InputError | MemoryError | WeightsError)
    assert torch.equal(first.high, whole[0].high)
    assert torch.equal(third.high, whole[2].high)


def test_an_error_of_the_program_is_none_of_a_face(prior, counted):
    counted.broken, counted.error = 2, lambda: RuntimeError("shapes do not agree")
    with pytest.raises(RuntimeError, match="shapes do not agree"):
        faces_of(Upscaler(prior, settings=UpscaleSettings(steps=2), device="cpu"), tiny_faces(2))


def test_an_error_of_one_face_of_a_photograph(breaking, monkeypatch):
    prior = tiny_prior(32)
    prior.alignment = "ffhq"
    photo_scene.know(monkeypatch)
    photo = Photo.read(photo_scene.encoded(photo_scene.scene(prior)), "scene.png")
    settings, small = UpscaleSettings(steps=2, noise=0.0), PhotoSettings(min_face=4)
    up = Upscaler(prior, settings=settings, photo=small, device="cpu")
    window = [up.find(photo, aligned=False), up.find(read(tiny_faces(1, 8)[0])[0], aligned=True)]
    whole = list(up.finish(window))
    face = window[0].jobs[0].low
    breaking(lambda low, degradation: any(torch.equal(one, face[0]) for one in low), MemoryError)
    broken, after = up.finish(window)
    assert isinstance(broken, InputError)
    assert torch.equal(after.high, whole[1].high)


def test_an_answer_that_does_not_fit_fails_alone(prior, monkeypatch):
    """Also after the search, when samples are averaged and put back."""
    from latentface.restore import engine

    real, calls = engine.psnr_each, []

    def psnr_each(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError(FULL)
        return real(*arguments)

    monkeypatch.setattr(engine, "psnr_each", psnr_each)
    first, second, third = faces_of(Upscaler(prior, settings=UpscaleSettings(steps=1), device="cpu"), tiny_faces(3))
    assert isinstance(second, MemoryError)
    assert first.high.shape == third.high.shape == (3, 16, 16)


@pytest.mark.parametrize("error", ERRORS)
def test_out_of_memory_halves_the_batch_and_says_so(prior, monkeypatch, error):
    said: list[str] = []
    real, most = Prior.synthesis, 1

    def tight(prior, w_plus, *arguments, **named):
        if len(w_plus) > most:
            raise error()
        return real(prior, w_plus, *arguments, **named)

    monkeypatch.setattr(Prior, "synthesis", tight)
    settings = UpscaleSettings(steps=2, detail="full")
    up = Upscaler(prior, settings=settings, batch_size=4, device="cpu", say=said.append)
    found = faces_of(up, tiny_faces(4))
    assert [face.high.shape for face in found] == [(3, 16, 16)] * 4
    assert said == [f"a batch of {n} does not fit the device's memory; going on with {n // 2}" for n in (4, 2)]
    most = 0
    with pytest.raises(InputError, match="one face does not fit"):
        up.face(tiny_faces(1)[0])


def test_what_filled_the_memory_is_gone_before_the_device_is_asked_to_give_it_back(monkeypatch):
    held: list[weakref.ref] = []
    alive: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(held[-1]() is not None))

    def work(items):
        large = torch.zeros(8)
        held.append(weakref.ref(large))
        if len(items) > 1:
            raise RuntimeError("CUDA out of memory")
        return items

    assert Batches(4, torch.device("cuda")).run([1, 2, 3], work) == [1, 2, 3]
    assert alive == [False]


def test_batches_let_go_of_what_they_needed(prior):
    kept: list[weakref.ref] = []
    up = Upscaler(prior, settings=UpscaleSettings(steps=2, detail="full"), batch_size=2, device="cpu")
    faces_of(up, tiny_faces(6), lambda rows, step: kept.append(weakref.ref(step.preview())) or None)
    faces_of(up, tiny_faces(2), lambda rows, step: kept.append(weakref.ref(step.losses["pixel"])) or None)
    assert len(kept) == 8
    assert [r for r in kept if r() is not None] == []
