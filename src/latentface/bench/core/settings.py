"""The options that tables share: on which faces, and where it runs. The command line shows them, Python takes the same objects.

The text below a field is the option's help. Nothing here loads PyTorch. Annotations are evaluated here, since the command
line would look up those of inherited fields in the module of the class that inherits them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, Token

from latentface.bench.core.progress import OnProgress, quiet
from latentface.cluster.settings import ClusterSettings

if TYPE_CHECKING:
    from latentface.prior.prior import Prior

    Source = str | Path
    PriorSource = Prior | str | Path
else:
    Source = PriorSource = str  # what the command line can give


def commas(read: Callable[[str], Any], expected: str, *, semicolons: bool = False) -> Parameter:
    """Return the parameter of an option that is a list in one word, separated by commas.

    Args:
        read: one part -> its value; expected: for the error, where it raises ValueError.
        semicolons: they separate instead where there are some, and "none" is the empty list.
    """

    def convert(type_: Any, tokens: Sequence[Token]) -> tuple[Any, ...]:
        text = ",".join(token.value for token in tokens)
        if semicolons and text.strip() == "none":
            return ()
        parts = text.split(";" if semicolons and ";" in text else ",")
        try:
            return tuple(read(part.strip()) for part in parts if part.strip())
        except ValueError:
            raise ValueError(f"it is {text!r}; expected {expected}") from None

    return Parameter(converter=convert, negative="", show_default=_shown)


def _shown(values: Sequence[Any] | None) -> str | None:
    words = ["all" if v is None else f"{v:g}" if isinstance(v, int | float) else str(v) for v in values or ()]
    return ",".join(words) or None


NO_CLUSTER = ClusterSettings()
HIDDEN = Parameter(parse=False)  # for Python alone
FLAG = Parameter(negative="")
NUMBERS = commas(float, "numbers separated by commas, such as 8,16")
NAMES = commas(str, "names separated by commas")
ROWS = commas(str, "names separated by semicolons or commas", semicolons=True)
Factors = Annotated[
    tuple[float, ...], Parameter(name=["--factors", "--factor", "-f"], help="Separated by commas."), NUMBERS
]
Output = Annotated[Path, Parameter(name=["--output", "-o"])]
Preset = Literal["equal", "paper"]
Projection = Literal["off", "on", "both"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceSettings:
    """Where a table is written and computed, and who hears of it.

    Attributes:
        command: printed with the table; on_progress: told how far it is.
    """

    output: Output
    """The folder for the tables, figures and pictures."""
    device: str = "auto"
    """auto, cpu, cuda."""
    no_fetch: Annotated[bool, Parameter(name=["--no-fetch", "--offline"], negative="")] = False
    """Fetch nothing: neither a prior nor weights of metrics."""
    command: Annotated[str, HIDDEN] = ""
    on_progress: Annotated[OnProgress, HIDDEN] = quiet

    @property
    def folder(self) -> Path:
        """The output."""
        return Path(self.output).expanduser()


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings(DeviceSettings):
    """The same, where faces are computed in batches."""

    batch_size: int | None = None
    """Faces or samples computed together; by default the device's usual."""
    cluster: Annotated[ClusterSettings, Parameter(name="*")] = NO_CLUSTER
    """Where batches of faces are restored besides this process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceSettings:
    """The faces, as `open_faces` takes them, and the prior, which may be one in memory.

    Attributes:
        kernel: of the shrinking.
    """

    high: Source
    """Faces with truth: a folder, a zip, or a data set such as celeba:PATH#test; several joined by "+" are one set."""
    prior: Annotated[PriorSource | None, Parameter(name=["--prior", "-p"])] = None
    """A name or a file; by default celeba128."""
    high_size: int | None = None
    """Side in pixels of the faces that are compared; by default the prior's, 512 at most. Larger ones are shrunk by area."""
    preset: Preset = "equal"
    """"equal" (as many generator passes as RLSE's 100 steps and 16 draws) or "paper" (published settings)."""
    seed: int = 0
    """Of the run; each face's own is made from it and the picture's name."""
    kernel: Annotated[str, HIDDEN] = "bicubic"


@dataclass(frozen=True, kw_only=True, slots=True)
class TableSettings(FaceSettings):
    """A comparison by metrics, face by face."""

    metrics: Annotated[tuple[str, ...] | None, NAMES] = None
    """Names separated by commas; see `latentface metrics`."""
    limit: int | None = None
    """Take the first faces only."""
