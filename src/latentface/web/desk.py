"""What visitors ask for: their pictures are looked at, their faces searched, and each can stop their own search."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from latentface.errors import InputError
from latentface.restore.choices import Priors
from latentface.restore.live import Progress, Watch
from latentface.restore.photo import Detected, FoundFaces
from latentface.restore.settings import PhotoSettings, UpscaleSettings
from latentface.restore.upscaler import Found, Kind, Result, Upscaler
from latentface.web.limits import FACES, check_pixels, read_limited

REMEMBERED = 64  # pictures whose faces are not looked for again


class Desk:
    """Serves visitors with the priors that are loaded.

    A search of more than `seconds` ends at its best. Results are in `folder` until Gradio has them.
    """

    def __init__(self, priors: Priors, seconds: float, folder: Path) -> None:
        self.priors, self.seconds, self.folder, self.closed = priors, seconds, folder, False
        self._known: dict[str, Detected] = {}  # by the picture's digest
        self._searches: dict[str, Watch] = {}  # by visitor

    def look(
        self,
        picture: str | None,
        kind: Kind,
        prior: str,
        settings: UpscaleSettings | None = None,
        faces: Sequence[int] | None = None,
    ) -> tuple[Upscaler, Found]:
        """Return what enlarges a picture, and its faces; `faces`: their numbers, None for all. Raises LatentfaceError."""
        data = read_limited(picture)
        digest = hashlib.sha256(data).hexdigest()
        photo = PhotoSettings(faces=tuple(faces) if faces else None, max_faces=FACES)
        upscaler = Upscaler(self.priors[prior], settings=settings, photo=photo)
        found = upscaler.look(data, kind=kind, known=self._known.get(digest))
        if isinstance(found, FoundFaces):
            check_pixels(found.photo.size, upscaler.finder.factor(found.photo))
            self._known = dict([*self._known.items()][-REMEMBERED:]) | {digest: found.detected}
            if faces is not None and not faces and found.jobs:
                raise InputError("no face is chosen; tick at least one")
        return upscaler, found

    def search(self, visitor: str, upscaler: Upscaler, found: Found) -> Iterator[Progress | Result]:
        """Yield how far the search is, and last the result; after `stop` it is the best so far."""
        watch = self._searches[visitor] = Watch(upscaler, found, self.seconds)
        if self.closed:
            watch.stop.set()
        try:
            yield from watch
        finally:
            self._searches.pop(visitor, None)

    def stop(self, visitor: str) -> None:
        """End a visitor's search at its best so far."""
        if (watch := self._searches.get(visitor)) is not None:
            watch.stop.set()

    def close(self) -> None:
        """End all searches, and those that begin later."""
        self.closed = True
        for visitor in [*self._searches]:
            self.stop(visitor)
