"""What visitors ask for: their pictures are looked at, their faces searched, and each can stop their own search."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentface.errors import InputError
from latentface.restore.choices import Priors
from latentface.restore.live import Progress, Watch
from latentface.restore.photo import Detected, FoundFaces
from latentface.restore.settings import PhotoSettings, UpscaleSettings
from latentface.restore.upscaler import Found, Kind, Result, Upscaler
from latentface.web.limits import FACES, check_file, check_pixels

REMEMBERED = 64  # pictures whose faces are not looked for again


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a visitor chose; None for what is as usual. `faces`: their numbers, None for all."""

    picture: str | None
    kind: Kind
    prior: str
    method: str = "rlse"
    factor: float | None = None
    steps: int | None = None
    seed: int = 0
    samples: int = 1
    strength: float = 1.0
    ending: str = "png"
    faces: Sequence[int] | None = None

    @property
    def settings(self) -> UpscaleSettings:
        """Return the settings of the search. Raises InputError."""
        names = ("method", "factor", "steps", "seed", "samples", "strength")
        return UpscaleSettings(**{name: getattr(self, name) for name in names})


class Desk:
    """Serves visitors with the priors that are loaded; a search of more than `seconds` ends at its best."""

    def __init__(self, priors: Priors, seconds: float) -> None:
        self.priors, self.seconds, self.closed = priors, seconds, False
        self._known: dict[str, Detected] = {}  # by the picture's digest
        self._searches: dict[str, Watch] = {}  # by visitor

    def look(self, asked: Asked) -> tuple[Upscaler, Found]:
        """Return what enlarges a picture, and its faces. Raises LatentfaceError."""
        check_file(asked.picture)
        data = Path(str(asked.picture)).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        photo = PhotoSettings(faces=tuple(asked.faces) if asked.faces else None, max_faces=FACES)
        upscaler = Upscaler(self.priors[asked.prior], settings=asked.settings, photo=photo)
        found = upscaler.look(data, kind=asked.kind, known=self._known.get(digest))
        if isinstance(found, FoundFaces):
            check_pixels(found.photo.size, upscaler.finder.factor(found.photo))
            self._known = dict([*self._known.items()][-REMEMBERED:]) | {digest: found.detected}
            if asked.faces is not None and not asked.faces and found.jobs:
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
