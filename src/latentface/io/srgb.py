"""Colours of PNGs that state their own curve (gAMA) and primaries (cHRM), brought to sRGB, which all others mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x, y of white, red, green, blue
GAMMA = 1 / 2.2  # what files with sRGB's curve state
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
ROWS = 256  # of a picture at a time


def as_srgb(pixels: NDArray[Any], info: Mapping[Any, Any], top: int) -> NDArray[Any]:
    """Return pixels (H, W, 1 or 3) from 0 to `top` in sRGB; `info` is Pillow's, with the chunks' numbers.

    An ICC profile and the sRGB chunk go before gAMA and cHRM, as the PNG specification has it. Numbers that make no sense
    are passed over.
    """
    if "srgb" in info or isinstance(info.get("icc_profile"), bytes):
        return pixels
    gamma = info.get("gamma")
    gamma = gamma if isinstance(gamma, float) and 0.1 <= gamma <= 5 and abs(gamma - GAMMA) > 0.005 else None
    matrix = _to_srgb(info.get("chromaticity")) if pixels.shape[2] == 3 else None
    if gamma is None and matrix is None:
        return pixels
    made = np.empty_like(pixels)
    for first in range(0, len(pixels), ROWS):
        light = pixels[first : first + ROWS].astype(np.float32) / top
        light = _linear(light) if gamma is None else light ** np.float32(1 / gamma)
        if matrix is not None:
            light = (light @ matrix.T.astype(np.float32)).clip(0, 1)
        made[first : first + ROWS] = (_encoded(light) * top).round()
    return made


def _linear(values: NDArray[Any]) -> NDArray[Any]:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _encoded(light: NDArray[Any]) -> NDArray[Any]:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _to_srgb(stated: object) -> NDArray[np.float64] | None:
    """Return the matrix (3, 3) from light in stated primaries to light in sRGB's; None where they are the same."""
    try:
        numbers = np.array(stated, dtype=np.float64)
        if numbers.shape != (8,) or np.abs(numbers - SRGB).max() < 0.002:
            return None
        with np.errstate(all="ignore"):
            own, white = _to_xyz(numbers)
            theirs, target = _to_xyz(np.array(SRGB))
            adapted = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ target) / (BRADFORD @ white)) @ BRADFORD
            matrix = np.linalg.inv(theirs) @ adapted @ own
    except (TypeError, ValueError, np.linalg.LinAlgError):
        return None
    return matrix if np.isfinite(matrix).all() and np.abs(matrix).max() < 20 else None


def _to_xyz(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrix from RGB to XYZ, and the white point's XYZ, of luminance 1."""
    x, y = numbers[0::2], numbers[1::2]
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])  # (3, 4): white, red, green, blue
    return xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0]), xyz[:, 0]
