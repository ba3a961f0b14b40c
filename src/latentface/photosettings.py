"""How a photograph is enlarged: the settings that a person chooses."""

from __future__ import annotations

from dataclasses import dataclass

from latentface.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoSettings:
    """How a photograph is enlarged.

    Attributes:
        factor: enlargement of the photograph's sides, 1 to 1024; a face's own factor is the prior's size over the face's.
        only_center_face: enlarge only the face nearest to the middle.
        min_face: the least size of a face in pixels, the longer side of its box; max_faces: the largest so many.
        noise: standard deviation of the photograph's noise, in units of the full grey range; None: estimated for each
            face. At 0 the projection is exact, to a soft face's detail.
    """

    factor: float = 2.0
    only_center_face: bool = False
    min_face: float = 12.0
    max_faces: int | None = None
    noise: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= 1024:
            raise InputError(f"factor is {self.factor:g}; expected a number from 1 to 1024")
        if not 4 <= self.min_face <= 1e6:
            raise InputError(f"min_face is {self.min_face:g}; expected a size in pixels from 4 up")
        if self.max_faces is not None and self.max_faces < 0:
            raise InputError(f"max_faces is {self.max_faces}; expected 0 or more")
        if self.noise is not None and not 0 <= self.noise <= 1:
            raise InputError(f"noise is {self.noise:g}; expected a number from 0 to 1")
