"""A face's result depends on its pixels and its seed alone: not on its neighbours, its place, or the number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import photo_scene
import pytest
import torch
from tiny import tiny_faces, tiny_prior
from together import faces_of, photographs_of

import latentface
from latentface.io.given import read
from latentface.io.photo import Photo
from latentface.restore.settings import PhotoSettings, UpscaleSettings
from latentface.restore.upscaler import Upscaler

SIDES = (4, 5, 4, 7, 3, 5)


@pytest.fixture
def own_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def lows(scale: int = 1) -> list[torch.Tensor]:
    return [tiny_faces(1, side * scale, seed=seed)[0] for seed, side in enumerate(SIDES)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.usefixtures("own_threads")
def test_alone_and_in_a_folder_of_mixed_sizes(prior, samples, threads):
    torch.set_num_threads(1)
    settings = UpscaleSettings(steps=3, samples=samples)
    alone = [Upscaler(prior, settings=settings, device="cpu").face(low) for low in lows()]
    torch.set_num_threads(threads)
    up = Upscaler(prior, settings=settings, device="cpu")
    together, backwards = faces_of(up, lows()), faces_of(up, lows()[::-1])[::-1]
    for one, other, third in zip(alone, together, backwards, strict=True):
        assert torch.equal(one.samples, other.samples)
        assert torch.equal(one.samples, third.samples)
        assert torch.equal(one.high, other.high)
    assert torch.get_num_threads() == threads


@pytest.mark.slow
@pytest.mark.usefixtures("own_threads")
def test_alone_and_in_a_folder_with_the_embedded_prior():
    settings = UpscaleSettings(steps=2, detail="full")
    prior = latentface.load_prior("celeba128")
    torch.set_num_threads(1)
    alone = Upscaler(prior, settings=settings, device="cpu").face(lows(4)[3])
    torch.set_num_threads(2)
    together = faces_of(Upscaler(prior, settings=settings, device="cpu"), lows(4))
    assert torch.equal(alone.high, together[3].high)


@pytest.mark.usefixtures("own_threads")
def test_a_photographs_faces_beside_aligned_ones(monkeypatch):
    prior = tiny_prior(32)
    prior.alignment = "ffhq"
    photo_scene.know(monkeypatch)
    photo = Photo.read(photo_scene.encoded(photo_scene.scene(prior)), "scene.png")
    settings, small = UpscaleSettings(steps=2, noise=0.0), PhotoSettings(min_face=4)
    torch.set_num_threads(1)
    (alone,) = photographs_of(Upscaler(prior, settings=settings, photo=small, device="cpu"), [photo])
    torch.set_num_threads(2)
    up = Upscaler(prior, settings=settings, photo=small, device="cpu")
    window = [up.find(read(tiny_faces(1, 8)[0])[0], aligned=True), up.find(photo, aligned=False)]
    _, together = up.finish(window)
    for one, other in zip(alone.faces, together.faces, strict=True):
        assert torch.equal(one.samples, other.samples)


@pytest.mark.usefixtures("own_threads")
def test_the_record_says_on_what_it_was_computed(prior):
    torch.set_num_threads(2)
    for batch, threads, size in ((None, 1, 1), (4, 2, 4)):
        up = Upscaler(prior, settings=UpscaleSettings(steps=1), device="cpu", batch_size=batch)
        record = up.face(lows()[0]).record
        assert (record["device"], record["threads"], record["batch"]) == ("cpu", threads, size)
        assert record["steps_dtype"] in ("float32", "bfloat16")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_face_is_the_same_alone_and_in_a_batch():
    """Batches are padded to one size, so that the same kernels compute a face whatever is beside it."""
    prior = tiny_prior(32).to("cuda")
    up = Upscaler(prior, settings=UpscaleSettings(steps=3, detail="full"), device="cuda")
    faces = [tiny_faces(1, 8, seed=seed)[0] for seed in range(6)]
    for low, together in zip(faces, faces_of(up, faces), strict=True):
        alone = up.face(low)
        assert torch.equal(alone.high, together.high)
        assert alone.high.device.type == "cpu"
        assert alone.record["device"].startswith("cuda")
        assert alone.record["steps_dtype"] in ("float32", "bfloat16")
        assert alone.record["batch"] == together.record["batch"] > 1
        assert alone.consistency_db > 45


def test_no_more_rows_share_a_batch_than_fit_the_memory(monkeypatch):
    from latentface.restore import engine

    prior = tiny_prior()
    row = engine.BYTES_A_NUMBER * prior.generator.arch.features
    assert prior.generator.arch.features == 2 * 8 * (4**2 + 8**2 + 16**2)
    for free, rows in ((None, 8), (0, 1), (2 * row, 1), (6 * row, 3), (1000 * row, 8)):
        monkeypatch.setattr(engine, "free_memory", lambda free=free: free)
        assert engine.rows_that_fit(prior, 2) == rows
