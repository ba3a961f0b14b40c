"""The report's plots, as SVG: perception and distortion, quality against iterations, time."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latentface.bench.core.records import Records
from latentface.bench.core.statistics import estimate
from latentface.bench.core.variants import TRUTH, title_of
from latentface.bench.tables.tables import Row, read_rows, values_of
from latentface.errors import require
from latentface.explore.registry import METHODS
from latentface.io.atomic import write_text

PERCEPTUAL = ("lpips-alex", "lpips-vgg", "lpips-squeeze", "squeezenet-distance", "niqe")
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777", "#000000")  # Tol's bright set


def _draw(paint: Callable[[Any], None], width: float = 6.4, height: float = 4.2) -> str:
    """Return a figure as SVG text; `paint` draws on its axes. No window and no global state of matplotlib is touched."""
    require("matplotlib", "plot", "the report")
    figure_module = require("matplotlib.figure", "plot", "the report")
    backend = require("matplotlib.backends.backend_svg", "plot", "the report")
    figure = figure_module.Figure(figsize=(width, height), layout="constrained")
    backend.FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    paint(axes)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def perception_distortion(rows: Sequence[Row], dataset: str, factor: str) -> tuple[str, str] | None:
    """Return title and SVG of the first perceptual distance at hand against PSNR, or None where either is missing.

    Blau and Michaeli 2018. A line joins the methods that no other one beats in both; markers tell searches from answers
    at once.
    """
    found = {(r.method, r.metric): r.value for r in rows if (r.dataset, r.factor) == (dataset, factor)}
    methods = [m for m in dict.fromkeys(m for m, _ in found) if m != TRUTH]

    def has(metric: str) -> list[str]:
        both = ((m, found.get((m, "psnr")), found.get((m, metric))) for m in methods)
        return [m for m, a, b in both if a is not None and b is not None and a.n and b.n]

    metric = next((p for p in PERCEPTUAL if has(p)), None)
    if metric is None:
        return None
    points = {m: (found[m, "psnr"], found[m, metric]) for m in has(metric)}
    front = unbeaten({m: (x.mean, y.mean) for m, (x, y) in points.items()})

    def paint(axes: Any) -> None:
        ends = [(points[m][0].mean, points[m][1].mean) for m in front]
        axes.plot(*zip(*ends, strict=True), color="#bbbbbb", linewidth=1, zorder=0)
        places = labels_apart([(x.mean, -y.mean) for x, y in points.values()], [len(title_of(m)) for m in points])
        for i, (method, (x, y)) in enumerate(points.items()):
            errors = {
                key: [[v.mean - v.low], [v.high - v.mean]]
                for key, v in (("xerr", x), ("yerr", y))
                if math.isfinite(v.low)
            }
            known = METHODS.get(method.partition("+")[0].partition("@")[0])
            marker = "o" if known is not None and known.searches else "^"
            axes.errorbar(x.mean, y.mean, fmt=marker, color=COLOURS[i % len(COLOURS)], capsize=2, **errors)
            how = {"xytext": places[i], "textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 8}
            axes.annotate(title_of(method), (x.mean, y.mean), **how)
        axes.invert_yaxis()
        axes.margins(0.12)
        axes.set_xlabel("PSNR in dB (right: nearer to the truth)")
        axes.set_ylabel(f"{metric} (up: looks more like it)")

    title = (
        f"Perception and distortion, {dataset}, {factor}x: up and right is better; circles search a prior, triangles answer "
        "at once; the line joins what no method beats in both; bars are 95 % intervals"
    )
    return title, _draw(paint, 7.5, 5.0)


def labels_apart(points: Sequence[tuple[float, float]], letters: Sequence[int]) -> list[tuple[float, float]]:
    """Return where labels' middles go, (x, y) from their points, in points of print: each where it covers least.

    The plot is taken for 450 x 290 points wide, a letter for 4.5 x 9.
    """
    spans = [max(max(v) - min(v), 1e-9) for v in zip(*points, strict=True)]
    spots = [(450 * x / spans[0] / 1.24, 290 * y / spans[1] / 1.24) for x, y in points]
    taken = [(x, y, 4.0, 4.0) for x, y in spots]  # middles and half sizes: first of the markers
    places: list[tuple[float, float]] = []
    for (x, y), count in zip(spots, letters, strict=True):
        wide = 2.25 * count
        around: list[tuple[float, float]] = [
            (side * (wide + 6) * (row == 0) + side * 8 * (row != 0), row)
            for row in (9, 0, -9, 18, -18)
            for side in (1, -1)
        ]

        def covered(place: tuple[float, float], x: float = x, y: float = y, wide: float = wide) -> float:
            total = 0.0
            for u, v, w, h in taken:
                total += max(0.0, wide + w - abs(x + place[0] - u)) * max(0.0, 4.5 + h - abs(y + place[1] - v))
            return total

        best = min(around, key=covered)
        taken.append((x + best[0], y + best[1], wide, 4.5))
        places.append(best)
    return places


def unbeaten(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names of points (PSNR, distance) that no other one beats in both, by rising PSNR."""
    return sorted(
        (
            name
            for name, (x, y) in points.items()
            if not any(u >= x and v <= y and (u, v) != (x, y) for u, v in points.values())
        ),
        key=lambda name: points[name],
    )


