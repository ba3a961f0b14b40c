"""`bench prior` on a tiny prior, and its measures against known sets; groups have a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentface.bench.core.draws import place_faces, read_places, sample
from latentface.bench.prior import quality
from latentface.bench.prior import study as module
from latentface.bench.prior.features import Features
from latentface.bench.prior.inversion import METHOD, Inversion, InversionSettings
from latentface.bench.tables.tables import read_rows
from latentface.cli import run as latentface
from latentface.degradation import Downscale
from latentface.errors import InputError
from latentface.explore.result import Exploration, Step
from latentface.io.pictures import write_picture
from latentface.prior.formats import read_card, write_prior
from latentface.prior.prior import Prior

from .conftest import make_prior, smooth_face


def colours(pictures: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(pictures.mean((2, 3)) + 0.01, dim=1)


@pytest.fixture
def own_features(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"identity": Features("identity", "mean colours", colours)}
    monkeypatch.setattr(module, "open_features", lambda device, fetch: (kinds, {"inception": "no weights"}))


def run(prior: Prior, output: Path, faces: Path, **changes: Any) -> Path:
    options: dict[str, Any] = {
        "train": [faces],
        "samples": 8,
        "inversions": 2,
        "steps": 4,
        "detections": 2,
        "truncations": (0.7, 1.0),
        "no_fetch": True,
        "device": "cpu",
        "batch_size": 2,
    }
    return make_prior(output=output, high=faces, prior=prior, **{**options, **changes})


@pytest.mark.usefixtures("own_features")
def test_the_page_the_table_and_the_sheet(
    tiny_prior: Prior, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = run(tiny_prior, tmp_path, faces).read_text()
    rows = {(r.method, r.metric): r.value for r in read_rows(tmp_path / "prior.csv")}
    assert rows["training faces", "frechet-identity"].mean == pytest.approx(0, abs=1e-6)  # the same faces
    assert rows["samples at 0.7", "frechet-identity"].mean > 0
    assert 0 <= rows["samples at 1", "precision-identity"].mean <= 1
    assert rows["validation faces", "separation-training"].mean == 0.5
    assert rows["samples at 1", "one-face"].n == 2
    assert {m for m, _ in rows} >= {"invert-z", "invert-w", "invert-w_plus"}
    assert rows["invert-w_plus", "psnr"].n == 2
    assert "no weights" in page
    assert "| w_plus |" in page
    with Image.open(tmp_path / "prior.png") as sheet:
        assert sheet.width > 1000

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it was measured already")

    for name in ("frechet", "one_face", "alikeness", "logits"):
        monkeypatch.setattr(quality, name, never)
    assert run(tiny_prior, tmp_path, faces).read_text() == page


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Eight faces, and CelebA's labels beside them: the first six are men."""
    for i in range(8):
        write_picture(tmp_path / "data" / "held" / f"{i}.png", smooth_face(20 + i, 24))
    rows = [f"{i}.jpg -1 {1 if i < 6 else -1} -1 1" for i in range(8)]
    head = ["8", "Eyeglasses Male Wearing_Hat Young"]
    (tmp_path / "data" / "list_attr_celeba.txt").write_text("\n".join([*head, *rows]))
    return tmp_path / "data" / "held"


