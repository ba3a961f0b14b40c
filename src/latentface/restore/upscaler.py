"""Pictures in, larger pictures out: what Python, the command line, the page and the cluster call."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from latentface.devices import pick_device
from latentface.errors import InputError, LatentfaceError, PictureError, UnknownNameError
from latentface.explore.registry import find_method
from latentface.explore.result import Step
from latentface.faces.kind import Square, aligned_square, nearly_square
from latentface.faces.mosaic import true_size
from latentface.faces.place import LEAST_FACTOR
from latentface.io.given import Picture, picture_list, read
from latentface.io.photo import Photo
from latentface.metrics.weights import locate
from latentface.prior.prior import Prior
from latentface.prior.published import EMBEDDED
from latentface.prior.registry import load_prior
from latentface.restore.aligned import AlignedFace, face_request
from latentface.restore.background import Background
from latentface.restore.engine import Engine, caught
from latentface.restore.faceresult import Upscaled
from latentface.restore.job import Answer, Job, OnJobs
from latentface.restore.photo import Detected, Finder, FoundFaces
from latentface.restore.photoresult import PhotoUpscaled
from latentface.restore.settings import PhotoSettings, UpscaleSettings

Kind = Literal["auto", "aligned", "photo"]
KINDS = ("auto", "aligned", "photo")
Result = Upscaled | PhotoUpscaled
Found = AlignedFace | FoundFaces

WINDOW_PIXELS = 50_000_000  # of photographs that wait for their faces' batch: 150 MB
WINDOW_PICTURES = 64
WINDOW_BATCHES = 4  # batches' worth of faces, after which nothing more is waited for


class Upscaler:
    """Enlarges faces and photographs with one prior and one set of settings.

    Raises InputError: a setting or a device that cannot be used. WeightsError: a file that cannot.

    Args:
        prior: a loaded prior, a name or a file; None: the default, see `load_prior`.
        judge: the prior whose discriminator the semantic loss asks, by name or file, a judge's file, or "none"; None: the
            prior's own.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        settings: of the search; photo: which faces of a photograph.
        background: an ESRGAN file, or "realesrgan", that enlarges what surrounds a photograph's faces; None: bicubic
            interpolation.
        batch_size: faces computed together, for speed; None: so that a face is the same alone and among others.
        offline: fetch nothing.
        whole_faces: keep a photograph's faces at the prior's size, for `PhotoUpscaled.save_faces`.
        say: is told in words what is fetched, or made of the prior at first use.
    """

    def __init__(
        self,
        prior: Prior | str | Path | None = None,
        *,
        judge: str | None = None,
        device: str = "auto",
        settings: UpscaleSettings | None = None,
        photo: PhotoSettings | None = None,
        background: Background | str | Path | None = None,
        batch_size: int | None = None,
        offline: bool = False,
        whole_faces: bool = True,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        settings = settings or UpscaleSettings()
        settings.method_settings()  # a wrong name is told before anything is loaded
        where = pick_device(device)
        for file in find_method(settings.method).files:  # fetched, or missed, before the prior is
            locate(file, fetch=not offline)
        if not isinstance(prior, Prior):
            named = prior_named(prior, settings.method)
            prior = load_prior(named, where, judge, say=say, offline=offline)
        elif device != "auto" and prior.device != where:
            prior = prior.to(where)
        if background is not None and not isinstance(background, Background):
            background = Background.read(background, where, fetch=not offline)
        self.prior, self.settings, self.background = prior, settings, background
        self.engine = Engine(prior, settings, batch=batch_size, say=say)
        self.finder = Finder(self.engine, photo or PhotoSettings(), background, whole_faces)

    def face(self, picture: Picture, *, on_step: Callable[[Step], bool | None] | None = None) -> Upscaled:
        """Enlarge an aligned face.

        Raises PictureError: a file that cannot be read. InputError: not square, or as large as the prior's faces.

        Args:
            picture: a path, bytes, an open file, a Pillow image, an array (H, W, C) or a tensor (C, H, W), see `io.given.read`.
            on_step: is told each step of the search, and stops it by returning True.
        """
        result = self(picture, kind="aligned", on_step=on_step)
        assert isinstance(result, Upscaled)
        return result

    def photo(self, picture: Picture, *, on_step: Callable[[Step], bool | None] | None = None) -> PhotoUpscaled:
        """Enlarge a photograph and the faces in it; arguments as `face`. Raises PictureError, InputError."""
        result = self(picture, kind="photo", on_step=on_step)
        assert isinstance(result, PhotoUpscaled)
        return result

    def __call__(
        self, picture: Picture, *, kind: Kind = "auto", on_step: Callable[[Step], bool | None] | None = None
    ) -> Result:
        """Enlarge an aligned face or a photograph; "auto" decides by the landmarks found in it."""
        found = self.look(picture, kind=kind)
        result = next(self.finish([found], None if on_step is None else lambda rows, step: on_step(step)))
        if isinstance(result, Exception):
            raise result
        return result

    def look(self, picture: Picture, *, kind: Kind = "auto", known: Detected | None = None) -> Found:
        """Read a picture and find its faces, for `finish`. Raises PictureError, InputError.

        `known`: what an earlier look at the same picture detected, with the same `min_face`: it is not searched again.
        """
        given, exact = read(picture)
        photo, aligned = self.taken(given, kind)
        if aligned and exact is not None and photo is given:  # its numbers may be finer than a file's
            return AlignedFace.find(self.engine, exact, photo)
        return self.find(photo, aligned=aligned, known=known)

    def taken(self, photo: Photo, kind: Kind = "auto") -> tuple[Photo, bool]:
        """Return a picture as it is worked on, and whether it is an aligned face.

        A mosaic is taken at its true size, unless `detail` says how many pixels count. An aligned face is square, small
        enough for the prior, and stands as the prior's faces do; a few rows or columns too many are cut off.
        """
        if kind not in KINDS:
            raise UnknownNameError("kind of picture", kind, KINDS)
        if self.settings.detail == "auto":
            photo = true_size(photo)
        if kind == "photo":
            return photo, False
        if kind == "aligned":
            square = nearly_square(*photo.size)
        elif min(photo.size) * LEAST_FACTOR > self.prior.resolution or nearly_square(*photo.size) is None:
            return photo, False
        else:
            square = aligned_square(photo.tensor(), self.prior.alignment)
        return (photo if square is None else cut(photo, square)), kind == "aligned" or square is not None

    def request(self, photo: Photo, *, aligned: bool) -> dict[str, Any]:
        """Return what decides a picture's result besides its pixels. Raises InputError where there can be none."""
        return face_request(self.engine, *photo.size, repeats=photo.repeats) if aligned else self.finder.request(photo)

    def find(self, photo: Photo, *, aligned: bool, known: Detected | None = None) -> Found:
        """Find the faces of a picture, or take those that are `known`. Raises InputError where there can be no result."""
        return AlignedFace.find(self.engine, photo.tensor(), photo) if aligned else self.finder.find(photo, known)

    def full(self, window: Sequence[Found]) -> bool:
        """Say whether these pictures should be finished before more are read."""
        photos = [f.photo for f in window if isinstance(f, FoundFaces)]
        rows = sum(len(f.jobs) for f in window) * self.settings.count
        enough = rows >= WINDOW_BATCHES * max(16, self.engine.batches.size)
        pixels = sum(p.size[0] * p.size[1] for p in photos)
        return enough or pixels >= WINDOW_PIXELS or len(window) >= WINDOW_PICTURES

    def finish(
        self, window: Sequence[Found], on_step: OnJobs | None = None
    ) -> Iterator[Result | LatentfaceError | MemoryError]:
        """Search for the faces of these pictures, and yield their results in order, or the error that each ended in.

        `on_step`: is told (job, sample) of each row in work, jobs counted over the window, and the step.
        """
        answers = self.engine.explore([job for found in window for job in found.jobs], on_step)
        for found in window:
            yield result_of(found, [taken_of(found, job, next(answers)) for job in found.jobs])