def iterations(records: Records, dataset: str, factor: str) -> tuple[str, str] | None:
    """Return title and SVG of the best PSNR so far by step of each search, with its 95 % band, or None."""
    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for method in records.methods(dataset, factor):
        images = list(records.images(dataset, method, factor))
        metrics = {m for i in images for m in records.get((dataset, method, factor, i))}
        for metric in sorted(metrics, key=lambda m: int(m.partition("@")[2])):
            e = estimate(values_of(records, dataset, method, factor, metric, images))
            if e.n:
                spread = (e.low, e.high) if math.isfinite(e.low) else (e.mean, e.mean)
                curves.setdefault(method, []).append((int(metric.partition("@")[2]), e.mean, *spread))
    if not curves:
        return None

    def paint(axes: Any) -> None:
        for i, (method, points) in enumerate(curves.items()):
            steps, mean, low, high = np.array(points).T
            axes.plot(steps, mean, marker=".", color=COLOURS[i % len(COLOURS)], label=title_of(method))
            axes.fill_between(steps, low, high, color=COLOURS[i % len(COLOURS)], alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        axes.set_xlabel("iterations")
        axes.set_ylabel("PSNR of the best picture so far, in dB")
        axes.legend(fontsize=8)

    return f"Quality against iterations, {dataset}, {factor}x", _draw(paint)


def times(rows: Sequence[Row], factor: str) -> tuple[str, str] | None:
    """Return title and SVG of the seconds a face, alone and in the best batch, split by where they go, or None."""
    found = {(r.method, r.metric): r.value for r in rows if r.factor == factor}
    methods = [m for m in dict.fromkeys(m for m, _ in found) if found[m, "seconds@1"].n]
    if not methods:
        return None

    def paint(axes: Any) -> None:
        places = np.arange(len(methods))
        for shift, suffix, colours in ((-0.2, "@1", COLOURS[:2]), (0.2, "@best", (COLOURS[4], "#ffaabb"))):
            left = np.zeros(len(methods))
            for part, colour in zip(("networks", "rest"), colours, strict=True):
                width = np.array([found[m, f"seconds-{part}{suffix}"].mean for m in methods])
                label = f"{part}, {'alone' if suffix == '@1' else 'best batch'}"
                axes.barh(places + shift, width, 0.38, left=left, color=colour, label=label)
                left += width
        axes.set_yticks(places, [title_of(m) for m in methods])
        axes.invert_yaxis()
        axes.set_xlabel("seconds a face")
        axes.legend(fontsize=8)

    return f"Time a face, {factor}x", _draw(paint, height=1.2 + 0.45 * len(methods))


def all_plots(folder: Path) -> list[tuple[str, str]]:
    """Return title and SVG of every plot that an output folder has figures for.

    Those of perception and distortion are written beside the table, too: perception-distortion-DATASET-FACTORx.svg.
    Raises MissingExtraError, InputError, OutputError.
    """
    plots: list[tuple[str, str] | None] = []
    if (folder / "table1.csv").is_file():
        rows = read_rows(folder / "table1.csv")
        for dataset, factor in dict.fromkeys((r.dataset, r.factor) for r in rows):
            plots.append(plot := perception_distortion(rows, dataset, factor))
            if plot is not None:
                write_text(folder / f"perception-distortion-{dataset}-{factor}x.svg", plot[1])
    if (folder / "steps.csv").is_file():
        records = Records(folder / "steps.csv")
        plots += [iterations(records, d, f) for d, f in records.groups()]
    if (folder / "time.csv").is_file():
        rows = read_rows(folder / "time.csv")
        plots += [times(rows, f) for f in dict.fromkeys(r.factor for r in rows)]
    return [plot for plot in plots if plot is not None]
