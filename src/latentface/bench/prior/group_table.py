"""The figures of each group of faces: rows for `groups.csv` and a Markdown table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from latentface.bench.core.runner import Runner
from latentface.bench.core.statistics import Estimate, estimate
from latentface.bench.core.variants import title_of
from latentface.bench.prior.groups import EVERYONE, Groups
from latentface.bench.tables.tables import Row, cell, headed, markdown, values_of

LEAST = 5  # faces from which a mean says something of a group
FIGURES = {  # variant -> metrics, in the table's order
    "invert-w_plus": ("psnr", "identity", "squeezenet-distance"),
    "rlse": ("identity", "consistency", "psnr"),
}
SMALL = (
    f"Groups of fewer than {LEAST} faces show how many they are and no figure. Intervals: 95 %, bootstrap over the "
    "group's faces. Identity is MobileFaceNet's cosine, and how well that network knows each group is not known here."
)


def group_rows(groups: Groups, runner: Runner) -> list[Row]:
    """Return the rows of `groups.csv`, as method `VARIANT, GROUP`; below `LEAST` faces only their number."""
    rows = []
    for task in runner.tasks:
        for variant in runner.variants_of(task):
            for metric in FIGURES.get(variant.name, ()):
                for group, images in groups.members.items():
                    values = values_of(runner.records, task.dataset, variant.name, task.factor_text, metric, images)
                    found = estimate(values)
                    if 0 < found.n < LEAST:
                        found = Estimate(math.nan, math.nan, math.nan, found.n)
                    method, factor = f"{variant.name}, {group}", task.factor_text
                    rows.append(Row(dataset=task.dataset, method=method, factor=factor, metric=metric, value=found))
    return rows


def group_markdown(groups: Groups, rows: Sequence[Row]) -> str:
    """Return a line a group, a column a method's metric; "" where there is no figure."""
    found = {(r.method, r.metric): r for r in rows}
    columns = [
        (variant, metric, row.factor)
        for variant, metrics in FIGURES.items()
        for metric in metrics
        if (row := found.get((f"{variant}, {EVERYONE}", metric))) is not None
    ]
    if not columns:
        return ""
    heads = [f"{_title(v)}{f' {f}x' if f != '1' else ''}: {headed(m)}" for v, m, f in columns]
    lines = [
        [group, str(len(images)), *(_cell(found[f"{v}, {group}", m].value, m, len(images)) for v, m, _ in columns)]
        for group, images in groups.members.items()
    ]
    lines += [[f"{trait}: cannot be told", *[""] * (len(columns) + 1)] for trait in groups.untold]
    return markdown(["group", "n", *heads], lines)


def _title(variant: str) -> str:
    return {"invert-w_plus": "inversion in w_plus"}.get(variant, title_of(variant))


def _cell(value: Estimate, metric: str, faces: int) -> str:
    return "" if faces < LEAST or 0 < value.n < LEAST else cell(value, metric)
