"""What a face becomes: apparent age and sex and the skin's angle before and after, by group; and what a prior draws by itself.

Apparent: what two networks take a face for (`metrics.apparent`). Skin: the individual typology angle (`groups`). They
are figures of groups of pictures; no person is told by them.
"""

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from latentface.bench.core.progress import Progress
from latentface.bench.core.records import Key, Records
from latentface.bench.core.runner import Runner
from latentface.bench.core.statistics import Estimate, estimate
from latentface.bench.core.tasks import Task
from latentface.bench.core.variants import title_of
from latentface.bench.prior.groups import EVERYONE, TRAITS, UNTOLD, Trait, skin_angle
from latentface.bench.prior.quality import share
from latentface.bench.prior.study import VALIDATION, Study, samples_at
from latentface.bench.tables.tables import Row, markdown
from latentface.errors import LatentfaceError, PictureError
from latentface.io.pictures import read_picture
from latentface.metrics.apparent import Apparent

AGE = Trait(
    name="apparent age",
    metric="age",
    cuts=(20, 35, 50),
    groups=("under 20", "20 to 34", "35 to 49", "50 and more"),
)
SEX = Trait(name="apparent sex", metric="male", cuts=(0.5,), groups=("female", "male"))
SKIN = TRAITS[0]
TOLD = (SEX, AGE, SKIN)
YEARS = 10  # from which a face has become older or younger
LEAST = 5  # faces from which a group has figures
SEARCHES = ("invert-w_plus", "rlse")
TITLES = {"invert-w_plus": "inversion in w_plus"}
MOVES = {  # metric -> its column's head
    "sex-moves": "apparent sex is another",
    "years": "apparent age, years",
    "older": f"{YEARS} years older",
    "younger": f"{YEARS} years younger",
    "degrees": "skin, degrees (up: lighter)",
    "lighter": "lighter class",
    "darker": "darker class",
}
MEANS = ("years", "degrees")  # the others are shares
NOTE = (
    "What a face becomes: apparent age (0 to 80 years) and sex are what two small networks (dlib-models, Cydral) take a face "
    "for, skin is the typology angle of its cheeks. Light, blur and make-up move all three, and no person is told by them. "
    "Groups are those of the true picture. 95 % intervals: Wilson's of shares, by bootstrap over faces of means; "
    f"below {LEAST} faces none."
)
Looks = Mapping[str, float | None]  # metric -> value


@dataclass(frozen=True, kw_only=True, slots=True)
class Becoming:
    """Rows of `becomes.csv`, parts of the page, lines under it, and the groups of the true faces, "trait: group" -> images."""

    rows: Sequence[Row]
    parts: Sequence[str]
    notes: Sequence[str]
    members: Mapping[str, Sequence[str]]


class Looker:
    """Looks at each face once: what is known stands in `records`.

    `missing`: why apparent age and sex cannot be told here; "" where they can.
    """

    def __init__(self, records: Records, alignment: str, *, fetch: bool) -> None:
        self.records, self.alignment = records, alignment
        self.apparent: Apparent | None = None
        self.missing = (
            "" if alignment == "ffhq" else f"the networks take faces of the ffhq alignment, not of {alignment}"
        )
        if not self.missing:
            try:
                self.apparent = Apparent.load(fetch=fetch)
            except LatentfaceError as error:
                self.missing = str(error)

    def wanted(self, key: Key) -> list[str]:
        """Return what is not known of a face yet."""
        metrics = ["skin-ita", *["age", "male"] * (self.apparent is not None)]
        return [m for m in metrics if m not in self.records.get(key)]

    def look(self, key: Key, read: Callable[[], Tensor]) -> Looks:
        """Return a face's looks; `read` gives its picture (3, R, R) in [0, 1]. A picture that cannot be read has none."""
        wanted = self.wanted(key)
        if wanted:
            try:
                picture = read()
            except PictureError:
                return self.records.get(key)
            found = {"skin-ita": skin_angle(picture, self.alignment)}
            if self.apparent is not None:
                (found["age"],), (found["male"],) = (v.tolist() for v in self.apparent.look(picture[None]))
            self.records.add({key: {m: found[m] for m in wanted}})
        return self.records.get(key)


def look_at_all(study: Study, records: Records, *, fetch: bool) -> Becoming:
    """Look at the true faces, at what a search made of each, and at the prior's samples. `records`: `traits.csv`."""
    runner, task = study.runner, study.runner.tasks[0]
    looker = Looker(records, study.prior.alignment, fetch=fetch)
    study.on_progress(Progress("looking what the faces are and become"))

    def true(image: str) -> Looks:
        read = partial(task.faces.read, task.entries[image], study.side)
        return looker.look((task.dataset, "picture", "1", image), read)

    before = {image: true(image) for image in task.entries}
    members = members_of(before, TOLD if looker.apparent is not None else (SKIN,))
    rows, parts = drawn(study, looker, before)
    for search, variant in ((t, v) for t in runner.tasks for v in runner.variants_of(t) if v.name in SEARCHES):
        after = after_search(runner, looker, search, variant.name)
        found = moved(before, after, members, search, variant.name)
        rows += found
        title = f"{TITLES.get(variant.name, title_of(variant.name))}{f', {search.factor_text}x' if search.factor > 1 else ''}"
        parts += [f"### What a face becomes: {title}", moves_markdown(found, members)]
    notes = [NOTE, *([f"Apparent age and sex cannot be told: {looker.missing}."] if looker.missing else [])]
    return Becoming(rows=rows, parts=parts, notes=notes, members=members)


