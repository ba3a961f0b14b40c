"""How a picture is enlarged: the settings that the command line, Python and the records share.

Help for each option stands here, once. Nothing here imports PyTorch: `latentface --help` reads it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from latentface.errors import InputError, UnknownNameError
from latentface.explore.registry import find_method, with_steps

if TYPE_CHECKING:
    from latentface.explore.result import MethodSettings

MEAN_OF = 8  # samples, where their mean is asked for and their number is not
MOST_FACES = 10_000  # in one range of their numbers


@Parameter(name="*", group=Group("Search", sort_key=1))
@dataclass(frozen=True, kw_only=True, slots=True)
class UpscaleSettings:
    """How faces are searched.

    Attributes:
        factor: Enlargement of the side; by default 2 for photographs, and as large as the prior's faces for aligned ones.
        method: See `latentface methods`, or a baseline's weights file.
        preset: "default", "paper" (as published: all steps at full size), "equal", or another that the method has (RLSE:
            "fast").
        steps: Iterations, instead of the preset's.
        full_steps: How many of the iterations, the last ones, are made at the prior's full size; the others at exits of the
            prior, where a step takes a third of the time or much less. By default a fifth; of fewer than 50
            iterations 12, or half. With 100 all are, as in the poster. A face that is still far from its input has more.
            With 0 a face of few pixels ends at an exit.
        seed: Of the start's random part, the same for every face; sample k takes seed + k.
        samples: Write so many faces, NAME-1.png ..., and NAME-spread.png: what is known and what is invented.
        start: "random" is the method's own, for RLSE the best of 16 draws; "bank" starts near the most similar of the prior's
            own faces (collected once, in seconds), "encoder" near the answer of the prior's encoder: with
            celeba128 25 steps from there do nearly what 100 do from a random start. "auto" is "encoder" where steps are made
            at exits of a prior that has one (ffhq1024), else "random".
        stop: End a batch of faces none of whose losses fell by this share in 10 steps, such as 0.02.
        answer: "mean" writes the mean of the samples (8 by default) as NAME.png: smoother, nearer to the truth.
        projection: End in a face that shrinks exactly to the input (a soft one: to its detail).
        kernel: How the input was shrunk: bicubic, bilinear, box or lanczos.
        noise: Standard deviation of the input's noise, from 0 to 1; "auto" estimates it for each face of a photograph, and is
            0 for aligned faces. Above 0 the projection is not exact.
        detail: "auto" shrinks a soft face to the side that holds its detail before it is enlarged, "full" searches
            every face with all its pixels, and a number is that side in pixels.
        strength: From 0, the plain enlargement, to 1, the face that was found; between them the two are mixed pixel by
            pixel, before the projection.
        keep_all: Keep results that look like no face, too; by default they are left as the input shows them, and counted.
    """

    factor: Annotated[float | None, Parameter(name=["--factor", "-f"])] = None
    method: Annotated[str, Parameter(name=["--method", "-m"])] = "rlse"
    preset: str = "default"
    steps: int | None = None
    full_steps: int | None = None
    seed: int = 0
    samples: int | None = None
    start: Literal["auto", "random", "bank", "encoder"] = "auto"
    stop: float | None = None
    answer: Literal["one", "mean"] = "one"
    projection: Annotated[bool, Parameter(negative="--no-projection")] = True
    kernel: str = "bicubic"
    noise: Literal["auto"] | float = "auto"
    detail: Literal["auto", "full"] | int = "auto"
    strength: float = 1.0
    keep_all: Annotated[bool, Parameter(negative="", show_default=False)] = False

    def __post_init__(self) -> None:
        if self.kernel != "bicubic":  # whose names load PyTorch
            from latentface.degradation import KERNELS

            if self.kernel not in KERNELS:
                raise UnknownNameError("kernel", self.kernel, KERNELS)
        for kind, value, known in (
            ("start", self.start, ("auto", "random", "bank", "encoder")),
            ("answer", self.answer, ("one", "mean")),
        ):
            if value not in known:
                raise UnknownNameError(kind, value, known)
        if self.factor is not None and not 1 <= number("factor", self.factor) <= 1024:
            raise InputError(f"factor is {self.factor:g}; expected a number from 1 to 1024")
        if self.full_steps is not None and not whole("full_steps", self.full_steps) >= 0:
            raise InputError(f"full_steps is {self.full_steps}; expected at least 0")
        for name in ("samples", "steps"):
            value = getattr(self, name)
            if value is not None and not whole(name, value) >= 1:
                raise InputError(f"{name} is {value}; expected at least 1")
        object.__setattr__(self, "seed", whole("seed", self.seed))
        if not -(2**62) <= self.seed <= 2**62:
            raise InputError(f"seed is {self.seed}; expected a whole number of at most 62 bits")
        if self.noise != "auto" and not 0 <= number("noise", self.noise) <= 1:
            raise InputError(f"noise is {self.noise:g}; expected auto, or a standard deviation from 0 to 1")
        if not 0 <= number("strength", self.strength) <= 1:
            raise InputError(f"strength is {self.strength:g}; expected a number from 0 to 1")
        if self.detail not in ("auto", "full") and not (isinstance(self.detail, int) and self.detail >= 2):
            raise InputError(f"detail is {self.detail!r}; expected auto, full, or a side in pixels from 2 up")

    @property
    def count(self) -> int:
        """How many faces are made of each."""
        return self.samples or (MEAN_OF if self.answer == "mean" else 1)

    @property
    def sigma(self) -> float:
        """Standard deviation of an aligned face's noise."""
        return 0.0 if self.noise == "auto" else float(self.noise)

    def method_settings(self) -> MethodSettings:
        """Return the settings of the method that they name. Raises InputError."""
        method = find_method(self.method)
        settings = method.settings(self.preset)
        if self.steps is not None:
            if not hasattr(settings, "steps"):
                raise InputError(f"the method {self.method} has no steps to set")
            settings = with_steps(settings, self.steps)
        if self.start not in ("auto", "random"):
            if not method.starts:
                raise InputError(f"the method {self.method} has no start to choose; leave start out")
            if not settings.in_w:
                raise InputError(
                    f"the method {self.method} with the preset {self.preset} searches z, where a start in w cannot be used; take the preset equal, or leave start out"
                )
            settings = settings.from_start()
        if self.count > 1 and self.start in ("auto", "random") and not method.seeded:
            other = ", or start at the encoder or the bank" if method.starts else ""
            raise InputError(
                f"the method {self.method} gives one answer whatever the seed: leave samples and their mean out{other}"
            )
        if isinstance(self.detail, int) and not method.searches:
            raise InputError(f"the method {self.method} takes faces as they are; leave detail out")
        if self.full_steps is not None and not method.coarse:
            raise InputError(f"the method {self.method} makes all steps at the prior's full size; leave full_steps out")
        if self.stop is not None and not method.stops:
            raise InputError(f"the method {self.method} takes every face to the end; leave stop out")
        checked: MethodSettings = replace(settings, stop=self.stop) if self.stop is not None else settings
        return checked


