"""How many pixels of detail a small face holds, which may be fewer than it has pixels.

Faces that were enlarged, out of focus or coded hard are soft. Searched with all its pixels, such a face becomes a large
face that shrinks to a soft one, which is soft itself. So it is shrunk until its finest detail is as strong as a sharp
face's, and the search adds what is finer.

The measure is the power of the luma's cosine transform in rings of equal frequency, k half waves a side. In sharp faces
ring k has 3.2 / k^2 of the power of the coarse rings 2 to 6.
"""

# s the picture's side, k a ring: half waves a side

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from torch import Tensor

from latentface.errors import InputError
from latentface.io.pictures import LUMA

SHARE, FALL = 3.2, 2.0  # ring k of a sharp face: SHARE * k ** -FALL of the coarse rings' power
COARSE = (2, 7)  # rings from, to (without)
FINEST = (0.6, 0.85)  # of a side: its finest rings but the very last, which an antialiased shrinking dims
SHARP = 0.2  # share of a sharp face's power in its finest rings that a face must have
CUT = 0.5  # share of the noise's power that is left in the finest rings of a face cut out between the pixels
# px: the sides that soft faces are shrunk to, six an octave, so that faces of a folder share batches; none softer is told apart
LADDER = tuple(round(8 * 2 ** (k / 6)) for k in range(43))


def detail_side(picture: Tensor, sigma: float = 0.0, side: int | None = None) -> int:
    """Return the side in pixels that holds all of an aligned face's detail: its own where it is sharp, else one of `LADDER`.

    Args:
        picture: (3, s, s) in [0, 1], a face in FFHQ's or CelebA's alignment.
        sigma: standard deviation of its luma's noise, in units of the full grey range, whose power is no detail.
        side: how many pixels it has, where it was cut out of a photograph on a finer grid; at most s. A cut between the
            pixels dims the finest detail, the more, the nearer it is to half a pixel: a grid twice as fine meets both.

    Raises InputError: not a square picture.
    """
    if picture.ndim != 3 or picture.shape[0] != 3 or picture.shape[1] != picture.shape[2]:
        raise InputError(f"picture: got {tuple(picture.shape)}, expected a square face (3, s, s) in [0, 1]")
    power = ring_power(picture)
    if side is None:
        side, kept = len(power), 1.0
    else:
        kept = CUT
    # Where there is little but noise a ring may come out below 0: clamped one by one, rings would keep the noise's luck.
    power[:side] -= kept * (sigma / side) ** 2 * np.bincount(_rings(side))[:side]
    shares = {s: finest_share(power, s) for s in (side, *(s for s in reversed(LADDER) if s < side))}
    usual = min(1.0, max(shares.values()))  # strong light or a bright background makes every fine ring's share small
    return next(s for s, share in shares.items() if share >= SHARP * usual)


def ring_power(picture: Tensor) -> NDArray[np.float64]:
    """Return the luma's power in rings 0 to s - 1 of its cosine transform, for a picture (3, s, s)."""
    luma = (picture.double().cpu() * picture.new_tensor(LUMA).double().cpu()[:, None, None]).sum(0).numpy()
    waves = dctn(luma, norm="ortho") / len(luma)  # amplitudes that do not grow with the side
    return np.bincount(_rings(len(luma)), np.square(waves).ravel())[: len(luma)].astype(np.float64)


def _rings(side: int) -> NDArray[np.int64]:
    """Return the ring of each wave of a picture of `side` px, row by row."""
    k = np.arange(side)
    return np.rint(np.hypot(k[:, None], k)).astype(np.int64).ravel()


def finest_share(power: NDArray[np.float64], side: int) -> float:
    """Return the power of the finest rings that a picture of `side` px shows, as a share of a sharp face's."""
    first = round(FINEST[0] * side)
    rings = np.arange(first, max(first + 1, round(FINEST[1] * side)))
    expected = SHARE * float((rings**-FALL).sum()) * power[slice(*COARSE)].sum()
    return max(0.0, float(power[rings].sum() / expected)) if expected > 0 else 1.0
