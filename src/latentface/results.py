"""Results on disk: `NAME.png`, then `NAME.json`, whose presence says that the result is complete."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import PngImagePlugin

from latentface import __version__
from latentface.errors import OutputError
from latentface.images import write_json, write_picture

if TYPE_CHECKING:
    from latentface.restore import Upscaled

# Facts about one run, which two runs of the same request may differ in.
_INCIDENTAL = frozenset({"seconds", "device", "version", "consistency_db", "best_step", "input"})


def text_chunks(record: Mapping[str, Any]) -> dict[str, str]:
    """Return a PNG's text chunks: the notice where every viewer shows it, and the whole record."""
    full = {"version": __version__, **record}
    return {
        "Software": f"latentface {__version__}",
        "Comment": str(record.get("notice", "")),
        "latentface": json.dumps(full),
    }


def request_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a record names the input and the settings: equal requests give equal results."""
    plain: dict[str, Any] = json.loads(json.dumps(record))  # tuples become lists, as in a file
    return {k: v for k, v in plain.items() if k not in _INCIDENTAL}


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record of a result: from its JSON, or None where there is none or no readable one."""
    try:
        value = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _record_in_picture(path: Path) -> dict[str, Any] | None:
    try:
        with PngImagePlugin.PngImageFile(path) as picture:  # unlike Image.open without a limit: results may be large
            value = json.loads(picture.info.get("latentface", ""))
    except (OSError, ValueError, SyntaxError):
        return None
    return value if isinstance(value, dict) else None


def is_done(path: Path, expected: Mapping[str, Any]) -> bool:
    """Say whether `path` (NAME.png) and its JSON hold the result of the same request.

    A picture of the same request whose JSON is missing was cut off between the two: it is not done, and may be
    written again.

    Raises:
        OutputError: something else stands there, and must not be overwritten in silence.
    """
    record = read_record(path)
    there = os.path.exists(path)  # unlike Path.exists, silent on a name that is too long: writing it tells why
    if not there and record is None:
        if os.path.exists(path.with_suffix(".json")):
            raise OutputError(f"{path.with_suffix('.json')}: another file is there; use --overwrite, or another -o")
        return False
    if record is None:
        record = _record_in_picture(path)
        if record is not None and _matches(record, expected):
            return False
    if record is not None and _matches(record, expected):
        return there
    raise OutputError(f"{path}: another picture or a result of other settings is there; use --overwrite, or another -o")


def _matches(record: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    request = request_of(expected)
    return all(record.get(k) == v for k, v in request.items())


def begin_result(path: Path) -> None:
    """Take away the record of an older result at NAME.png, so that it never stands beside a newer picture.

    Raises:
        OutputError: it cannot be taken away.
    """
    try:
        path.with_suffix(".json").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path.with_suffix('.json')}: it cannot be replaced ({error.strerror or type(error).__name__})"
        ) from None


def save_result(path: Path, result: Upscaled, record: Mapping[str, Any]) -> list[Path]:
    """Write NAME.png, with several samples NAME-1.png ... and NAME-spread.png, and last NAME.json.

    Raises:
        OutputError: one of them cannot be written.
    """
    chunks = text_chunks(record)
    written = [path]
    begin_result(path)
    write_picture(path, result.high, chunks)
    if len(result.all_samples) > 1:
        for k, sample in enumerate(result.all_samples, 1):
            written.append(path.with_name(f"{path.stem}-{k}.png"))
            write_picture(written[-1], sample, chunks)
        written.append(path.with_name(f"{path.stem}-spread.png"))
        write_picture(written[-1], result.spread, chunks)
    write_json(path.with_suffix(".json"), {"version": __version__, **record})
    return written
