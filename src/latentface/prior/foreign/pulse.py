"""StyleGAN's first generator out of the two files that PULSE fetches: its synthesis and its mapping network."""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from latentface.devices import seeded
from latentface.io.opcodes import BROKEN
from latentface.io.weights import filled
from latentface.prior.architecture import resolutions_of
from latentface.prior.foreign.nvidia import not_ours
from latentface.prior.stylegan1 import FirstArchitecture, FirstGenerator


def generator_of(synthesis: Mapping[str, Tensor], mapping: Mapping[str, Tensor], label: str) -> FirstGenerator:
    """Return the generator of both networks' tensors.

    The files have no constant noise maps: they are drawn from the seed 0, the last one is zero as in PULSE. Raises
    WeightsError.
    """
    try:
        tensors: dict[str, Tensor] = {}
        depth = sum(bool(re.fullmatch(r"dense\d+\.weight", name)) for name in mapping)
        for i in range(depth):
            tensors[f"mapping.fc{i}.weight"] = mapping[f"dense{i}.weight"]
            # Their gain of sqrt 2 is in the weights only; ours is behind the leaky ReLU.
            tensors[f"mapping.fc{i}.bias"] = mapping[f"dense{i}.bias"] / math.sqrt(2)
        tensors["mapping.w_avg"] = torch.zeros(len(tensors["mapping.fc0.bias"]))
        sides = sorted({int(m[1]) for m in (re.match(r"blocks\.(\d+)x\1\.", name) for name in synthesis) if m})
        if sides != resolutions_of(sides[-1]):
            raise ValueError(f"it has blocks of {sides} px")
        channels = {r: synthesis[f"blocks.{r}x{r}.epi1.noise.weight"].numel() for r in sides}
        with seeded(0):
            for r in sides:
                theirs, ours = f"blocks.{r}x{r}", f"synthesis.b{r}"
                convs = {"conv1": "conv"} if r == 4 else {"conv0": "conv0_up", "conv1": "conv1"}
                for k, conv in enumerate(("conv0", "conv1")):
                    styled = f"{theirs}.epi{k + 1}"
                    if conv in convs:
                        weight = synthesis[f"{theirs}.{convs[conv]}.weight"]
                        tensors[f"{ours}.{conv}.weight"] = weight * math.sqrt(2 / weight[0].numel())
                        tensors[f"{ours}.{conv}.bias"] = synthesis[f"{theirs}.{convs[conv]}.bias"]
                    tensors[f"{ours}.{conv}.noise_strength"] = synthesis[f"{styled}.noise.weight"].flatten()
                    last = r == sides[-1] and conv == "conv1"
                    tensors[f"{ours}.{conv}.noise_const"] = torch.zeros(r, r) if last else torch.randn(r, r)
                    for kind in ("weight", "bias"):
                        tensors[f"{ours}.{conv}.affine.{kind}"] = synthesis[f"{styled}.style_mod.lin.{kind}"]
        tensors["synthesis.b4.const"] = synthesis["blocks.4x4.const"][0] + synthesis["blocks.4x4.bias"][:, None, None]
        paint = synthesis["torgb.weight"]
        tensors["synthesis.torgb.weight"] = paint / math.sqrt(paint[0].numel())
        tensors["synthesis.torgb.bias"] = synthesis["torgb.bias"]
        arch = FirstArchitecture(
            resolution=sides[-1],
            channels=channels,
            z_dim=tensors["mapping.fc0.weight"].shape[1],
            w_dim=len(tensors["mapping.fc0.weight"]),
            mapping_layers=depth,
        )
    except BROKEN as error:
        raise not_ours(label, "generator", error) from None
    return filled(lambda: FirstGenerator(arch), tensors, f"{label}: ")
