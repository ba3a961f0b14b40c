"""The report's plots, as SVG: quality against perceptual distance, quality against iterations, time."""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latentface.bench.core.records import Records
from latentface.bench.core.statistics import estimate
from latentface.bench.core.variants import TRUTH, title_of
from latentface.bench.tables.tables import Row, read_rows, values_of
from latentface.errors import require

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


def tradeoff(rows: Sequence[Row], dataset: str, factor: str) -> tuple[str, str] | None:
    """Return title and SVG of PSNR against the first perceptual distance at hand, or None where either is missing."""
    found = {(r.method, r.metric): r.value for r in rows if (r.dataset, r.factor) == (dataset, factor)}
    methods = [m for m in dict.fromkeys(m for m, _ in found) if m != TRUTH]

    def has(metric: str) -> list[str]:
        both = ((m, found.get((m, "psnr")), found.get((m, metric))) for m in methods)
        return [m for m, a, b in both if a is not None and b is not None and a.n and b.n]

    metric = next((p for p in PERCEPTUAL if has(p)), None)
    if metric is None:
        return None

    def paint(axes: Any) -> None:
        for i, method in enumerate(has(metric)):
            x, y = found[method, metric], found[method, "psnr"]
            errors = {
                key: [[v.mean - v.low], [v.high - v.mean]]
                for key, v in (("xerr", x), ("yerr", y))
                if math.isfinite(v.low)
            }
            colour = COLOURS[i % len(COLOURS)]
            axes.errorbar(x.mean, y.mean, fmt="os^Dv"[i // len(COLOURS) % 5], color=colour, capsize=2, **errors)
            axes.annotate(title_of(method), (x.mean, y.mean), xytext=(5, 5), textcoords="offset points", fontsize=8)
        axes.set_xlabel(f"{metric} (lower is better)")
        axes.set_ylabel("PSNR in dB (higher is better)")

    return f"Fidelity against looks, {dataset}, {factor}x: up and left is better; bars are 95 % intervals", _draw(paint)


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
    """Return title and SVG of every plot that an output folder has figures for. Raises MissingExtraError, InputError."""
    plots: list[tuple[str, str] | None] = []
    if (folder / "table1.csv").is_file():
        rows = read_rows(folder / "table1.csv")
        plots += [tradeoff(rows, d, f) for d, f in dict.fromkeys((r.dataset, r.factor) for r in rows)]
    if (folder / "steps.csv").is_file():
        records = Records(folder / "steps.csv")
        plots += [iterations(records, d, f) for d, f in records.groups()]
    if (folder / "time.csv").is_file():
        rows = read_rows(folder / "time.csv")
        plots += [times(rows, f) for f in dict.fromkeys(r.factor for r in rows)]
    return [plot for plot in plots if plot is not None]