@pytest.mark.usefixtures("own_features", "short_search")
def test_figures_by_group_and_a_second_run(
    tiny_prior: Prior, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, options = tmp_path / "out", {"inversions": 8, "train": ()}
    page = run(tiny_prior, out, labelled, **options).read_text()
    rows = {(r.method, r.factor, r.metric): r.value for r in read_rows(out / "groups.csv")}
    men = rows["invert-w_plus, sex: male", "1", "psnr"]
    assert (men.n, men.low < men.mean < men.high) == (6, True)
    assert rows["invert-w_plus, sex: female", "1", "psnr"].n == 2
    assert np.isnan(rows["invert-w_plus, sex: female", "1", "psnr"].mean)
    searched = rows["rlse, all faces", "8", "consistency"]
    assert searched.n == 8
    whole = {(r.method, r.factor, r.metric): r.value for r in read_rows(out / "prior.csv")}
    assert whole["rlse", "8", "consistency"].mean == pytest.approx(searched.mean, abs=1e-4)
    assert ("invert-w_plus", "1", "consistency") not in whole  # it would be PSNR once more
    assert ("rlse", "1", "psnr") not in whole
    assert "### By group of people" in page
    assert "| sex: male | 6 |" in page
    assert "RLSE 8x: consistency" in page
    assert "| z |" in page
    assert "| rlse |" not in page

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it was measured already")

    monkeypatch.setattr("latentface.bench.core.variants.Variant.__call__", never)
    monkeypatch.setattr("latentface.bench.prior.groups.skin_angle", never)
    monkeypatch.setattr("latentface.bench.prior.groups.detect", never)
    assert run(tiny_prior, out, labelled, **options).read_text() == page


@pytest.mark.usefixtures("own_features", "short_search")
def test_a_run_of_before_goes_on_with_the_search(tiny_prior: Prior, labelled: Path, tmp_path: Path) -> None:
    options = {"inversions": 6, "train": (), "detections": 0}
    page = run(tiny_prior, tmp_path / "out", labelled, **options, factor=0).read_text()
    assert "By group of people" in page
    assert "RLSE" not in page
    picture = tmp_path / "out" / "faces" / "held" / "1x" / "invert-w" / "0.png"
    before = picture.stat().st_mtime_ns
    assert "RLSE at 8x" in run(tiny_prior, tmp_path / "out", labelled, **options).read_text()
    assert picture.stat().st_mtime_ns == before


@pytest.mark.usefixtures("own_features")
def test_samples_are_drawn_once_where_they_can_be_kept(
    tiny_prior: Prior, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def counted(prior: Prior, count: int, *args: Any, **more: Any) -> Any:
        counts.append(count)
        return sample(prior, count, *args, **more)

    monkeypatch.setattr(module, "sample", counted)
    run(tiny_prior, tmp_path / "kept", faces, inversions=0)
    assert counts == [8, 8]  # one truncation each
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    run(tiny_prior, tmp_path / "again", faces, inversions=0)
    assert len(counts) > 4
    assert (tmp_path / "kept" / "prior.csv").read_bytes() == (tmp_path / "again" / "prior.csv").read_bytes()


@pytest.mark.usefixtures("own_features", "short_search")
def test_inversions_in_one_space_alone(tiny_prior: Prior, labelled: Path, tmp_path: Path) -> None:
    options = {"inversions": 6, "train": (), "detections": 0, "factor": 0}
    page = run(tiny_prior, tmp_path / "out", labelled, **options, spaces=("w_plus",)).read_text()
    assert "| w_plus |" in page
    assert "| z |" not in page
    assert "(rate 0.4 in w_plus, half a cosine)" in page
    assert "What a face becomes: inversion in w_plus" in page
    with pytest.raises(InputError, match="the spaces are w, y; expected some of z, w, w_plus"):
        run(tiny_prior, tmp_path / "other", labelled, **options, spaces=("w", "y"))


@pytest.mark.usefixtures("own_features", "short_search")
def test_the_figures_go_into_the_card_and_the_run_stays_the_same(
    tiny_prior: Prior, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.safetensors"
    write_prior(file, tiny_prior.generator, tiny_prior.judge.network, tiny_prior.statistics, {"alignment": "ffhq"})
    before, data = Prior.read(file), file.read_bytes()
    words = ["bench", "prior", "-p", file, "--high", labelled, "-o", tmp_path / "out"]
    words += ["--samples", "6", "--inversions", "6", "--steps", "3", "--detections", "2", "--truncations", "0.7,1"]
    words += ["--batch-size", "2", "--no-fetch", "--device", "cpu"]
    words += ["--attributes", labelled.parent / "list_attr_celeba.txt", "-q", "--into-card"]
    assert latentface([str(word) for word in words]) == 0
    figures = read_card(file)["figures"]
    assert (figures["dataset"], figures["truncation"]) == ("held", 1.0)
    rows = {(r.method, r.factor, r.metric): r.value for r in read_rows(tmp_path / "out" / "prior.csv")}
    psnr, distance = rows["invert-w_plus", "1", "psnr"], rows["samples at 1", "1", "frechet-identity"]
    values = figures["values"]
    assert values["invert-w_plus psnr"]["value"] == pytest.approx([psnr.mean, psnr.low, psnr.high], rel=1e-4)
    assert values["invert-w_plus psnr"]["n"] == 6
    assert values["frechet-identity"] == {"value": pytest.approx(distance.mean, rel=1e-4), "n": 6}
    assert {"rlse 8x consistency", "one-face", "separation-samples"} <= values.keys()
    assert not any("seconds" in name for name in values)
    assert figures["measured"].keys() == {"command", "version", "commit", "hardware", "date"}
    after = Prior.read(file)
    assert after.sha256 == before.sha256
    assert file.read_bytes() != data
    for name, value in before.generator.state_dict().items():
        assert torch.equal(after.generator.state_dict()[name], value)
    page = (tmp_path / "out" / "prior.md").read_text()
    assert latentface([str(word) for word in words]) == 0  # the folder still belongs to this prior
    assert (tmp_path / "out" / "prior.md").read_text() == page
    capsys.readouterr()
    assert latentface(["models", "info", str(file)]) == 0
    assert "invert-w_plus psnr: " in capsys.readouterr().out


def test_without_networks_for_features_the_rest_is_there(tiny_prior: Prior, faces: Path, tmp_path: Path) -> None:
    kept = {"inversions": 0, "detections": 0, "train": ()}
    import os

    before = os.environ.pop("LATENTFACE_WEIGHTS", None)
    os.environ["LATENTFACE_CACHE"] = str(tmp_path / "empty")
    try:
        page = run(tiny_prior, tmp_path / "out", faces, **kept).read_text()
    finally:
        os.environ.pop("LATENTFACE_CACHE")
        if before is not None:
            os.environ["LATENTFACE_WEIGHTS"] = before
    assert "`squeezenet` features are not available" in page
    assert "AUC of D's logits" in page


def test_numbers_that_cannot_be_used_are_said(tiny_prior: Prior, faces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="samples"):
        run(tiny_prior, tmp_path, faces, samples=1)
    with pytest.raises(InputError, match="truncations"):
        run(tiny_prior, tmp_path, faces, truncations=(0.0,))
    for factor in (-8, 0.5, 1):
        with pytest.raises(InputError, match="expected a number above 1 such as 8, or 0 for no search"):
            run(tiny_prior, tmp_path, faces, factor=factor)
    with pytest.raises(InputError, match="at least 2 px"):
        run(tiny_prior, tmp_path, faces, factor=16)
    with pytest.raises(InputError, match="made in memory and has no card"):
        run(tiny_prior, tmp_path, faces, into_card=True)
    assert not (tmp_path / "prior.csv").exists()


def invert(prior: Prior, truth: torch.Tensor, seeds: list[int], on_step: Any = None, **settings: Any) -> Exploration:
    column = Inversion(name="invert", method=METHOD, settings=InversionSettings(**settings), preset="equal")
    return column.explore(prior, truth, Downscale(prior.resolution, prior.resolution), seeds, on_step)


def test_inverting_a_sample_finds_it(tiny_prior: Prior) -> None:
    truth = next(sample(tiny_prior, 2, seed=5)).clamp(0, 1)
    few, many = (invert(tiny_prior, truth, [0, 1], steps=n) for n in (2, 60))
    assert (many.consistency_db > few.consistency_db + 1).all()
    assert many.method == "invert"


def test_inverting_in_two_stages_beats_adam_and_keeps_faces_apart(tiny_prior: Prior) -> None:
    prior = tiny_prior.to(torch.float64)  # so that rounding, which a search magnifies, stays below what is asked
    truth = torch.rand(3, 3, tiny_prior.resolution, tiny_prior.resolution, generator=torch.Generator().manual_seed(1))

    def found(faces: torch.Tensor, **settings: Any) -> Exploration:
        return invert(prior, faces, [4] * len(faces), steps=60, **settings)

    both, adam = found(truth), found(truth, first=1.0)
    assert both.consistency_db.mean() > adam.consistency_db.mean()
    assert both.passes == adam.passes == 60
    again = prior.synthesis(both.latent["w_plus"]).clamp(0, 1)
    assert (again - both.high).abs().max() < 1e-4  # the latent is that of the picture
    alone = found(truth[1:2])
    assert (alone.high - both.high[1:2]).abs().max() < 1e-3


def test_an_inversion_stops_when_told(tiny_prior: Prior) -> None:
    truth = next(sample(tiny_prior, 1, seed=5)).clamp(0, 1)
    seen: list[tuple[int, int]] = []

    def stop(step: Step) -> bool:
        seen.append((step.number, step.total))
        return step.number == 2

    found = invert(tiny_prior, truth, [0], stop, steps=40, first=0.5)
    assert seen == [(1, 40), (2, 40)]
    assert found.passes == 2


@pytest.mark.parametrize("wrong", [{"first": 0.0}, {"first": 1.5}, {"memory": 0}, {"steps": 0}])
def test_odd_settings_of_an_inversion_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        InversionSettings(**wrong)


def test_samples_do_not_depend_on_the_batch(tiny_prior: Prior) -> None:
    whole, parts = (torch.cat(list(sample(tiny_prior, 5, 0.7, seed=3, batch=b))) for b in (5, 2))
    assert (whole - parts).abs().max() <= 1.01 / 255
    assert torch.equal(whole, whole.mul(255).round() / 255)


def test_places_are_shuffled_by_the_seed(faces: Path) -> None:
    a, b, c = (place_faces([faces], None, seed) for seed in (0, 0, 1))
    names = [[e.name for _, e in places] for places in (a, b, c)]
    assert names[0] == names[1] != names[2]
    read: Any = []
    assert sum(len(x) for x in read_places(a[:3], 16, 2, read)) == 3
    assert read == a[:3]


def test_shares_and_cosines() -> None:
    estimate = quality.share(97, 100)
    assert (estimate.low, estimate.high) == pytest.approx((0.9155, 0.9897), abs=1e-3)
    rows = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    pairs = [float(rows[i] @ rows[j]) for i in range(6) for j in range(6) if i != j]
    assert quality.alikeness(rows) == pytest.approx(sum(pairs) / 30, abs=1e-5)
    assert quality.nearest(rows[[2, 4]] * 3, rows).tolist() == [2, 4]
