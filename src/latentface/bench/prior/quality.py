"""How near a prior's samples come to faces: distances, coverage, faces found, diversity, what D tells apart."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.bench.core.statistics import Estimate
from latentface.degradation import resize
from latentface.faces.detect import detect
from latentface.metrics.frechet import FrechetAccumulator
from latentface.metrics.neighbours import precision_recall
from latentface.prior.judge import Judge
from latentface.prior.prior import Prior

COVERAGE_FACES = 2000  # at most, of each set: all pairs of faces are measured
DETECTION_SIDE = 256  # px that a face is brought to before it is looked for
MIN_FACE = 80.0  # px of these 256: half as high as an aligned face is at least


def frechet(a: Tensor, b: Tensor) -> float:
    """Return the Frechet distance between features (N, D) and (M, D); NaN with fewer than 2 of either."""
    if min(len(a), len(b)) < 2:
        return math.nan
    sets = []
    for rows in (a, b):
        sets.append(FrechetAccumulator(rows.shape[1]))
        sets[-1].update(rows)
    return sets[0].distance(sets[1])


def coverage(results: Tensor, truths: Tensor) -> tuple[float, float]:
    """Return precision and recall of features (N, D) against (M, D), over the first 2,000 of each; NaN below 4 faces."""
    if min(len(results), len(truths)) < 4:
        return math.nan, math.nan
    found = precision_recall(results[:COVERAGE_FACES], truths[:COVERAGE_FACES])
    return found.precision, found.recall


def one_face(pictures: Iterable[Tensor]) -> tuple[int, int]:
    """Count the pictures on which CenterFace finds exactly one face, and all: batches (B, 3, S, S) -> (found, N)."""
    found = total = 0
    for batch in pictures:
        shrinks = batch.shape[-1] > DETECTION_SIDE
        sized = F.interpolate(
            batch, size=(DETECTION_SIDE,) * 2, mode="bicubic", align_corners=False, antialias=shrinks
        ).clamp(0, 1)
        for picture in sized:
            total += 1
            found += len(detect(picture, min_face=MIN_FACE, refine=False)) == 1
    return found, total


def share(found: int, total: int) -> Estimate:
    """Return a share with its 95 % interval (Wilson 1927)."""
    if total == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    z, p = 1.959964, found / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return Estimate(p, middle - half, middle + half, total)


def alikeness(embeddings: Tensor) -> float:
    """Return the mean cosine between the faces of a set, embeddings (N, D) of length 1; NaN below 2 faces."""
    n = len(embeddings)
    if n < 2:
        return math.nan
    rows = embeddings.double()
    return float((rows.sum(0).square().sum() - rows.square().sum()) / (n * (n - 1)))


def own_judge(prior: Prior) -> Judge | None:
    """Return the discriminator that was trained against a prior, or None: somebody else's has not met its samples."""
    judge = prior.judge
    own = judge is not None and judge.resolution == prior.resolution and judge.sha256 in ("", prior.sha256)
    return judge if own else None


@torch.no_grad()
def logits(prior: Prior, pictures: Iterable[Tensor]) -> Tensor:
    """Return D's logits (N,) of batches (B, 3, S, S), each picture brought bicubically to D's size and judged alone."""
    judge = own_judge(prior) or prior.needed_judge()
    sized = (resize(batch.to(prior.device, prior.dtype), judge.resolution).clamp(0, 1) for batch in pictures)
    return torch.cat([judge.logits(batch).cpu() for batch in sized])


def nearest(queries: Tensor, among: Tensor) -> Tensor:
    """Return for each row of (N, D) the index of the row of (M, D) with the largest cosine, (N,)."""
    return (F.normalize(queries, dim=1) @ F.normalize(among, dim=1).T).argmax(1)
