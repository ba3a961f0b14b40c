"""Whole photographs: find the faces, make their jobs in the photograph's own pixels, and paste the answers back.

photo -> detect -> square -> Warp -> job -> answer -> paste over the bicubic enlargement
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from latentface.degradation import resize
from latentface.errors import InputError
from latentface.faces import Face, Similarity, Warp, crop, detect
from latentface.faces.kind import square_of
from latentface.faces.noise import estimate_sigma
from latentface.faces.paste import pasted_side
from latentface.faces.place import LEAST_FACTOR
from latentface.faces.turned import detect_turned
from latentface.io.photo import Photo
from latentface.restore.aligned import repeated, searched_side
from latentface.restore.background import Background
from latentface.restore.engine import Engine
from latentface.restore.job import Answer, Job
from latentface.restore.photoresult import LeftFace, PhotoFace, PhotoUpscaled, found_record
from latentface.restore.settings import PhotoSettings

Detected = tuple[Sequence[Face], int]  # the faces of a photograph, the largest first, and how far it was turned
_Numbered = tuple[int, Face]  # the largest face of a photograph is number 1
FACTOR = 2.0  # of a photograph's sides, where none is asked for
ROUNDS, TOLERANCE = 8, 0.5 / 255  # of the projection: an error below the rounding of the photograph's own bytes
LEAST_SIDE = 8  # px: of a photograph in which faces are looked for
# px: no larger view of a face is looked at for its detail, nor one of more than LARGEST times the prior's faces.
LARGEST_VIEW, LARGEST = 1024, 2
WORTHWHILE = 2  # a face larger than the prior's is redrawn only where its detail becomes so many times finer


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaceJob(Job):
    """A face in a photograph: also where it was found, its number among all, and its upright view (3, s, s).

    A soft face's pixels are the upright view's, shrunk to the side that holds its detail, and its operator is of those.
    """

    home: Similarity
    found: Face
    number: int
    upright: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Finder:
    """Finds the faces of photographs and makes their jobs.

    Attributes:
        background: what enlarges all that is no face; None: bicubic interpolation.
        whole: keep faces at the prior's size; else only as many pixels as the photograph shows.
    """

    engine: Engine
    settings: PhotoSettings
    background: Background | None
    whole: bool

    @property
    def ends_early(self) -> bool:
        """Whether the search of a small face ends at an exit."""
        return self.engine.settings.full_steps == 0 and not self.whole

    def factor(self, photo: Photo) -> float:
        """Return the enlargement of a photograph's sides; of a mosaic, it is the file's that are asked for."""
        return (self.engine.settings.factor or FACTOR) * photo.repeats

    def request(self, photo: Photo) -> dict[str, Any]:
        """Return what decides a photograph's result besides its pixels. Raises InputError: it would be too large."""
        made = self.engine.request(photo.size, photo.enlarged_size(self.factor(photo)))
        made.pop("generated")  # a photograph without faces has nothing that was invented
        return {
            **made,
            **repeated(photo.repeats),
            "kind": "photograph",
            "settings": {**made["settings"], "photo": asdict(self.settings)},
            "background": "bicubic" if self.background is None else self.background.record,
        }

    def find(self, photo: Photo, known: Detected | None = None) -> "FoundFaces":
        """Find a photograph's faces, or take those that are `known`, and cut them out.

        Raises InputError: too large, or a method for squares.
        """
        asked = self.engine.settings
        if self.engine.method_settings.aligned_only:
            raise InputError(
                f"the preset {asked.preset} takes aligned faces only; take the preset paper for photographs"
            )
        if not self.engine.method.photographs:
            raise InputError(
                f"the method {asked.method} takes aligned faces only; choose another for photographs, rlse for example, or give an ESRGAN file as the background for what surrounds the faces"
            )
        photo.enlarged_size(self.factor(photo))
        jobs: list[FaceJob] = []
        left: list[LeftFace] = []
        turned = 0
        if min(photo.size) >= LEAST_SIDE:
            picture = photo.tensor()
            faces, turned = known or detect_turned(picture, detect, min_face=self.settings.min_face)
            chosen, left = self._choose(list(enumerate(faces, 1)), photo)
            for number, face in chosen:
                job = self._job(number, face, picture, photo)
                if isinstance(job, FaceJob):
                    jobs.append(job)
                else:
                    left.append(job)
        return FoundFaces(self, photo, jobs, left, turned)

    def _choose(self, found: Sequence[_Numbered], photo: Photo) -> tuple[Sequence[_Numbered], list[LeftFace]]:
        """Part the faces, the largest first, into those that were asked for and the rest. Raises InputError: wrong numbers."""
        asked = self.settings
        highest = max((*(asked.faces or ()), *asked.skip_faces), default=0)
        if highest > len(found):
            raise InputError(
                f"there is no face {highest}: {len(found) or 'none'} of at least {asked.min_face:g} px found; --compare shows their numbers"
            )
        unsure = [(n, face) for n, face in found if face.score < asked.min_score]
        chosen = [
            (n, face)
            for n, face in found
            if face.score >= asked.min_score and n not in asked.skip_faces and (asked.faces is None or n in asked.faces)
        ]
        if asked.only_center_face:
            height, width = photo.size
            offsets = [complex(f.box[0] + f.box[2] - width, f.box[1] + f.box[3] - height) for _, f in chosen]
            nearest = min(range(len(chosen)), key=lambda i: abs(offsets[i]), default=0)
            chosen = chosen[nearest : nearest + 1]
        elif asked.max_faces is not None:
            chosen = chosen[: asked.max_faces]
        left = [LeftFace(face, f"score below {asked.min_score:g}", number=n) for n, face in unsure]
        others = {n for n, _ in found} - {n for n, _ in (*unsure, *chosen)}
        return chosen, left + [LeftFace(face, "not asked for", number=n) for n, face in found if n in others]

    def _job(self, number: int, face: Face, picture: Tensor, photo: Photo) -> FaceJob | LeftFace:
        """Return a face's job, or why it is left as it is."""
        most, settings = self.engine.prior.resolution, self.engine.settings
        try:
            transform = square_of(face, self.engine.prior.alignment)
            too_large = transform.scale * LEAST_FACTOR > most
            reason = f"already as large as the {most} px of the prior's faces, or larger"
            if too_large and settings.detail != "auto":
                return LeftFace(face, reason, prior_wanted(transform.scale), number)
            estimated = settings.noise == "auto"
            sigma = settings.sigma
            if estimated:  # in whole grey levels, so that faces of several photographs can share a batch
                sigma = round(255 * estimate_sigma(picture, face.box, photo.tables)) / 255
            side = max(2, min(round(transform.scale), LARGEST * most, LARGEST_VIEW))
            upright, there = crop(picture, transform, min(2 * side, LARGEST_VIEW))
            # Beyond the photograph's border nothing is known, and its even filling would pass for softness.
            told = searched_side(self.engine, upright, sigma * min(1.0, side / transform.scale), side)
            detail = told if bool(there.all()) else side
            if too_large and (detail == side or WORTHWHILE * detail > most):
                return LeftFace(face, reason, prior_wanted(transform.scale), number)
            upright, _ = crop(picture, transform, side)
            if detail == side:
                warp = Warp([transform], most, photo.size, kernel=settings.kernel, sigma=sigma)
                low = warp.cut(picture)
            else:
                levels = 255 if estimated else 1020
                sigma = round(levels * sigma * detail / transform.scale) / levels  # a mean has less noise
                whole = Similarity.square((detail / 2, detail / 2), detail)
                warp = Warp([whole], most, (detail, detail), kernel=settings.kernel, sigma=sigma)
                low = crop(picture, transform, detail)[0][None]
        except InputError:
            return LeftFace(face, "too small, or too little of it in the photograph", number=number)
        return FaceJob(
            low=low,
            degradation=warp,
            size=pasted_side(transform.scale * self.factor(photo), most) if self.ends_early else most,
            home=transform,
            grey=photo.grey,
            rounds=ROUNDS,
            tolerance=TOLERANCE,
            found=face,
            number=number,
            upright=upright,
        )


