"""Whole photographs: composed of known faces at known places, they come back; what the file said survives."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import photo_scene
import pytest
import torch
from PIL import Image, ImageCms
from tiny import tiny_prior
from together import photographs_of
from torch import Tensor

from latentface.errors import InputError
from latentface.faces import Face, Similarity, Warp, paste_faces
from latentface.io.photo import Photo
from latentface.prior.prior import Prior
from latentface.restore.photo import FoundFaces, prior_wanted
from latentface.restore.photoresult import PhotoFace, PhotoUpscaled
from latentface.restore.settings import PhotoSettings, UpscaleSettings
from latentface.restore.upscaler import Upscaler

SOLVAY = Path(os.environ.get("LATENTFACE_TEST_DATA", "no-data")) / "photos" / "solvay1927.png"
QUICK = UpscaleSettings(steps=3, noise=0.0)
SMALL = PhotoSettings(min_face=4.0)


@pytest.fixture(scope="module")
def prior() -> Prior:
    made = tiny_prior(32)
    made.alignment = "ffhq"
    return made


@pytest.fixture
def photo(prior: Prior, monkeypatch: pytest.MonkeyPatch) -> Photo:
    photo_scene.know(monkeypatch)
    return Photo.read(photo_scene.encoded(photo_scene.scene(prior)), "scene.png")


def enlarge(
    prior: Prior, photo: Photo, settings: UpscaleSettings = QUICK, faces: PhotoSettings = SMALL
) -> PhotoUpscaled:
    (result,) = photographs_of(Upscaler(prior, settings=settings, photo=faces), [photo])
    return result


def find(prior: Prior, photo: Photo, settings: UpscaleSettings = QUICK, faces: PhotoSettings = SMALL) -> FoundFaces:
    found = Upscaler(prior, settings=settings, photo=faces).find(photo, aligned=False)
    assert isinstance(found, FoundFaces)
    return found


def as_tensor(photo: Photo) -> Tensor:
    return torch.from_numpy(photo.pixels.astype(np.float32) / photo.top).permute(2, 0, 1)


def test_known_faces_come_back_in_the_photographs_own_pixels(prior: Prior, photo: Photo) -> None:
    result = enlarge(prior, photo)
    assert len(result.faces) == 3
    assert not result.left
    for face, place in zip(result.faces, photo_scene.PLACES, strict=True):
        assert np.abs(face.transform.corners - place.corners).max() < 0.01
        assert face.consistency_db > 40
        assert face.factor == pytest.approx(32 / place.scale)
        warp = Warp([face.transform], 32, photo.size)
        error = (warp.forward(face.high[None]) - warp.cut(photo.tensor()))[warp.mask.expand(1, 3, -1, -1)]
        again = -10 * np.log10(max(float(error.square().mean()), 1e-15))
        assert again == pytest.approx(face.consistency_db, abs=0.5)
    large = result.render()
    assert large.size == (160, 240)


def test_no_seams_where_the_face_is_what_was_there(prior: Prior, photo: Photo) -> None:
    """Faces that hold nothing but the enlarged photograph are pasted without a trace."""
    result = enlarge(prior, photo, replace(QUICK, method="bicubic", steps=None))
    plain, pasted = as_tensor(photo.enlarged(2.0)), as_tensor(result.render())
    strength = torch.zeros(3, *plain.shape[1:])
    homes = [f.transform.scaled(2.0) for f in result.faces]
    patches = [photo_scene.Patch(torch.ones(3, 32, 32), home) for home in homes]
    strength = paste_faces(strength, patches)
    assert torch.equal(plain[strength == 0], pasted[strength == 0])
    border = (strength > 0) & (strength < 0.15)
    assert float((plain - pasted)[border].abs().max()) < 0.06


def test_the_preset_fast_is_for_aligned_faces(prior: Prior, photo: Photo) -> None:
    with pytest.raises(InputError, match="take the preset paper for photographs"):
        find(prior, photo, replace(QUICK, preset="fast"))


def test_faces_do_not_depend_on_the_other_photographs(prior: Prior, photo: Photo) -> None:
    together = photographs_of(Upscaler(prior, settings=QUICK, photo=SMALL), [photo, photo])
    alone = enlarge(prior, photo, faces=replace(SMALL, max_faces=1))
    assert [r.photo is photo for r in together] == [True, True]
    assert min(f.consistency_db for f in (alone.faces[0], together[1].faces[0])) > 60  # both at the bytes' own rounding
    assert torch.equal(alone.faces[0].high, together[0].faces[0].high)
    assert torch.equal(alone.faces[0].high, together[1].faces[0].high)


def test_large_faces_are_left_and_counted(prior: Prior, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_scene.know(monkeypatch, [*photo_scene.PLACES, photo_scene.TOO_LARGE])
    result = enlarge(prior, photo)
    assert len(result.faces) == 3
    assert "already as large as the 32 px" in result.summary
    assert result.record["faces_found"] == 4
    left = [f for f in result.record["faces"] if not f["upscaled"]]
    assert [f["wants_prior_px"] for f in left] == [64]


@pytest.mark.parametrize(("resolution", "taken"), [(8, 0), (16, 2), (32, 3), (64, 4)])
def test_a_prior_takes_the_faces_that_it_makes_larger(
    photo: Photo, resolution: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_scene.know(monkeypatch, [*photo_scene.PLACES, photo_scene.TOO_LARGE])
    made = tiny_prior(resolution)
    made.alignment = "ffhq"
    found = find(made, photo)
    assert len(found.jobs) == taken
    assert all(job.degradation.factors[0] >= 1.02 for job in found.jobs)
    assert [face.wants for face in found.left] == [64, 32, 16, 16][: 4 - taken]
    assert prior_wanted(62.7) == 64
    assert prior_wanted(62.8) == 128


def test_soft_faces_are_redrawn_from_the_detail_that_they_have(
    prior: Prior, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is larger than the prior's faces, and none of which a part lies outside the photograph."""
    outside = Similarity.square((115.0, 72.0), 14.0)
    photo_scene.know(monkeypatch, [*photo_scene.PLACES, photo_scene.TOO_LARGE, outside])
    monkeypatch.setattr("latentface.restore.aligned.detail_side", lambda face, sigma, side: min(side, 10))
    found = find(prior, photo, replace(QUICK, noise=0.1))
    by_side = {round(job.home.scale, 1): job.degradation for job in found.jobs}
    assert {side: warp.low_size for side, warp in by_side.items() if side >= 12 and side != 14} == {
        40.0: (10, 10),
        16.0: (10, 10),
        12.4: (10, 10),
    }
    assert by_side[14.0].transforms[0].scale == pytest.approx(14)
    assert by_side[40.0].sigma == pytest.approx(0.1 * 10 / 40, abs=0.002)
    assert by_side[14.0].sigma == pytest.approx(0.1, abs=0.002)
    result = enlarge(prior, photo)
    large = max(result.faces, key=lambda face: face.transform.scale)
    assert large.soft
    assert large.record["detail"] == 10
    assert large.record["square"]["side"] == 40
    assert large.consistency_db > 40
    assert not next(face for face in result.faces if face.transform.scale < 10).soft
    assert result.render().size == (160, 240)
    full = find(prior, photo, replace(QUICK, detail="full"))
    assert len(full.jobs) == 4
    assert all(job.degradation.transforms[0] == job.home for job in full.jobs)
    given = find(prior, photo, replace(QUICK, detail=8))
    assert len(given.jobs) == 4  # a number is no finding: the large face may be sharp, and is left
    assert {job.degradation.low_size for job in given.jobs if job.home.scale in (16, 40)} == {(8, 8)}


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_large_sharp_face_is_left_whatever_its_noise(
    prior: Prior, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its view is small, so each of the view's pixels has but a part of the photograph's noise."""
    from scipy.fft import idctn

    k = np.hypot(*np.meshgrid(np.arange(400), np.arange(400))).clip(1)
    generator = np.random.default_rng(0)
    waves = idctn(generator.standard_normal((400, 400)) * k**-1.5, norm="ortho")
    grey = 0.5 + 0.12 * (waves - waves.mean()) / waves.std()
    noisy = torch.from_numpy(grey + noise * generator.standard_normal((3, 400, 400))).float().clamp(0, 1)
    photo_scene.know(monkeypatch, [Similarity.square((200.0, 200.0), 300.0, 3.0)])
    read = Photo.read(photo_scene.encoded(noisy), "large.png")
    found = find(prior, read, replace(QUICK, noise=noise))
    assert [face.wants for face in found.left] == [512]
    assert not found.jobs


@pytest.mark.skipif(not SOLVAY.exists(), reason="needs LATENTFACE_TEST_DATA, a folder with photos/solvay1927.png")
def test_a_group_photograph_is_taken_whole_by_a_prior_of_128_px() -> None:
    made = tiny_prior(128)
    made.alignment = "ffhq"
    photo = Photo.read(SOLVAY.read_bytes(), "solvay1927.png")
    found = find(made, photo, UpscaleSettings(), PhotoSettings())
    assert len(found.jobs) >= 28
    assert not found.left


def test_a_large_priors_faces_are_kept_as_large_as_the_photograph_shows_them(
    photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two inner sides, in batches or one by one; the photograph is the same, whether its faces are whole or not."""
    made = tiny_prior(256)
    made.alignment = "ffhq"
    places = [photo_scene.PLACES[1], Similarity.square((60.0, 40.0), 44.0, 5.0), photo_scene.PLACES[0]]
    photo_scene.know(monkeypatch, places)
    whole = enlarge(made, photo)
    (small,) = photographs_of(Upscaler(made, settings=QUICK, photo=SMALL, whole_faces=False), [photo])
    assert [f.high.shape[-1] for f in whole.faces] == [256, 256, 256]
    assert [f.high.shape[-1] for f in small.faces] == [256, 128, 128]  # 44, 16 and 12 px, of twice as many shown
    assert small.faces[1].bilinear.shape == small.faces[1].samples[0].shape == (3, 128, 128)
    assert [f.consistency_db for f in small.faces] == [f.consistency_db for f in whole.faces]
    assert small.consistency_db is not None
    assert small.consistency_db > 40
    assert np.array_equal(whole.render().pixels, small.render().pixels)
    monkeypatch.setattr("latentface.restore.engine.KEPT_PIXELS", 1)  # the answers of one face at a time
    (parts,) = photographs_of(Upscaler(made, settings=QUICK, photo=SMALL, batch_size=2), [photo])
    for one, other in zip(parts.faces, whole.faces, strict=True):
        assert torch.allclose(one.high, other.high, atol=0.02)


def test_methods_for_squares_take_no_photograph(prior: Prior, photo: Photo) -> None:
    with pytest.raises(InputError, match=r"aligned faces only.*as the background"):
        find(prior, photo, UpscaleSettings(method="esrgan"))


@pytest.mark.parametrize(
    ("options", "sides"),
    [
        ({"max_faces": 2}, [16.0, 12.4]),
        ({"min_face": 6.0}, [16.0, 12.4]),
        ({"only_center_face": True}, [12.4]),
        ({"max_faces": 0}, []),
        ({"faces": (3, 1)}, [16.0, 9.2]),
        ({"faces": [2, 3], "skip_faces": (3,)}, [12.4]),
        ({"skip_faces": (1,), "max_faces": 1}, [12.4]),
        ({"faces": (1, 3), "only_center_face": True}, [16.0]),
        ({"skip_faces": (1, 2, 3), "only_center_face": True}, []),
        ({"min_score": 0.95}, []),
    ],
)
def test_which_faces(prior: Prior, photo: Photo, options: dict[str, object], sides: list[float]) -> None:
    found = find(prior, photo, faces=replace(SMALL, **options))
    assert [job.degradation.transforms[0].scale for job in found.jobs] == pytest.approx(sides, abs=0.01)


def test_faces_keep_their_numbers_whichever_are_chosen(prior: Prior, photo: Photo, tmp_path: Path) -> None:
    result = enlarge(prior, photo, faces=replace(SMALL, faces=(2,)))
    assert [face.number for face in result.faces] == [2]
    assert {face["number"]: face["upscaled"] for face in result.record["faces"]} == {1: False, 2: True, 3: False}
    assert [p.name for p in result.save_faces(tmp_path)] == ["02.png"]
    unsure = find(prior, photo, faces=replace(SMALL, min_score=0.95))
    assert [(face.number, face.reason) for face in unsure.left] == [(n, "score below 0.95") for n in (1, 2, 3)]


@pytest.mark.parametrize("wrong", [{"faces": (1, 4)}, {"skip_faces": (4,)}])
def test_numbers_of_faces_that_are_not_there(prior: Prior, photo: Photo, wrong: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(InputError, match=r"there is no face 4: 3 of at least 4 px found; --compare shows"):
        find(prior, photo, faces=replace(SMALL, **wrong))


def test_samples_spread_and_sheets(prior: Prior, photo: Photo, tmp_path: Path) -> None:
    settings = replace(QUICK, samples=2, answer="mean")
    result = enlarge(prior, photo, settings, replace(SMALL, max_faces=1))
    face = result.faces[0]
    assert face.samples.shape == (2, 3, 32, 32)
    assert face.consistency_db > 40
    assert not torch.equal(face.samples[0], face.samples[1])
    assert result.render_spread().pixels.max() > 0
    assert not np.array_equal(result.render(0).pixels, result.render(1).pixels)
    assert [p.name for p in result.save_faces(tmp_path / "scene-faces")] == ["01.png"]
    assert result.comparison().width >= 4 * 192


def test_without_faces_it_is_enlarged_plainly(prior: Prior) -> None:
    plain = Photo.read(photo_scene.encoded(torch.full((3, 30, 40), 0.5)), "grey.png")
    result = enlarge(prior, plain, replace(QUICK, factor=1.5))
    assert result.render().size == (45, 60)
    assert "no face was found" in result.summary
    assert result.record["generated"] is False
    assert result.consistency_db is None
    tiny = Photo.read(photo_scene.encoded(torch.full((3, 1, 3), 0.5)), "tiny.png")
    assert enlarge(prior, tiny).render().size == (2, 6)


def test_exif_profile_and_alpha_survive(prior: Prior, photo: Photo, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0100] = 6, "a camera", 999
    exif.get_ifd(0x8769)[0xA002] = 999
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    turned = photo_scene.encoded(as_tensor(photo), kind="JPEG", exif=exif, icc_profile=icc, dpi=(300, 300), quality=95)
    read = Photo.read(turned, "turned.jpg")
    assert read.size == (120, 80)
    assert read.tables is not None
    assert len(read.tables[0]) == 64
    read.enlarged(2.0).save(tmp_path / "out.png", {"latentface": "{}"})
    with Image.open(tmp_path / "out.png") as out:
        kept = out.getexif()
        assert kept[0x010F] == "a camera"
        assert not {0x0112, 0x0100} & set(kept)
        assert 0xA002 not in kept.get_ifd(0x8769)
        assert out.info["icc_profile"] == icc
        assert out.info["latentface"] == "{}"
        assert out.info["dpi"][0] == pytest.approx(300, abs=0.1)
    cover = np.zeros((80, 120), np.uint8)
    cover[:, 40:] = 200
    clear = replace(photo, alpha=cover)
    file = io.BytesIO()
    clear.image().save(file, "PNG")
    result = enlarge(prior, Photo.read(file.getvalue(), "x"), faces=replace(SMALL, max_faces=1))
    result.save(tmp_path / "clear.png")
    with Image.open(tmp_path / "clear.png") as out:
        assert out.mode == "RGBA"
        assert out.getpixel((5, 5))[3] == 0
        assert out.getpixel((200, 5))[3] == 200


def test_faces_under_an_alpha_are_pasted_into_its_colours() -> None:
    cover = np.full((40, 40), 128, np.uint8)
    cover[:, :20] = 0  # nobody sees what lies here
    photo = Photo("x", np.full((40, 40, 3), 26, np.uint8), alpha=cover)
    high = torch.full((3, 32, 32), 0.2)  # the search sees colours without their transparency
    place = Similarity.square((20.0, 20.0), 20.0)
    face = PhotoFace(
        found=Face((10, 10, 30, 30), place.corners, 0.9),
        transform=place,
        high=high,
        samples=high[None],
        low=high,
        bilinear=high,
        factor=1.6,
        detail=20,
        sigma=0,
        consistency_db=50,
        best_step=1,
    )
    result = PhotoUpscaled(photo, 1.0, [face], [], {})
    plain, drawn = result.enlarged(), result.render()
    assert np.array_equal(drawn.pixels[:, :20], plain.pixels[:, :20])
    assert np.abs(drawn.pixels[18:22, 20:24] / 255 - 0.2).max() < 0.01
    assert np.array_equal(drawn.pixels[:8], plain.pixels[:8])  # outside the square
    assert np.array_equal(drawn.alpha, cover)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "I;16", "CMYK"])
