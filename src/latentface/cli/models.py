"""`latentface models`: the priors that are at hand, and what each says of itself."""

from __future__ import annotations

import json
from typing import Annotated, Any

from cyclopts import App, Parameter

app = App(name="models", help="List and describe priors.")
Json = Annotated[bool, Parameter(name="--json", negative="")]


@app.command(name="list")
def list_models(*, as_json: Json = False) -> int:
    """List the published priors.

    Parameters
    ----------
    as_json
        Print JSON.
    """
    from latentface.prior.registry import PRIORS, describe_prior

    cards = [describe_prior(name) for name in PRIORS]
    if as_json:
        print(json.dumps(cards, indent=2, ensure_ascii=False))
        return 0
    for card in cards:
        print(
            f"{card['name']}  {card['architecture']['resolution']} px  {card['bytes'] / 1e6:.1f} MB  {_count(card)} pictures shown  {card['licence']}"
        )
    return 0


@app.command
def info(prior: str | None = None, /, *, as_json: Json = False) -> int:
    """Print a prior's card: architecture, data, licence, figures.

    Parameters
    ----------
    prior
        A name or a file; by default the embedded prior.
    as_json
        Print JSON.
    """
    from latentface.prior.registry import describe_prior

    card = describe_prior(prior)
    if as_json:
        print(json.dumps(card, indent=2, ensure_ascii=False))
        return 0
    for key, value in card.items():
        print(f"{key}: {json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value}")
    return 0


def _count(card: dict[str, Any]) -> str:
    return f"{int(card.get('pictures', 0)):,}"