@dataclass(frozen=True, slots=True, eq=False)
class FoundFaces:
    """A photograph whose faces wait for their answers.

    `left`: those that stay as they are, with the reason; `turned`: degrees clockwise after which they stand upright.
    """

    finder: Finder
    photo: Photo
    jobs: Sequence[FaceJob]
    left: Sequence[LeftFace]
    turned: int = 0

    @property
    def detected(self) -> Detected:
        """All faces that were detected, those that are left too, and how far the photograph was turned."""
        by_number = {job.number: job.found for job in self.jobs} | {face.number: face.found for face in self.left}
        return [by_number[number] for number in sorted(by_number)], self.turned

    @property
    def records(self) -> list[dict[str, Any]]:
        """Return what the JSON says of each face before anything is enlarged, by number."""
        made = [found_record(job.found, job.number) for job in self.jobs] + [face.record for face in self.left]
        return sorted(made, key=lambda record: int(record["number"]))

    @property
    def summary(self) -> str:
        """What was found, in words."""
        count = len(self.jobs) + len(self.left)
        left = [f"face {face.number} will be left as it is: {face.reason}" for face in self.left]
        return "; ".join([f"{count or 'no'} face{'s' if count != 1 else ''} found", *left])

    def take(self, job: FaceJob, answer: Answer) -> tuple[PhotoFace | LeftFace, float]:
        """Return an enlarged face, of no more pixels than are asked for, or why it is left, and its seconds."""
        if answer.reason is not None:
            return LeftFace(job.found, answer.reason, number=job.number), answer.seconds
        high, samples, side = answer.high, answer.samples, job.size
        if not self.finder.whole:
            side = pasted_side(job.home.scale * self.finder.factor(self.photo), side)
            high, samples = resize(high[None], side)[0].clamp(0, 1), resize(samples, side).clamp(0, 1)
        warp = job.degradation.select([0])  # what it builds goes with it
        assert isinstance(warp, Warp)
        face = PhotoFace(
            found=job.found,
            number=job.number,
            transform=job.home,
            high=high,
            samples=samples,
            low=job.upright,
            bilinear=warp.fit(job.low, side)[0].clamp(0, 1),
            factor=job.size / job.home.scale,
            detail=warp.transforms[0].scale,
            sigma=warp.sigma,
            exit_side=self.finder.engine.exit_side(job),
            consistency_db=answer.consistency_db,
            best_step=answer.best_step,
        )
        return face, answer.seconds

    def result(self, faces: Sequence[tuple[PhotoFace | LeftFace, float]]) -> PhotoUpscaled:
        """Return the enlarged photograph, out of what `take` returned of each job."""
        made = [face for face, _ in faces if isinstance(face, PhotoFace)]
        left = [*self.left, *(face for face, _ in faces if isinstance(face, LeftFace))]
        worst = min((f.consistency_db for f in made), default=None)
        record = {
            **self.finder.request(self.photo),
            **({"turned": self.turned} if self.turned else {}),
            "generated": bool(made),
            "faces_found": len(made) + len(left),
            "faces_upscaled": len(made),
            "faces": [f.record for f in made] + [f.record for f in left],
            "consistency_db": None if worst is None else round(worst, 2),
            "seconds": round(sum(seconds for _, seconds in faces), 3),
            **self.finder.engine.machine,
        }
        factor = self.finder.factor(self.photo)
        return PhotoUpscaled(self.photo, factor, made, left, record, self.finder.background)


def prior_wanted(side: float) -> int:
    """Return the resolution of the smallest prior that makes a face larger whose square has this side in pixels."""
    return 1 << max(2, math.ceil(math.log2(side * LEAST_FACTOR)))
