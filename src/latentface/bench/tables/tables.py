"""From single results to the tables: CSV for programs, Markdown in the poster's layout for people."""

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from latentface.bench.core.records import Key, Records, csv_text, number_text
from latentface.bench.core.statistics import NOTHING, Array, Estimate, difference, estimate, resampled
from latentface.bench.core.tasks import Task
from latentface.bench.core.variants import TRUTH, title_of
from latentface.errors import InputError
from latentface.io.atomic import write_text
from latentface.metrics.registry import METRICS

TABLES = ("table1", "table2", "semantic", "time", "ablation", "prior", "samples", "few-sample")  # in a report's order
BELOW = "<!-- Below this line everything is written by `latentface bench report --markdown`. -->"
PROJECTED = "psnr-projected"  # of a result, put onto the faces that shrink to the input
COLUMNS = ("dataset", "method", "factor", "metric", "mean", "ci_low", "ci_high", "n")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of a table's CSV; `factor` as it is written there."""

    dataset: str
    method: str
    factor: str
    metric: str
    value: Estimate


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a table's CSV atomically. Raises OutputError."""
    body = [
        (r.dataset, r.method, r.factor, r.metric, *map(number_text, (v.mean, v.low, v.high)), str(v.n))
        for r in rows
        for v in [r.value]
    ]
    write_text(path, csv_text([COLUMNS, *body]))


def write_table(folder: Path, name: str, rows: Iterable[Row], parts: Sequence[str], lines: Iterable[str]) -> Path:
    """Write NAME.csv and NAME.md, whose parts stand above the lines of a list; return NAME.md. Raises OutputError."""
    write_rows(folder / f"{name}.csv", rows)
    notes = "\n".join(f"- {line}" for line in lines)
    write_text(folder / f"{name}.md", "\n\n".join([*(part for part in parts if part), notes]) + "\n")
    return folder / f"{name}.md"


def read_rows(path: Path) -> list[Row]:
    """Read a table's CSV. Raises InputError where it is none."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(
                    f"{path}: its columns are {', '.join(reader.fieldnames or ())}; expected {', '.join(COLUMNS)}"
                )
            return [
                Row(
                    **{key: r[key] for key in COLUMNS[:4]},
                    value=Estimate(*(float(r[key] or "nan") for key in COLUMNS[4:7]), int(r["n"])),  # type: ignore[call-arg,arg-type]
                )
                for r in reader
            ]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: it cannot be read as a table ({error})") from None


def values_of(records: Records, dataset: str, method: str, factor: str, metric: str, images: Sequence[str]) -> Array:
    """Return a method's figure for each image, NaN where there is none."""
    found = [records.get((dataset, method, factor, image)).get(metric) for image in images]
    return np.array([math.nan if v is None else v for v in found], dtype=np.float64)


def aggregate(
    records: Records,
    tasks: Iterable[Task],
    methods: Sequence[str],
    metrics: Sequence[str],
    sets: Mapping[Key, Estimate] = MappingProxyType({}),
    applies: Callable[[Task, str], bool] = lambda task, metric: True,
) -> list[Row]:
    """Return a row for every task, method and metric that `applies`, empty where nothing is at hand.

    `sets`: figures of whole sets, (dataset, method, factor, metric) -> figure.
    """
    rows = []
    for task in tasks:
        dataset, factor, images = task.dataset, task.factor_text, list(task.entries)
        draws = resampled(len(images)) if len(images) > 1 else None
        for method in methods:
            for metric in metrics:
                if not applies(task, metric) or (method == TRUTH and METRICS[metric].reference != "none"):
                    continue
                value = sets.get((dataset, method, factor, metric))
                if value is None:
                    value = estimate(values_of(records, dataset, method, factor, metric, images), draws)
                if method != TRUTH or value.n:
                    rows.append(Row(dataset=dataset, method=method, factor=factor, metric=metric, value=value))
    return rows


def differences(
    records: Records, tasks: Iterable[Task], pairs: Sequence[tuple[str, str]], metrics: Sequence[str]
) -> list[Row]:
    """Return the mean of a - b over the same faces, with its paired interval, as method `a - b`."""
    rows = []
    for task in tasks:
        dataset, factor, images = task.dataset, task.factor_text, list(task.entries)
        for a, b in pairs:
            for metric in metrics:
                left, right = (values_of(records, dataset, m, factor, metric, images) for m in (a, b))
                value = difference(left, right)
                if value.n:
                    rows.append(Row(dataset=dataset, method=f"{a} - {b}", factor=factor, metric=metric, value=value))
    return rows


