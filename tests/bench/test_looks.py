"""What a face becomes: apparent age and sex and the skin's angle, before and after, by group."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from latentface.bench.core.progress import quiet
from latentface.bench.core.records import Records
from latentface.bench.core.tasks import task_with_truth
from latentface.bench.prior import looks as module
from latentface.bench.prior.looks import LEAST, Looker, drawn, look_at_all, members_of, moved, moves, moves_markdown
from latentface.bench.prior.page import check_marks, without_empty_lines, write_between_marks
from latentface.datasets import open_faces
from latentface.errors import InputError, MissingDataError
from latentface.io.pictures import write_picture
from latentface.metrics.apparent import Apparent

COLOURS = {"light": (0.85, 0.70, 0.60), "dark": (0.24, 0.16, 0.12)}  # sRGB


class FakeApparent:
    """Age by the red, sex by the green; counts how often it looks."""

    def __init__(self) -> None:
        self.asked = 0

    def look(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked += len(pictures)
        means = pictures.mean((2, 3))
        return 80 * means[:, 0], (means[:, 1] > 0.5).float()


@pytest.fixture
def apparent(monkeypatch: pytest.MonkeyPatch) -> FakeApparent:
    fake = FakeApparent()
    monkeypatch.setattr(Apparent, "load", lambda *, fetch: fake)
    return fake


def test_how_a_face_moves() -> None:
    before = {"age": 30.0, "male": 0.2, "skin-ita": -40.0}
    found = moves(before, {"age": 18.0, "male": 0.6, "skin-ita": 30.0})
    assert found == {
        "sex-moves": 1,
        "years": -12,
        "older": 0,
        "younger": 1,
        "degrees": 70,
        "lighter": 1,
        "darker": 0,
    }
    found = moves(before, {"age": 39.0, "male": 0.4, "skin-ita": -50.0})  # dark both times
    assert [found[m] for m in ("sex-moves", "older", "younger", "lighter", "darker")] == [0, 0, 0, 0, 0]
    assert all(math.isnan(v) for v in moves(before, {}).values())
    assert math.isnan(moves(before, {"age": 3.0})["degrees"])


def test_groups_of_the_true_faces() -> None:
    found = members_of({"a": {"age": 19.9, "male": 0.9, "skin-ita": 60.0}, "b": {"age": 50.0, "male": 0.1}, "c": {}})
    assert found["all faces"] == ["a", "b", "c"]
    assert found["apparent sex: male"] == ["a"]
    assert found["apparent age: under 20"] == ["a"]
    assert found["apparent age: 50 and more"] == ["b"]
    assert found["skin: very light"] == ["a"]
    assert found["skin: dark"] == []


def test_means_by_group_with_intervals_and_small_groups_without(tmp_path: Path) -> None:
    before = {str(i): {"age": 30.0, "male": float(i < 2), "skin-ita": 0.0} for i in range(8)}
    after = {str(i): {"age": 30.0 + 20 * (i % 2), "male": 0.0, "skin-ita": 5.0} for i in range(8)}
    task = SimpleNamespace(dataset="d", factor_text="8")
    rows = moved(before, after, members_of(before), task, "rlse")  # type: ignore[arg-type]
    found = {(r.method, r.metric): r.value for r in rows}
    everyone = found["rlse, all faces", "sex-moves"]
    assert (everyone.mean, everyone.n) == (0.25, 8)
    assert 0 <= everyone.low < 0.25 < everyone.high
    assert found["rlse, all faces", "years"].mean == 10
    assert found["rlse, all faces", "older"].mean == 0.5
    small = found["rlse, apparent sex: male", "sex-moves"]
    assert small.n == 2 < LEAST
    assert math.isnan(small.mean)
    text = moves_markdown(rows, members_of(before))
    assert "0 % [0, 0]" not in text  # none of a few is not none of all
    line = next(x for x in text.splitlines() if x.startswith("| all faces"))
    assert line.startswith("| all faces | 8 | 25 % [")
    assert "+10.0 [" in line
    assert next(x for x in text.splitlines() if "apparent sex: male" in x).split("|")[2:4] == [" 2 ", "  "]


@pytest.fixture
def study(tmp_path: Path) -> Any:
    """Two light and one dark face, and what RLSE made of two of them: all light."""
    for name, colour in zip("abc", (COLOURS["light"], COLOURS["light"], COLOURS["dark"]), strict=True):
        write_picture(tmp_path / "people" / f"{name}.png", torch.tensor(colour)[:, None, None].expand(3, 16, 16))
    task = task_with_truth(open_faces(tmp_path / "people"), 16, 2, "bicubic", None)
    path = lambda task, name, image: tmp_path / name / f"{image}.png"  # noqa: E731
    for image in "ac":
        write_picture(path(task, "rlse", image), torch.tensor(COLOURS["light"])[:, None, None].expand(3, 16, 16))
    variants = [SimpleNamespace(name="rlse"), SimpleNamespace(name="invert-z")]
    runner = SimpleNamespace(
        tasks=[task],
        variants_of=lambda task: variants,
        path=path,
        key=lambda task, name, image: (task.dataset, name, task.factor_text, image),
    )
    samples = [torch.full((2, 3, 16, 16), 0.7), torch.full((2, 3, 16, 16), 0.2)]
    return SimpleNamespace(
        runner=runner,
        side=16,
        seed=5,
        dataset="people",
        prior=SimpleNamespace(alignment="ffhq"),
        truncations=(1.0,),
        detections=3,
        pictures=lambda name, count: iter([samples[0], samples[1][: count - 2]]),
        on_progress=quiet,
    )


def test_all_is_looked_at_once(study: Any, apparent: FakeApparent, tmp_path: Path) -> None:
    records = Records(tmp_path / "traits.csv")
    found = look_at_all(study, records, fetch=False)
    assert apparent.asked == 3 + 2 + 3  # true faces, results, samples
    looks = {image: records.get(("people", "rlse", "8", image)) for image in "abc"}
    assert looks["b"] == {}
    assert looks["a"]["age"] == pytest.approx(80 * 0.85, abs=0.2)
    shares = {(r.method, r.metric): r.value for r in found.rows}
    dark = shares["validation faces", "share skin: dark"]
    assert (dark.mean, dark.n) == (pytest.approx(1 / 3), 3)
    assert dark.low < 1 / 3 < dark.high
    assert shares["samples at 1", "share apparent sex: male"].mean == pytest.approx(2 / 3)
    assert shares["rlse, all faces", "lighter"].n == 2
    assert not any(r.method.startswith("invert-z") for r in found.rows)
    assert found.members["skin: dark"] == ["c"]
    assert "### What the prior draws" in found.parts
    assert "### What a face becomes: RLSE, 8x" in found.parts
    again = look_at_all(study, Records(tmp_path / "traits.csv"), fetch=False)
    assert apparent.asked == 8
    assert again == found


def test_without_the_networks_the_skin_is_still_told(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*, fetch: bool) -> None:
        raise MissingDataError("age-v1.onnx is not at hand")

    monkeypatch.setattr(Apparent, "load", absent)
    found = look_at_all(study, Records(tmp_path / "t.csv"), fetch=False)
    assert list(found.members)[:2] == ["all faces", "skin: dark"]
    assert "Apparent age and sex cannot be told: age-v1.onnx is not at hand." in found.notes
    assert "apparent sex is another" not in "".join(found.parts)


def test_networks_of_one_alignment_look_at_no_other(tmp_path: Path, apparent: FakeApparent) -> None:
    looker = Looker(Records(tmp_path / "t.csv"), "celeba", fetch=False)
    assert looker.look(("d", "m", "1", "i"), lambda: torch.full((3, 16, 16), 0.5)).keys() == {"skin-ita"}
    assert "not of celeba" in looker.missing
    assert apparent.asked == 0


def test_nothing_is_drawn_where_nothing_is_looked_at(study: Any, apparent: FakeApparent, tmp_path: Path) -> None:
    study.detections = 0
    rows, _ = drawn(study, Looker(Records(tmp_path / "t.csv"), "ffhq", fetch=False), {})
    assert rows == []
    assert module.NOTE.count("no person is told") == 1


def test_tables_go_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "card.md"
    page.write_text("# Card\n\n<!-- groups: test -->\nold\n<!-- end of groups: test -->\n\nThe end.\n")
    for _ in range(2):
        write_between_marks(page, "test", "| a |\n|---|")
    assert page.read_text() == (
        "# Card\n\n<!-- groups: test -->\n\n| a |\n|---|\n\n<!-- end of groups: test -->\n\nThe end.\n"
    )
    with pytest.raises(InputError, match="write the lines <!-- groups: val --> and"):
        check_marks(page, "val")
    with pytest.raises(InputError, match="cannot be read"):
        check_marks(tmp_path / "none.md", "test")


def test_a_card_leaves_out_groups_without_figures() -> None:
    table = "| group | n | age |\n|---|---|---|\n| dark | 6 | +1.0 |\n| tan | 3 |  |\n| sex: cannot be told |  |  |"
    assert without_empty_lines(table) == "| group | n | age |\n|---|---|---|\n| dark | 6 | +1.0 |"
    assert without_empty_lines("### Heading\n\nwords") == "### Heading\n\nwords"
