"""Precision and recall of a set of faces by nearest neighbours (Kynkaanniemi et al. 2019), for small sets."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentface.errors import InputError


@dataclass(frozen=True, slots=True)
class Coverage:
    """precision: share of results among the real faces; recall: share of real faces among the results; both 0 to 1."""

    precision: float
    recall: float


def precision_recall(results: Tensor, truths: Tensor, neighbours: int = 3) -> Coverage:
    """Compare two sets of features by the balls around each point that reach its k-th neighbour (section 2 of the paper).

    Args:
        results: (N, D); truths: (M, D), features; memory grows with N M, so up to some 10,000 of each.
        neighbours: k, 3 in the paper.

    Raises InputError: the widths differ, or a set has not more than k members.
    """
    if results.ndim != 2 or truths.ndim != 2 or results.shape[1] != truths.shape[1]:
        raise InputError(f"got features {tuple(results.shape)} and {tuple(truths.shape)}, expected (N, D) and (M, D)")
    if min(len(results), len(truths)) <= neighbours:
        raise InputError(
            f"got {len(results)} and {len(truths)} faces, expected more than {neighbours} of each; add some"
        )
    a, b = results.detach().double(), truths.detach().to(results.device).double()
    return Coverage(precision=_share_inside(a, b, neighbours), recall=_share_inside(b, a, neighbours))


def _share_inside(points: Tensor, centres: Tensor, neighbours: int) -> float:
    mode = "donot_use_mm_for_euclid_dist"
    radii = (
        torch.cdist(centres, centres, compute_mode=mode).kthvalue(neighbours + 1, dim=1).values
    )  # the first is itself
    inside = torch.cdist(points, centres, compute_mode=mode) <= radii
    return float(inside.any(1).double().mean())
