"""A prior's main figures for its card: `latentface bench prior --into-card`.

In the card: `{"dataset": ..., "truncation": ..., "values": {name: {"value": number or [mean, low, high], "n": faces}},
"measured": {"command", "version", "commit", "hardware", "date"}}`. Names are the metrics' of `prior.csv`; those of
inversions and searches have the method before them: `invert-w psnr`, `rlse 8x identity`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentface.bench.core.protocol import origin
from latentface.bench.core.statistics import Estimate
from latentface.bench.tables.tables import Row
from latentface.errors import InputError
from latentface.io.atomic import check_folder
from latentface.prior.formats import write_figures
from latentface.prior.prior import Prior

LEFT_OUT = ("seconds",)  # a machine's, not the prior's


def check_card(prior: Prior) -> Path:
    """Return a prior's file, into which figures can be written: it is asked before hours are spent on them.

    Raises:
        InputError: the prior was made in memory. OutputError: its folder may not be written.
    """
    if prior.path is None:
        raise InputError(f"the prior {prior.name} was made in memory and has no card; name a file with -p")
    check_folder(prior.path.resolve().parent)
    return prior.path


def card_figures(
    rows: Sequence[Row], drawn: str, faces: str, searches: Sequence[str], command: str = ""
) -> dict[str, Any]:
    """Return the card's figures out of the rows of `prior.csv`.

    Args:
        drawn: the method whose samples are described, "samples at T"; faces: the method of the held-out faces, of which
            what D tells apart is taken; searches: the variants that ran.
    """
    values: dict[str, Any] = {}
    for row in rows:
        if not math.isfinite(row.value.mean) or row.metric in LEFT_OUT:
            continue
        if row.method == drawn or (row.method == faces and row.metric.startswith("separation-")):
            values[row.metric] = _figure(row.value)
        elif row.method in searches:
            factor = "" if row.factor == "1" else f"{row.factor}x "
            values[f"{row.method} {factor}{row.metric}"] = _figure(row.value)
    readable = command.encode("utf-8", "backslashreplace").decode()  # a file's name may be no Unicode
    return {
        "dataset": rows[0].dataset if rows else "",
        "truncation": float(drawn.rpartition(" ")[2]),
        "values": values,
        "measured": origin(readable),
    }


def write_card(prior: Prior, figures: dict[str, Any]) -> Path:
    """Write figures into a prior's file and return its path. Raises as `check_card` and `write_figures`."""
    path = check_card(prior)
    write_figures(path, figures)
    return path


def _figure(value: Estimate) -> dict[str, Any]:
    numbers = [float(f"{v:.5g}") for v in (value.mean, value.low, value.high) if math.isfinite(v)]
    return {"value": numbers if len(numbers) == 3 else numbers[0], "n": value.n}
