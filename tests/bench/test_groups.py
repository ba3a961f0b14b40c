"""Groups of people: the measures against independent references, the sorting, the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentface.bench.core.progress import quiet
from latentface.bench.core.records import Records
from latentface.bench.core.tasks import Task, task_with_truth
from latentface.bench.prior import groups as module
from latentface.bench.prior.groups import (
    EVERYONE,
    TRAITS,
    cheeks,
    face_square,
    lab,
    light,
    pose,
    skin_angle,
    tell_groups,
)
from latentface.bench.prior.groups import typology_angle as angle_of
from latentface.bench.prior.page import FIGURES, LEAST, SMALL, group_markdown, group_rows
from latentface.datasets import open_faces
from latentface.errors import InputError, MissingDataError
from latentface.io.pictures import write_picture
from latentface.supervised.landmarks import COLUMNS

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
FRONTAL = np.array([(48.2, 61.0), (81.0, 61.0), (64.6, 80.6), (50.2, 95.2), (78.2, 95.2)])  # CelebA's mean, 128 px
SKIN = {"very light": (0.95, 0.85, 0.78), "tan": (0.66, 0.50, 0.38), "dark": (0.24, 0.16, 0.12)}  # sRGB


# -- the measures ------------------------------------------------------------------------------------------------------


def test_lab_and_the_angle_are_scikit_images() -> None:
    color = pytest.importorskip("skimage.color")
    colours = np.vstack([np.random.default_rng(0).random((500, 3)), np.eye(3), np.zeros((1, 3)), np.ones((1, 3))])
    theirs = color.rgb2lab(colours[None])[0]
    assert np.abs(lab(colours) - theirs).max() < 0.02  # their matrix has fewer digits
    for colour in SKIN.values():
        lightness, _, yellow = color.rgb2lab(np.array(colour)[None, None])[0, 0]
        face = torch.tensor(colour)[:, None, None].expand(3, 128, 128)
        expected = math.degrees(math.atan((lightness - 50) / yellow))
        assert skin_angle(face) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("name", SKIN)
def test_the_classes_of_the_angle(name: str) -> None:
    skin = TRAITS[0]
    assert skin.group(skin_angle(torch.tensor(SKIN[name])[:, None, None].expand(3, 32, 32))) == name


def test_chardons_limits() -> None:
    skin = TRAITS[0]
    limits = {56: "very light", 54: "light", 40: "intermediate", 27: "tan", 9: "brown", -29: "brown", -31: "dark"}
    assert {value: skin.group(value) for value in limits} == limits
    assert skin.group(math.nan) == skin.group(None) == "not told"
    assert angle_of(60, 10) == pytest.approx(45)
    assert angle_of(40, 10) == pytest.approx(-45)
    assert math.isnan(angle_of(60, -3))  # bluish light


@pytest.mark.parametrize("alignment", ["ffhq", "celeba"])
@pytest.mark.parametrize("side", [16, 64, 128, 200])
def test_the_skin_is_looked_at_on_the_cheeks_alone(alignment: str, side: int) -> None:
    face = torch.rand(3, side, side, generator=torch.Generator().manual_seed(side))
    for left, top, right, bottom in cheeks(alignment):
        a, b, c, d = (round(v * side) for v in (left, top, right, bottom))
        face[:, b : max(d, b + 1), a : max(c, a + 1)] = torch.tensor(SKIN["tan"])[:, None, None]
    even = torch.tensor(SKIN["tan"])[:, None, None].expand(3, side, side)
    assert skin_angle(face, alignment) == pytest.approx(skin_angle(even), abs=1e-4)


def test_the_cheeks_of_the_ffhq_alignment_lie_between_eyes_and_mouth() -> None:
    (a, b, c, d), (e, _, g, _) = (np.array(box) * 128 for box in cheeks("ffhq"))
    assert 61 < b < d < 95.2  # below the eyes, above the mouth
    assert a < 48.2 < c < 64.6 - 10  # about the left eye's column, off the nose
    assert 64.6 + 10 < e < 81 < g
    assert c - a == pytest.approx(0.28 * 32.8, abs=0.1)


def test_light_is_the_luma_of_the_faces_square() -> None:
    face = torch.ones(3, 64, 64)
    left, top, right, bottom = (round(v * 64) for v in face_square("ffhq"))
    assert (right - left) / 64 == pytest.approx(2 * 32.8 / 128, abs=0.02)
    face[:, top:bottom, left:right] = torch.tensor([0.5, 0.25, 1.0])[:, None, None]
    assert light(face) == pytest.approx(0.299 * 0.5 + 0.587 * 0.25 + 0.114, abs=1e-6)


def test_pose_has_the_sign_and_the_size_of_the_noses_offset() -> None:
    assert pose(FRONTAL) == pytest.approx(0, abs=1e-6)
    turned = FRONTAL.copy()
    turned[2, 0] += 8.2
    assert pose(turned) == pytest.approx(8.2 / 32.8)  # toward the picture's right
    mirrored = np.array([128, 0]) + turned[[1, 0, 2, 4, 3]] * (-1, 1)
    assert pose(mirrored) == pytest.approx(-8.2 / 32.8)
    tilt = np.radians(25)
    spin = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    assert pose(3 * turned @ spin + 7) == pytest.approx(8.2 / 32.8)  # tilt, scale and place change nothing
    assert math.isnan(pose(np.full((5, 2), np.nan)))
    assert math.isnan(pose(np.ones((5, 2))))


def test_pose_of_a_head_that_turns() -> None:
    """Points of a head in space, turned about its axis and seen from far: the sign is the turn's, and it grows with it."""
    head = np.array([(-33.0, 0, 0), (33, 0, 0), (0, 35, 40)])  # mm: eyes, and a nose before them
    values = []
    for degrees in (-40, -20, 0, 20, 40):
        a = np.radians(degrees)
        values.append(pose(head @ np.array([[np.cos(a), 0], [0, 1], [np.sin(a), 0]])))
    assert values == sorted(values)
    assert values[2] == 0
    assert values[3] == pytest.approx(40 / 66 * math.tan(math.radians(20)))
    groups = [TRAITS[1].group(abs(v)) for v in values]
    assert groups == ["far turned", "turned", "frontal", "turned", "far turned"]


