"""A picture in, a picture out: every kind of input, the settings' checks, batches, memory."""

from __future__ import annotations

import io
import weakref
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_faces, tiny_prior

import latentface
from latentface.degradation import Downscale, resize
from latentface.devices import pick_device
from latentface.errors import InputError, PictureError, UnknownNameError, WeightsError
from latentface.explore.result import psnr_each
from latentface.io.pictures import read_picture, to_tensor
from latentface.restore.engine import Upscaler, prior_named, upscale
from latentface.restore.settings import UpscaleSettings

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
BYTES = np.random.default_rng(0).integers(40, 216, (4, 4, 3), dtype=np.uint8)
EXACT = torch.from_numpy(BYTES.transpose(2, 0, 1).copy()).float() / 255


def consistency(high: torch.Tensor, low: torch.Tensor) -> float:
    down = Downscale(low.shape[-1], high.shape[-1])
    return float(psnr_each(down.forward(high[None]), low[None])[0])


def test_three_lines(prior, tmp_path):
    Image.fromarray(BYTES).save(tmp_path / "tiny.png")
    face = latentface.upscale(tmp_path / "tiny.png", factor=4, prior=prior, steps=3)
    face.save(tmp_path / "large.png")
    assert face.high.shape == (3, 16, 16)
    saved = read_picture(tmp_path / "large.png")
    assert consistency(saved, EXACT) > 45
    assert face.show().size == (16, 16)
    assert "invented" in Image.open(tmp_path / "large.png").text["Comment"]


def test_every_kind_of_input_is_the_same_picture(tmp_path):
    file = io.BytesIO()
    Image.fromarray(BYTES).save(file, format="PNG")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    kinds = [
        str(tmp_path / "a.png"),
        tmp_path / "a.png",
        file.getvalue(),
        Image.fromarray(BYTES),
        BYTES,
        BYTES / 255,
        EXACT,
    ]
    kinds += [EXACT[None], EXACT.double(), torch.from_numpy(BYTES.transpose(2, 0, 1).copy())]
    for kind in kinds:
        torch.testing.assert_close(to_tensor(kind), EXACT, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (np.zeros((4, 4)), InputError),
        (np.full((4, 4, 3), 200), InputError),
        (torch.full((3, 4, 4), float("nan")), InputError),
        (torch.zeros(2, 3, 4, 4), InputError),
        (7, InputError),
        ("no-such-file.png", PictureError),
        (b"", PictureError),
    ],
)
def test_other_inputs_are_refused(bad, error):
    with pytest.raises(error):
        to_tensor(bad)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"method": "rlce"}, UnknownNameError),
        ({"kernel": "cubic"}, UnknownNameError),
        ({"preset": "quick"}, UnknownNameError),
        ({"answer": "two"}, UnknownNameError),
        ({"factor": 0.5}, InputError),
        ({"factor": float("nan")}, InputError),
        ({"samples": 0}, InputError),
        ({"steps": 0}, InputError),
        ({"seed": 2**70}, InputError),
        ({"sigma": -1.0}, InputError),
        ({"sigma": float("inf")}, InputError),
        ({"method": "bicubic", "steps": 5}, InputError),
        ({"method": "bicubic", "samples": 2}, InputError),
        ({"method": "rls", "answer": "mean", "samples": 8}, InputError),
        ({"colour": "blue"}, InputError),
    ],
)
def test_settings_are_checked(prior, changes, error):
    with pytest.raises(error):
        upscale(EXACT, prior=prior, **changes)


def test_sizes_are_checked(prior):
    one = Upscaler(prior, UpscaleSettings())
    for size, words in (
        ((4, 5), "square"),
        ((1, 1), "at least 2 x 2"),
        ((16, 16), "nothing to enlarge"),
        ((90, 90), "larger prior"),
    ):
        with pytest.raises(InputError, match=words):
            one.plan(*size)
    assert one.plan(3, 3) == (3, 16)
    with pytest.raises(InputError, match="the largest factor here is 4"):
        Upscaler(prior, UpscaleSettings(factor=5)).plan(4, 4)
    assert Upscaler(prior, UpscaleSettings(factor=2.5)).plan(4, 4) == (4, 10)


