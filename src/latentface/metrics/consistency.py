"""What a result owes its input (consistency) and what it adds to it (null-space cosine)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentface.errors import InputError
from latentface.io.pictures import check_batch
from latentface.metrics.luma import check_pair, wide
from latentface.metrics.psnr import psnr

if TYPE_CHECKING:
    from latentface.degradation import Degradation

NOTHING = 1e-5  # a root mean square below this is rounding, not detail


def consistency(result: Tensor, low: Tensor, degradation: Degradation) -> Tensor:
    """Return the PSNR between the input and the result shrunk again, A Y, (B,) in dB, at most 150.

    Args:
        result: (B, 3, H, W); low: (B, 3, h, w), both in [0, 1].

    Raises InputError: the result is not of the degradation's high size, or shrunk it is not of the input's.
    """
    check_batch(result, "result")
    _check_size(result, degradation, "result")
    again = degradation.forward(result)
    check_pair(again, low, ("the result shrunk again", "low"))
    return psnr(again, low)


def null_space_cosine(result: Tensor, truth: Tensor, degradation: Degradation) -> Tensor:
    """Return the cosine between the detail that was invented and the detail that was lost, (B,) in [-1, 1].

    Detail is the part of a picture that its small version says nothing about, Y - A+ A Y. 1: the invention is the
    truth; 0: it has nothing to do with it, or there is none.

    Args:
        result, truth: (B, 3, H, W) in [0, 1], of the degradation's high size.

    Raises InputError: the sizes differ, or are not the degradation's.
    """
    check_pair(result, truth)
    _check_size(result, degradation, "result")
    a, b = (_detail(pictures, degradation) for pictures in (result, truth))
    norms = a.norm(dim=1), b.norm(dim=1)
    least = NOTHING * a.shape[1] ** 0.5
    cosine = (a * b).sum(1) / (norms[0] * norms[1]).clamp_min(1e-30)
    return torch.where((norms[0] > least) & (norms[1] > least), cosine.clamp(-1, 1), 0).float()


def _detail(pictures: Tensor, degradation: Degradation) -> Tensor:
    return wide(pictures - degradation.pinv(degradation.forward(pictures))).flatten(1)


def _check_size(pictures: Tensor, degradation: Degradation, name: str) -> None:
    if tuple(pictures.shape[-2:]) != tuple(degradation.high_size):
        raise InputError(
            f"{name} has the size {tuple(pictures.shape[-2:])} and the degradation shrinks {tuple(degradation.high_size)}; give the degradation that made the input"
        )