def after_search(runner: Runner, looker: Looker, task: Task, name: str) -> dict[str, Looks]:
    """Return the looks of a search's kept results, image -> looks."""
    paths = {image: runner.path(task, name, image) for image in task.entries}
    return {
        image: looker.look(runner.key(task, name, image), partial(read_picture, path))
        for image, path in paths.items()
        if path.exists()
    }


def members_of(looks: Mapping[str, Looks], traits: Sequence[Trait] = TOLD) -> dict[str, list[str]]:
    """Return "trait: group" -> images, all faces first; groups in the traits' order, faces that are not told left out."""
    members = {EVERYONE: list(looks)}
    for trait in traits:
        groups = {image: trait.group(found.get(trait.metric)) for image, found in looks.items()}
        members |= {f"{trait.name}: {g}": [i for i, mine in groups.items() if mine == g] for g in trait.groups}
    return members


def moves(before: Looks, after: Looks) -> dict[str, float]:
    """Return how a face moved, by the metrics of `MOVES`: 0 or 1, years, degrees; NaN where it cannot be told."""
    out = dict.fromkeys(MOVES, math.nan)
    if UNTOLD not in (sexes := [SEX.group(looks.get("male")) for looks in (before, after)]):
        out["sex-moves"] = float(sexes[0] != sexes[1])
    if (years := _difference(before, after, "age")) is not None:
        out |= {"years": years, "older": float(years > YEARS), "younger": float(years < -YEARS)}
    if (degrees := _difference(before, after, "skin-ita")) is not None:
        a, b = (bisect.bisect_right(SKIN.cuts, looks["skin-ita"] or 0.0) for looks in (before, after))
        out |= {"degrees": degrees, "lighter": float(b > a), "darker": float(b < a)}
    return out


def _difference(before: Looks, after: Looks, metric: str) -> float | None:
    a, b = before.get(metric), after.get(metric)
    return None if a is None or b is None else b - a


def moved(
    before: Mapping[str, Looks], after: Mapping[str, Looks], members: Mapping[str, Sequence[str]], task: Task, name: str
) -> list[Row]:
    """Return the rows of one search, as method `NAME, GROUP`; below `LEAST` faces only their number."""
    each = {image: moves(before[image], found) for image, found in after.items()}
    rows = []
    for group, images in members.items():
        for metric in MOVES:
            values = np.array([each[i][metric] for i in images if i in each])
            if metric in MEANS:
                value = estimate(values)
            else:  # a bootstrap of none in twelve would be certain of none
                told = values[np.isfinite(values)]
                value = share(int(told.sum()), len(told))
            if value.n < LEAST:
                value = Estimate(math.nan, math.nan, math.nan, value.n)
            method = f"{name}, {group}"
            rows.append(Row(dataset=task.dataset, method=method, factor=task.factor_text, metric=metric, value=value))
    return rows


def moves_markdown(rows: Sequence[Row], members: Mapping[str, Sequence[str]]) -> str:
    """Return a line a group, a column a move; shares in percent."""
    found = {(r.method.partition(", ")[2], r.metric): r.value for r in rows}
    shown = [m for m in MOVES if any(r.value.n for r in rows if r.metric == m)]
    lines = [
        [group, str(len(images)), *(_cell(found[group, metric], metric) for metric in shown)]
        for group, images in members.items()
    ]
    return markdown(["group", "n", *(MOVES[m] for m in shown)], lines)


def _cell(value: Estimate, metric: str) -> str:
    if not math.isfinite(value.mean):
        return ""
    if metric in MEANS:
        return f"{value.mean:+.1f} [{value.low:+.1f}, {value.high:+.1f}]"
    return _percent(value)


def _percent(value: Estimate) -> str:
    mean, low, high = (round(100 * v) for v in (value.mean, value.low, value.high))  # whole numbers have no -0
    return f"{mean} % [{low}, {high}]"


def drawn(study: Study, looker: Looker, before: Mapping[str, Looks]) -> tuple[list[Row], list[str]]:
    """Return rows and a table of the groups among the true faces and among the samples of each truncation."""
    sets: dict[str, Mapping[str, Looks]] = {VALIDATION: before}
    for name in [samples_at(t) for t in study.truncations] if study.detections else []:
        keys = [(study.dataset, name, "1", f"seed {study.seed + i}") for i in range(study.detections)]
        if any(map(looker.wanted, keys)):
            pictures = (picture for batch in study.pictures(name, len(keys)) for picture in batch)
            for key, picture in zip(keys, pictures, strict=True):
                looker.look(key, picture.clone)
        sets[name] = {key[3]: looker.records.get(key) for key in keys}
    rows, shares = [], dict[tuple[str, str], Estimate]()
    for name, looks in sets.items():
        for trait in TOLD:
            told = [g for found in looks.values() if (g := trait.group(found.get(trait.metric))) != UNTOLD]
            for group in trait.groups if told else ():
                value = share(told.count(group), len(told))
                shares[name, f"{trait.name}: {group}"] = value
                metric = f"share {trait.name}: {group}"
                rows.append(Row(dataset=study.dataset, method=name, factor="1", metric=metric, value=value))
    groups = dict.fromkeys(group for _, group in shares)
    lines = [[g, *(_percent(v) if (v := shares.get((n, g))) else "" for n in sets)] for g in groups]
    table = markdown(["group", *(f"{n}, n = {len(looks)}" for n, looks in sets.items())], lines)
    return rows, ["### What the prior draws", table]
