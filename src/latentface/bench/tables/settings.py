"""The options of each table. The text below a field is the option's help; nothing here loads PyTorch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from latentface.bench.core.settings import (
    FLAG,
    HIDDEN,
    NAMES,
    ROWS,
    FaceSettings,
    Factors,
    Projection,
    Source,
    TableSettings,
    commas,
)

if TYPE_CHECKING:
    from latentface.supervised.registry import Shape

    Size = str | Shape
else:
    Size = str

WHOLE = commas(int, "whole numbers separated by commas, such as 16,8")


def _pairs(text: str) -> int | None:
    if text != "all" and not (text.isdecimal() and int(text) > 0):
        raise ValueError
    return None if text == "all" else int(text)


PAIRS = commas(_pairs, "whole numbers and all, such as 100,1000,all")


@dataclass(frozen=True, kw_only=True, slots=True)
class Table1Settings(TableSettings):
    """Options of Table 1. Variants are written as `make_variant` takes them: `rlse`, `rlse@paper`, `rlse+projection`."""

    high: Source | None = None  # type: ignore[assignment]  # `native` alone will do
    native: Source | None = None
    """Faces that were small when the photograph was taken."""
    factors: Factors = (8, 16)
    methods: Annotated[tuple[str, ...] | None, NAMES] = None
    """Names separated by commas; by default every method that is registered."""
    projection: Projection = "off"
    """Whether methods end in faces that shrink exactly to the input."""
    gallery: Source | None = None
    """Other photographs of the same people, for verification; by default NAME-more.zip beside NAME.zip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table2Settings(TableSettings):
    """Options of Table 2."""

    factors: Factors = (16, 32, 64)
    lows: Annotated[tuple[int, ...], WHOLE] = (16, 8)
    """Low sizes in pixels to add, separated by commas."""
    projection: Projection = "off"
    """Whether results end in faces that shrink exactly to the input."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeSettings(FaceSettings):
    """Options of the table of times. `batches`: sizes that may be tried."""

    factors: Factors = (8,)
    methods: Annotated[tuple[str, ...] | None, NAMES] = None
    """Names separated by commas; by default every method that is registered."""
    repeats: int = 3
    """Times that each measurement is made."""
    batches: Annotated[tuple[int, ...], HIDDEN] = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationSettings(TableSettings):
    """Options of the ablation."""

    high: Source
    """Validation faces; test faces are refused."""
    limit: int | None = 64
    factors: Factors = (8, 16)
    rows: Annotated[tuple[str, ...] | None, ROWS] = None
    """Groups or rows separated by semicolons or commas: space, mean, geocross, layers, norm, reach, weight, ratio, when,
    starts, steps, rate, schedule, noise, projection, controls, warm. By default all; "none" for the default alone."""
    damages: Annotated[tuple[str, ...] | None, ROWS] = None
    """Inputs of the second table, separated by commas: noise0.05, noise0.05told, jpeg30, a kernel; "none" for no second table."""
    damage_rows: Annotated[tuple[str, ...] | None, ROWS] = None
    """Rows of the second table; by default no semantic loss, three other weights of it, and two controls."""
    finished: Annotated[bool, FLAG] = False
    """A table more, of what `upscale` makes of the same results: faded where they disagree, and projected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplesSettings(TableSettings):
    """Options of the table of several answers a face."""

    seed: int = 0
    """Of the run; sample k of a face has a seed made from this one plus k, and the picture's name."""
    limit: int | None = 64
    factors: Factors = (8, 16)
    method: str = "rlse"
    """The search."""
    samples: int = 8
    """Answers a face, from 3 up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FewSampleSettings(TableSettings):
    """Options of the baselines trained on few pairs and many. `size`: of the baselines."""

    high: Source
    """Faces with truth, none of them in `train`."""
    train: Annotated[tuple[Source, ...], Parameter(consume_multiple=True, negative="")]
    """Faces that the baselines are trained on."""
    factor: Annotated[int, Parameter(name=["--factor", "-f"])] = 8
    """A whole one."""
    baselines: Annotated[tuple[str, ...] | None, NAMES] = None
    """vdsr, esrgan, fsrnet, separated by commas; by default all."""
    methods: Annotated[tuple[str, ...], NAMES] = ("rlse",)
    """Searches, separated by commas; differences are to the first."""
    pairs: Annotated[tuple[int | None, ...], PAIRS] = (100, 1000, 10_000, None)
    """Numbers of training pairs, separated by commas; "all" for all. More than there are are left out."""
    minutes: float | None = None
    """Of each training."""
    steps: int | None = None
    """Of each training."""
    size: Annotated[Size, HIDDEN] = "small"


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticSettings(Table2Settings):
    """Options of the pooled test of the semantic loss: of its Table 2 for each seed."""

    seed: Annotated[int, HIDDEN] = 0  # each of `seeds` in its turn
    factors: Factors = (16, 32)
    lows: Annotated[tuple[int, ...], HIDDEN] = ()
    projection: Annotated[Projection, HIDDEN] = "off"
    seeds: Annotated[tuple[int, ...], WHOLE] = (0, 1, 2)
    """Separated by commas."""
