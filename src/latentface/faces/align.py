"""From five landmarks to an oriented square: the FFHQ rule, CelebA's, and the crop they give."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from latentface.errors import InputError, UnknownNameError
from latentface.faces.resample import resample
from latentface.faces.similarity import Similarity

LANDMARKS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")  # left as the viewer sees it

# Mean landmarks of CelebA's aligned pictures of 178 x 218 px, and the square that is cut from their middle.
CELEBA_LANDMARKS = ((69.74, 111.94), (108.69, 111.94), (89.21, 135.21), (72.11, 152.55), (105.36, 152.55))
CELEBA_SQUARE = (0.0, 20.0, 178.0)  # left, top, side


def _landmarks(landmarks: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise InputError(
            f"landmarks: got shape {points.shape}, expected 5 finite points (5, 2): {', '.join(LANDMARKS)}, in pixels"
        )
    return points


def ffhq_transform(landmarks: ArrayLike) -> Similarity:
    """Return FFHQ's oriented square (Karras et al. 2019, appendix A and the data set's own `recreate_aligned_images`).

    With e the vector between the eyes and m the one from the eyes' middle to the mouth's: the square's axis points along
    e - rot90(m), its half side is max(2 |e|, 1.8 |m|), its centre lies 0.1 m below the eyes' middle.

    Args:
        landmarks: (5, 2), the order of `LANDMARKS`, edge coordinates in pixels. The nose is not used.

    Raises InputError: another shape, or points that coincide.
    """
    left, right, _, mouth_left, mouth_right = _landmarks(landmarks)
    eyes, eye_to_eye = (left + right) / 2, right - left
    eye_to_mouth = (mouth_left + mouth_right) / 2 - eyes
    axis = eye_to_eye + np.array([eye_to_mouth[1], -eye_to_mouth[0]])
    length = float(np.hypot(*axis))
    if length < 1e-9:
        raise InputError("landmarks: the eyes and the mouth coincide, so there is no square; leave this face out")
    half = max(float(np.hypot(*eye_to_eye)) * 2.0, float(np.hypot(*eye_to_mouth)) * 1.8)
    centre = eyes + 0.1 * eye_to_mouth
    return Similarity.square((float(centre[0]), float(centre[1])), 2 * half, math.degrees(math.atan2(axis[1], axis[0])))


def fit_similarity(source: ArrayLike, target: ArrayLike) -> Similarity:
    """Return the similarity that brings the points `source` (N, 2) nearest to `target` (N, 2) in least squares (Umeyama 1991).

    Raises InputError: shapes that differ, or points that coincide.
    """
    s, t = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if s.shape != t.shape or s.ndim != 2 or s.shape[1] != 2 or len(s) < 2:
        raise InputError(f"points: got {s.shape} and {t.shape}, expected two lists (N, 2) of the same length, N >= 2")
    sc, tc = s.mean(0), t.mean(0)
    p, q = (s - sc) @ np.array([1, 1j]), (t - tc) @ np.array([1, 1j])  # the plane's similarities are complex products
    spread = float((np.abs(p) ** 2).sum())
    if spread < 1e-12 or float((np.abs(q) ** 2).sum()) < 1e-12:
        raise InputError("points: all points of one list coincide, so there is no similarity; check the landmarks")
    k = complex((np.conj(p) * q).sum() / spread)
    shift = complex(tc[0], tc[1]) - k * complex(sc[0], sc[1])
    return Similarity(k.real, k.imag, shift.real, shift.imag)


def celeba_transform(landmarks: ArrayLike) -> Similarity:
    """Return the 178 px middle square of CelebA's aligned pictures (Liu et al. 2015), fitted to all five landmarks.

    Raises as `ffhq_transform`.
    """
    left, top, side = CELEBA_SQUARE
    unit = (np.array(CELEBA_LANDMARKS) - (left, top)) / side
    return fit_similarity(unit, _landmarks(landmarks))


# Mean eyes and mouth corners of faces that were squared by the FFHQ rule, in units of the square.
FFHQ_LANDMARKS = ((0.37656, 0.47656), (0.63281, 0.47656), (0.39219, 0.74375), (0.61094, 0.74375))


def ffhq_fit(landmarks: ArrayLike) -> Similarity:
    """Return about the same square as `ffhq_transform` by a fit of all four points: a detector's errors weigh less.

    The nose is not used. Raises as `ffhq_transform`.
    """
    return fit_similarity(FFHQ_LANDMARKS, _landmarks(landmarks)[[0, 1, 3, 4]])


def landmarks_of(alignment: str) -> NDArray[np.float64]:
    """Return where an aligned face has its eyes and mouth corners, (4, 2) in units of its square."""
    if alignment == "ffhq":
        return np.array(FFHQ_LANDMARKS)
    left, top, side = CELEBA_SQUARE
    return (np.array(CELEBA_LANDMARKS)[[0, 1, 3, 4]] - (left, top)) / side


ALIGNMENTS: dict[str, Callable[[ArrayLike], Similarity]] = {"ffhq": ffhq_transform, "celeba": celeba_transform}


def align(landmarks: ArrayLike, alignment: str = "ffhq") -> Similarity:
    """Return the oriented square of five landmarks by a prior's `alignment`.

    Raises UnknownNameError: an alignment that is not in `ALIGNMENTS`. InputError: landmarks that give no square.
    """
    if alignment not in ALIGNMENTS:
        raise UnknownNameError("alignment", alignment, ALIGNMENTS)
    return ALIGNMENTS[alignment](landmarks)


def crop(photo: Tensor, transform: Similarity, size: int) -> tuple[Tensor, Tensor]:
    """Cut an oriented square out of a photograph, antialiased where it shrinks.

    Beyond the photograph's border nothing is repeated or mirrored: those pixels take the crop's median colour and are
    False in the mask. Where the square shrinks 4 times or more, whole blocks of pixels are averaged first.

    Returns the picture (3, size, size) in [0, 1] and the mask (1, size, size), True where the photograph was. Raises
    InputError: a square that lies wholly outside the photograph.
    """
    _, height, width = photo.shape
    ratio = transform.scale / size
    block = max(1, int(ratio / 2))
    reach = 4 * ratio + block  # the filter's, in pixels of the photograph
    low = np.floor((transform.corners.min(0) - reach).clip(0) / block).astype(int) * block
    high = np.ceil(np.minimum(transform.corners.max(0) + reach, (width, height))).astype(int)
    if (high <= low).any():
        raise InputError(f"the square about {transform.centre} lies outside the photograph of {width} x {height} px")
    region = photo[:, low[1] : high[1], low[0] : high[0]]
    if block > 1:
        region = F.avg_pool2d(region[None], block, ceil_mode=True)[0]
    local = transform.shifted(-low[0], -low[1]).scaled(1 / block)
    picture, mask = resample(region, local.pixels(size), (0, 0, size, size))
    if not bool(mask.any()):
        raise InputError(f"the square about {transform.centre} lies outside the photograph of {width} x {height} px")
    fill = picture[:, mask[0]].median(1).values  # (3,)
    return torch.where(mask, picture.clamp(0, 1), fill[:, None, None].clamp(0, 1)), mask
