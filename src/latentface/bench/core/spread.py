"""What a table's run on a cluster sends: batches of faces, restored by a variant with the worker's own prior."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from latentface.bench.core.curve import Curve
from latentface.bench.core.settings import PriorSource
from latentface.bench.core.setup import open_prior
from latentface.bench.core.variants import Variant
from latentface.degradation import Downscale
from latentface.errors import InputError, LatentfaceError
from latentface.prior.prior import Prior
from latentface.restore.engine import caught

Restored = tuple[Tensor, float, Curve | None]  # high (B, 3, R, R), seconds of the batch, its curve


class Restore:
    """What a worker holds: a prior. Arguments as `open_prior`."""

    rows = 1

    def __init__(self, prior: PriorSource | None, device: str, fetch: bool) -> None:
        self.prior = open_prior(prior, device, fetch=fetch)
        self.facts = facts_of(self.prior)

    def __call__(
        self, variant: Variant, low: Tensor, degradation: Downscale, seeds: Sequence[int], truth: Tensor | None
    ) -> Restored | LatentfaceError:
        """Restore low (B, 3, h, w); the curve is measured against `truth`, (B, 3, R, R)."""

        def restore() -> Restored:
            curve = None if truth is None else Curve(truth)
            found = variant(self.prior, low, degradation, seeds, curve)
            return found.high.cpu(), found.seconds, curve

        came = caught(restore)
        if isinstance(came, MemoryError):
            return InputError(f"a batch of {len(low)} does not fit a worker's memory; give a smaller --batch-size")
        return came


def facts_of(prior: Prior) -> dict[str, Any]:
    """Return what figures depend on besides the faces: the same on all machines."""
    judge = prior.judge
    return {"prior": prior.sha256, "judge": judge and judge.sha256, "device": prior.device.type}
