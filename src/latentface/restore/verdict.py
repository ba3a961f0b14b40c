"""Whether a result is a face: a detector must find it at its place, and it must have agreed with the input.

A prior draws faces and nothing else. Of a hand, a camera or a cap before a face, of a profile, and of what is no face at
all it makes a grimace. The limits are those that at most one good face in twenty misses (docs/decisions.md, "Grimaces").
"""

# B faces, (h, w) low pixels, R high side

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentface.degradation import Degradation, resize
from latentface.faces.align import landmarks_of
from latentface.faces.detect import detect

SEEN = 128  # px of a result as the detector sees it, whatever the prior's size
LEAST_FACE = 30  # px of those that a box has at least
LEAST_SCORE = 0.74
SMALL, LEAST_SCORE_SMALL = 64, 0.64  # px: of results of fewer
MOST_MOVED = 0.1  # of the side, from where an aligned face has its eyes and mouth corners
MOST_ERROR = 30 / 255  # root mean square
ERROR_SIDE = 64  # px of the map of the error
MIDDLE, RADII = (0.5, 0.6), (0.27, 0.33)  # x, y of an ellipse about eyes, nose and mouth, in units of the square

NO_FACE = "the result is no face"
UNLIKE = "the result is unlike the input"
REASONS = (NO_FACE, UNLIKE)


def face_errors(degradation: Degradation, high: Tensor, low: Tensor) -> Tensor:
    """Return how far found faces (B, 3, R, R), before they are faded and projected, are from the input, (B,).

    It is the root mean square of x - A Y over eyes, nose and mouth, in units of the full grey range.
    """
    mask = torch.ones_like(low[:, :1]) if degradation.mask is None else degradation.mask.to(low).expand_as(low[:, :1])
    error = ((low - degradation.forward(high.clamp(0, 1))) * mask).square().mean(1, keepdim=True)
    there = (torch.arange(ERROR_SIDE).to(low) + 0.5) / ERROR_SIDE
    x, y = ((there - middle) / radius for middle, radius in zip(MIDDLE, RADII, strict=True))
    inside = (x.square()[None] + y.square()[:, None] < 1).to(low)
    known = degradation.fit(mask.expand_as(low), ERROR_SIDE)[:, 0] * inside
    upright = degradation.fit(error.expand_as(low), ERROR_SIDE)[:, 0] * inside
    return (upright.clamp_min(0).sum((1, 2)) / known.sum((1, 2)).clamp_min(1e-6)).sqrt()


def reason_against(high: Tensor, error: float, alignment: str) -> str | None:
    """Return why a result (3, R, R) in [0, 1] is no face of the prior's `alignment`, one of `REASONS`, or None.

    `error`: of `face_errors`.
    """
    marks, least = landmarks_of(alignment), LEAST_SCORE_SMALL if high.shape[-1] < SMALL else LEAST_SCORE
    for face in detect(resize(high[None], SEEN)[0].clamp(0, 1), min_face=LEAST_FACE, refine=False):
        moved = np.hypot(*(face.landmarks[[0, 1, 3, 4]] / SEEN - marks).T).max()
        if face.score >= least and moved <= MOST_MOVED:
            return UNLIKE if error > MOST_ERROR else None
    return NO_FACE


def reason_of_most(reasons: Sequence[str | None]) -> str | None:
    """Return the first reason where more than half of a face's samples have one, else None."""
    bad = [reason for reason in reasons if reason is not None]
    return bad[0] if 2 * len(bad) > len(reasons) else None
