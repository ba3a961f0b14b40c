"""StyleGAN2 out of the pickles of NVIDIA's TensorFlow releases (StyleGAN2 and StyleGAN2-ADA), configurations E and F."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from latentface.io.opcodes import BROKEN
from latentface.io.weights import filled
from latentface.prior.architecture import Architecture
from latentface.prior.foreign.nvidia import MAPPING_RATE, not_ours
from latentface.prior.foreign.unpickle import TfNetwork
from latentface.prior.stylegan2 import Discriminator, Generator

# A static argument -> what it must be, where it stands; all others are sizes, which are read off the arrays.
USUAL: Mapping[str, Any] = {
    "architecture": ("skip", "resnet"),
    "nonlinearity": ("lrelu",),
    "mapping_nonlinearity": ("lrelu",),
    "resample_kernel": ([1, 3, 3, 1],),
    "label_size": (0, None),
    "num_channels": (3,),
    "mbstd_num_features": (1,),
}


def generator_of(net: TfNetwork, label: str) -> Generator:
    """Return a generator. Raises WeightsError: a StyleGAN1, or parts that are none of StyleGAN2's."""
    try:
        given, sides = _checked(net), {}
        tensors: dict[str, Tensor] = {"mapping.w_avg": given["dlatent_avg"]}
        rate = net.number("mapping_lrmul", MAPPING_RATE) / MAPPING_RATE
        depth = sum(bool(re.fullmatch(r"mapping/Dense\d+/weight", name)) for name in given)
        for i in range(depth):
            tensors[f"mapping.fc{i}.weight"] = given[f"mapping/Dense{i}/weight"].t() * rate
            tensors[f"mapping.fc{i}.bias"] = given[f"mapping/Dense{i}/bias"] * rate
        tensors["synthesis.b4.const"] = given["synthesis/4x4/Const/const"][0]
        for r in _sides(given, "synthesis/"):
            layers = {"conv1": "Conv"} if r == 4 else {"conv0": "Conv0_up", "conv1": "Conv1"}
            for ours, theirs in {**layers, "torgb": "ToRGB"}.items():
                place, name = f"synthesis/{r}x{r}/{theirs}", f"synthesis.b{r}.{ours}"
                weight = _kernel(given[f"{place}/weight"])
                tensors[f"{name}.weight"] = weight.flip(2, 3) if ours == "conv0" else weight
                tensors[f"{name}.bias"] = given[f"{place}/bias"]
                tensors[f"{name}.affine.weight"] = given[f"{place}/mod_weight"].t()
                tensors[f"{name}.affine.bias"] = given[f"{place}/mod_bias"] + 1
                if ours != "torgb":
                    number = 2 * int(math.log2(r)) - (5 if ours == "conv0" else 4)
                    tensors[f"{name}.noise_const"] = given[f"synthesis/noise{number}"][0, 0]
                    tensors[f"{name}.noise_strength"] = given[f"{place}/noise_strength"].reshape([])
            sides[r] = len(tensors[f"synthesis.b{r}.conv1.bias"])
        arch = Architecture(
            resolution=max(sides),
            channels=sides,
            z_dim=tensors["mapping.fc0.weight"].shape[1],
            w_dim=len(tensors["mapping.w_avg"]),
            mapping_layers=depth,
            clamp=net.clamp(),
        )
    except BROKEN as error:
        raise not_ours(label, "generator", error) from None
    return filled(lambda: Generator(arch), tensors, f"{label}: Gs: ")


def discriminator_of(net: TfNetwork, label: str) -> Discriminator:
    """Return a discriminator. Raises WeightsError."""
    try:
        given = _checked(net)
        sides = _sides(given, "")
        tensors = {
            "b4.conv.weight": _kernel(given["4x4/Conv/weight"]),
            "b4.conv.bias": given["4x4/Conv/bias"],
            "b4.fc.weight": given["4x4/Dense0/weight"].t(),
            "b4.fc.bias": given["4x4/Dense0/bias"],
            "b4.out.weight": given["Output/weight"].t(),
            "b4.out.bias": given["Output/bias"],
        }
        channels = {4: len(tensors["b4.conv.bias"])}
        for r in sides:
            names = {"conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"} if r > 4 else {}
            for ours, theirs in {**names, **({"fromrgb": "FromRGB"} if r == sides[-1] else {})}.items():
                tensors[f"b{r}.{ours}.weight"] = _kernel(given[f"{r}x{r}/{theirs}/weight"])
                if ours != "skip":
                    tensors[f"b{r}.{ours}.bias"] = given[f"{r}x{r}/{theirs}/bias"]
            if r > 4:
                channels[r] = len(tensors[f"b{r}.conv0.bias"])
        arch = Architecture(
            resolution=sides[-1],
            d_channels=channels,
            channels=channels,
            mbstd_group=int(net.number("mbstd_group_size", 4)),
            clamp=net.clamp(),
        )
    except BROKEN as error:
        raise not_ours(label, "discriminator", error) from None
    return filled(lambda: Discriminator(arch), tensors, f"{label}: D: ")


def _checked(net: TfNetwork) -> dict[str, Tensor]:
    """Return a network's variables. Raises ValueError: it is older than StyleGAN2, or built otherwise."""
    given = net.tensors()
    if net.version < 4 or any("StyleMod" in name for name in given):
        raise ValueError("it is older than StyleGAN2; StyleGAN1 is read as PyTorch weights (synthesis and mapping)")
    for name, known in USUAL.items():
        value = net.arguments.get(name, known[0])
        if value not in known:
            # Not every value may be told: a small file can hold a list whose text fills the memory.
            told = value if isinstance(value, int | float) else value[:40] if isinstance(value, str) else "another"
            raise ValueError(f"its {name} is {told}, expected {known[0]}")
    return given


def _sides(given: Mapping[str, Tensor], prefix: str) -> list[int]:
    found = (re.match(rf"{prefix}(\d+)x\1/", name) for name in given)
    return sorted({int(m[1]) for m in found if m})


def _kernel(weight: Tensor) -> Tensor:
    """(h, w, in, out) -> (out, in, h, w)."""
    return weight.permute(3, 2, 0, 1)
