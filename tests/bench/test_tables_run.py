"""Table 1 and 2: contract, resuming, availability."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from latentface.bench.core.progress import Progress
from latentface.bench.core.records import Records
from latentface.bench.core.tasks import seed_of
from latentface.bench.tables.tables import COLUMNS, read_rows
from latentface.errors import InputError, MissingDataError, UnknownNameError, WeightsError
from latentface.explore import registry
from latentface.explore.result import MethodSettings
from latentface.prior.prior import Prior

from .conftest import make_pooled, make_table1, make_table2

pytestmark = pytest.mark.usefixtures("short_search")
METRICS = ("psnr", "psnr-y", "ssim", "consistency", "null-space", "seconds")


def run(prior: Prior, output: Path, **changes: Any) -> Path:
    options: dict[str, Any] = {
        "factors": (4,),
        "methods": ["bilinear", "rlse"],
        "metrics": METRICS,
        "no_fetch": True,
        "device": "cpu",
        "batch_size": 2,
    }
    return make_table1(output=output, prior=prior, **{**options, **changes})


def without_time(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if row["metric"] != "seconds"]


def test_table1_writes_what_the_contract_names(tiny_prior: Prior, faces: Path, natives: Path, tmp_path: Path) -> None:
    said: list[Progress] = []
    table = run(tiny_prior, tmp_path, high=faces, native=natives, factors=(4, 8), on_progress=said.append)
    rows = read_rows(tmp_path / "table1.csv")
    assert (tmp_path / "table1.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    assert (tmp_path / "per_image.csv").read_text().splitlines()[0] == "dataset,method,factor,image,metric,value"
    for name in ("faces.png", "faces-native.png", "table1_differences.csv", "bench.json"):
        assert (tmp_path / name).is_file()
    assert {r.method for r in rows} == {"bilinear", "rlse"}
    by = {(r.dataset, r.method, r.factor, r.metric): r.value for r in rows}
    value = by["high", "rlse", "4", "psnr"]
    assert value.n == 5
    assert value.low <= value.mean <= value.high
    assert by["small", "rlse", "4", "consistency"].n == 2  # 1 and 3 px are smaller than 4 px
    assert by["small", "rlse", "8", "consistency"].n == 3  # only 1 px is smaller than 2 px
    assert ("small", "rlse", "4", "psnr") not in by
    text = table.read_text()
    assert "2 pictures are smaller than 4 px" in text
    assert "Protocol: high (n = 5" in text
    assert "**" in text
    assert any("this will take about" in p.message for p in said)
    assert said[-1].done == said[-1].total == 2 * (5 + 5 + 2 + 3)


def test_a_run_that_was_cut_off_ends_with_the_same_table(tiny_prior: Prior, faces: Path, tmp_path: Path) -> None:
    run(tiny_prior, tmp_path / "whole", high=faces)
    calls = 0

    def cut(progress: Progress) -> None:
        nonlocal calls
        calls += progress.done > 0
        if calls == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny_prior, tmp_path / "cut", high=faces, on_progress=cut)
    records = tmp_path / "cut" / "per_image.csv"
    assert len(records.read_text().splitlines()) > 1
    with open(records, "a") as file:
        file.write("high,rlse,4,002,ps")  # a line that the crash left incomplete
    run(tiny_prior, tmp_path / "cut", high=faces)
    for name in ("per_image.csv", "table1.csv", "steps.csv"):
        assert without_time(tmp_path / "cut" / name) == without_time(tmp_path / "whole" / name)


def test_a_finished_face_is_not_done_again(
    tiny_prior: Prior, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny_prior, tmp_path, high=faces, limit=3)
    before = (tmp_path / "per_image.csv").read_text()
    seen: list[int] = []
    real = registry.Method.function.fget

    def counted(self: registry.Method) -> Any:
        def call(*pictures: Any, **rest: Any) -> Any:  # (prior, low), or low alone
            seen.append(len(pictures[-1]))
            return real(self)(*pictures, **rest)

        return call

    monkeypatch.setattr(registry.Method, "function", property(counted))
    run(tiny_prior, tmp_path, high=faces, limit=3)
    assert seen == []
    assert (tmp_path / "per_image.csv").read_text() == before
    run(tiny_prior, tmp_path, high=faces, limit=3, metrics=("psnr", "consistency"))
    assert seen == []
    run(tiny_prior, tmp_path, high=faces)  # two faces more: a trial and a batch for each of two methods
    assert len(seen) == 4


def test_another_protocol_in_the_same_folder_is_refused(tiny_prior: Prior, faces: Path, tmp_path: Path) -> None:
    run(tiny_prior, tmp_path, high=faces, limit=2, methods=["bilinear"])
    with pytest.raises(InputError, match=r"seed was 0 and is now 1.*another folder"):
        run(tiny_prior, tmp_path, high=faces, limit=2, methods=["bilinear"], seed=1)


def test_each_face_has_draws_of_its_own(tiny_prior: Prior, faces: Path, tmp_path: Path, monkeypatch) -> None:
    seen: list[int] = []
    real = registry.Method.function.fget

    def watched(self: registry.Method) -> Any:
        def call(prior: Prior, low: Any, *, seeds: Any, **rest: Any) -> Any:
            seen.extend(seeds)
            return real(self)(prior, low, seeds=seeds, **rest)

        return call

    monkeypatch.setattr(registry.Method, "function", property(watched))
    run(tiny_prior, tmp_path, high=faces, methods=["rlse"], limit=4)
    assert set(seen) == {seed_of(0, f"{i:03d}") for i in range(4)}
    assert len(set(seen)) == 4
    assert all(0 <= seed < 2**62 for seed in seen)
    assert seed_of(0, "000") != seed_of(1, "000")
    assert seed_of(3, "a") == int(hashlib.sha256(b"3:a").hexdigest()[:16], 16) // 4


def test_a_folder_whose_faces_shared_their_draws_is_not_gone_on_with(
    tiny_prior: Prior, faces: Path, tmp_path: Path
) -> None:
    run(tiny_prior, tmp_path, high=faces, limit=2)
    known = json.loads((tmp_path / "bench.json").read_text())
    assert "SHA-256" in known.pop("seeds")
    (tmp_path / "bench.json").write_text(json.dumps(known))  # as a run of before left it
    with pytest.raises(InputError, match=r"seeds was \"the run's seed\" and is now 'a seed of its own.*another folder"):
        run(tiny_prior, tmp_path, high=faces, limit=2)


@pytest.mark.parametrize("most", [0, 1, 2])
def test_a_batch_that_does_not_fit_is_halved(
    tiny_prior: Prior, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    run(tiny_prior, tmp_path / "whole", high=faces, methods=["rlse"], metrics=("psnr",), batch_size=1, limit=3)
    real = registry.Method.function.fget
    sizes: list[int] = []

    def small(self: registry.Method) -> Any:
        def call(prior: Prior, low: Any, **rest: Any) -> Any:
            sizes.append(len(low))
            if len(low) > most:
                raise RuntimeError("CUDA out of memory")
            return real(self)(prior, low, **rest)

        return call

    monkeypatch.setattr(registry.Method, "function", property(small))
    said: list[Progress] = []
    run(
        tiny_prior,
        tmp_path / "halved",
        high=faces,
        methods=["rlse"],
        metrics=("psnr",),
        batch_size=4,
        limit=3,
        on_progress=said.append,
    )
    text = "\n".join(p.message for p in said)
    assert "a batch of 4 does not fit" in text
    assert said[-1].done == said[-1].total
    rows = {r.metric: r.value for r in read_rows(tmp_path / "halved" / "table1.csv")}
    if most == 0:
        assert "one face does not fit this device's memory" in text
        assert rows["psnr"].n == 0
    else:
        whole = {r.metric: r.value for r in read_rows(tmp_path / "whole" / "table1.csv")}
        assert rows["psnr"].n == 3
        assert rows["psnr"].mean == pytest.approx(whole["psnr"].mean, abs=0.01)
        assert sizes == {1: [4, 4, 2, 1, 1, 1], 2: [4, 4, 2, 2]}[most]  # the first is the trial


def test_a_method_that_cannot_run_leaves_an_empty_mean(
    tiny_prior: Prior, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = registry.Method("lost", "", "", __name__, "LostSettings")
    monkeypatch.setitem(registry.METHODS, "lost", lost)
    table = run(
        tiny_prior, tmp_path, high=faces, limit=2, methods=["bilinear", "lost"], metrics=("psnr", "niqe-pooled")
    )
    rows = {(r.method, r.metric): r.value for r in read_rows(tmp_path / "table1.csv")}
    assert rows["bilinear", "psnr"].n == 2
    assert rows["lost", "psnr"].n == 0
    assert math.isnan(rows["lost", "psnr"].mean)
    assert "high,lost,4,psnr,,,,0" in (tmp_path / "table1.csv").read_text()
    assert "no weights for it" in table.read_text()


@dataclass(frozen=True, kw_only=True, slots=True)
class LostSettings(MethodSettings):
    """None."""


def lost(prior: Prior, low: Any, **rest: Any) -> Any:
    raise WeightsError("no weights for it")


def test_names_and_numbers_that_cannot_be_used_are_said(tiny_prior: Prior, faces: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="metric 'psrn'; did you mean 'psnr'"):
        run(tiny_prior, tmp_path, high=faces, metrics=["psrn"])
    with pytest.raises(UnknownNameError, match="method"):
        run(tiny_prior, tmp_path, high=faces, methods=["rsle"])
    with pytest.raises(UnknownNameError, match="ending"):
        run(tiny_prior, tmp_path, high=faces, methods=["rlse+magic"])
    with pytest.raises(InputError, match=r"16x of 16 px leaves 1 px"):
        run(tiny_prior, tmp_path, high=faces, factors=(16,))
    with pytest.raises(MissingDataError, match="--high"):
        run(tiny_prior, tmp_path)
    assert not any(tmp_path.iterdir())


def test_projection_is_a_variant(tiny_prior: Prior, faces: Path, tmp_path: Path) -> None:
    run(tiny_prior, tmp_path, high=faces, limit=2, methods=["bilinear"], projection="both", metrics=("consistency",))
    rows = {r.method: r.value.mean for r in read_rows(tmp_path / "table1.csv")}
    assert set(rows) == {"bilinear", "bilinear+projection"}
    assert rows["bilinear+projection"] > rows["bilinear"] + 10


def test_table2_compares_with_and_without_by_factor_and_low_size(
    tiny_prior: Prior, faces: Path, tmp_path: Path
) -> None:
    table = make_table2(
        output=tmp_path,
        high=faces,
        prior=tiny_prior,
        factors=(8, 64),
        lows=(4,),
        metrics=("psnr", "consistency"),
        limit=3,
        no_fetch=True,
        device="cpu",
        batch_size=3,
    )
    rows = {(r.method, r.factor, r.metric): r.value for r in read_rows(tmp_path / "table2.csv")}
    with_it, without = rows["rlse", "8", "psnr"], rows["rlse-no-semantic", "8", "psnr"]
    assert rows["rlse - rlse-no-semantic", "8", "psnr"].mean == pytest.approx(with_it.mean - without.mean, abs=1e-4)
    assert ("rlse", "4", "psnr") in rows
    text = table.read_text()
    assert "64x of 16 px leaves 0 px" in text
    assert "| 8x | 2 px | psnr" in text


def test_the_pooled_test_averages_a_faces_cells(tiny_prior: Prior, faces: Path, tmp_path: Path, short_search) -> None:
    options = {
        "high": faces,
        "prior": tiny_prior,
        "factors": (4, 8),
        "seeds": (0, 7),
        "metrics": ("psnr", "consistency"),
    }
    table = make_pooled(output=tmp_path, limit=3, no_fetch=True, device="cpu", batch_size=3, **options)
    rows = {(r.factor, r.metric): r.value for r in read_rows(tmp_path / "semantic.csv")}
    assert {cell for cell, _ in rows} == {"pooled", "4x seed 0", "4x seed 7", "8x seed 0", "8x seed 7"}
    values = {seed: Records(tmp_path / f"seed-{seed}" / "per_image.csv") for seed in (0, 7)}
    gaps = [
        values[seed].get(("high", "rlse", factor, f"{i:03d}"))["psnr"]
        - values[seed].get(("high", "rlse-no-semantic", factor, f"{i:03d}"))["psnr"]
        for seed in (0, 7)
        for factor in ("4", "8")
        for i in range(3)
    ]
    assert rows["pooled", "psnr"].mean == pytest.approx(sum(gaps) / 12, abs=1e-5)
    assert rows["pooled", "psnr"].n == 3  # faces, not cells
    assert "| **pooled** |" in table.read_text()
    with pytest.raises(InputError, match="each once"):
        make_pooled(output=tmp_path / "b", **{**options, "seeds": (1, 1)})