def taken_of(found: Found, job: Job, answer: Answer | LatentfaceError | MemoryError) -> Any:
    """Return what a picture keeps of a job's answer, or the error that it ended in."""
    return answer if isinstance(answer, Exception) else caught(partial(found.take, job, answer))  # type: ignore[arg-type]


def result_of(found: Found, taken: Sequence[Any]) -> Result | LatentfaceError | MemoryError:
    """Return a picture's result, out of what `taken_of` returned of each job, or the last error of its faces."""
    errors = [one for one in taken if isinstance(one, LatentfaceError | MemoryError)]
    return errors[-1] if errors else caught(partial(found.result, taken))


def upscale(
    picture: Picture | Iterable[Picture],
    *,
    prior: Prior | str | Path | None = None,
    judge: str | None = None,
    factor: float | None = None,
    method: str | None = None,
    preset: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    samples: int | None = None,
    answer: Literal["one", "mean"] | None = None,
    start: Literal["auto", "random", "bank", "encoder"] | None = None,
    kind: Kind = "auto",
    settings: UpscaleSettings | None = None,
    photo: PhotoSettings | None = None,
    device: str = "auto",
    on_step: Callable[[Step], bool | None] | None = None,
) -> Result | list[Result]:
    """Enlarge an aligned face or a photograph, or each of a list, a generator or a batch of them.

    The first picture of a list that cannot be done ends it with an error that names its number, from 0.

    Raises PictureError: a picture that cannot be read. InputError: one that cannot be used, or a setting. WeightsError:
    a prior that cannot be used.

    Args:
        picture: a path, bytes, an open file, a Pillow image, an array (H, W), (H, W, 3) or (H, W, 4), or a tensor (H, W),
            (3, H, W) or (4, H, W). Numbers are bytes, 16 bits, or floats in [0, 1].
        prior, judge, photo, device: see `Upscaler`.
        factor, method, preset, steps, seed, samples, answer, start: instead of those in `settings`, see `UpscaleSettings`.
        kind: "aligned", "photo", or "auto": as the landmarks found in it say.
        on_step: is told each step of a search, and stops it by returning True.
    """
    named = {
        "factor": factor,
        "method": method,
        "preset": preset,
        "steps": steps,
        "seed": seed,
        "samples": samples,
        "answer": answer,
        "start": start,
    }
    changes: dict[str, Any] = {k: v for k, v in named.items() if v is not None}
    made = replace(settings or UpscaleSettings(), **changes)
    up = Upscaler(prior, judge=judge, device=device, settings=made, photo=photo)
    several = picture_list(picture)
    if several is None:
        return up(picture, kind=kind, on_step=on_step)  # type: ignore[arg-type]
    return [_numbered(up, one, n, kind, on_step) for n, one in enumerate(several)]


def _numbered(
    up: Upscaler, picture: Picture, number: int, kind: Kind, on_step: Callable[[Step], bool | None] | None
) -> Result:
    """Enlarge one picture of several, whose number stands in what is told of it."""
    try:
        return up(picture, kind=kind, on_step=on_step)
    except InputError as error:
        kind_of = PictureError if isinstance(error, PictureError) else InputError
        raise kind_of(f"pictures[{number}]: {error}") from error


def cut(photo: Photo, square: Square) -> Photo:
    """Return a square (left, top, side) of a photograph; itself where that is all of it."""
    left, top, side = square
    if photo.size == (side, side):
        return photo
    part = slice(top, top + side), slice(left, left + side)
    return replace(photo, pixels=photo.pixels[part], alpha=None if photo.alpha is None else photo.alpha[part])


def prior_named(prior: str | Path | None, method: str) -> str | Path | None:
    """Return which prior to load; without a search the embedded one: nothing needs to be fetched."""
    return EMBEDDED if prior is None and not find_method(method).searches else prior
