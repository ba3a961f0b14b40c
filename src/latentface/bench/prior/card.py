"""A prior's main figures for its card: `latentface bench prior --into-card`.

In the card: `{"dataset": ..., "truncation": ..., "values": {name: {"value": number or [mean, low, high], "n": faces}},
"measured": {"command", "version", "commit", "hardware", "date"}}`. Names are the metrics' of `prior.csv`; those of
inversions and searches have the method before them: `invert-w psnr`, `rlse 8x identity`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentface.bench.core.protocol import origin
from latentface.bench.core.statistics import Estimate
from latentface.bench.tables.tables import Row
from latentface.errors import InputError
from latentface.io.atomic import check_folder
from latentface.prior.prior import Prior

LEFT_OUT = ("seconds",)  # a machine's, not the prior's


def check_card(prior: Prior) -> Path:
    """Return a prior's file, to write figures into. Raises InputError: it has none. OutputError."""
    if prior.path is None:
        raise InputError(f"the prior {prior.name} was made in memory and has no card; name a file with -p")
    check_folder(prior.path.resolve().parent)
    return prior.path


def card_figures(
    rows: Sequence[Row], drawn: str, faces: str, searches: Sequence[str], command: str = ""
) -> dict[str, Any]:
    """Return the card's figures out of the rows of `prior.csv`: of the methods `drawn` ("samples at T") and `searches`, and
    what D tells apart of the held-out `faces`.
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


def _figure(value: Estimate) -> dict[str, Any]:
    numbers = [float(f"{v:.5g}") for v in (value.mean, value.low, value.high) if math.isfinite(v)]
    return {"value": numbers if len(numbers) == 3 else numbers[0], "n": value.n}
