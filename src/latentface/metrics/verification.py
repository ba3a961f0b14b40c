"""Is the person kept: results against *another* photograph of the same person, and of other people.

The photograph that was shrunk must not be in the gallery: a method that copies it back would be praised for its pose
and light. The figures say how a recognition network's scores are distributed; no result may be used to identify anyone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentface.errors import InputError

FALSE_ACCEPTS = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """How well scores of the same person stand above scores of others.

    Attributes:
        auc: the chance that a same-person score is above another's (ties count half), 0.5 to 1.
        true_accepts: share of same-person scores above `threshold`, which at most 1 % of the others pass.
        rank1: share of faces whose best match in the gallery is their person; None without a gallery.
        threshold: the score.
    """

    auc: float
    true_accepts: float
    rank1: float | None
    threshold: float


def verification(scores_same: Tensor, scores_other: Tensor) -> Verification:
    """Compare scores of pairs of the same person with those of other people.

    Args:
        scores_same: (N,), each face against another photograph of its person.
        scores_other: (N, M), each face against M other people (rank 1 is then known), or (K,), any such pairs.

    Raises InputError: no scores, another shape, or NaN.
    """
    same, other = scores_same.detach().cpu().double(), scores_other.detach().cpu().double()
    if same.ndim != 1 or other.ndim not in (1, 2) or not same.numel() or not other.numel():
        raise InputError(
            f"got scores of the shapes {tuple(same.shape)} and {tuple(other.shape)}, expected (N,) and (N, M) or (K,), none of them empty"
        )
    if other.ndim == 2 and len(other) != len(same):
        raise InputError(f"got {len(same)} same-person scores and {len(other)} rows of others, expected as many rows")
    if not bool(torch.isfinite(same).all() and torch.isfinite(other).all()):
        raise InputError("some scores are NaN or infinite, expected cosines; leave those faces out")
    rank1 = float((same > other.amax(1)).double().mean()) if other.ndim == 2 else None
    ordered = other.flatten().sort().values
    below = torch.searchsorted(ordered, same, right=False)
    not_above = torch.searchsorted(ordered, same, right=True)
    auc = float((below + not_above).double().mean() / (2 * len(ordered)))
    allowed = int(FALSE_ACCEPTS * len(ordered))
    threshold = ordered[len(ordered) - 1 - allowed]  # `allowed` scores at most are above it
    return Verification(
        auc=auc,
        true_accepts=float((same > threshold).double().mean()),
        rank1=rank1,
        threshold=float(threshold),
    )
