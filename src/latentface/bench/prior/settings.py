"""The options of `bench prior`. The text below a field is the option's help; nothing here loads PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from latentface.bench.core.settings import FLAG, HIDDEN, NAMES, NUMBERS, FaceSettings, Preset, Source


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorSettings(FaceSettings):
    """What is measured of a prior. Numbers that nobody gives depend on the prior's size."""

    high: Source
    """Faces that the prior has not seen."""
    high_size: int | None = None
    """Side in pixels of the faces that are compared; by default the smaller of the prior's and the data's."""
    preset: Annotated[Preset, HIDDEN] = "equal"
    seed: int = 0
    """Of the samples and of every choice."""
    train: Annotated[tuple[Source, ...], Parameter(consume_multiple=True, negative="")] = ()
    """The faces that it was trained on, for the ratio and the nearest neighbours."""
    samples: int | None = None
    """Of each truncation; by default 5000, and 1000 of a prior of more than 256 px."""
    inversions: int | None = None
    """Faces that are inverted; by default 100, and 16 with a prior of more than 256 px."""
    spaces: Annotated[tuple[str, ...], NAMES] = ("z", "w", "w_plus")
    """In which faces are inverted, separated by commas; what a face becomes is told of w_plus."""
    steps: int | None = None
    """Of each inversion; by default 500, and 100 with a prior of more than 256 px."""
    detections: int | None = None
    """Faces of each set that are looked for with CenterFace; by default 500, and 200 of a prior of more than 256 px."""
    truncations: Annotated[tuple[float, ...], NUMBERS] = (0.5, 0.7, 1.0)
    """Separated by commas."""
    perceptual: float = 0.0
    """Weight of D's features in the inversions, beside the mean square times 100."""
    factor: float = 8.0
    """Of RLSE on the faces that are inverted, for the figures by group; 0 for none."""
    attributes: Path | None = None
    """CelebA's list_attr_celeba.txt, for the groups by sex, age, glasses and hats; found by itself beside the faces."""
    into_card: Annotated[bool, FLAG] = False
    """Write the main figures into the card of the prior's file."""
    into_page: Path | None = None
    """Write the tables by group into this Markdown file, between its lines <!-- groups: NAME --> and
    <!-- end of groups: NAME -->, NAME being that of the faces."""
    limit: int | None = None
    """Take so many faces of `high` at most, of an order that the seed decides."""
    train_limit: int | None = None
    """Take so many faces of `train` at most, of an order that the seed decides."""
