"""Whole photographs: find the faces, explore for each in the photograph's own pixels, and paste them back.

    photo -> detect -> square -> Warp -> explore(prior) -> projection -> paste over the bicubic enlargement

Faces of several photographs share batches; a window of bounded size holds photographs whose faces wait for them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import counted_share, project, resize
from latentface.devices import out_of_memory
from latentface.errors import InputError
from latentface.explore.result import psnr_each
from latentface.faces import Face, Similarity, Warp, crop, detect
from latentface.faces.kind import square_of
from latentface.faces.noise import estimate_sigma
from latentface.faces.paste import pasted_side
from latentface.faces.place import LEAST_FACTOR, SMALL
from latentface.faces.trust import trusted
from latentface.io.atomic import read_bytes
from latentface.io.photo import Photo
from latentface.io.pictures import LUMA
from latentface.photosettings import PhotoSettings
from latentface.prior.prior import Prior
from latentface.restore.engine import Upscaler
from latentface.restore.photoresult import LeftFace, PhotoFace, PhotoUpscaled
from latentface.restore.settings import UpscaleSettings

if TYPE_CHECKING:
    from latentface.explore.result import Step
    from latentface.restore.background import Background

OnJobs = Callable[["Sequence[Job]", "Step"], bool | None]

WINDOW_PIXELS = 50_000_000  # of photographs that wait for their batch: 150 MB
WINDOW_PHOTOS = 64
WINDOW_BATCHES = 4  # batches' worth of faces, after which nothing more is waited for
# The projection ends where the error is below the rounding of the photograph's own bytes. Faces of a factor near 1 with
# clipped blacks would go on for long: 8 rounds give them 63 to 77 dB.
ROUNDS, TOLERANCE = 8, 0.5 / 255
LEAST_SIDE = 8  # px: of a photograph in which faces are looked for
# px: no larger view of a face is looked at for its detail, nor one of more than LARGEST times the prior's faces. From half
# of it on, one grid as fine as the face's pixels tells what one twice as fine does (12 faces of 360 and 480 px, 3 softnesses).
LARGEST_VIEW, LARGEST = 1024, 2
FOUND_PIXELS = 1 << 24  # of found faces together at the prior's size: 200 MB
WARP_PIXELS = 1 << 21  # of inner sides above `SMALL` in one search: their weights take 550 MB
# A face larger than the prior's is redrawn only where it is so soft that its detail becomes so many times finer.
WORTHWHILE = 2


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A face to be enlarged: its square, its operator (of one face), its pixels (1, 3, h, w), and its upright view (3, s, s).

    A soft face's pixels are the upright view's, shrunk to the side that holds its detail, and its operator is of those.
    """

    found: Face
    transform: Similarity
    warp: Warp
    low: Tensor
    upright: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class FoundFaces:
    """A photograph whose faces are found: those to be enlarged, and those to be left, with the reason."""

    photo: Photo
    jobs: Sequence[Job]
    left: Sequence[LeftFace]


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One sample of one face in work, and what came of it."""

    job: Job
    seed: int


_Answer = tuple[Tensor, int, float]  # high (3, R, R), best step, seconds


class PhotoUpscaler:
    """Enlarges photographs with one prior and one set of settings, the faces of many at a time.

    Args:
        prior: on the device to compute on.
        settings: of the faces; its `factor` and `sigma` are for aligned faces and not used here.
        batch: faces times samples computed together; halved when the device's memory is too small.
        faces: what explores, instead of one of these `settings` and `batch`: so that its start is read once.
        background: what enlarges all that is no face; None: bicubic interpolation.
        whole_faces: keep faces at the prior's size, for `save_faces`; else only as many pixels as the photograph shows.
    """

    def __init__(
        self,
        prior: Prior,
        settings: UpscaleSettings | None = None,
        photo_settings: PhotoSettings | None = None,
        *,
        batch: int | None = None,
        faces: Upscaler | None = None,
        background: Background | None = None,
        whole_faces: bool = True,
    ) -> None:
        self.whole_faces = whole_faces
        self.faces = faces or Upscaler(prior, settings, batch=batch)
        self.prior, self.settings, self.background = prior, self.faces.settings, background
        self.photo_settings = photo_settings or PhotoSettings()

    def upscale(self, photos: Iterable[Photo], on_step: OnJobs | None = None) -> Iterator[PhotoUpscaled]:
        """Enlarge photographs, in order; any number of them takes the memory of a window.

        Args:
            on_step: told (the job of each row in work, step) at each step of a search; True stops that search at its best
                so far.

        Raises:
            InputError: a photograph whose result would be too large.
        """
        window: list[FoundFaces] = []
        for photo in photos:
            window.append(self.find(photo))
            if self.full(window):
                yield from self.finish(window, on_step)
                window = []
        yield from self.finish(window, on_step)

    def full(self, window: Sequence[FoundFaces]) -> bool:
        """Say whether these photographs should be finished before more are read."""
        pixels = sum(f.photo.size[0] * f.photo.size[1] for f in window)
        rows = sum(len(f.jobs) for f in window) * self.settings.samples
        enough = rows >= WINDOW_BATCHES * self.faces.batch
        return enough or pixels >= WINDOW_PIXELS or len(window) >= WINDOW_PHOTOS

    def request(self, photo: Photo) -> dict[str, Any]:
        """Return what decides a result besides the input, as plain JSON types, with the notice and the licence."""
        made = self.faces.request(0, 0)
        made.pop("generated")  # a photograph without faces has nothing that was invented
        return {
            **made,
            "kind": "photograph",
            "settings": {**made["settings"], "photo": asdict(self.photo_settings)},
            "background": "bicubic" if self.background is None else self.background.record,
            "low_size": list(photo.size),
            "high_size": list(photo.enlarged_size(self.photo_settings.factor)),
        }

    # -- finding ------------------------------------------------------------------------------------------------------

    def find(self, photo: Photo) -> FoundFaces:
        """Find a photograph's faces and cut out their pixels.

        Raises:
            InputError: the result would be too large, or the method is for aligned faces only.
        """
        self._check_method()
        photo.enlarged_size(self.photo_settings.factor)
        if min(photo.size) < LEAST_SIDE:
            return FoundFaces(photo, [], [])
        picture = photo.tensor()
        jobs: list[Job] = []
        chosen, others = self._choose(detect(picture, min_face=self.photo_settings.min_face), photo)
        left = [LeftFace(face, "not asked for") for face in others]
        for face in chosen:
            job = self._job(face, picture, photo)
            if isinstance(job, Job):
                jobs.append(job)
            else:
                left.append(job)
        return FoundFaces(photo, jobs, left)

    def _check_method(self) -> None:
        """Raise InputError for a method that was trained or measured on squares: no face in a photograph is one."""
        if getattr(self.faces.method_settings, "pixel_norm", "") == "prior":
            raise InputError(
                f"the preset {self.settings.preset} takes aligned faces only; take the preset paper for photographs"
            )
        if self.faces.method.module.startswith("latentface.supervised"):
            raise InputError(
                f"the method {self.settings.method} takes aligned faces only; choose another for photographs, rlse for example, or give an ESRGAN file for what surrounds the faces with --background"
            )

    def _choose(self, faces: Sequence[Face], photo: Photo) -> tuple[Sequence[Face], Sequence[Face]]:
        """Part the faces, the largest first, into those that were asked for and the rest."""
        if self.photo_settings.only_center_face and faces:
            height, width = photo.size
            middle = min(faces, key=lambda f: abs(complex(f.box[0] + f.box[2] - width, f.box[1] + f.box[3] - height)))
            return [middle], [f for f in faces if f is not middle]
        most = self.photo_settings.max_faces
        return (faces, []) if most is None else (faces[:most], faces[most:])

    def _job(self, face: Face, picture: Tensor, photo: Photo) -> Job | LeftFace:
        """Return a face's job, or why it is left as it is."""
        most = self.prior.resolution
        try:
            transform = square_of(face, self.prior.alignment)
            too_large = transform.scale * LEAST_FACTOR > most
            reason = f"already as large as the {most} px of the prior's faces, or larger"
            if too_large and self.settings.detail != "auto":
                return LeftFace(face, reason, prior_wanted(transform.scale))
            sigma = self.photo_settings.noise
            if sigma is None:  # in whole grey levels, so that faces of several photographs can share a batch
                sigma = round(255 * estimate_sigma(picture, face.box, photo.tables)) / 255
            side = max(2, min(round(transform.scale), LARGEST * most, LARGEST_VIEW))
            upright, there = crop(picture, transform, min(2 * side, LARGEST_VIEW))
            # Beyond the photograph's border nothing is known, and its even filling would pass for softness.
            told = self.faces.searched_side(upright, sigma * min(1.0, side / transform.scale), side)
            detail = told if bool(there.all()) else side
            if too_large and (detail == side or WORTHWHILE * detail > most):
                return LeftFace(face, reason, prior_wanted(transform.scale))
            upright, _ = crop(picture, transform, side)
            if detail == side:
                warp = Warp([transform], most, photo.size, kernel=self.settings.kernel, sigma=sigma)
                return Job(face, transform, warp, warp.cut(picture), upright)
            levels = 255 if self.photo_settings.noise is None else 1020
            sigma = round(levels * sigma * detail / transform.scale) / levels  # a mean of several pixels has less noise
            whole = Similarity.square((detail / 2, detail / 2), detail)
            warp = Warp([whole], most, (detail, detail), kernel=self.settings.kernel, sigma=sigma)
            return Job(face, transform, warp, crop(picture, transform, detail)[0][None], upright)
        except InputError:
            return LeftFace(face, "too small, or too little of it in the photograph")

    # -- exploring ----------------------------------------------------------------------------------------------------

    def finish(self, window: Sequence[FoundFaces], on_step: OnJobs | None = None) -> Iterator[PhotoUpscaled]:
        """Explore for the faces of these photographs in common batches, and yield the photographs, in order."""
        count = self.settings.samples
        jobs = [(job, found.photo) for found in window for job in found.jobs]
        # Equal noise, inner sides and exits may share a batch; similar boxes need little padding.
        exits = [self.faces.exit_side(job.warp) or 0 for job, _ in jobs]
        kinds = [
            (job.warp.sigma, job.warp.inner, side, job.warp.low_size)
            for (job, _), side in zip(jobs, exits, strict=True)
        ]
        made: dict[int, tuple[PhotoFace, float]] = {}
        for (_, inner, _), members in groupby(sorted(range(len(jobs)), key=kinds.__getitem__), lambda i: kinds[i][:3]):
            group = list(members)
            step = self._faces_at_once(len(group), inner)
            for part in (group[n : n + step] for n in range(0, len(group), step)):
                rows = [_Row(jobs[i][0], self.settings.seed + k) for i in part for k in range(count)]
                answers = self._explore(rows, on_step)
                for n, i in enumerate(part):
                    own = answers[n * count : (n + 1) * count]
                    made[i] = self._face(*jobs[i], own), sum(answer[2] for answer in own)
        first = 0
        for found in window:
            here = [made.pop(first + n) for n in range(len(found.jobs))]
            first += len(found.jobs)
            yield self._result(found, [face for face, _ in here], sum(seconds for _, seconds in here))

    def _faces_at_once(self, faces: int, inner: int) -> int:
        """Return how many of a group's faces are searched before they are cut down to what is needed of them."""
        samples = self.settings.samples
        most = min(self.faces.at_once(faces * samples), FOUND_PIXELS // self.prior.resolution**2)
        if inner > SMALL:
            most = min(most, WARP_PIXELS // inner**2)
        return max(1, most // samples)

    def _explore(self, rows: Sequence[_Row], on_step: OnJobs | None) -> list[_Answer]:
        answers: list[_Answer] = []
        while len(answers) < len(rows):
            size = self.faces.at_once(len(rows) - len(answers))
            together = min(size, self.faces.batch)
            try:
                answers += self._search(rows[len(answers) : len(answers) + size], on_step)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if together == 1:
                    raise InputError("one face does not fit this device's memory; use --device cpu") from None
                self.faces.batch = together // 2
                if self.prior.device.type == "cuda":
                    torch.cuda.empty_cache()
                self.faces.say(
                    f"a batch of {together} does not fit the device's memory; going on with {self.faces.batch}"
                )
        return answers

    def _search(self, rows: Sequence[_Row], on_step: OnJobs | None) -> list[_Answer]:
        began = time.perf_counter()
        warp = Warp.join([row.job.warp for row in rows])
        low = torch.cat([_padded(row.job.low, warp.low_size) for row in rows]).to(self.prior.device)
        share = torch.as_tensor(counted_share(warp)).to(low)
        jobs = [row.job for row in rows]

        def tell(step: Step) -> bool | None:
            assert on_step is not None
            return on_step(jobs, replace(step, consistency_db=step.consistency_db + 10 * share.log10()))

        seeds = [row.seed for row in rows]
        found = self.faces.explore(low, warp, seeds, tell if on_step is not None else None)
        high = found.high.float()
        if self.settings.projection:
            high = project(warp, trusted(warp, high, low), low, rounds=ROUNDS, tolerance=TOLERANCE)
        seconds = (time.perf_counter() - began) / len(rows)
        return [(face.cpu(), int(step), seconds) for face, step in zip(high, found.best_step, strict=True)]

    def _face(self, job: Job, photo: Photo, made: Sequence[_Answer]) -> PhotoFace:
        warp = job.warp.select([0])  # a job waits for its photograph, and what its warp has built would wait with it
        samples = torch.stack([answer[0] for answer in made])
        high = samples[0]
        if self.settings.answer == "mean":
            high = samples.mean(0)
            if self.settings.projection:
                high = project(warp, high[None], job.low, rounds=ROUNDS, tolerance=TOLERANCE)[0]
        consistency = float(psnr_each(warp.forward(high[None]), job.low, warp)[0])
        side = self.prior.resolution
        if not self.whole_faces:
            side = pasted_side(job.transform.scale * self.photo_settings.factor, side)
            high, samples = resize(high[None], side)[0].clamp(0, 1), resize(samples, side).clamp(0, 1)
        if photo.grey:  # luma is linear: it shrinks to the photograph just as well
            high, samples = _luma(high), _luma(samples)
        return PhotoFace(
            found=job.found,
            transform=job.transform,
            high=high,
            samples=samples,
            low=job.upright,
            bilinear=warp.fit(job.low, side)[0].clamp(0, 1),
            factor=self.prior.resolution / job.transform.scale,
            detail=job.warp.transforms[0].scale,
            sigma=job.warp.sigma,
            consistency_db=consistency,
            best_step=made[0][1],
        )

    def _result(self, found: FoundFaces, faces: Sequence[PhotoFace], seconds: float) -> PhotoUpscaled:
        left = [face.record for face in found.left]
        worst = min((f.consistency_db for f in faces), default=None)
        record = {
            **self.request(found.photo),
            "generated": bool(faces),
            "faces_found": len(faces) + len(left),
            "faces_upscaled": len(faces),
            "faces": [f.record for f in faces] + left,
            "consistency_db": None if worst is None else round(worst, 2),
            "seconds": round(seconds, 3),
            "device": str(self.prior.device),
            "steps_dtype": str(self.prior.fast_dtype or self.prior.dtype).removeprefix("torch."),
        }
        return PhotoUpscaled(found.photo, self.photo_settings.factor, faces, found.left, record, self.background)


def prior_wanted(side: float) -> int:
    """Return the resolution of the smallest prior that makes a face larger whose square has this side in pixels."""
    return 1 << max(2, math.ceil(math.log2(side * LEAST_FACTOR)))


def _padded(low: Tensor, size: tuple[int, int]) -> Tensor:
    return F.pad(low, (0, size[1] - low.shape[3], 0, size[0] - low.shape[2]))


def _luma(pictures: Tensor) -> Tensor:
    """Return pictures (..., 3, H, W) without their colours."""
    weights = pictures.new_tensor(LUMA)[:, None, None]
    return (pictures * weights).sum(-3, keepdim=True).expand_as(pictures).contiguous()


def upscale_photo(
    photo: Photo | str | Path | bytes, prior: Prior, settings: UpscaleSettings | None = None, **options: Any
) -> PhotoUpscaled:
    """Enlarge one photograph.

    Args:
        photo: a photograph, a path, or a file's bytes.
        options: any attribute of `PhotoSettings`, such as factor=3 or max_faces=5.

    Raises:
        PictureError: a file that cannot be read. InputError: a setting that cannot be used.
    """
    if not isinstance(photo, Photo):
        data, name = (photo, "the photograph") if isinstance(photo, bytes) else (read_bytes(photo), str(photo))
        photo = Photo.read(data, name)
    try:
        chosen = PhotoSettings(**options)
    except TypeError as error:
        raise InputError(f"{error}; the options are {', '.join(PhotoSettings.__dataclass_fields__)}") from None
    return next(PhotoUpscaler(prior, settings, chosen).upscale([photo]))
