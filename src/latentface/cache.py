"""Where what is made or fetched once is kept (LATENTFACE_CACHE, or the user's cache folder), and whether it may be fetched."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return the folder; it need not exist."""
    named = os.environ.get("LATENTFACE_CACHE") or platformdirs.user_cache_dir("latentface", appauthor=False)
    return Path(named).expanduser()


def made_of_prior(kind: str, prior_sha256: str, words: str) -> Path:
    """Return the file of something of one kind that was made of a prior, as `words` say how."""
    return cache_folder() / kind / f"{prior_sha256}-{hashlib.sha256(words.encode()).hexdigest()[:12]}.safetensors"


def is_offline() -> bool:
    """Say whether LATENTFACE_OFFLINE forbids to fetch anything."""
    return os.environ.get("LATENTFACE_OFFLINE", "") not in ("", "0")