def face_numbers(words: str) -> tuple[int, ...]:
    """Return the numbers that words such as `2,5-7` name. Raises InputError."""
    found: list[int] = []
    for part in words.split(","):
        first, dash, last = (end.strip() for end in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"{part.strip()!r} in {words!r} is no number of a face; expected numbers such as 2,5-7")
        begin, end = int(first), int(last if dash else first)
        if end < begin or end - begin >= MOST_FACES:
            raise InputError(f"{part.strip()} in {words!r} goes from {begin} to {end}; expected numbers such as 2,5-7")
        found += range(begin, end + 1)
    return tuple(found)


def _face_numbers(name: str, value: Any) -> tuple[int, ...]:
    """Return numbers of faces, sorted and each once. Raises InputError."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InputError(f"{name} is {value!r}; expected whole numbers from 1 up, such as (2, 5)")
    numbers = sorted({whole(name, one) for one in value})
    if numbers and numbers[0] < 1:
        raise InputError(f"{name} has {numbers[0]}; the largest face is number 1")
    return tuple(numbers)


_NUMBERS = Parameter(
    converter=lambda _type, tokens: face_numbers(tokens[0].value),
    n_tokens=1,
    consume_multiple=False,
    negative="",
    show_default=False,
)


@Parameter(name="*", group=Group("Photographs", sort_key=2))
@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoSettings:
    """Which faces of a photograph are enlarged.

    Attributes:
        only_center_face: Enlarge only the face nearest to the middle.
        min_face: Leave out faces smaller than so many pixels, the longer side of a face's box.
        max_faces: Enlarge only so many faces, the largest.
        min_score: Leave out faces of which the detector is less sure, from 0.5 to 1.
        faces: Enlarge only these, such as 2,5-7: numbers as --compare shows them and the JSON has them, the largest face
            is 1.
        skip_faces: Leave out these.
    """

    only_center_face: Annotated[bool, Parameter(negative="", show_default=False)] = False
    min_face: float = 12.0
    max_faces: int | None = None
    min_score: float = 0.5
    faces: Annotated[tuple[int, ...] | None, _NUMBERS] = None
    skip_faces: Annotated[tuple[int, ...], _NUMBERS] = ()

    def __post_init__(self) -> None:
        if not 4 <= number("min_face", self.min_face) <= 1e6:
            raise InputError(f"min_face is {self.min_face:g}; expected a size in pixels from 4 up")
        if self.max_faces is not None and whole("max_faces", self.max_faces) < 0:
            raise InputError(f"max_faces is {self.max_faces}; expected 0 or more")
        if not 0.5 <= number("min_score", self.min_score) <= 1:
            raise InputError(
                f"min_score is {self.min_score:g}; expected a number from 0.5, below which the detector takes nothing for a face, to 1"
            )
        for name in ("faces", "skip_faces"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _face_numbers(name, value))
        if self.faces == ():
            raise InputError("faces is empty; name at least one face, or leave faces out")


def whole(name: str, value: Any) -> int:
    """Return a whole number, NumPy's too. Raises InputError for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}; expected a whole number") from None


def number(name: str, value: Any) -> float:
    """Return a number. Raises InputError for anything else."""
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise InputError(f"{name} is {value!r}; expected a number")
    return float(value)
