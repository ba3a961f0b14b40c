"""Results on disk: `NAME.png`, what belongs beside it, then `NAME.json`, whose presence says that the result is complete.

A result may have another of the endings that are written, and what stands beside it has the same: its samples NAME-1.png
..., NAME-spread.png, NAME-compare.png, NAME-steps.png and, of a photograph, NAME-faces/01.png .... Each says in its text
that this package wrote it, so that a picture of the user's that happens to have such a name is neither replaced nor
removed.
"""

import contextlib
import itertools
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from latentface import __version__
from latentface.errors import OutputError
from latentface.io.atomic import check_name
from latentface.io.metadata import ours_in
from latentface.io.pictures import FORMATS

# Facts about one run, which two runs of the same request may differ in; of equal others the results are equal.
_INCIDENTAL = frozenset(
    {"seconds", "device", "steps_dtype", "threads", "batch", "version", "consistency_db", "best_step", "input"}
)


def text_chunks(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the text for a picture: the notice where every viewer shows it, and the whole record."""
    full = {"version": __version__, **record}
    return {
        "Software": f"latentface {__version__}",
        "Comment": str(record.get("notice", "")),
        "latentface": json.dumps(full),
    }


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record of a result: from its JSON, or None where there is none or no readable one."""
    try:
        value = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _chunks(path: Path) -> dict[str, str]:
    """Return the text in a picture; none of what is not readable, or of a format that is not written."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        return {}
    Image.init()
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Unlike Image.open without a limit: results may be large. Pixels are not decoded.
            return ours_in(Image.OPEN[kind][0](file, str(path)))
    except Exception:  # Pillow's decoders raise many on broken files
        return {}


def _record_in_picture(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(_chunks(path).get("latentface", ""))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def is_done(path: Path, expected: Mapping[str, Any], *, overwrite: bool = False) -> bool:
    """Say whether `path` (such as NAME.png) and its JSON hold the result of the same request, not to be made again.

    A picture of the same request whose JSON is missing was cut off between the two: it is not done. Raises OutputError:
    what stands there is none of this package's results, or one of other settings that may not be overwritten.
    """
    record = read_record(path)
    there = os.path.exists(path)  # unlike Path.exists, silent on a name that is too long: writing it tells why
    if not there and not os.path.exists(path.with_suffix(".json")):
        return False
    complete = record is not None
    inside = record  # what the picture itself is known by
    if record is None or (there and record.get("format", "png") != path.suffix.lower()[1:]):
        inside = _record_in_picture(path)  # the JSON is missing, or another file's
    record = record if complete else inside
    if record is None or inside is None or not {"input_sha256"} <= record.keys() & inside.keys():
        raise OutputError(f"{path}: another picture or file of that name is there; use another -o")
    if _matches(record, expected):
        return there and complete and not overwrite
    if overwrite:
        return False
    raise OutputError(f"{path}: a result of other settings is there; use --overwrite, or another -o")


def _matches(record: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    plain = json.loads(json.dumps(expected))  # tuples become lists, as in a file
    record = {"format": "png", **record}  # what older records mean
    return all(record.get(k) == v for k, v in plain.items() if k not in _INCIDENTAL)


def beside(path: Path, what: str) -> Path:
    """Return the path of NAME-WHAT.png beside NAME.png, of whatever ending."""
    return path.with_name(f"{path.stem}-{what}{path.suffix}")


def faces_folder(path: Path) -> Path:
    """Return the folder of a photograph's faces, NAME-faces beside NAME.png."""
    return path.with_name(f"{path.stem}-faces")


def check_beside(path: Path, samples: int = 1, names: Iterable[str] = (), *, faces: bool = False) -> None:
    """Check that what will be written beside a result at NAME.png replaces nothing but older results.

    From 2 on each of the samples is written, and their spread; `names` says what else ("compare", "steps"), `faces`
    whether a folder of faces is. Raises OutputError: another picture stands there, and must not be overwritten in
    silence; or a name is too long.
    """
    several = [*map(str, range(1, samples + 1)), "spread"] if samples > 1 else []
    places = [beside(path, name) for name in (*several, *names)]
    for place in (path, path.with_suffix(".json"), *places, *([faces_folder(path)] if faces else [])):
        check_name(place)
    for place in (*places, *(_numbered_faces(path) if faces else ())):
        if os.path.lexists(place) and not _is_beside(place):
            raise OutputError(f"{place}: another picture is there; use another -o")


def begin_result(path: Path) -> None:
    """Take away what an older result left at NAME.png and beside it, so that nothing of it stands with a newer picture.

    A result of another format, and what stands beside it, goes too. Raises OutputError: something cannot be taken away.
    """
    record = path.with_suffix(".json")
    older = [record, *_older(path)]
    before = read_record(path) or {}
    former = path.with_suffix(f".{before.get('format', 'png')}")
    if "input_sha256" in before and former.suffix != path.suffix.lower() and _record_in_picture(former):
        older += [former, *_older(former)]
    for old in older:
        try:
            old.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{old}: it cannot be replaced ({error.strerror or type(error).__name__})") from None


def _older(path: Path) -> Iterator[Path]:
    """Yield the pictures beside a result that this package wrote there. Names are asked for: a folder may hold millions."""
    yield from (p for what in ("spread", "compare", "steps") if _is_beside(p := beside(path, what)))
    samples = itertools.takewhile(os.path.lexists, (beside(path, str(k)) for k in itertools.count(1)))
    yield from filter(_is_beside, itertools.chain(samples, _numbered_faces(path)))


def _numbered_faces(path: Path) -> Iterator[Path]:
    """Yield a photograph's faces as they lie in their folder, 01.png and so on; some numbers may be left out."""
    folder, names = faces_folder(path), list[str]()
    with contextlib.suppress(OSError):  # there is none, or it cannot be read: writing into it tells why
        names = sorted(os.listdir(folder))
    return (folder / name for name in names if re.fullmatch(rf"\d{{2,}}{re.escape(path.suffix)}", name))


def _is_beside(path: Path) -> bool:
    """Say whether this package wrote the picture and it is no result of its own, which has a record."""
    own = _chunks(path).get("Software", "").startswith("latentface ")
    return own and not os.path.lexists(path.with_suffix(".json"))
