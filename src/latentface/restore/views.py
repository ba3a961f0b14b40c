"""What a screen shows of a picture: its faces with their numbers, previews, before and after, every face that was made."""

from collections.abc import Mapping
from typing import Any

from PIL import Image

from latentface.degradation import resize
from latentface.io.pictures import to_pillow
from latentface.restore.faceresult import Upscaled
from latentface.restore.photo import FoundFaces
from latentface.restore.photoresult import marked, viewed
from latentface.restore.upscaler import Found, Result

FACE = 512  # px of a face that is shown beside others
COLUMNS = {  # of a table of faces: what a record calls it, and its title
    "number": "Face",
    "upscaled": "Enlarged",
    "detail": "Pixels used",
    "consistency_db": "Consistency, dB",
    "best_step": "Best step",
    "reason": "Left because",
}
Captioned = list[tuple[Image.Image, str]]


def fitted(size: tuple[int, int], most: int) -> tuple[int, int]:
    """Return (W, H) of a picture of (H, W) px, shrunk where its longer side has more than `most`."""
    scale = min(1.0, most / max(size))
    return max(1, round(size[1] * scale)), max(1, round(size[0] * scale))


def numbered(found: Found, most: int) -> Image.Image | None:
    """Return a photograph of at most so many px a side, with a numbered box around each face; None where there is none."""
    if not isinstance(found, FoundFaces) or not found.detected[0]:
        return None
    faces = enumerate(found.detected[0], 1)
    return marked(found.photo, fitted(found.photo.size, most), faces)


def to_choose(found: Found) -> list[tuple[str, int]]:
    """Return the faces of a photograph that can be enlarged, each with its size in words, and its number."""
    jobs = found.jobs if isinstance(found, FoundFaces) else ()
    return [(f"{job.number} ({job.found.size:.0f} px)", job.number) for job in jobs]


def before_and_after(result: Result, most: int) -> tuple[Image.Image, Image.Image]:
    """Return the input, plainly enlarged, and the result, both of the same size and at most so many px a side."""
    if isinstance(result, Upscaled):
        side = min(most, max(result.high.shape[-1], FACE // 2))
        low = resize(result.low[None], side)[0].clamp(0, 1)
        pictures = [result.drawn(low), result.drawn(result.high)]
        size = (side, side)
    else:
        pictures = [result.photo, result.render()]
        size = fitted(pictures[1].size, most)
    before, after = (viewed(one, size, Image.Resampling.BICUBIC) for one in pictures)
    return before, after


def faces_made(result: Result) -> Captioned:
    """Return, of each face, the input, every candidate that was made of it, and where there are several their spread."""
    made: Captioned = []
    for face in [result] if isinstance(result, Upscaled) else result.faces:
        name = "Face" if isinstance(face, Upscaled) else f"Face {face.number}"
        made.append((_enlarged(to_pillow(face.low)), f"{name}: input"))
        several = len(face.samples) > 1
        for k, sample in enumerate(face.samples, 1):
            made.append((_enlarged(to_pillow(sample)), f"{name}: candidate {k}" if several else f"{name}: result"))
        if several:
            made.append((_enlarged(to_pillow(face.spread)), f"{name}: spread (bright where candidates differ)"))
    return made


def face_rows(record: Mapping[str, Any]) -> list[list[Any]]:
    """Return what a record says of each face, a row a face, under `COLUMNS`."""
    alone = {"number": 1, "upscaled": "reason" not in record, "detail": record.get("detail_size", [None])[0]}
    faces = sorted(record.get("faces", [alone | dict(record)]), key=lambda face: int(face["number"]))
    return [
        [("yes" if face["upscaled"] else "no") if k == "upscaled" else face.get(k) for k in COLUMNS] for face in faces
    ]


def _enlarged(face: Image.Image) -> Image.Image:
    """Return a face of FACE px a side; a small one by its own pixels."""
    return face.resize((FACE, FACE), Image.Resampling.NEAREST if face.width < FACE // 4 else Image.Resampling.LANCZOS)
