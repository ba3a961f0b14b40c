"""Where what is made or fetched once is kept (LATENTFACE_CACHE, or the user's cache folder), and whether it may be fetched."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from latentface.errors import OutputError
from latentface.io.atomic import write_bytes

if TYPE_CHECKING:
    from torch import Tensor


def cache_folder() -> Path:
    """Return the folder; it need not exist."""
    named = os.environ.get("LATENTFACE_CACHE") or platformdirs.user_cache_dir("latentface", appauthor=False)
    return Path(named).expanduser()


def made_of_prior(kind: str, prior_sha256: str, words: str) -> Path:
    """Return the file of something of one kind that was made of a prior, as `words` say how."""
    return cache_folder() / kind / f"{prior_sha256}-{hashlib.sha256(words.encode()).hexdigest()[:12]}.safetensors"


_making = threading.RLock()
unwritable: set[Path] = set()  # caches of which the user has been told that they cannot be written


def _tell_unwritable(error: OutputError) -> None:
    """Say once that the cache cannot be written, and what follows."""
    folder = cache_folder()
    if folder not in unwritable:
        unwritable.add(folder)
        reason = getattr(error.__cause__, "strerror", None) or error
        logging.getLogger("latentface").warning(
            f"the cache {folder} cannot be written ({reason}): what is made of a prior at first use is made again in each run; "
            "name another folder with the environment variable LATENTFACE_CACHE"
        )


def kept(
    path: Path | None, make: Callable[[], dict[str, Tensor]], check: Callable[[dict[str, Tensor]], object]
) -> dict[str, Tensor]:
    """Return the tensors that a cache file holds, made and kept there at first use.

    A broken file is made again; a cache that cannot be written costs the making each time, and is told once. Threads wait for each other, so
    that what one makes the others read. `check` raises KeyError, ValueError or RuntimeError where the tensors are not
    as `make` gives them. With the path None nothing is kept.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    with _making:
        if path is not None:
            with contextlib.suppress(OSError, SafetensorError, KeyError, ValueError, RuntimeError):
                held: dict[str, Tensor] = load(path.read_bytes())
                check(held)
                return held
        made = {name: value.cpu().contiguous() for name, value in make().items()}
        if path is not None:
            try:
                write_bytes(path, save(made))
            except OutputError as error:
                _tell_unwritable(error)
        return made


def is_offline() -> bool:
    """Say whether LATENTFACE_OFFLINE forbids to fetch anything."""
    return os.environ.get("LATENTFACE_OFFLINE", "") not in ("", "0")


FOLDERS = ("priors", "downloads", "weights", "banks", "metrics", "flows")  # what of the cache is made or fetched again


def cached_files() -> list[Path]:
    """Return the files that are made or fetched again when they are missed, by their names; pins are none of them."""
    folders = (cache_folder() / name for name in FOLDERS)
    return sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file())


def clear_cache() -> int:
    """Remove `cached_files`; return how many bytes they had. Raises OutputError: one of them cannot be removed."""
    done = 0
    for path in cached_files():
        try:
            size = path.stat().st_size
            path.unlink()
        except OSError as error:
            raise OutputError(f"{path}: it cannot be removed ({error.strerror})") from None
        done += size
    return done
