"""What every pixel metric shares: the check that two batches belong together, and the luma Y."""

import torch
from torch import Tensor

from latentface.errors import InputError
from latentface.io.pictures import LUMA, check_batch


def check_pair(result: Tensor, truth: Tensor, names: tuple[str, str] = ("result", "truth")) -> None:
    """Raise InputError unless both are picture batches (B, 3, H, W) of one shape; the message names both sizes."""
    with torch.no_grad():  # the check reads values; a search asks for slopes
        check_batch(result, names[0])
        check_batch(truth, names[1])
    if result.shape != truth.shape:
        raise InputError(
            f"{names[0]} has the size {tuple(result.shape)} and {names[1]} {tuple(truth.shape)}, expected one size (B, 3, H, W); resample or cut one of them first"
        )


def wide(tensor: Tensor) -> Tensor:
    """Return float64 where the device has it (Apple's MPS has not), else float32."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def luma(pictures: Tensor) -> Tensor:
    """Return the luma Y of RGB pictures: (B, 3, H, W) in [0, 1] -> (B, 1, H, W) in [16/255, 235/255].

    ITU-R BT.601, studio swing, as MATLAB's rgb2ycbcr and the super-resolution field have it:
    Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255. Nothing is rounded.
    """
    weights = pictures.new_tensor([219 * weight for weight in LUMA]).view(1, 3, 1, 1)
    return ((weights * pictures).sum(1, keepdim=True) + 16) / 255
