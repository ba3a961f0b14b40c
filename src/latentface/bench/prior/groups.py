"""Groups of people among the faces that are measured, as far as simple measures of the true picture tell them.

- Skin tone by the individual typology angle of the cheeks, atan((L* - 50) / b*) in degrees (Chardon, Cretois, Hourseau;
  International Journal of Cosmetic Science 1991), with its six classes. Light moves it nearly as much as people differ.
- Pose by the nose's sideways offset from the eyes' middle over the eyes' distance.
- Light by the face's mean luma.
- Sex, age, glasses and hats by CelebA's own list of attributes, where it is at hand: nothing here can see them.
"""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from latentface.bench.core.progress import OnProgress, Progress
from latentface.bench.core.records import Records
from latentface.bench.core.tasks import Task
from latentface.bench.prior.quality import DETECTION_SIDE, MIN_FACE
from latentface.datasets.attributes import NAMES, find_attributes, read_attributes
from latentface.errors import InputError, MissingDataError, PictureError
from latentface.faces.align import CELEBA_LANDMARKS, CELEBA_SQUARE, FFHQ_LANDMARKS
from latentface.faces.detect import detect
from latentface.supervised.landmarks import find_table, read_landmarks

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]  # left, top, right, bottom in units of the picture's side
EVERYONE = "all faces"
UNTOLD = "not told"

