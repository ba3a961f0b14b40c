"""PSNR = -10 log10 mean (a - b)^2 in dB, over RGB or on the luma Y."""

import torch
from torch import Tensor

from latentface.metrics.luma import check_pair, luma, wide

LEAST_ERROR = 1e-15  # a smaller mean square counts as this: equal pictures have 150 dB, and means stay finite


def psnr(result: Tensor, truth: Tensor) -> Tensor:
    """Return the PSNR over all three channels, (B,) in dB, at most 150; peak 1, no border cut, nothing rounded.

    Raises InputError: the sizes differ.
    """
    check_pair(result, truth)
    return _decibels(result, truth)


def psnr_y(result: Tensor, truth: Tensor) -> Tensor:
    """Return the PSNR on the luma Y of `luma`, (B,) in dB, at most 150; peak 1 (255 of 255), no border cut.

    Y's studio swing spans 219 of 255 steps, so a grey error has 1.3 dB more than over RGB.

    Raises InputError: the sizes differ.
    """
    check_pair(result, truth)
    return _decibels(luma(wide(result)), luma(wide(truth)))


def _decibels(a: Tensor, b: Tensor) -> Tensor:
    error = (wide(a) - wide(b)).square().mean((1, 2, 3))
    return (-10 * torch.log10(error.clamp_min(LEAST_ERROR))).float()
