"""A face to be enlarged, and what came of it: all that the engine knows of a picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from latentface.degradation import Degradation
from latentface.explore.result import Step
from latentface.faces.similarity import Similarity


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A face to be enlarged.

    Attributes:
        low: (1, 3, h, w) in [0, 1], the pixels that are searched with.
        degradation: from the prior's faces to `low`, of this one face.
        size: px a side of the result, the prior's or fewer.
        home: the unit square -> the photograph that it goes back to; None for an aligned face.
        grey: whether the picture has no colours; the search may use them, and the answer has none.
        rounds, tolerance: of the projection, see `latentface.degradation.project`.
    """

    low: Tensor
    degradation: Degradation
    size: int
    home: Similarity | None = None
    grey: bool = False
    rounds: int = 64
    tolerance: float = 5e-4


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What came of a job.

    Attributes:
        high: (3, s, s) in [0, 1], the first sample or the samples' mean; samples: (N, 3, s, s).
        consistency_db: PSNR of `high`, shrunk again, against the job's pixels; best_step: of the first sample.
        seconds: of all samples.
        reason: why the result is no face, which is then the plain enlargement; None: it is one.
    """

    high: Tensor
    samples: Tensor
    consistency_db: float
    best_step: int
    seconds: float
    reason: str | None = None


OnJobs = Callable[[Sequence[tuple[int, int]], Step], bool | None]  # (job, sample) of each row in work, and the step
