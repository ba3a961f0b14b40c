"""StyleGAN2 out of the checkpoints of rosinality's stylegan2-pytorch: `g_ema`, with or without `d`."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from latentface.devices import seeded
from latentface.io.opcodes import BROKEN
from latentface.io.weights import filled
from latentface.prior.architecture import Architecture, resolutions_of
from latentface.prior.foreign.nvidia import not_ours
from latentface.prior.stylegan2 import Discriminator, Generator

GROUP = 4  # of the minibatch deviation


def generator_of(given: Mapping[str, Tensor], label: str, mean: Tensor | None = None) -> Generator:
    """Return a generator; `mean` is the mean w, where the checkpoint has one.

    Older checkpoints have no constant noise maps: theirs are drawn from the seed 0. Raises WeightsError.
    """
    try:
        tensors: dict[str, Tensor] = {}
        depth = sum(bool(re.fullmatch(r"style\.\d+\.weight", name)) for name in given)
        for i in range(depth):
            tensors |= {f"mapping.fc{i}.{kind}": given[f"style.{i + 1}.{kind}"] for kind in ("weight", "bias")}
        w_dim, z_dim = tensors["mapping.fc0.weight"].shape
        tensors["mapping.w_avg"] = torch.zeros(w_dim) if mean is None else mean.reshape(w_dim)
        tensors["synthesis.b4.const"] = given["input.input"][0]
        blocks = sum(bool(re.fullmatch(r"to_rgbs\.\d+\.bias", name)) for name in given)
        sides = resolutions_of(4 << blocks)  # before maps of these sides are drawn
        places = {"b4.conv1": "conv1", "b4.torgb": "to_rgb1"}
        for k in range(blocks):
            r = 8 << k
            places |= {
                f"b{r}.conv0": f"convs.{2 * k}",
                f"b{r}.conv1": f"convs.{2 * k + 1}",
                f"b{r}.torgb": f"to_rgbs.{k}",
            }
        with seeded(0):
            number = 0
            for ours, theirs in places.items():
                name = f"synthesis.{ours}"
                tensors[f"{name}.weight"] = given[f"{theirs}.conv.weight"][0]
                for kind in ("weight", "bias"):
                    tensors[f"{name}.affine.{kind}"] = given[f"{theirs}.conv.modulation.{kind}"]
                if ours.endswith("torgb"):
                    tensors[f"{name}.bias"] = given[f"{theirs}.bias"].flatten()
                    continue
                side = int(ours[1:].partition(".")[0])
                noise = given.get(f"noises.noise_{number}", torch.randn(1, 1, side, side))
                tensors[f"{name}.bias"] = given[f"{theirs}.activate.bias"]
                tensors[f"{name}.noise_const"] = noise[0, 0]
                tensors[f"{name}.noise_strength"] = given[f"{theirs}.noise.weight"].reshape([])
                number += 1
        arch = Architecture(
            resolution=sides[-1],
            channels={r: len(tensors[f"synthesis.b{r}.conv1.bias"]) for r in sides},
            z_dim=z_dim,
            w_dim=w_dim,
            mapping_layers=depth,
        )
    except BROKEN as error:
        raise not_ours(label, "generator", error) from None
    return filled(lambda: Generator(arch), tensors, f"{label}: g_ema: ")


def discriminator_of(given: Mapping[str, Tensor], label: str) -> Discriminator:
    """Return a discriminator. Raises WeightsError."""
    try:
        blocks = sum(bool(re.fullmatch(r"convs\.\d+\.skip\.1\.weight", name)) for name in given)
        top = 4 << blocks
        places = {f"b{top}.fromrgb": ("convs.0.0", "convs.0.1"), "b4.conv": ("final_conv.0", "final_conv.1")}
        places |= {"b4.fc": ("final_linear.0",) * 2, "b4.out": ("final_linear.1",) * 2}
        for k in range(blocks):
            r, theirs = top >> k, f"convs.{k + 1}"
            places[f"b{r}.conv0"] = (f"{theirs}.conv1.0", f"{theirs}.conv1.1")
            places[f"b{r}.conv1"] = (f"{theirs}.conv2.1", f"{theirs}.conv2.2")
            places[f"b{r}.skip"] = (f"{theirs}.skip.1", "")
        tensors = {}
        for ours, (weight, bias) in places.items():
            tensors[f"{ours}.weight"] = given[f"{weight}.weight"]
            if bias:
                tensors[f"{ours}.bias"] = given[f"{bias}.bias"]
        channels = {4: len(tensors["b4.conv.bias"])}
        channels |= {r: len(tensors[f"b{r}.conv0.bias"]) for r in (8 << k for k in range(blocks))}
        arch = Architecture(resolution=top, d_channels=channels, channels=channels, mbstd_group=GROUP)
    except BROKEN as error:
        raise not_ours(label, "discriminator", error) from None
    return filled(lambda: Discriminator(arch), tensors, f"{label}: d: ")
