"""MobileStyleGAN out of its trainer's checkpoints (.ckpt of PyTorch Lightning): the student and the mapping network."""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from latentface.devices import seeded
from latentface.io.opcodes import BROKEN
from latentface.prior.architecture import resolutions_of
from latentface.prior.foreign.nvidia import MAPPING_RATE, not_ours
from latentface.prior.foreign.openvino import Constant
from latentface.prior.foreign.openvino import generator_of as of_constants
from latentface.prior.mobilestylegan import MobileGenerator


def generator_of(given: Mapping[str, Tensor], label: str) -> MobileGenerator:
    """Return the generator of a trainer's state.

    The demodulation, which does not depend on the style, goes into the weights, as in the files that the trainer
    exports. Noise maps are drawn from the seed 0, as the trainer has none. Raises WeightsError.
    """
    try:
        mapping = []
        for i in range(sum(bool(re.fullmatch(r"mapping_net\.layers\.\d+\.weight", name)) for name in given)):
            weight, bias = (given[f"mapping_net.layers.{i + 1}.{kind}"] for kind in ("weight", "bias"))
            mapping += [Constant("weight", weight * (MAPPING_RATE / math.sqrt(weight.shape[1])))]
            mapping += [Constant("bias", bias * MAPPING_RATE)]
        own = {name.removeprefix("student."): value for name, value in given.items() if name.startswith("student.")}
        blocks = sum(bool(re.fullmatch(r"layers\.\d+\.conv1\.bias", name)) for name in own)
        resolutions_of(8 << blocks)  # before maps are drawn
        convs = ["conv1", *(f"layers.{i}.{conv}" for i in range(blocks) for conv in ("conv1", "conv2"))]
        # The exported files have an axis more before the depthwise kernels.
        shaped = {k: v[:, :, None] if k.endswith(".weight_dw") else v for k, v in own.items()}
        constants = [Constant(f"m.{name}", value) for name, value in shaped.items()]
        with seeded(0):
            for i, conv in enumerate(convs):
                side = 4 << (i + 1) // 2
                constants.append(Constant(f"Mul_{i}_copy", _demodulated(own, f"{conv}.conv")))
                constants.append(
                    Constant(str(i), own[f"{conv}.noise.weight"].reshape([]) * torch.randn(1, 1, side, side))
                )
    except BROKEN as error:
        raise not_ours(label, "generator", error) from None
    return of_constants(mapping, constants)


def _demodulated(own: Mapping[str, Tensor], conv: str) -> Tensor:
    """Return the weights (C', C, k, k), 3x3 or pointwise, times the demodulation of the whole convolution."""
    weight = own[f"{conv}.weight_permute" if f"{conv}.weight_dw" in own else f"{conv}.weight"]
    whole = weight * own[f"{conv}.weight_dw"].transpose(0, 1) if f"{conv}.weight_dw" in own else weight
    if f"{conv}.style_inv" in own:
        whole = whole * own[f"{conv}.style_inv"][0]
    power = whole.square().sum((1, 2, 3), keepdim=True) / whole[0].numel()
    return weight * (power + 1e-8).rsqrt()
