"""Names of priors -> files: the embedded one, the user's own, and those that were published once.

`published.json` keeps the card and the figures of every prior that was ever in the package: a prior that is replaced
loses its file, and its figures stay in the table of `latentface models list`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentface.errors import InputError, UnknownNameError, WeightsError

if TYPE_CHECKING:
    import torch

    from latentface.prior.prior import Prior

DEFAULT = "celeba128"
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


EMBEDDED = Published(DEFAULT, "celeba128.safetensors")
PRIORS: dict[str, Published] = {p.name: p for p in (EMBEDDED,)}


def find_prior(source: str | Path | None = None) -> tuple[str, Path]:
    """Return a prior's name and path: of the embedded one, of a published name, or of the user's file.

    Raises:
        UnknownNameError: neither a published name nor a file. InputError: a prior that is no longer in the package.
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
    if text in published_cards():
        raise InputError(
            f"the prior {text} is no longer in the package, only its figures are (latentface models list); "
            f"use {DEFAULT}, or name a file of it with -p"
        )
    raise UnknownNameError("prior", text, PRIORS)


def load_prior(
    source: str | Path | None = None, device: str | torch.device = "cpu", judge: str | Path | None = None
) -> Prior:
    """Load a prior: the embedded one by default, a published one by its name, or a file.

    Args:
        judge: the prior whose discriminator judges, by name or file; "none" for no judge; None for the prior's own or,
            where its file has none, the embedded one, if its faces stand alike.

    Raises:
        UnknownNameError: no such name. WeightsError: no such file, or one that cannot be used.
        InputError: a judge of faces that stand otherwise.
    """
    from latentface.prior.judge import Judge
    from latentface.prior.prior import Prior

    name, path = find_prior(source)
    prior = Prior.read(path, name=name)
    if judge is None and prior.judge is None:
        embedded = Judge.read(EMBEDDED.path, name=EMBEDDED.name)
        if embedded.alignment == prior.alignment:
            prior = prior.with_judge(embedded)
    elif judge is not None:
        chosen = None if str(judge) == "none" else find_prior(judge)
        prior = prior.with_judge(chosen and Judge.read(chosen[1], name=chosen[0]))
    return prior if str(device) == "cpu" else prior.to(device)


@lru_cache(maxsize=1)
def published_cards() -> Mapping[str, dict[str, Any]]:
    """Return name -> card with figures, sha256 and size of the file, of each prior that is or was in the package."""
    held = resources.files("latentface.prior") / "published.json"
    cards: dict[str, dict[str, Any]] = json.loads(held.read_text(encoding="utf-8"))
    return cards


def describe_prior(source: str | Path | None = None) -> dict[str, Any]:
    """Return a prior's card, with its name, path and size, without loading its tensors.

    `sha256` is the one that results name (`formats.identity`), `file_sha256` the file's own. Figures are those in the
    card, else those that are kept of a published prior with that sha256. A prior that is no longer in the package is
    described by what is kept of it; its `path` is None.

    Raises:
        UnknownNameError: no such name. WeightsError: no such file, or one that cannot be used.
    """
    from latentface.images import sha256
    from latentface.prior.formats import FIGURES, identity, read_card

    if str(source) in published_cards() and str(source) not in PRIORS and not Path(str(source)).is_file():
        return {"name": str(source), "path": None, **published_cards()[str(source)]}
    name, path = find_prior(source)
    card = {
        "name": name,
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": identity(path),
        "file_sha256": sha256(path.read_bytes()),
        **read_card(path),
    }
    kept = next((c for c in published_cards().values() if c.get("sha256") == card["sha256"]), {})
    return card if FIGURES in card or FIGURES not in kept else {**card, FIGURES: kept[FIGURES]}


def describe_all() -> list[dict[str, Any]]:
    """Return `describe_prior` of the priors in the package and, after them, of those that are no longer in it."""
    return [describe_prior(name) for name in (*PRIORS, *(n for n in published_cards() if n not in PRIORS))]
