"""A result on disk: `NAME.png`, or of another format, what belongs beside it, and last `NAME.json`, which completes it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from latentface import __version__
from latentface.io.atomic import read_bytes, sha256, write_json
from latentface.io.pictures import write_picture
from latentface.io.records import begin_result, beside, faces_folder, text_chunks
from latentface.restore.faceresult import Upscaled
from latentface.restore.photoresult import PhotoUpscaled


def write_result(
    path: Path,
    result: Upscaled | PhotoUpscaled,
    record: Mapping[str, Any],
    more: Mapping[str, Image.Image],
    *,
    compare: bool = False,
    faces: bool = False,
    quality: int = 92,
) -> None:
    """Write NAME.png, with several samples NAME-1.png ... and NAME-spread.png, and last NAME.json. Raises OutputError.

    The name's ending is the format of all pictures; `quality`: of JPEG and WebP. `more`: further pictures beside it, such as "steps" for NAME-steps.png; `compare`, `faces`: of a photograph,
    NAME-compare.png and NAME-faces/01.png ....
    """
    chunks = text_chunks(record)
    if isinstance(result, PhotoUpscaled):
        _write_photo(path, result, chunks, compare, quality)
    else:
        begin_result(path)
        result.drawn(result.high).save(path, chunks, quality)
        if len(result.samples) > 1:
            for k, sample in enumerate(result.samples, 1):
                result.drawn(sample).save(beside(path, str(k)), chunks, quality)
            write_picture(beside(path, "spread"), result.spread, chunks, quality=quality)
    for what, picture in more.items():
        write_picture(beside(path, what), picture, chunks, quality=quality)
    if faces and isinstance(result, PhotoUpscaled):
        result.save_faces(faces_folder(path), path.suffix, quality)
    write_json(path.with_suffix(".json"), {"version": __version__, **record})


def write_all(folder: Path, source: Path, result: Upscaled | PhotoUpscaled, ending: str) -> list[Path]:
    """Write a result of a file as SOURCE-large.ENDING into a folder, with everything that belongs to it.

    Returns the picture's path first, then its record's and the others'. Raises OutputError.
    """
    path = folder / f"{source.stem[:80]}-large.{ending}"
    known = {"input": source.name, "input_sha256": sha256(read_bytes(source))}
    write_result(path, result, {**known, **result.record, "format": ending}, {}, compare=True, faces=True)
    others = sorted(other for other in folder.rglob("*") if other.is_file() and other != path)
    return [path, *sorted(others, key=lambda other: other.suffix != ".json")]


def _write_photo(path: Path, result: PhotoUpscaled, chunks: Mapping[str, str], compare: bool, quality: int) -> None:
    several = result.count > 1
    plain = result.enlarged() if several and result.background is not None else None  # a network's costs minutes
    after = result.render(on=plain)
    begin_result(path)
    after.save(path, chunks, quality)
    if compare:
        write_picture(beside(path, "compare"), result.comparison(after), chunks, quality=quality)
    del after
    if several:
        for k in range(result.count):
            result.render(k, plain).save(beside(path, str(k + 1)), chunks, quality)
        result.render_spread().save(beside(path, "spread"), chunks, quality)
