"""A file from an address: resumed where it was cut off, checked, and at its place only when it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from latentface.errors import MissingDataError, OutputError, WeightsError
from latentface.io.atomic import check_folder, write_json

TIMEOUT = 30.0  # seconds without an answer
CHUNK = 1 << 20
MOST = 4 << 30  # bytes

Told = Callable[[int, int], None]  # bytes so far, and of the whole file (0: unknown)


def download(address: str, target: Path, sha256: str | None = None, told: Told = lambda done, whole: None) -> str:
    """Bring a file to `target` and return its sha256.

    What comes is kept in `target`.part, so that a further call goes on where this one was cut off, if the server still
    has the same file. Raises MissingDataError: the address does not answer, or the file is cut short. WeightsError: it
    has another sha256 than the one that is known, and is removed. OutputError: it cannot be written.
    """
    part, marks = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")
    check_folder(target.parent)
    try:
        _fetch(address, part, marks, told)
        with open(part, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 is not None and found != sha256:
            part.unlink()
            raise WeightsError(
                f"{address}: the file's sha256 is {found}, expected {sha256}; nothing was kept as {target}; fetch it from its authors"
            )
        part.replace(target)
        marks.unlink(missing_ok=True)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        why = getattr(error, "reason", None) or error
        raise MissingDataError(
            f"{address} does not answer ({why}); what has come is kept as {part}: try again, "
            f"or fetch it on another machine and put it to {target}"
        ) from None
    except OSError as error:
        raise OutputError(f"{target}: it cannot be written ({error.strerror or error})") from None
    return found


def _fetch(address: str, part: Path, marks: Path, told: Told) -> None:
    """Bring what is missing of a file behind what is there."""
    have, tag = (part.stat().st_size, _tag(marks, address)) if part.is_file() else (0, "")
    request = urllib.request.Request(address)
    if have and tag:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if goes_on else 0
        length = answer.headers.get("Content-Length", "")
        whole = have + int(length) if length.isdecimal() else 0
        if whole > MOST:
            raise MissingDataError(f"{address}: it has {whole / 1e9:.1f} GB, more than any file of this kind")
        etag = answer.headers.get("ETag", "")
        write_json(marks, {"address": address, "tag": "" if etag.startswith("W/") else etag})
        with open(part, "ab" if goes_on else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                told(have, whole)
                if have > MOST:
                    raise MissingDataError(f"{address}: it has more bytes than any file of this kind")
    if whole and have != whole:
        raise http.client.IncompleteRead(b"", whole - have)


def _tag(marks: Path, address: str) -> str:
    """Return the server's mark of the file of which a part is there; empty where there is none, or of another address."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = json.loads(marks.read_text(encoding="utf-8"))
        if found.get("address") == address:
            return str(found.get("tag", ""))
    return ""
