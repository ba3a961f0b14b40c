"""`latentface evaluate` and `latentface metrics`: score pictures, and what they can be scored by."""

import json
from typing import Annotated

from cyclopts import Parameter

from latentface.bench.core.settings import NAMES
from latentface.cli.bench import told
from latentface.cli.console import Talk


def evaluate(
    results: str,
    /,
    *,
    against: str,
    metrics: Annotated[tuple[str, ...] | None, NAMES] = None,
    high_size: int | None = None,
    device: str = "cpu",
    no_fetch: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
) -> int:
    """Score a folder of results against the truth; pictures belong together when their stems are equal.

    Parameters
    ----------
    results
        A folder, a zip or a picture.
    against
        The truth: the same, or a data set such as celeba:PATH#test.
    metrics
        Names separated by commas; see `latentface metrics`.
    high_size
        Side in pixels at which everything is compared; by default each result's own. Larger results are shrunk by area.
    device
        Where networks compute.
    no_fetch
        Do not fetch weights that are not at hand.
    as_json
        Print JSON with every picture's figures.
    quiet
        Say nothing but errors.
    """
    from latentface.bench.core.evaluate import evaluate as score_all

    with told(quiet) as tell:
        found = score_all(
            results, against, metrics, high_size=high_size, device=device, fetch=not no_fetch, on_progress=tell
        )
    talk = Talk(quiet)
    for problem in found.problems:
        talk.warn(problem)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        for name, score in found.scores.items():
            print(f"{name:<20} {score.mean:9.4f}  [{score.low:.4f}, {score.high:.4f}]  n = {score.n}")
    return 1 if found.problems else 0


def metrics(*, as_json: Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")] = False) -> int:
    """List the metrics: direction, range, what each needs, and whether it is at hand."""
    from latentface.metrics.registry import METRICS

    rows = [
        {
            "name": m.name,
            "better": m.direction,
            "range": " to ".join(f"{end:g}" for end in m.range),
            "reference": m.reference,
            "at_hand": m.at_hand(),
            "how": "" if m.at_hand() else m.how(),
            "description": m.description,
        }
        for m in METRICS.values()
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        state = "at hand" if row["at_hand"] else f"not at hand: {row['how']}"
        print(f"{row['name']:<20} {row['better']} is better, {row['range']}, needs {row['reference']}; {state}")
        print(f"{'':<20} {row['description']}")
    return 0
