"""Names of priors -> files: the embedded one, the user's own, and those that can be fetched."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentface.errors import UnknownNameError, WeightsError

if TYPE_CHECKING:
    import torch

    from latentface.prior.prior import Prior

DEFAULT = "celeba64"
NOTICE_OF_USE = "the embedded weights are for research and non-commercial use only (trained on CelebA)"


@dataclass(frozen=True, slots=True)
class Published:
    """A prior with a name: its file inside the package."""

    name: str
    file: str

    @property
    def path(self) -> Path:
        """Where the file is."""
        return Path(str(resources.files("latentface.prior") / "bundled" / self.file))


PRIORS: dict[str, Published] = {p.name: p for p in (Published(DEFAULT, "celeba64.safetensors"),)}


def find_prior(source: str | Path | None = None) -> tuple[str, Path]:
    """Return a prior's name and path: of the embedded one, of a published name, or of the user's file.

    Raises:
        UnknownNameError: neither a published name nor a file.
        WeightsError: the embedded file is missing.
    """
    text = DEFAULT if source is None else str(source)
    if text in PRIORS:
        path = PRIORS[text].path
        if not path.exists():
            raise WeightsError(
                f"{path}: the embedded prior is missing; install latentface again, or name a file with -p"
            )
        return text, path
    path = Path(text).expanduser()
    if path.is_file():
        return path.stem, path
    if path.suffix or "/" in text:
        raise WeightsError(f"{text}: there is no such file")
    raise UnknownNameError("prior", text, PRIORS)


def load_prior(source: str | Path | None = None, device: str | torch.device = "cpu") -> Prior:
    """Load a prior: the embedded one by default, a published one by its name, or a file.

    Raises:
        UnknownNameError: no such name. WeightsError: no such file, or one that cannot be used.
    """
    from latentface.prior.prior import Prior

    name, path = find_prior(source)
    prior = Prior.read(path, name=name)
    return prior if str(device) == "cpu" else prior.to(device)


def describe_prior(source: str | Path | None = None) -> dict[str, Any]:
    """Return a prior's card, with its name, path and size, without loading its tensors. Raises as `load_prior`."""
    from latentface.images import sha256
    from latentface.prior.formats import read_card

    name, path = find_prior(source)
    return {
        "name": name,
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256(path.read_bytes()),
        **read_card(path),
    }
