"""Aligned faces: sizes, exact answers, samples, softness, and what the record says."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_faces, tiny_prior
from together import faces_of

import latentface
from latentface.degradation import Downscale, resize
from latentface.errors import InputError
from latentface.explore.result import psnr_each
from latentface.io.pictures import read_picture
from latentface.restore.aligned import AlignedFace, result_side
from latentface.restore.settings import UpscaleSettings
from latentface.restore.upscaler import Upscaler, upscale

DATA = Path(os.environ.get("LATENTFACE_TEST_DATA", "no-data"))  # a folder of pictures that are not in the package
LOW = tiny_faces(1, 4, seed=7)[0].mul(255).round() / 255


def consistency(high: torch.Tensor, low: torch.Tensor) -> float:
    down = Downscale(low.shape[-1], high.shape[-1])
    return float(psnr_each(down.forward(high[None]), low[None])[0])


def side(prior, height: int, width: int | None = None, factor: float | None = None) -> int:
    """Return the side of the result."""
    return result_side(Upscaler(prior, settings=UpscaleSettings(factor=factor)).engine, height, width or height)


def test_sizes_are_checked(prior):
    for size, words in (
        ((4, 5), "square"),
        ((1, 1), "at least 2 x 2"),
        ((16, 16), "nothing to enlarge"),
        ((90, 90), "larger prior"),
    ):
        with pytest.raises(InputError, match=words):
            side(prior, *size)
    assert side(prior, 3) == 16
    with pytest.raises(InputError, match="the largest factor here is 4"):
        side(prior, 4, factor=5)
    assert side(prior, 4, factor=2.5) == 10


def test_a_face_nearly_as_large_as_the_priors_is_refused_as_in_photographs():
    """Less than 2 % larger: the pseudo-inverse would enlarge every rounding."""
    prior = tiny_prior(128)
    for size in (126, 127):
        with pytest.raises(InputError, match="nothing to enlarge"):
            side(prior, size)
    assert side(prior, 125) == 128
    for factor in (1.004, 1.01, 1.019):
        with pytest.raises(InputError, match=r"a factor of 1, or of 1\.02 at least"):
            side(prior, 100, factor=factor)
    assert side(prior, 100, factor=1) == 100
    assert side(prior, 100, factor=1.02) == 102


def test_a_square_nearly_as_large_as_the_priors_faces_is_a_photograph(monkeypatch):
    monkeypatch.setattr("latentface.restore.upscaler.aligned_square", lambda *arguments: (0, 0, 127))
    up = Upscaler(tiny_prior(128), settings=UpscaleSettings(method="bicubic"))
    plain = Image.new("RGB", (127, 127), "grey")
    assert up(plain).image.size == (254, 254)


@pytest.mark.parametrize(("size", "factor", "target"), [(2, None, 16), (4, 2, 8), (5, 2.2, 11), (4, 1, 4)])
def test_a_result_shrinks_back_whatever_the_factor(prior, size, factor, target):
    low = tiny_faces(1, size)[0]
    face = upscale(low, factor=factor, prior=prior, steps=2, kind="aligned")
    assert face.high.shape == (3, target, target)
    assert consistency(face.high, low) > 50
    assert face.consistency_db == pytest.approx(consistency(face.high, low), abs=0.01)


def test_without_projection_the_search_alone_decides(prior):
    exact, loose = (
        Upscaler(prior, settings=UpscaleSettings(steps=2, projection=wanted)).face(LOW) for wanted in (True, False)
    )
    assert loose.consistency_db < 45 < exact.consistency_db


def test_samples_mean_and_spread(prior):
    faces = upscale(LOW, prior=prior, steps=2, samples=3, seed=5)
    for k in range(3):
        assert torch.equal(faces.samples[k], upscale(LOW, prior=prior, steps=2, seed=5 + k).high)
    torch.testing.assert_close(faces.spread[0], (4 * faces.samples.var(0).mean(0).sqrt()).clamp(0, 1))
    mean = upscale(LOW, prior=prior, steps=2, samples=3, seed=5, answer="mean")
    assert consistency(mean.high, LOW) > 50
    torch.testing.assert_close(mean.high, faces.samples.mean(0), atol=2e-3, rtol=0)
    assert upscale(LOW, prior=prior, steps=2).spread.abs().max() == 0


def test_the_record_says_how_it_was_made(prior):
    record = upscale(LOW, prior=prior, steps=2, seed=3).record
    assert record["method"] == "rlse"
    assert record["seed"] == 3
    assert record["settings"]["method_settings"]["steps"] == 2
    assert record["prior_sha256"] == prior.sha256
    assert record["generated"] is True
    assert "must not be used to identify" in record["notice"]
    assert (record["low_size"], record["high_size"]) == ([4, 4], [16, 16])


@pytest.mark.slow
def test_real_faces_shrink_back_to_their_inputs(tmp_path):
    """As the project is judged, with few steps: unseen CelebA faces at 8x, saved, read and shrunk again."""
    source = DATA / "data" / "celeba128" / "val.zip"
    if not source.exists():
        pytest.skip("needs LATENTFACE_TEST_DATA, a folder with data/celeba128/val.zip")
    prior = latentface.load_prior("celeba128")
    size = prior.resolution
    with zipfile.ZipFile(source) as archive:
        names = [n for n in sorted(archive.namelist()) if n.endswith((".png", ".jpg", ".webp"))][:4]
        truths = torch.stack([read_picture(archive.read(n)) for n in names])
    lows = Downscale(size // 8, truths.shape[-1]).forward(truths).clamp(0, 1).mul(255).round() / 255
    for i, face in enumerate(faces_of(Upscaler(prior, settings=UpscaleSettings(steps=8)), lows)):
        face.save(tmp_path / f"{i}.png")
        shrunk = Image.open(tmp_path / f"{i}.png").resize((size // 8, size // 8), Image.Resampling.BICUBIC)
        assert -10 * np.log10(np.mean((np.asarray(shrunk) / 255 - lows[i].permute(1, 2, 0).numpy()) ** 2)) >= 45


def soft_faces() -> torch.Tensor:
    """Two faces of 12 px (2, 3, 12, 12): one enlarged from 8 px, and one that is sharp."""
    generator = torch.Generator().manual_seed(3)
    sharp = torch.rand(1, 3, 12, 12, generator=generator)
    return torch.cat([resize(torch.rand(1, 3, 8, 8, generator=generator), 12).clamp(0, 1), sharp])


def test_a_soft_face_is_enlarged_from_the_detail_that_it_has(monkeypatch) -> None:
    prior = tiny_prior(32)
    low = soft_faces()
    monkeypatch.setattr(
        "latentface.restore.aligned.detail_side", lambda face, sigma, side: 8 if torch.equal(face, low[0]) else 12
    )
    told = []
    upscaler = Upscaler(prior, settings=UpscaleSettings(steps=3, samples=2), batch_size=4)
    soft, sharp = faces_of(upscaler, low, lambda rows, step: told.append(tuple(rows)))
    assert soft.record["low_size"] == [12, 12]
    assert soft.record["detail_size"] == [8, 8]
    assert sharp.record["detail_size"] == [12, 12]
    assert soft.high.shape == sharp.high.shape == (3, 32, 32)
    assert set(told) == {((0, 0), (0, 1)), ((1, 0), (1, 1))}  # each in its own search, told by its job and sample
    seen = resize(low[:1], 8).clamp(0, 1)
    assert torch.equal(soft.seen, seen[0])
    assert torch.equal(sharp.seen, low[1])
    assert consistency(soft.high, seen[0]) > 60
    whole = UpscaleSettings(steps=3, detail="full")
    alone = Upscaler(prior, settings=UpscaleSettings(steps=3, samples=2, detail="full"), batch_size=4).face(seen[0])
    assert float((alone.high - soft.high).abs().max()) < 1e-4  # as if it had been given so
    assert consistency(Upscaler(prior, settings=whole).face(low[0]).high, low[0]) > 60
    given = Upscaler(prior, settings=UpscaleSettings(steps=3, detail=6)).face(low[0])
    assert given.record["detail_size"] == [6, 6]


def test_less_is_left_of_noise_where_pixels_are_averaged() -> None:
    up = Upscaler(tiny_prior(32), settings=UpscaleSettings(steps=2, detail=6, noise=0.1))
    (job,) = AlignedFace.find(up.engine, soft_faces()[1]).jobs
    assert job.degradation.sigma == pytest.approx(0.05)


def test_networks_take_every_face_as_it_is() -> None:
    """They were trained on faces of one size, and interpolation draws what is there."""
    soft = resize(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3)), 24).clamp(0, 1)[0]
    prior = tiny_prior(32)

    def searched(method: str) -> int:
        up = Upscaler(prior, settings=UpscaleSettings(method=method))
        return AlignedFace.find(up.engine, soft).jobs[0].low.shape[-1]

    assert searched("rlse") < 24
    for method in ("bicubic", "fsrnet", "esrgan"):
        assert searched(method) == 24
        with pytest.raises(InputError, match="leave detail out"):
            Upscaler(prior, settings=UpscaleSettings(method=method, detail=8))


def test_the_mean_of_a_soft_faces_answers_shrinks_to_its_detail() -> None:
    settings = UpscaleSettings(steps=2, samples=2, answer="mean", detail=6)
    found = Upscaler(tiny_prior(32), settings=settings).face(soft_faces()[1])
    assert found.seen.shape == (3, 6, 6)
    assert found.consistency_db == pytest.approx(consistency(found.high, found.seen), abs=0.1)
    assert found.consistency_db > 60
