"""The lines under a table: protocol, what is bold, what is missing and why, whether the poster's order holds."""

from collections.abc import Sequence

from latentface.bench.core import poster
from latentface.bench.core.protocol import provenance
from latentface.bench.core.runner import Runner
from latentface.bench.core.variants import title_of
from latentface.bench.tables.tables import Row, value_of
from latentface.metrics.registry import METRICS

NOTICE = (
    "Each result is one plausible face among many, invented where the input says nothing; it is not evidence of who a "
    "person is and must not be used to identify anyone."
)


def protocol_line(runner: Runner) -> str:
    """Return the line that says how a table was made."""
    counts: dict[str, int] = {}
    for task in runner.tasks:
        counts[task.dataset] = max(counts.get(task.dataset, 0), len(task.entries))
    return runner.protocol.line(counts)


def last_lines(runner: Runner) -> list[str]:
    """Return the lines that end every table's page: what is missing, where it was measured, and the notice."""
    return [
        *(f"`{name}` is not available: {reason}." for name, reason in runner.suite.missing.items()),
        *(
            f"{title_of(name)} at {factor}x on {dataset} is not available: {reason}."
            for (dataset, factor, name), reason in runner.unavailable.items()
        ),
        *runner.remarks,
        provenance(runner.command),
        NOTICE,
    ]


def notes(runner: Runner, rows: Sequence[Row], *, marks: bool = True) -> list[str]:
    """Return the lines under a table that has the poster's figures beside ours."""
    out = [protocol_line(runner)]
    if marks:
        out.append(
            "**Bold**: best of all methods; <u>underlined</u>: best of those that search the prior. [95 % interval]."
        )
    out.append(
        "The poster's figures (in italics) were made at another resolution, crop and channel with another prior; its PSNR stands "
        "beside our PSNR-Y. Compare the order of the methods, not the figures."
    )
    out += [f"`{name}`: {METRICS[name].description}." for name in runner.metrics if name != "seconds"]
    out += [
        f"{t.dataset} at {t.factor_text}x: {t.left_out} pictures are smaller than {t.degradation.low} px and were left out, "
        "larger ones shrunk to it."
        for t in runner.tasks
        if t.left_out
    ]
    out += order_notes(rows, {t.dataset: t.has_truth for t in runner.tasks})
    return out + last_lines(runner)


def order_notes(rows: Sequence[Row], has_truth: dict[str, bool]) -> list[str]:
    """Say for each of the poster's metrics in which order it has the unsupervised methods, and whether they stand so here."""
    out = []
    names = [m for m in poster.UNSUPERVISED if any(r.method == m and r.value.n for r in rows)]
    if len(names) < 2:
        return []
    for dataset, factor in dict.fromkeys((r.dataset, r.factor) for r in rows):
        kind = "truth" if has_truth[dataset] else "native"
        said = []
        for metric in poster.BESIDE:
            theirs = {m: poster.table1_figure(m, float(factor), metric, kind) for m in names}
            ours = {m: value_of(rows, dataset, m, factor, metric) for m in names}
            if any(v is None for v in theirs.values()) or not all(v.n for v in ours.values()):
                continue
            best = -1.0 if METRICS[metric].direction == "higher" else 1.0
            wanted = sorted(names, key=lambda m: best * (theirs[m] or 0.0))
            found = sorted(names, key=lambda m: best * ours[m].mean)
            here = "here too" if found == wanted else f"here {_in_order(found)}"
            said.append(f"{metric} {_in_order(wanted)} ({here})")
        if said:
            out.append(f"The poster's order at {factor}x on {dataset}: {'; '.join(said)}.")
    return out


def _in_order(methods: Sequence[str]) -> str:
    return ", ".join(title_of(m) for m in methods)
