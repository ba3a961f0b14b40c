"""The rows of the ablation: RLSE around its defaults, one setting moved at a time, and controls."""

from collections.abc import Sequence
from typing import Any

from latentface.bench.core.variants import Variant, make_variant
from latentface.bench.tables.ablated import ABLATED
from latentface.errors import UnknownNameError

DEFAULT = "rlse"
PIXEL_RATES = (0.1, 0.2, 0.4, 0.8)

# Each group: row -> what it changes. A row that changes nothing is the default itself and is left out.
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "space": {
        "z": {"space": "z"},
        "w": {"space": "w"},
        "w_plus": {"space": "w_plus"},
        "w_plus, free from the start": {"together": 0.0},
        "w for a tenth, then free": {"together": 0.1},
        "w for a quarter, then free": {"together": 0.25},
        "w for half, then free": {"together": 0.5},
        "w_plus, rows drawn apart": {"space": "w_plus", "tied": False, "together": 0.0},
        "w_plus, whitened": {"space": "w_plus", "whitened": True},
        "w, whitened": {"space": "w", "whitened": True},
        "sphere": {"constraint": "sphere"},
        "ball": {"constraint": "ball"},
        "no constraint": {"constraint": "none"},
    },
    # Nearer to the mean face: a smaller sphere, or a pull instead of a sphere.
    "mean": {
        **{f"radius {v:g}": {"radius": v} for v in (0.6, 0.8)},
        **{f"pull {v:g}": {"latent_weight": v, "constraint": "none"} for v in (0.05, 0.5)},
    },
    "geocross": {f"geocross {v:g}": {"geocross": v} for v in (0.0, 0.01, 0.05, 0.1)},
    "layers": {
        "all of D's blocks": {"semantic_layers": None},
        "deepest block": {"semantic_layers": (-1,)},
        "shallowest block": {"semantic_layers": (0,)},
    },
    # A norm's unit is its own: the ratio makes all three pull alike, the weights are those near it.
    "norm": {
        "l1, ratio 1": {"semantic_norm": "l1", "semantic_ratio": 1.0},
        "l2, ratio 1": {"semantic_norm": "l2", "semantic_ratio": 1.0},
        "cosine, ratio 1": {"semantic_norm": "cosine", "semantic_ratio": 1.0},
        "l2, weight 20": {"semantic_norm": "l2", "semantic_weight": 20.0},
        "l2, weight 100": {"semantic_norm": "l2", "semantic_weight": 100.0},
        "cosine, weight 20": {"semantic_norm": "cosine", "semantic_weight": 20.0},
        "cosine, weight 100": {"semantic_norm": "cosine", "semantic_weight": 100.0},
        "pixel l1, weight 10": {"pixel_norm": "l1", "pixel_weight": 10.0},
        "pixel l1, weight 100": {"pixel_norm": "l1", "pixel_weight": 100.0},
        "pixel in the prior's metric": {"pixel_norm": "prior"},
    },
    "reach": {
        "bilinear to D": {"semantic_reach": "bilinear"},
        "pseudo-inverse to D": {"semantic_reach": "pinv"},
    },
    "weight": {f"weight {v:g}": {"semantic_weight": v} for v in (0.0, 1.0, 5.0, 20.0, 100.0)},
    "ratio": {f"ratio {v:g}": {"semantic_ratio": v} for v in (0.1, 0.3, 1.0, 3.0)},
    "when": {
        "semantic early": {"semantic_when": "early"},
        "semantic late": {"semantic_when": "late"},
    },
    "starts": {f"best of {n}": {"candidates": n} for n in (1, 4, 16, 64)},
    "steps": {f"{n} steps": {"steps": n} for n in (10, 25, 50, 100, 200)},
    "warm": {
        **{
            f"{kind}, {n} steps": {"start": kind, "steps": n} for kind in ("bank", "encoder") for n in (10, 25, 50, 100)
        },
        "encoder, 25 steps, own axes": {"start": "encoder", "steps": 25, "subspace": False},
        "encoder, 100 steps, subspace": {"start": "encoder", "steps": 100, "subspace": True},
        **{
            f"encoder, {n} steps, pixel only, in the prior's metric": {
                "start": "encoder",
                "steps": n,
                "semantic_weight": 0.0,
                "pixel_norm": "prior",
            }
            for n in (25, 50)
        },
    },
    "rate": {f"rate {v:g}": {"rate": v} for v in (0.05, 0.1, 0.2, 0.4, 0.8)},
    "schedule": {f"{name} schedule": {"schedule": name} for name in ("pulse", "cosine", "constant")},
    "noise": {f"{name} noise": {"noise": name} for name in ("constant", "drawn", "searched")},
    "projection": {
        "projection after": {"project": True},
        "projection inside": {"semantic_reach": "projected"},
        "projection inside, ratio 1": {"semantic_reach": "projected", "semantic_ratio": 1.0},
    },
    "controls": {
        "random D": {"semantic_model": "random"},
        "random D, ratio 1": {"semantic_model": "random", "semantic_ratio": 1.0},
        "pyramid, weight 1": {"semantic_model": "pyramid", "semantic_weight": 1.0},
        "pyramid, weight 5": {"semantic_model": "pyramid", "semantic_weight": 5.0},
        "pyramid, weight 20": {"semantic_model": "pyramid", "semantic_weight": 20.0},
        "pyramid, ratio 1": {"semantic_model": "pyramid", "semantic_ratio": 1.0},
        **{f"pixel only, rate {v:g}": {"semantic_weight": 0.0, "rate": v} for v in PIXEL_RATES},
        "pixel only, l1": {"semantic_weight": 0.0, "pixel_norm": "l1"},
        "pixel only, in the prior's metric": {"semantic_weight": 0.0, "pixel_norm": "prior"},
    },
}

# Where the input is not what the method assumes: is the semantic loss worth more there?
UNEXPECTED = ("weight 0", "weight 5", "weight 100", "ratio 1", "random D", "pyramid, ratio 1")


def row_names() -> list[str]:
    """Return the name of every row, groups in their order."""
    return [name for rows in GROUPS.values() for name in rows]


def group_of(name: str) -> str:
    """Return the group that a row stands in; "" for the default."""
    return next((group for group, rows in GROUPS.items() if name in rows), "")


def make_rows(rows: Sequence[str] | None, preset: str = "equal") -> list[Variant]:
    """Return the default and the rows that are wanted, in the table's order; settings that were there already are left out.

    `rows`: names of groups or of rows; None: all of them. Raises UnknownNameError.
    """
    wanted = set(row_names()) if rows is None else set[str]()
    for name in rows or ():
        if name in GROUPS:
            wanted |= set(GROUPS[name])
        elif name in row_names():
            wanted.add(name)
        elif name != DEFAULT:
            raise UnknownNameError("row of the ablation", name, [*GROUPS, *row_names()])
    out = [make_variant("rlse", preset, name=DEFAULT, method=ABLATED)]
    for rows_of_group in GROUPS.values():
        for name, changes in rows_of_group.items():
            if name in wanted:
                made = make_variant("rlse", preset, name=name, method=ABLATED, **changes)
                if all((made.settings, made.start) != (other.settings, other.start) for other in out):
                    out.append(made)
    return out
