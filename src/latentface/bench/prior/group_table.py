"""The figures of each group of faces: rows for `groups.csv` and a Markdown table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latentface.bench.core.records import factor_text
from latentface.bench.core.runner import Runner
from latentface.bench.core.statistics import Estimate, estimate
from latentface.bench.core.variants import title_of
from latentface.bench.prior.groups import Groups
from latentface.bench.tables.tables import Row, arrow, cell, values_of

LEAST = 5  # faces from which a mean says something of a group
FIGURES = {  # variant -> metrics, in the table's order
    "invert-w_plus": ("psnr", "identity", "squeezenet-distance"),
    "rlse": ("identity", "consistency", "psnr"),
}


@dataclass(frozen=True, slots=True)
class GroupTable:
    """Groups, the rows of `groups.csv`, and how they stand on a page."""

    groups: Groups
    rows: Sequence[Row]

    @property
    def markdown(self) -> str:
        """The table: a line a group, a column a method's metric; "" where there is no figure."""
        return _markdown(self.groups, self.rows)

    @property
    def notes(self) -> list[str]:
        """The lines under it."""
        small = (
            f"Groups of fewer than {LEAST} faces show how many they are and no figure. Intervals: 95 %, bootstrap over the "
            "group's faces. Identity is MobileFaceNet's cosine, and how well that network knows each group is not known here."
        )
        return [*self.groups.notes, small]


def group_table(groups: Groups, runner: Runner) -> GroupTable:
    """Collect the figures of every group, as method `VARIANT, GROUP`; below `LEAST` faces only their number."""
    rows = []
    for task in runner.tasks:
        for variant in runner.variants_of(task):
            for metric in FIGURES.get(variant.name, ()):
                factor = factor_text(task.factor)
                for group, images in groups.members.items():
                    values = values_of(runner.records, task.dataset, variant.name, factor, metric, images)
                    found = estimate(values)
                    if 0 < found.n < LEAST:
                        found = Estimate(math.nan, math.nan, math.nan, found.n)
                    method = f"{variant.name}, {group}"
                    rows.append(Row(dataset=task.dataset, method=method, factor=factor, metric=metric, value=found))
    return GroupTable(groups, rows)


def _markdown(groups: Groups, rows: Sequence[Row]) -> str:
    found = {(r.method, r.metric): r for r in rows}
    columns = []
    for variant, metrics in FIGURES.items():
        for metric in metrics:
            row = next((r for (m, name), r in found.items() if name == metric and m.startswith(f"{variant}, ")), None)
            if row is not None:
                columns.append((variant, metric, row.factor))
    if not columns:
        return ""
    heads = [f"{_title(v)}{f' {f}x' if f != '1' else ''}: {m} {arrow(m)}" for v, m, f in columns]
    lines = [f"| group | n | {' | '.join(heads)} |", "|---" * (len(columns) + 2) + "|"]
    for group, images in groups.members.items():
        cells = [_cell(found[f"{v}, {group}", m].value, m, len(images)) for v, m, _ in columns]
        lines.append(f"| {group} | {len(images)} | {' | '.join(cells)} |")
    for trait in groups.untold:
        lines.append(f"| {trait}: cannot be told | | {' | '.join([''] * len(columns))} |")
    return "\n".join(lines)


def _title(variant: str) -> str:
    return {"invert-w_plus": "inversion in w_plus"}.get(variant, title_of(variant))


def _cell(value: Estimate, metric: str, faces: int) -> str:
    return "" if faces < LEAST or 0 < value.n < LEAST else cell(value, metric)
