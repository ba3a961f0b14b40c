"""How a face is enlarged: the settings that the command line, Python and the records share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from latentface.degradation import KERNELS
from latentface.errors import InputError, UnknownNameError
from latentface.explore.registry import find_method, with_steps
from latentface.explore.start.bank import STARTS

ANSWERS = ("one", "mean")
DETAILS = ("auto", "full")


@dataclass(frozen=True, kw_only=True, slots=True)
class UpscaleSettings:
    """How a face is enlarged.

    Attributes:
        factor: enlargement of the side; None: as large as the prior's faces are.
        method, preset: see `latentface methods`; "default" is "paper" with most steps at an exit, where the prior has some.
        steps: instead of the preset's, over all stages where there are several.
        seed: of the random start; sample k uses seed + k. samples: how many faces.
        full_steps: of a search's iterations the last so many are made at the prior's full size, those before at its smallest exit;
            None: all where the prior has no exits, the method allows none, or the preset is "paper", else two fifths.
        start: "random", the method's own; "bank", near the most similar of the prior's faces; "encoder", near the answer
            of the prior's encoder.
        stop: a face whose loss fell by less than this share in 10 steps makes room for the next; None: all go to the end.
        answer: "one" face, or the projected "mean" of the samples, which is smoother and nearer to the truth in PSNR.
        projection: end in a face that shrinks exactly to the input (a soft one: to its detail); what is fine in it fades where
            it disagreed (`faces.trust`).
        kernel: how the input was shrunk; sigma: standard deviation of its noise, in units of the full grey range.
        detail: "auto" shrinks a soft face to the side that holds its detail before the search (`faces.detail`), "full" takes
            every face at its word, and a number is that side in pixels.
    """

    factor: float | None = None
    method: str = "rlse"
    preset: str = "default"
    steps: int | None = None
    full_steps: int | None = None
    seed: int = 0
    samples: int = 1
    start: str = "random"
    stop: float | None = None
    answer: str = "one"
    projection: bool = True
    kernel: str = "bicubic"
    sigma: float = 0.0
    detail: str | int = "auto"

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise UnknownNameError("kernel", self.kernel, KERNELS)
        if self.start not in STARTS:
            raise UnknownNameError("start", self.start, STARTS)
        if self.answer not in ANSWERS:
            raise UnknownNameError("answer", self.answer, ANSWERS)
        if self.factor is not None and not 1 <= self.factor <= 1024:
            raise InputError(f"factor is {self.factor:g}; expected a number from 1 to 1024")
        if self.samples < 1:
            raise InputError(f"samples is {self.samples}; expected at least 1")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps is {self.steps}; expected at least 1")
        if self.full_steps is not None and self.full_steps < 1:
            raise InputError(f"full_steps is {self.full_steps}; expected at least 1, or None")
        if not -(2**62) <= self.seed <= 2**62:
            raise InputError(f"seed is {self.seed}; expected a whole number of at most 62 bits")
        if not 0 <= self.sigma <= 1:
            raise InputError(f"sigma is {self.sigma:g}; expected a standard deviation from 0 to 1")
        if self.detail not in DETAILS and not (isinstance(self.detail, int) and self.detail >= 2):
            raise InputError(f"detail is {self.detail!r}; expected auto, full, or a side in pixels from 2 up")

    def method_settings(self) -> Any:
        """Return the settings of the method that they name. Raises InputError."""
        method = find_method(self.method)
        settings = method.settings(self.preset)
        if self.steps is not None:
            if not hasattr(settings, "steps"):
                raise InputError(f"the method {self.method} has no steps to set")
            settings = with_steps(settings, self.steps)
        if self.start != "random" and not method.starts:
            raise InputError(f"the method {self.method} has no start to choose; leave start at random")
        if self.start != "random" and getattr(settings, "space", "") == "z":
            raise InputError(
                f"the method {self.method} with the preset {self.preset} searches z, where a start in w cannot be used; take the preset equal, or leave start at random"
            )
        if self.samples > 1 and self.start == "random" and not method.seeded:
            other = ", or start at the encoder or the bank" if method.starts else ""
            raise InputError(
                f"the method {self.method} gives one answer whatever the seed: leave samples and their mean out{other}"
            )
        if self.detail not in DETAILS and not method.searches:
            raise InputError(f"the method {self.method} takes faces as they are; leave detail out")
        if self.full_steps is not None and not method.coarse:
            raise InputError(f"the method {self.method} makes all steps at the prior's full size; leave full_steps out")
        if self.stop is not None:
            if not method.queues:
                raise InputError(f"the method {self.method} takes all faces to the end; leave stop out")
            settings = replace(settings, stop=self.stop)
        return settings
