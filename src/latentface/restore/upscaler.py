"""Pictures in, larger pictures out: what Python, the command line, the page and the cluster call."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from latentface.devices import pick_device
from latentface.errors import LatentfaceError, UnknownNameError
from latentface.explore.registry import find_method
from latentface.explore.result import Step
from latentface.faces.kind import is_aligned
from latentface.faces.place import LEAST_FACTOR
from latentface.io.photo import Photo
from latentface.io.pictures import to_tensor
from latentface.prior.prior import Prior
from latentface.prior.published import EMBEDDED
from latentface.prior.registry import load_prior
from latentface.restore.aligned import AlignedFace, face_request
from latentface.restore.background import Background
from latentface.restore.engine import Engine, caught
from latentface.restore.faceresult import Upscaled
from latentface.restore.job import OnJobs
from latentface.restore.photo import Finder, FoundFaces
from latentface.restore.photoresult import PhotoUpscaled
from latentface.restore.settings import PhotoSettings, UpscaleSettings

Picture = str | Path | bytes | BinaryIO | Image.Image | np.ndarray[Any, Any] | Tensor
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
        background: an ESRGAN file that enlarges what surrounds a photograph's faces; None: bicubic interpolation.
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
        if not isinstance(prior, Prior):
            named = prior_named(prior, settings.method)
            prior = load_prior(named, where, judge, say=say, offline=offline)
        elif device != "auto" and prior.device != where:
            prior = prior.to(where)
        if background is not None and not isinstance(background, Background):
            background = Background.read(background, where)
        self.prior, self.settings, self.background = prior, settings, background
        self.engine = Engine(prior, settings, batch=batch_size, say=say)
        self.finder = Finder(self.engine, photo or PhotoSettings(), background, whole_faces)

    def face(self, picture: Picture, *, on_step: Callable[[Step], bool | None] | None = None) -> Upscaled:
        """Enlarge an aligned face.

        Raises PictureError: a file that cannot be read. InputError: not square, or as large as the prior's faces.

        Args:
            picture: a path, bytes, a file object, a Pillow image, an array (H, W, 3) or a tensor (3, H, W) in [0, 1].
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
        photo = Photo.of(picture)
        aligned = self.takes_for_aligned(photo, kind)
        if aligned and isinstance(picture, np.ndarray | Tensor):  # its numbers may be finer than a file's
            found: Found = AlignedFace.find(self.engine, to_tensor(picture), photo)
        else:
            found = self.find(photo, aligned=aligned)
        result = next(self.finish([found], None if on_step is None else lambda rows, step: on_step(step)))
        if isinstance(result, Exception):
            raise result
        return result

    def takes_for_aligned(self, photo: Photo, kind: Kind = "auto") -> bool:
        """Say whether a picture is taken for an aligned face: square, small enough for the prior, and a face as its own."""
        if kind not in KINDS:
            raise UnknownNameError("kind of picture", kind, KINDS)
        if kind != "auto":
            return kind == "aligned"
        height, width = photo.size
        small = height * LEAST_FACTOR <= self.prior.resolution
        return height == width and small and is_aligned(photo.tensor(), self.prior.alignment)

    def request(self, photo: Photo, *, aligned: bool) -> dict[str, Any]:
        """Return what decides a picture's result besides its pixels. Raises InputError where there can be none."""
        return face_request(self.engine, *photo.size) if aligned else self.finder.request(photo)

    def find(self, photo: Photo, *, aligned: bool) -> Found:
        """Find the faces of a picture. Raises InputError where there can be no result."""
        return AlignedFace.find(self.engine, photo.tensor(), photo) if aligned else self.finder.find(photo)

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
            taken: list[Any] = []
            error: LatentfaceError | MemoryError | None = None
            for job in found.jobs:
                answer = next(answers)
                if not isinstance(answer, Exception):
                    answer = caught(partial(found.take, job, answer))  # type: ignore[arg-type]
                if isinstance(answer, Exception):
                    error = answer
                taken.append(answer)
            yield caught(partial(found.result, taken)) if error is None else error


def upscale(
    picture: Picture | Sequence[Picture],
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
    start: Literal["random", "bank", "encoder"] | None = None,
    kind: Kind = "auto",
    settings: UpscaleSettings | None = None,
    photo: PhotoSettings | None = None,
    device: str = "auto",
    on_step: Callable[[Step], bool | None] | None = None,
) -> Result | list[Result]:
    """Enlarge an aligned face or a photograph, or each of a list of them.

    Raises PictureError: a picture that cannot be read. InputError: one that cannot be used, or a setting. WeightsError:
    a prior that cannot be used.

    Args:
        picture: a path, bytes, a file object, a Pillow image, an array (H, W, 3) or a tensor (3, H, W) in [0, 1].
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
    if isinstance(picture, list | tuple):
        return [up(one, kind=kind, on_step=on_step) for one in picture]
    return up(picture, kind=kind, on_step=on_step)  # type: ignore[arg-type]


def prior_named(prior: str | Path | None, method: str) -> str | Path | None:
    """Return which prior to load; without a search the embedded one: nothing needs to be fetched."""
    return EMBEDDED if prior is None and not find_method(method).searches else prior