def markdown(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    names = list(head)
    body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join(["| " + " | ".join(names) + " |", "|---" * len(names) + "|", *body])


def plain_name(metric: str) -> str:
    """Return the registered metric that a metric of a table is printed as."""
    return "psnr" if metric == PROJECTED else metric


def digits(metric: str) -> int:
    """Return how many decimals a metric is printed with."""
    metric = plain_name(metric)
    return 2 if metric not in METRICS or "niqe" in metric or METRICS[metric].unit == "dB" else 3


def headed(metric: str) -> str:
    """Return a metric's title with an arrow to the better side."""
    known = METRICS.get(plain_name(metric))
    if known is None:
        return f"{metric} "
    return f"{known.title if metric == known.name else metric} {'↑' if known.direction == 'higher' else '↓'}"


def cell(value: Estimate, metric: str, theirs: float | None = None, *, bold: bool = False, line: bool = False) -> str:
    """Return a table's cell: mean, interval, and the poster's figure below."""
    if value.n == 0:
        text = "n/a"
    else:
        d = digits(metric)
        text = f"{value.mean:.{d}f}"
        text = f"**{text}**" if bold else f"<u>{text}</u>" if line else text
        if math.isfinite(value.low):
            text += f" [{value.low:.{d}f}, {value.high:.{d}f}]"
    return text if theirs is None else f"{text}<br>*poster {theirs:g}*"


def gap_text(gap: Estimate, metric: str) -> str:
    """Write a difference with its interval: bold where the first is better for certain, italic where it is worse."""
    d = digits(metric)
    text = f"{gap.mean:+.{d}f} [{gap.low:+.{d}f}, {gap.high:+.{d}f}]"
    known = METRICS.get(plain_name(metric))
    sign = -1 if known and known.direction == "lower" else 1
    if sign * gap.low > 0 and sign * gap.high > 0:
        return f"**{text}**"
    return f"*{text}*" if sign * gap.low < 0 and sign * gap.high < 0 else text


def paired_table(
    rows: Sequence[Row],
    gaps: Sequence[Row],
    task: Task,
    lines: Mapping[str, Sequence[str]],
    metrics: Sequence[str],
    reference: str,
    head: Sequence[str],
    *,
    intervals: bool = True,
) -> str:
    """Return a line a method with its means and, below each, the paired difference to the reference.

    `lines`: method -> the first cells of its line, whose columns `head` names; `intervals`: the means' own, too.
    """
    shown = [m for m in metrics if any(r.metric == m and r.value.n for r in rows)]
    body = []
    for name, first in lines.items():
        cells = list(first)
        for metric in shown:
            value = value_of(rows, task.dataset, name, task.factor_text, metric)
            gap = value_of(gaps, task.dataset, f"{name} - {reference}", task.factor_text, metric)
            text = cell(value if intervals else replace(value, low=math.nan), metric)
            cells.append(f"{text}<br>{gap_text(gap, metric)}" if gap.n > 1 else text)
        body.append(cells)
    return markdown([*head, *map(headed, shown)], body)


def best(values: Mapping[str, Estimate], metric: str) -> str | None:
    """Return whose mean is best, or None where there is none."""
    known = {name: v.mean for name, v in values.items() if v.n}
    if not known or metric not in METRICS:
        return None
    return (max if METRICS[metric].direction == "higher" else min)(known, key=lambda name: known[name])


def markdown_table(
    rows: Sequence[Row],
    *,
    searchers: frozenset[str],
    theirs: Callable[[Row], float | None] = lambda row: None,
    heads: Mapping[str, str] | None = None,
    marks: bool = True,
) -> str:
    """Return rows as a Markdown table: a line a factor and metric, a column a method, the best in bold.

    The best of the methods that search a prior is underlined where it is not the best of all; without `marks` neither is.
    """
    methods = list(dict.fromkeys(r.method for r in rows))
    found = {(r.factor, r.metric, r.method): r for r in rows}
    lines = []
    for factor, metric in dict.fromkeys((r.factor, r.metric) for r in rows):
        line = {m: found[factor, metric, m].value for m in methods if (factor, metric, m) in found}
        rivals = {m: v for m, v in line.items() if m != TRUTH}
        first = best(rivals, metric) if marks else None
        searched = best({m: v for m, v in rivals.items() if m.partition("+")[0].partition("@")[0] in searchers}, metric)
        cells = [
            cell(value, metric, theirs(found[factor, metric, m]), bold=m == first, line=m == searched)
            if (value := line.get(m)) is not None
            else ""
            for m in methods
        ]
        lines.append([f"{factor}x {headed(metric)}", *cells])
    return markdown(["", *((heads or {}).get(m, title_of(m)) for m in methods)], lines)


def value_of(rows: Sequence[Row], dataset: str, method: str, factor: str, metric: str) -> Estimate:
    """Return one figure of a table; empty where it has none."""
    for r in rows:
        if (r.dataset, r.method, r.factor, r.metric) == (dataset, method, factor, metric):
            return r.value
    return NOTHING


def collect_markdown(folder: str | Path, target: str | Path, title: str = "Benchmarks") -> Path:
    """Write every table of an output folder into one Markdown file, as docs/benchmarks.md is; no picture goes there.

    What stands in the file above the line `BELOW` is kept: the place for what a person says of the tables. Raises
    InputError: there is no table. OutputError: it cannot be written.
    """
    parts = [p for name in TABLES if (p := Path(folder) / f"{name}.md").is_file()]
    if not parts:
        raise InputError(f"{folder}: no table is in it; run `latentface bench table1` with the same -o first")
    target = Path(target)
    head = f"# {title}"
    if target.is_file():
        before, mark, _ = target.read_text(encoding="utf-8").partition(BELOW)
        head = before.strip() if mark else head
    text = "\n\n".join(p.read_text(encoding="utf-8").strip() for p in parts)
    write_text(target, f"{head}\n\n{BELOW}\n\n{text}\n")
    return target
