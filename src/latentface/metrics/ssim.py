"""SSIM after Wang, Bovik, Sheikh and Simoncelli (2004), on the luma Y."""

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.errors import InputError
from latentface.metrics.luma import check_pair, luma, wide

WINDOW, SIGMA = 11, 1.5


def ssim(result: Tensor, truth: Tensor) -> Tensor:
    """Return the mean structural similarity on Y, (B,) in [-1, 1], 1 for equal pictures.

    Equation 13 of the paper with its Gaussian window (11 px, sigma 1.5, population moments), where the window lies
    wholly inside the picture, averaged. Differentiable.

    Raises InputError: the sizes differ, or a side is below 11 px.
    """
    check_pair(result, truth)
    if min(result.shape[-2:]) < WINDOW:
        raise InputError(
            f"SSIM's window is {WINDOW} px wide, got pictures of {tuple(result.shape[-2:])}; give larger ones"
        )
    x, y = luma(wide(result)), luma(wide(truth))  # (B, 1, H, W)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x.square()
    var_y = _blur(y * y) - mean_y.square()
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    score = score / ((mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2))
    return score.mean((1, 2, 3)).float()


def _blur(x: Tensor) -> Tensor:
    at = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weights = torch.exp(-at.square() / (2 * SIGMA**2))
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(x, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