# -- the sorting -------------------------------------------------------------------------------------------------------


def landmarks_line(name: str, offset: float) -> str:
    points = FRONTAL.copy()
    points[2, 0] += offset
    return ",".join([name, *(f"{v:.2f}" for v in points.flatten())])


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Six faces of one colour each: light, tan, dark, twice; every third is turned."""
    for i in range(6):
        colour = torch.tensor(list(SKIN.values())[i % 3])[:, None, None]
        write_picture(tmp_path / "people" / f"{i}.png", colour.expand(3, 24, 24).contiguous())
    head = "image," + ",".join(f"{c}_{a}" for c in COLUMNS for a in "xy")
    lines = [landmarks_line(str(i), 8.2 if i % 3 == 0 else 0) for i in range(6)]
    (tmp_path / "landmarks.csv").write_text("\n".join([head, *lines]))
    return tmp_path / "people"


def task_of(folder: Path) -> Task:
    return task_with_truth(open_faces(folder), 16, 16, "bicubic", None)


def write_attributes(path: Path, rows: dict[str, str]) -> Path:
    lines = [f"{len(rows)}", "Eyeglasses Male Wearing_Hat Young", *(f"{name}.jpg {r}" for name, r in rows.items())]
    path.write_text("\n".join(lines))
    return path


def test_who_is_sorted_where(people: Path, tmp_path: Path) -> None:
    rows = {str(i): f"-1 {1 if i < 2 else -1} -1 1" for i in range(5)}
    path = write_attributes(tmp_path / "labels.txt", rows)
    found = tell_groups(task_of(people), "ffhq", Records(tmp_path / "t.csv"), path, quiet)
    assert next(iter(found.members)) == EVERYONE
    assert found.members[EVERYONE] == [str(i) for i in range(6)]
    assert found.members["skin: tan"] == ["1", "4"]
    assert found.members["skin: dark"] == ["2", "5"]
    assert found.members["skin: light"] == []  # nobody: it is shown all the same
    assert found.members["pose: turned"] == ["0", "3"]
    assert found.members["light: dim"] == ["2", "5"]
    assert found.members["sex: male"] == ["0", "1"]
    assert found.members["sex: not told"] == ["5"]
    assert found.members["age: young"] == ["0", "1", "2", "3", "4"]
    assert found.members["hat: worn"] == []
    assert "skin: not told" not in found.members
    assert found.untold == {}
    assert any("labels.txt" in note and "Male" in note for note in found.notes)
    assert any("landmarks: landmarks.csv" in note for note in found.notes)


def test_without_labels_it_says_what_cannot_be_told(people: Path, tmp_path: Path) -> None:
    found = tell_groups(task_of(people), "ffhq", Records(tmp_path / "t.csv"), None, quiet)
    assert list(found.untold) == ["sex", "age", "glasses", "hat"]
    assert any(
        n.startswith("Cannot be told: sex, age, glasses, hat: there is no list_attr_celeba.txt") for n in found.notes
    )
    write_attributes(people.parent / "list_attr_celeba.txt", {"0": "1 1 1 1"})  # now one lies beside them
    assert tell_groups(task_of(people), "ffhq", Records(tmp_path / "t.csv"), None, quiet).untold == {}
    write_attributes(people.parent / "list_attr_celeba.txt", {"000099": "1 1 1 1"})
    found = tell_groups(task_of(people), "ffhq", Records(tmp_path / "t.csv"), None, quiet)
    assert "knows not one of the faces" in found.untold["sex"]
    with pytest.raises(InputError, match="knows not one of the 6 faces"):  # it was named, so it is a mistake
        tell_groups(task_of(people), "ffhq", Records(tmp_path / "t.csv"), people.parent / "list_attr_celeba.txt", quiet)
    with pytest.raises(MissingDataError, match="no such file of attributes"):
        tell_groups(task_of(people), "ffhq", Records(tmp_path / "t.csv"), tmp_path / "no.txt", quiet)


def test_without_landmarks_the_detector_is_asked(people: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (people.parent / "landmarks.csv").unlink()
    asked: list[tuple[int, ...]] = []

    def seen(picture: torch.Tensor) -> Any:
        asked.append(tuple(picture.shape))
        return FRONTAL if len(asked) > 1 else None

    monkeypatch.setattr(module, "landmarks_of", seen)
    found = tell_groups(task_of(people), "ffhq", Records(tmp_path / "t.csv"), None, quiet)
    assert asked == [(3, 256, 256)] * 6
    assert found.members["pose: not told"] == ["0"]
    assert len(found.members["pose: frontal"]) == 5
    assert any("landmarks: CenterFace" in note for note in found.notes)


def test_no_face_on_a_picture_has_no_pose() -> None:
    assert module.landmarks_of(torch.full((3, 256, 256), 0.5)) is None


def test_what_is_measured_is_not_measured_again(people: Path, tmp_path: Path, monkeypatch: Any) -> None:
    first = tell_groups(task_of(people), "ffhq", Records(tmp_path / "t.csv"), None, quiet)

    def never(*_: Any) -> None:
        raise AssertionError("it was measured already")

    for name in ("skin_angle", "light", "pose", "landmarks_of"):
        monkeypatch.setattr(module, name, never)
    assert tell_groups(task_of(people), "ffhq", Records(tmp_path / "t.csv"), None, quiet) == first


def test_a_broken_picture_is_not_told(people: Path, tmp_path: Path) -> None:
    (people / "0.png").write_bytes(b"broken")
    found = tell_groups(task_of(people), "ffhq", Records(tmp_path / "t.csv"), None, quiet)
    assert found.members["skin: not told"] == ["0"]


@pytest.fixture
def real_faces() -> Path:
    path = SHARED / "data" / "celeba128" / "val.zip"
    if not path.exists():
        pytest.skip("CelebA's validation faces are not at hand (../shared)")
    return path


def test_the_detectors_pose_is_about_the_tables(real_faces: Path, tmp_path: Path, monkeypatch: Any) -> None:
    task = task_with_truth(open_faces(real_faces), 64, 64, "bicubic", 5)
    records = Records(tmp_path / "t.csv")
    tell_groups(task, "ffhq", records, None, quiet)
    monkeypatch.setattr(module, "find_table", _no_table)
    tell_groups(task, "ffhq", records, None, quiet)
    poses = np.array(
        [
            [records.get((task.dataset, how, "1", i))["pose"] for i in task.entries]
            for how in ("landmarks.csv", "CenterFace")
        ]
    ).astype(float)
    assert np.abs(poses[0] - poses[1]).max() < 0.15
    assert np.corrcoef(poses)[0, 1] > 0.9


def _no_table(entries: Any) -> Path:
    raise MissingDataError("none")


# -- the table ---------------------------------------------------------------------------------------------------------


class FakeRunner:
    """What the table asks of a runner."""

    def __init__(self, tasks: list[Task], records: Records) -> None:
        self.tasks, self.records = tasks, records

    def variants_of(self, task: Task) -> list[Any]:
        return [type("V", (), {"name": name}) for name in task.only]


@pytest.fixture
def runner(people: Path, tmp_path: Path) -> Callable[..., Any]:
    def runner(identity: bool = True) -> Any:
        records = Records(tmp_path / "per_image.csv")
        tasks = []
        for factor, names, low in (("1", ("invert-w", "invert-w_plus"), 16), ("8", ("rlse",), 2)):
            task = task_with_truth(open_faces(people), 16, low, "bicubic", None)
            object.__setattr__(task, "only", names)
            tasks.append(task)
            for i, image in enumerate(task.entries):
                for name in names:
                    figures = {"psnr": 20.0 + i, "consistency": 40.0} | ({"identity": i / 10} if identity else {})
                    records.add({(task.dataset, name, factor, image): figures})
        return FakeRunner(tasks, records)

    return runner


def test_small_groups_show_how_many_they_are_and_no_figure(people: Path, tmp_path: Path, runner: Any) -> None:
    found = tell_groups(task_of(people), "ffhq", Records(tmp_path / "t.csv"), None, quiet)
    table = group_rows(found, runner())
    rows = {(r.method, r.factor, r.metric): r.value for r in table}
    everyone = rows[f"invert-w_plus, {EVERYONE}", "1", "psnr"]
    assert (everyone.mean, everyone.n) == (22.5, 6)
    assert everyone.low < 22.5 < everyone.high
    assert rows["rlse, all faces", "8", "identity"].mean == pytest.approx(0.25)
    small = rows["invert-w_plus, skin: tan", "1", "psnr"]
    assert small.n == 2 < LEAST
    assert math.isnan(small.mean)
    assert rows["invert-w_plus, skin: light", "1", "psnr"].n == 0
    assert not any(m.startswith("invert-w,") for m, _, _ in rows)
    lines = group_markdown(found, table).splitlines()
    assert lines[0].startswith("| group | n | inversion in w_plus: psnr ↑ |")
    assert "RLSE 8x: consistency ↑" in lines[0]
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    cells = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]] for line in lines[2:]}
    assert cells["all faces"][:2] == ["6", f"22.50 [{everyone.low:.2f}, {everyone.high:.2f}]"]
    columns = sum(map(len, FIGURES.values()))
    assert cells["skin: tan"] == ["2", *[""] * columns]
    assert cells["sex: cannot be told"] == [""] * (columns + 1)
    assert "fewer than 5 faces" in SMALL


def test_a_metric_that_is_not_at_hand_is_not_called_small(people: Path, tmp_path: Path, runner: Any) -> None:
    found = tell_groups(task_of(people), "ffhq", Records(tmp_path / "t.csv"), None, quiet)
    page = group_markdown(found, group_rows(found, runner(identity=False)))
    line = next(x for x in page.splitlines() if x.startswith("| all"))
    assert line.split("|")[4].strip() == "n/a"  # identity
