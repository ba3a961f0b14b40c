"""`latentface methods`: what can be asked for by name."""

import json
from typing import Annotated

from cyclopts import Parameter

from latentface.explore.registry import METHODS

JSON = Parameter(name="--json", negative="", help="Print JSON, with the presets.")


def methods(*, as_json: Annotated[bool, JSON] = False) -> int:
    """List the methods."""
    if as_json:
        rows = [
            {"name": m.name, "summary": m.summary, "source": m.source, "presets": list(m.presets)}
            for m in METHODS.values()
        ]
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(name) for name in METHODS)
    for m in METHODS.values():
        print(f"{m.name:<{width}}  {m.summary}  [{m.source}]")
    return 0