def test_modes(prior: Prior, photo: Photo, mode: str, tmp_path: Path) -> None:
    file = io.BytesIO()
    if mode == "I;16":
        deep = (as_tensor(photo).mean(0).numpy() * 65535).astype(np.uint16)
        Image.fromarray(deep).save(file, "TIFF")
    else:
        photo.image().convert(mode).save(file, "TIFF")
    read = Photo.read(file.getvalue(), "x.tif")
    result = enlarge(prior, read, faces=replace(SMALL, max_faces=1))
    assert len(result.faces) == 1
    result.save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as out:
        assert out.size == (240, 160)
        assert out.mode == {"L": "L", "LA": "L", "1": "L", "I;16": "I;16"}.get(mode, "RGB")
        pixels = np.asarray(out, dtype=np.float64)
    if mode == "I;16":
        assert len(np.unique(pixels)) > 1000
    if mode != "1":
        assert result.faces[0].consistency_db > 35
    if read.grey:
        assert torch.equal(result.faces[0].high[0], result.faces[0].high[2])


def test_noise_sets_the_projection(prior: Prior, photo: Photo) -> None:
    added = 0.08 * torch.randn(3, *photo.size, generator=torch.Generator().manual_seed(3))
    rough = Photo.read(photo_scene.encoded(as_tensor(photo) + added), "rough.png")
    told = [
        enlarge(prior, rough, replace(QUICK, noise=noise), replace(SMALL, max_faces=1)).faces[0]
        for noise in (0.0, "auto")
    ]
    assert told[0].sigma == 0
    assert 0.03 < told[1].sigma < 0.1
    assert told[0].consistency_db > 40 > told[1].consistency_db


def test_a_result_that_would_be_giant_is_refused(prior: Prior) -> None:
    large = Photo("large", np.zeros((9000, 9000, 1), np.uint8))
    with pytest.raises(InputError, match="use a smaller factor"):
        find(prior, large, UpscaleSettings(factor=4))


def test_the_fit_steadies_shaky_landmarks() -> None:
    """The four-point fit halves a detector's error: 1 px of noise on each landmark moves the centre by less."""
    from latentface.faces.align import FFHQ_LANDMARKS, ffhq_fit

    generator = np.random.default_rng(0)
    place = Similarity.square((50.0, 40.0), 60.0, 10.0)
    marks = np.insert(place.apply(np.array(FFHQ_LANDMARKS)), 2, place.centre, axis=0)
    off = [
        np.hypot(*(np.array(ffhq_fit(marks + generator.normal(0, 0.5, (5, 2))).centre) - place.centre))
        for _ in range(50)
    ]
    assert np.mean(off) < 0.5