def test_priors_are_found_or_told(tmp_path, prior_file):
    with pytest.raises(UnknownNameError, match="prior 'celeba46'"):
        upscale(EXACT, prior="celeba46")
    with pytest.raises(WeightsError, match="no such file"):
        upscale(EXACT, prior="no/such.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(prior_file.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="broken"):
        upscale(EXACT, prior=tmp_path / "cut.safetensors")


@pytest.mark.parametrize("name", ["toaster", "meta", "cuda:99"])
def test_devices_that_are_not_here(name):
    with pytest.raises(InputError, match="try auto or cpu"):
        pick_device(name)


@pytest.mark.parametrize(("side", "factor", "target"), [(2, None, 16), (4, 2, 8), (5, 2.2, 11), (4, 1, 4)])
def test_a_result_shrinks_back_whatever_the_factor(prior, side, factor, target):
    low = tiny_faces(1, side)[0]
    face = upscale(low, factor=factor, prior=prior, steps=2)
    assert face.high.shape == (3, target, target)
    assert consistency(face.high, low) > 50
    assert face.consistency_db == pytest.approx(consistency(face.high, low), abs=0.01)


def test_without_projection_the_search_alone_decides(prior):
    exact, loose = (upscale(EXACT, prior=prior, steps=2, projection=p) for p in (True, False))
    assert loose.consistency_db < 45 < exact.consistency_db


def test_samples_mean_and_spread(prior):
    faces = upscale(EXACT, prior=prior, steps=2, samples=3, seed=5)
    for k in range(3):
        alone = upscale(EXACT, prior=prior, steps=2, seed=5 + k)
        torch.testing.assert_close(faces.all_samples[k], alone.high, atol=1e-3, rtol=0)
    torch.testing.assert_close(faces.spread[0], (4 * faces.all_samples.var(0).mean(0).sqrt()).clamp(0, 1))
    mean = upscale(EXACT, prior=prior, steps=2, samples=3, seed=5, answer="mean")
    assert consistency(mean.high, EXACT) > 50
    torch.testing.assert_close(mean.high, faces.all_samples.mean(0), atol=2e-3, rtol=0)
    assert upscale(EXACT, prior=prior, steps=2).spread.abs().max() == 0


def test_the_record_says_how_it_was_made(prior):
    record = upscale(EXACT, prior=prior, steps=2, seed=3).record
    assert record["method"] == "rlse"
    assert record["seed"] == 3
    assert record["settings"]["method_settings"]["steps"] == 2
    assert record["prior_sha256"] == prior.sha256
    assert record["generated"] is True
    assert "must not be used to identify" in record["notice"]
    assert (record["low_size"], record["high_size"]) == ([4, 4], [16, 16])


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("full"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_halves_the_batch_and_says_so(prior, monkeypatch, error):
    said: list[str] = []
    one = Upscaler(prior, UpscaleSettings(method="bicubic"), batch=4, say=said.append)
    real = one.method.function

    def tight(prior, low, **rest):
        if len(low) > 1:
            raise error
        return real(prior, low, **rest)

    monkeypatch.setattr(type(one.method), "function", property(lambda self: tight))
    assert len(one.upscale(tiny_faces(4))) == 4
    assert said == [f"a batch of {n} does not fit the device's memory; going on with {n // 2}" for n in (4, 2)]
    monkeypatch.setattr(
        type(one.method), "function", property(lambda self: lambda *a, **k: (_ for _ in ()).throw(error))
    )
    with pytest.raises(InputError, match="one face does not fit"):
        one.upscale(tiny_faces(2))


def test_batches_let_go_of_what_they_needed(prior):
    kept: list[weakref.ref] = []
    one = Upscaler(prior, UpscaleSettings(steps=2), batch=2)
    one.upscale(tiny_faces(6), lambda rows, step: kept.append(weakref.ref(step.preview())) or None)
    one.upscale(tiny_faces(2), lambda rows, step: kept.append(weakref.ref(step.losses["pixel"])) or None)
    assert len(kept) == 8
    assert [r for r in kept if r() is not None] == []


@pytest.mark.slow
def test_real_faces_shrink_back_to_their_inputs(tmp_path):
    """As the project is judged, with few steps: unseen CelebA faces at 8x, saved, read and shrunk again."""
    from latentface.prior.registry import EMBEDDED, PRIORS

    source = SHARED / "data" / "celeba128" / "val.zip"
    if not source.exists():
        pytest.skip("the validation faces are not at hand")
    if not PRIORS[EMBEDDED].path.exists():
        pytest.skip("the embedded prior is not at hand")
    prior = latentface.load_prior(EMBEDDED)
    side = prior.resolution
    with zipfile.ZipFile(source) as archive:
        names = [n for n in sorted(archive.namelist()) if n.endswith((".png", ".jpg", ".webp"))][:4]
        truths = torch.stack([read_picture(archive.read(n)) for n in names])
    low = Downscale(side // 8, truths.shape[-1]).forward(truths).clamp(0, 1).mul(255).round() / 255
    for i, face in enumerate(Upscaler(prior, UpscaleSettings(steps=8)).upscale(low)):
        face.save(tmp_path / f"{i}.png")
        shrunk = Image.open(tmp_path / f"{i}.png").resize((side // 8, side // 8), Image.Resampling.BICUBIC)
        assert -10 * np.log10(np.mean((np.asarray(shrunk) / 255 - low[i].permute(1, 2, 0).numpy()) ** 2)) >= 45


def soft_faces() -> torch.Tensor:
    """Two faces of 12 px (3, 12, 12): one enlarged from 8 px, and one that is sharp."""
    generator = torch.Generator().manual_seed(3)
    sharp = torch.rand(1, 3, 12, 12, generator=generator)
    return torch.cat([resize(torch.rand(1, 3, 8, 8, generator=generator), 12).clamp(0, 1), sharp])


def test_a_soft_face_is_enlarged_from_the_detail_that_it_has(monkeypatch) -> None:
    prior = tiny_prior(32)
    low = soft_faces()
    monkeypatch.setattr(
        "latentface.restore.engine.detail_side", lambda face, sigma, side: 8 if torch.equal(face, low[0]) else 12
    )
    told = []
    upscaler = Upscaler(prior, UpscaleSettings(steps=3, samples=2, start="random"), batch=4)
    soft, sharp = upscaler.upscale(low, lambda rows, step: told.append(rows))
    assert soft.record["low_size"] == [12, 12]
    assert soft.record["detail_size"] == [8, 8]
    assert sharp.record["detail_size"] == [12, 12]
    assert soft.high.shape == sharp.high.shape == (3, 32, 32)
    assert set(told) == {(0, 1), (2, 3)}  # each in its own search, by the place that it has among all
    seen = resize(low[:1], 8).clamp(0, 1)
    assert torch.equal(soft.seen, seen[0])
    assert torch.equal(sharp.seen, low[1])
    assert consistency(soft.high, seen[0]) > 60
    alone = upscale(seen[0], prior=prior, steps=3, samples=2, start="random", detail="full")
    assert float((alone.high - soft.high).abs().max()) < 1e-4  # as if it had been given so
    whole = Upscaler(prior, UpscaleSettings(steps=3, start="random", detail="full")).upscale(low[:1])[0]
    assert consistency(whole.high, low[0]) > 60
    given = Upscaler(prior, UpscaleSettings(steps=3, start="random", detail=6)).upscale(low[:1])[0]
    assert given.record["detail_size"] == [6, 6]


def test_less_is_left_of_noise_where_pixels_are_averaged() -> None:
    prior = tiny_prior(32)
    made = Upscaler(prior, UpscaleSettings(steps=2, start="random", detail=6, sigma=0.1))
    made.upscale(soft_faces()[1:])
    assert [key[2] for key in made._degradations] == pytest.approx([0.05] * len(made._degradations))


@pytest.mark.parametrize("detail", ["half", 1, 0, -3, 2.5, "16"])
def test_a_detail_that_is_none_is_refused(detail) -> None:
    with pytest.raises(InputError, match="expected auto, full, or a side"):
        UpscaleSettings(detail=detail)


def test_networks_take_every_face_as_it_is() -> None:
    """They were trained on faces of one size, and interpolation draws what is there."""
    soft = resize(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3)), 24).clamp(0, 1)
    prior = tiny_prior(32)
    assert Upscaler(prior, UpscaleSettings()).aligned_searched_side(soft[0]) < 24
    for method in ("bicubic", "fsrnet", "esrgan"):
        assert Upscaler(prior, UpscaleSettings(method=method)).aligned_searched_side(soft[0]) == 24
        with pytest.raises(InputError, match="leave detail out"):
            Upscaler(prior, UpscaleSettings(method=method, detail=8))


def test_the_mean_of_a_soft_faces_answers_shrinks_to_its_detail() -> None:
    made = Upscaler(tiny_prior(32), UpscaleSettings(steps=2, samples=2, answer="mean", start="random", detail=6))
    found = made.upscale(soft_faces()[1:])[0]
    assert found.seen.shape == (3, 6, 6)
    assert found.consistency_db == pytest.approx(consistency(found.high, found.seen), abs=0.1)
    assert found.consistency_db > 60


def test_the_record_says_how_a_warm_start_searches() -> None:
    prior = tiny_prior(16)
    for start, together, betas in (("bank", 0.0, (0.8, 0.99)), ("random", 0.25, (0.9, 0.999))):
        made = Upscaler(prior, UpscaleSettings(steps=2, start=start)).request(4, 16)
        assert made["settings"]["method_settings"]["together"] == together
        assert made["settings"]["method_settings"]["betas"] == betas
        assert made.get("wander") == ([0.1, 0.1] if start == "bank" else None)


def test_a_start_in_w_is_refused_where_z_is_searched() -> None:
    with pytest.raises(InputError, match="take the preset equal"):
        UpscaleSettings(method="dgp", start="bank").method_settings()
    assert UpscaleSettings(method="dgp", preset="equal", start="bank").method_settings().space == "w_plus"


def test_methods_without_a_search_take_the_embedded_prior():
    assert prior_named(None, "fsrnet") == prior_named(None, "bicubic") == "celeba128"
    assert prior_named(None, "rlse") is None  # the default
    assert prior_named("mine.safetensors", "fsrnet") == "mine.safetensors"
