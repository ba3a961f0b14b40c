"""Aligned faces: checked, made into jobs, and put back as they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from latentface.degradation import resize, shrinking
from latentface.errors import InputError
from latentface.faces.detail import detail_side
from latentface.faces.place import LEAST_FACTOR
from latentface.io.photo import Photo
from latentface.io.pictures import LUMA, check_batch
from latentface.restore.engine import Engine
from latentface.restore.faceresult import Upscaled
from latentface.restore.job import Answer, Job

CHANNELS_TO_LUMA = math.hypot(*LUMA)  # of the deviation of noise that is each channel's own


@dataclass(frozen=True, slots=True, eq=False)
class AlignedFace:
    """An aligned face `low`, (3, h, w) in [0, 1], that waits for the answer of its one job.

    `repeats`: how many pixels of a mosaic's side stood for one of `low`'s; the factor is of the mosaic.
    """

    engine: Engine
    low: Tensor
    jobs: Sequence[Job]
    photo: Photo | None = None

    @property
    def repeats(self) -> float:
        """How many pixels of a mosaic's side stood for one of `low`'s; the factor is of the mosaic."""
        return 1.0 if self.photo is None else self.photo.repeats

    @classmethod
    def find(cls, engine: Engine, low: Tensor, photo: Photo | None = None) -> Self:
        """Make the job of a face (3, h, w) in [0, 1], which came in `photo`; a soft one is shrunk to its detail.

        Raises InputError: no square, or as large as the prior's faces.
        """
        low = check_batch(low[None], "low")[0].detach().float().cpu()
        repeats = 1.0 if photo is None else photo.repeats
        size, settings = result_side(engine, *low.shape[-2:], repeats=repeats), engine.settings
        side = searched_side(engine, low, settings.sigma * CHANNELS_TO_LUMA)
        seen = low[None] if side == low.shape[-1] else resize(low[None], side).clamp(0, 1)
        sigma = settings.sigma * side / low.shape[-1]  # a mean of several pixels has less noise
        degradation = shrinking(side, engine.prior.resolution, settings.kernel, sigma)
        grey = photo is not None and photo.grey
        return cls(engine, low, [Job(seen, degradation, size, grey=grey)], photo)

    @property
    def summary(self) -> str:
        """What was found, in words."""
        return f"one aligned face of {self.low.shape[-1]} x {self.low.shape[-2]} px"

    @property
    def records(self) -> list[dict[str, Any]]:
        """Return what there is to say of it before it is enlarged."""
        return [{"number": 1, "size": list(self.low.shape[-2:])}]

    def take(self, job: Job, answer: Answer) -> Answer:
        """Return what is kept of an answer until the face is written: all of it."""
        return answer

    def result(self, answers: Sequence[Answer]) -> Upscaled:
        """Return the enlarged face, out of what `take` returned."""
        (job,), (answer,) = self.jobs, answers
        seen = job.low[0]
        coarse = {"exit_side": self.engine.exit_side(job)} if self.engine.coarse_steps else {}
        record = {
            **face_request(self.engine, *self.low.shape[-2:], repeats=self.repeats),
            "generated": answer.reason is None,
            **({} if answer.reason is None else {"upscaled": False, "reason": answer.reason}),
            "detail_size": list(seen.shape[-2:]),
            **coarse,
            "consistency_db": round(answer.consistency_db, 2),
            "best_step": answer.best_step,
            "seconds": round(answer.seconds, 3),
            **self.engine.machine,
        }
        return Upscaled(
            high=answer.high,
            low=self.low,
            seen=seen,
            samples=answer.samples,
            consistency_db=answer.consistency_db,
            best_step=answer.best_step,
            record=record,
            reason=answer.reason,
            photo=self.photo,
        )


def result_side(engine: Engine, height: int, width: int, *, repeats: float = 1.0) -> int:
    """Return the side of the result for an aligned face of that size. Raises InputError where there can be none."""
    prior, factor = engine.prior, engine.settings.factor
    factor = None if factor is None else factor * repeats
    most = prior.resolution
    if height != width:
        raise InputError(f"the face is {width} x {height} px; an aligned face is square: cut it out first")
    if height < 2:
        raise InputError(f"the face is {width} x {height} px; at least 2 x 2 are needed")
    if height * LEAST_FACTOR > most:
        raise InputError(
            f"the face is {width} x {height} px, and the prior {prior.name} makes faces of {most} px: there is nothing to enlarge; shrink it first or use a larger prior"
        )
    high = most if factor is None else round(height * factor)
    if high > most:
        raise InputError(
            f"{height} px times {factor:g} is {high} px, and the prior {prior.name} makes faces of {most} px; the largest factor here is {most / height:g}"
        )
    asked = 1.0 if factor is None else factor
    if 1 < asked < LEAST_FACTOR or height < high < height * LEAST_FACTOR:  # A+ would enlarge every rounding
        raise InputError(
            f"{height} px times {asked:g} is {high} px; expected a factor of 1, or of {LEAST_FACTOR} at least"
        )
    return max(high, height)


def face_request(engine: Engine, height: int, width: int, *, repeats: float = 1.0) -> dict[str, Any]:
    """Return what decides the result of an aligned face besides its pixels. Raises InputError, see `result_side`."""
    size = result_side(engine, height, width, repeats=repeats)
    made = {**engine.request((height, width), (size, size)), **repeated(repeats)}
    made.pop("generated")  # what is no face is left as it is
    return made


def repeated(repeats: float) -> dict[str, float]:
    """Return what the record says of a mosaic; nothing of any other picture."""
    return {} if repeats == 1 else {"repeats": round(repeats, 3)}


def searched_side(engine: Engine, face: Tensor, sigma: float, side: int | None = None) -> int:
    """Return the side in pixels with which a face is searched: its own, or where it is soft a smaller one.

    Arguments as `detail_side`. Networks that were trained on faces of one size take every face as it is.
    """
    own, detail = side or face.shape[-1], engine.settings.detail
    if detail == "full" or not engine.method.searches:
        return own
    return min(detail, own) if isinstance(detail, int) else detail_side(face, sigma, side)
