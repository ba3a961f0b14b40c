"""What a table compares: a registered method with its settings, and perhaps a projection at its end.

A variant is written `METHOD[@PRESET][+projection]`, as in `rlse`, `rlse@paper` or `pulse+projection`. `rlse@default` begins
where `upscale` does, all others at random.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor

from latentface.bench.core.sizes import compared_at, previews_at, searched_from
from latentface.degradation import Downscale
from latentface.errors import InputError, UnknownNameError
from latentface.explore.coarse import coarse_facts, coarse_steps, explore_coarse
from latentface.explore.registry import METHODS, Method, find_method
from latentface.explore.result import Exploration, OnStep
from latentface.explore.start.bank import WarmStart, usual_start
from latentface.prior.prior import Prior

POSTER_ORDER = (
    *("bilinear", "bicubic", "mganprior", "pulse", "rlse", "dgp", "ilo", "rls", "vdsr", "esrgan", "fsrnet"),
    *("pmrf", "realesrgan", "rrdn"),
)
TITLES = {
    "bilinear": "Bilinear",
    "bicubic": "Bicubic",
    "mganprior": "mGANprior",
    "vdsr": "VDSR",
    "fsrnet": "FSRNet",
    "realesrgan": "Real-ESRGAN",
    "truth": "Truth",
    "low": "Input",
}
ENDINGS = {"off": [""], "on": ["+projection"], "both": ["", "+projection"]}  # of the variants' names
TRUTH = "truth"  # the row that says how the truth itself scores where no reference is needed


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A method with the settings of one column.

    Attributes:
        name: in the CSV; method, settings: what is called and how; preset: where the settings come from.
        start: where the search begins: "random", "bank", "encoder", or "auto", which is `upscale`'s default.
    """

    name: str
    method: Method
    settings: Any
    preset: str
    start: str = "random"

    @property
    def projects(self) -> bool:
        """Whether it ends in a projection."""
        return bool(getattr(self.settings, "project", False))

    def __call__(
        self,
        prior: Prior,
        low: Tensor,
        degradation: Downscale,
        seeds: Sequence[int],
        on_step: OnStep | None = None,
    ) -> Exploration:
        """Restore low (B, 3, h, w) in [0, 1], as pictures of the degradation's high size (see `bench.core.sizes`)."""
        inverted = searched_from(prior, degradation) if self.method.searches else degradation
        told = on_step if inverted is degradation else previews_at(on_step, degradation.high)
        found = self.explore(prior, low, inverted, seeds, told)
        return compared_at(found, low.to(found.high), degradation)

    def explore(
        self, prior: Prior, low: Tensor, degradation: Downscale, seeds: Sequence[int], on_step: OnStep | None
    ) -> Exploration:
        """Search the prior at its own size, or answer at the degradation's."""
        coarse = coarse_steps(self.method, prior, self.settings, self.preset)
        return explore_coarse(
            self.method,
            prior,
            low,
            steps=coarse,
            degradation=degradation,
            settings=self.settings,
            seeds=seeds,
            on_step=on_step,
            start=self.warm_start(prior, coarse)(low, degradation, seeds),
        )

    def warm_start(self, prior: Prior, coarse: int) -> WarmStart:
        """Return what says where searches of a prior with `coarse` steps at its exits begin."""
        return _warm_start(prior, usual_start(prior, coarse) if self.start == "auto" else self.start)

    def described(self, prior: Prior) -> dict[str, Any]:
        """Return what a search of the prior's faces depends on, as JSON has it, for the file that a run resumes from.

        Raises MissingDataError, WeightsError: it starts at the prior's encoder, and there is none that can be used.
        """
        begin = dict[str, Any]()
        coarse = coarse_steps(self.method, prior, self.settings, self.preset)
        settings, start = self.settings, self.warm_start(prior, coarse)
        if start.kind != "random":
            begin = {"start": start.kind, "wander": list(start.wander)}
            begin |= {"encoder_sha256": start.sha256} if start.sha256 else {}
            settings = settings.from_start()  # as it searches from there
        begin |= coarse_facts(prior, settings, coarse, raced=start.kind == "random")
        return begin | {
            k: v if isinstance(v, str | int | float | bool | None) else repr(v) for k, v in asdict(settings).items()
        }


def title_of(name: str) -> str:
    """Return how a variant's name stands over a column."""
    method, plus, rest = name.partition("+")
    method, at, preset = method.partition("@")
    head, dash, tail = method.partition("-")
    title = TITLES.get(head, head.upper()) + (f", {tail.replace('-', ' ')}" if dash else "")
    return title + (f" ({preset})" if at else "") + (f" + {rest}" if plus else "")


@lru_cache(maxsize=4)
def _warm_start(prior: Prior, kind: str) -> WarmStart:
    return WarmStart(prior, kind)


def make_variant(
    text: str,
    preset: str = "equal",
    *,
    name: str | None = None,
    start: str | None = None,
    method: Method | None = None,
    **changes: Any,
) -> Variant:
    """Make a variant out of its written form; `start` is where it begins, `changes` are settings on top of the preset.

    Without `start` it is random, but of the preset "default", with which `upscale` searches, "auto".

    `method` stands in for the one that is written. Raises UnknownNameError: no such method, preset or ending.
    InputError: a change that the method does not have.
    """
    base, plus, ending = text.partition("+")
    method_name, at, own_preset = base.partition("@")
    if plus and ending != "projection":
        raise UnknownNameError("ending of a method", ending, ["projection"])
    if plus:
        changes["project"] = True
    method = method or find_method(method_name)
    preset = own_preset if at else preset
    settings = method.settings(preset, **changes)
    start = start or ("auto" if preset == "default" else "random")
    return Variant(name=name or text, method=method, settings=settings, preset=preset, start=start)


def make_variants(methods: Sequence[str] | None, preset: str, projection: str = "off") -> list[Variant]:
    """Return the variants that a table compares, in the poster's order.

    Raises UnknownNameError: no such method or preset. InputError: nothing is named, or something twice.

    Args:
        methods: as written; None: every registered method.
        projection: "off" (the poster's setting), "on" (every method ends in it) or "both" (a column more each).
    """
    if projection not in ENDINGS:
        raise UnknownNameError("choice for the projection", projection, tuple(ENDINGS))
    names = list(METHODS) if methods is None else [m.strip() for m in methods if m.strip()]
    if not names:
        raise InputError("no method is named; leave the option out for all of them")
    if methods is None:
        names.sort(key=lambda n: POSTER_ORDER.index(n) if n in POSTER_ORDER else len(POSTER_ORDER))
    ends = ENDINGS[projection]
    wanted = [name + end for name in names for end in ([""] if name.endswith("+projection") else ends)]
    return [make_variant(name, preset) for name in dict.fromkeys(wanted)]