# Eyes and mouth corners, as the viewer sees them, of the mean face of each alignment, in units of the square.
MEAN_FACES: dict[str, Array] = {
    "ffhq": np.array(FFHQ_LANDMARKS),
    "celeba": (np.array(CELEBA_LANDMARKS)[[0, 1, 3, 4]] - CELEBA_SQUARE[:2]) / CELEBA_SQUARE[2],
}
WHITE = np.array([0.95047, 1.0, 1.08883])  # D65, 2 degrees
TO_XYZ = np.array(  # of linear sRGB, IEC 61966-2-1
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trait:
    """A measure cut into groups: `cuts` ascending, and the names of the groups below, between and from them up."""

    name: str
    metric: str
    cuts: tuple[float, ...]
    groups: tuple[str, ...]

    def group(self, value: float | None) -> str:
        """Return a value's group; None and NaN are not told."""
        if value is None or math.isnan(value):
            return UNTOLD
        return self.groups[bisect.bisect_right(self.cuts, value)]


TRAITS = (
    Trait(
        name="skin",
        metric="skin-ita",
        cuts=(-30, 10, 28, 41, 55),
        groups=("dark", "brown", "tan", "intermediate", "light", "very light"),
    ),
    Trait(name="pose", metric="turn", cuts=(0.15, 0.35), groups=("frontal", "turned", "far turned")),
    Trait(name="light", metric="light", cuts=(0.45, 0.6), groups=("dim", "medium", "bright")),
)
LABELS = {  # trait -> CelebA's attribute, and the groups of those without and with it
    "sex": ("Male", ("female", "male")),
    "age": ("Young", ("not young", "young")),
    "glasses": ("Eyeglasses", ("none", "worn")),
    "hat": ("Wearing_Hat", ("none", "worn")),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """Who belongs where: "skin: dark" -> images, all faces first; trait -> why it cannot be told; notes."""

    members: Mapping[str, Sequence[str]]
    untold: Mapping[str, str]
    notes: Sequence[str]


def tell_groups(
    task: Task, alignment: str, records: Records, attributes: str | Path | None, on_progress: OnProgress
) -> Groups:
    """Sort the faces of a task into groups; what is measured of a face is kept in `records` and not measured again.

    Raises MissingDataError: there is no such list. InputError: it is broken, or knows not one of the faces.
    `alignment`: of the faces, "ffhq" or "celeba"; `attributes`: CelebA's list, else it is looked for beside the faces.
    """
    labels, why, source = _labels(task, attributes)
    values, told_by = _measure(task, alignment, records, on_progress)
    members: dict[str, list[str]] = {EVERYONE: list(task.entries)}
    for trait in TRAITS:
        found = {image: trait.group(values[image].get(trait.metric)) for image in task.entries}
        members |= _sorted(trait.name, trait.groups, found)
    untold = {}
    for name, (attribute, groups) in LABELS.items():
        known = {i: labels.get(entry.stem, {}).get(attribute) for i, entry in task.entries.items()}
        if all(value is None for value in known.values()):
            untold[name] = why or f"{source} has no attribute {attribute}"
        else:
            members |= _sorted(name, groups, {i: UNTOLD if v is None else groups[v] for i, v in known.items()})
    return Groups(members=members, untold=untold, notes=_notes(alignment, told_by, untold, source))


def _sorted(trait: str, groups: Sequence[str], found: Mapping[str, str]) -> dict[str, list[str]]:
    """Return group -> images; a group without anybody stays, faces that are not told come last if there are any."""
    out = {f"{trait}: {g}": [i for i, mine in found.items() if mine == g] for g in (*groups, UNTOLD)}
    if not out[f"{trait}: {UNTOLD}"]:
        del out[f"{trait}: {UNTOLD}"]
    return out


def _labels(task: Task, path: str | Path | None) -> tuple[dict[str, dict[str, bool]], str, str]:
    """Return stem -> attribute -> value, why there is nothing (""), and the file's name."""
    entries = list(task.entries.values())
    found = find_attributes(entries) if path is None else Path(path).expanduser()
    if found is None:
        return {}, f"there is no {NAMES[0]} beside the faces; name CelebA's with --attributes", ""
    wanted = [attribute for attribute, _ in LABELS.values()]
    labels = read_attributes(found, wanted, {entry.stem for entry in entries})
    if not labels and path is not None:
        raise InputError(f"{path}: it knows not one of the {len(entries)} faces by the name of its file")
    return labels, "" if labels else f"{found.name} knows not one of the faces", found.name


def _measure(
    task: Task, alignment: str, records: Records, on_progress: OnProgress
) -> tuple[dict[str, dict[str, float | None]], str]:
    """Return image -> metric -> value, and what told the landmarks."""
    entries = list(task.entries.values())
    side = task.degradation.high
    try:
        marks = dict(
            zip(task.entries, read_landmarks(find_table(entries), entries, side).double().numpy(), strict=True)
        )
        told_by = "landmarks.csv"
    except MissingDataError:
        marks, told_by = {}, "CenterFace"
    values: dict[str, dict[str, float | None]] = {}
    for number, (image, entry) in enumerate(task.entries.items(), 1):
        plain, turned = ((task.dataset, how, "1", image) for how in ("picture", told_by))
        try:
            if "light" not in records.get(plain):
                face = task.faces.read(entry, side)
                records.add({plain: {"skin-ita": skin_angle(face, alignment), "light": light(face, alignment)}})
            if "turn" not in records.get(turned):
                on_progress(Progress(f"looking how {number} of {len(entries)} faces are turned"))
                points = marks[image] if marks else landmarks_of(task.faces.read(entry, DETECTION_SIDE))
                angle = math.nan if points is None else pose(points)
                records.add({turned: {"pose": angle, "turn": abs(angle)}})
        except PictureError:
            pass  # the run leaves it out and says so
        values[image] = {**records.get(plain), **records.get(turned)}
    return values, told_by


def landmarks_of(picture: Tensor) -> Array | None:
    """Return the five landmarks (5, 2) of the largest face on a picture (3, S, S), or None."""
    faces = detect(picture, min_face=MIN_FACE)
    return faces[0].landmarks if faces else None


def pose(landmarks: ArrayLike) -> float:
    """Return how far a head is turned: the nose's offset from the eyes' middle, along the eyes' line, over their distance.

    Landmarks (5, 2): left eye, right eye, nose and others, as the viewer sees them. 0 is straight on, positive toward
    the picture's right; NaN where an eye or the nose is unknown, or the eyes coincide.
    """
    left, right, nose = np.asarray(landmarks, dtype=np.float64)[:3]
    axis = right - left
    squared = float(axis @ axis)
    return float((nose - (left + right) / 2) @ axis) / squared if squared > 0 else math.nan


def light(picture: Tensor, alignment: str = "ffhq") -> float:
    """Return the mean luma (BT.601) of a square twice the eyes' distance wide: (3, R, R) in [0, 1] -> [0, 1]."""
    return float((_patch(picture, face_square(alignment)) @ np.array([0.299, 0.587, 0.114])).mean())


def skin_angle(picture: Tensor, alignment: str = "ffhq") -> float:
    """Return the individual typology angle in degrees of a face (3, R, R) in [0, 1], by medians over both cheeks."""
    colours = lab(np.concatenate([_patch(picture, box) for box in cheeks(alignment)]))
    lightness, _, yellow = np.median(colours, axis=0)
    return typology_angle(float(lightness), float(yellow))


def typology_angle(lightness: float, yellow: float) -> float:
    """Return atan((L* - 50) / b*) in degrees; NaN where b* is not positive: bluish light, for which the angle is not made."""
    return math.degrees(math.atan2(lightness - 50, yellow)) if yellow > 0 else math.nan


def lab(colours: Array) -> Array:
    """Return CIELAB (N, 3) of sRGB colours (N, 3) in [0, 1]: D65, 2 degrees; L* in [0, 100]."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    ratio = linear @ TO_XYZ.T / WHITE
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def cheeks(alignment: str) -> tuple[Box, Box]:
    """Return the squares on both cheeks: a little more than half way from eye to mouth, a little outside the eye."""
    left, right, mouth, _ = MEAN_FACES[alignment]
    distance = float(right[0] - left[0])
    y, half = float(left[1] + 0.55 * (mouth[1] - left[1])), 0.14 * distance
    a, b = float(left[0]) - 0.08 * distance, float(right[0]) + 0.08 * distance
    return (a - half, y - half, a + half, y + half), (b - half, y - half, b + half, y + half)


def face_square(alignment: str) -> Box:
    """Return the square about a face's middle, twice the eyes' distance wide."""
    marks = MEAN_FACES[alignment]
    (x, y), half = marks.mean(0), float(marks[1, 0] - marks[0, 0])
    return float(x) - half, float(y) - half, float(x) + half, float(y) + half


def _patch(picture: Tensor, box: Box) -> Array:
    """Return the pixels (N, 3) of a picture (3, R, R) in a box; at least one."""
    side = picture.shape[-1]
    left, top, right, bottom = (round(edge * side) for edge in box)
    cut = picture[:, top : max(bottom, top + 1), left : max(right, left + 1)]
    return cut.flatten(1).T.double().cpu().numpy()


def _notes(alignment: str, told_by: str, untold: Mapping[str, str], source: str) -> list[str]:
    skin, turned, brightness = TRAITS
    steps = ", ".join(f"{name} from {cut:g}" for cut, name in zip(skin.cuts, skin.groups[1:], strict=True))
    out = [
        "Groups are told by simple measures of the true picture. Skin: the individual typology angle (Chardon 1991), "
        f"atan((L* - 50) / b*), of two patches on the cheeks at fixed places of the {alignment} alignment, in degrees: {steps}, "
        "dark below. It is the picture's angle: light, exposure and make-up move it nearly as much as people differ, so these are "
        "groups of pictures that look so; where b* is not positive it is not told.",
        f"Pose: the nose's sideways offset from the eyes' middle over the eyes' distance (landmarks: {told_by}): turned from "
        f"{turned.cuts[0]:g}, far turned from {turned.cuts[1]:g}. Light: the mean luma of the face's square, 0 to 1: medium from "
        f"{brightness.cuts[0]:g}, bright from {brightness.cuts[1]:g}.",
    ]
    if told := [name for name in LABELS if name not in untold]:
        words = ", ".join(f"{name} ({LABELS[name][0]})" for name in told)
        out.append(
            f"By the labels in {source}: {words}. They are what annotators thought that they saw, with two values each; they "
            "say nothing of who a person is."
        )
    for reason in dict.fromkeys(untold.values()):
        names = [name for name, mine in untold.items() if mine == reason]
        out.append(f"Cannot be told: {', '.join(names)}: {reason}.")
    out.append(
        "Cannot be told at all by these measures: ethnicity, disability, make-up, what covers a face, and the camera. Groups "
        "overlap (who is labelled one thing may be darker lit, too), and a gap between two of them names no cause."
    )
    return out
