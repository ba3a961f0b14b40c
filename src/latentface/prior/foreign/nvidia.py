"""StyleGAN2 and StyleGAN3 out of NVIDIA's PyTorch pickles (StyleGAN2-ADA's and StyleGAN3's releases)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from latentface.errors import WeightsError
from latentface.io.opcodes import BROKEN, one_line
from latentface.io.weights import filled
from latentface.prior.architecture import Architecture
from latentface.prior.foreign.unpickle import Module
from latentface.prior.stylegan2 import Discriminator, Generator
from latentface.prior.stylegan3 import AliasFreeArchitecture, AliasFreeGenerator, FilteredShape

MAPPING_RATE = 0.01  # of our mapping network
WHOLE_BATCH = 1 << 20  # group of a minibatch deviation over the whole batch


def generator_of(net: Module, label: str) -> Generator | AliasFreeGenerator:
    """Return a generator. Raises WeightsError: it has labels, or parts that are none of StyleGAN2's or StyleGAN3's."""
    try:
        if net.number("c_dim", 0) or net.whole("img_channels") != 3:
            raise ValueError("it was trained with labels, or makes no RGB pictures")
        synthesis = net.children()["synthesis"]
        tensors = {k: v for k, v in net.tensors().items() if not k.endswith("resample_filter")}
        _scale_mapping(tensors, net)
        if "input" in synthesis.children():
            return _alias_free(net, synthesis, tensors, label)
        _check_parts(net)
        sides = {int(k[1:]): v for k, v in synthesis.children().items() if k[:1] == "b" and k[1:].isdigit()}
        arch = Architecture(
            resolution=net.whole("img_resolution"),
            channels={r: len(tensors[f"synthesis.b{r}.conv1.bias"]) for r in sides},
            z_dim=tensors["mapping.fc0.weight"].shape[1],
            w_dim=len(tensors["mapping.w_avg"]),
            mapping_layers=_depth(tensors),
            clamp=_clamp(net),
        )
        for r in sides:
            for conv in ("conv0", "conv1")[r == 4 :]:
                place = f"synthesis.b{r}.{conv}"
                if f"{place}.noise_const" not in tensors:  # a network without noise
                    tensors |= {f"{place}.noise_const": torch.zeros(r, r), f"{place}.noise_strength": torch.zeros([])}
    except BROKEN as error:
        raise not_ours(label, "generator", error) from None
    return filled(lambda: Generator(arch), tensors, f"{label}: G: ")


def discriminator_of(net: Module, label: str) -> Discriminator:
    """Return a discriminator. Raises WeightsError."""
    try:
        if net.number("c_dim", 0) or net.whole("img_channels") != 3:
            raise ValueError("it was trained with labels, or takes no RGB pictures")
        _check_parts(net)
        tensors = {k: v for k, v in net.tensors().items() if not k.endswith("resample_filter")}
        resolution = net.whole("img_resolution")
        deviation = net.children()["b4"].children()["mbstd"]
        if deviation.whole("num_channels") != 1:
            raise ValueError("its minibatch deviation has several channels")
        group = deviation.state.get("group_size")
        channels = {4: len(tensors["b4.conv.bias"])}
        channels |= {r: len(tensors[f"b{r}.conv0.bias"]) for r in (8 << k for k in range(8)) if r <= resolution}
        arch = Architecture(
            resolution=resolution,
            d_channels=channels,
            channels=channels,
            mbstd_group=WHOLE_BATCH if group is None else deviation.whole("group_size"),
            clamp=_clamp(net),
        )
    except BROKEN as error:
        raise not_ours(label, "discriminator", error) from None
    return filled(lambda: Discriminator(arch), tensors, f"{label}: D: ")


def _alias_free(net: Module, synthesis: Module, tensors: dict[str, Tensor], label: str) -> AliasFreeGenerator:
    parts = synthesis.children()
    start = parts.pop("input")
    names = sorted((k for k in parts if k[:1] == "L"), key=lambda k: int(k[1:].partition("_")[0]))
    layers = [_filtered(parts[name], tensors, f"synthesis.{name}") for name in names]
    arch = AliasFreeArchitecture(
        resolution=net.whole("img_resolution"),
        z_dim=tensors["mapping.fc0.weight"].shape[1],
        w_dim=len(tensors["mapping.w_avg"]),
        mapping_layers=_depth(tensors),
        input_side=_square(start, "size"),
        input_rate=start.number("sampling_rate"),
        bandwidth=start.number("bandwidth"),
        layers=layers,
        scale=synthesis.number("output_scale"),
        clamp=_one_clamp([parts[name] for name in names]),
    )
    places, rates = {"synthesis.input.": f"synthesis.b{layers[0].rate}.input."}, [one.rate for one in layers]
    for i, name in enumerate(names[:-1]):
        places[f"synthesis.{name}."] = f"synthesis.b{rates[i]}.layer{i - rates.index(rates[i])}."
    places[f"synthesis.{names[-1]}."] = "synthesis.torgb."
    renamed = {}
    for key, value in tensors.items():
        theirs = next((place for place in places if key.startswith(place)), "")
        renamed[places.get(theirs, "") + key.removeprefix(theirs)] = value
    side = arch.input_side
    for one, name in zip(layers, names, strict=True):
        side = one.side(side)
        if side != _square(parts[name], "out_size"):
            raise ValueError(f"{name} makes {side} px, its size is {_square(parts[name], 'out_size')}")
    return filled(lambda: AliasFreeGenerator(arch), renamed, f"{label}: G: ")


def _filtered(layer: Module, tensors: Mapping[str, Tensor], name: str) -> FilteredShape:
    outputs, inputs, kernel, _ = tensors[f"{name}.weight"].shape
    left, right, top, bottom = (int(n) for n in layer.state["padding"])
    if (left, right) != (top, bottom):
        raise ValueError(f"{name} is no square layer")
    down = tensors.get(f"{name}.down_filter")
    return FilteredShape(
        rate=layer.whole("out_sampling_rate"),
        inputs=inputs,
        outputs=outputs,
        kernel=kernel,
        up=layer.whole("up_factor"),
        down=layer.whole("down_factor"),
        up_taps=len(tensors.get(f"{name}.up_filter", "1")),
        down_taps=1 if down is None else len(down),
        radial=down is not None and down.ndim == 2,
        pad=(left, right),
    )


def _square(layer: Module, name: str) -> int:
    width, height = (int(n) for n in layer.state[name])
    if width != height:
        raise ValueError(f"{name} is {width} x {height}, expected a square")
    return width


def _depth(tensors: Mapping[str, Tensor]) -> int:
    return sum(k.startswith("mapping.fc") and k.endswith("weight") for k in tensors)


def _scale_mapping(tensors: dict[str, Tensor], net: Module) -> None:
    """Give the mapping's numbers the scale that they have at our rate, in place."""
    for name, layer in net.children()["mapping"].children().items():
        rate = layer.number("bias_gain")
        if not math.isclose(rate, MAPPING_RATE, rel_tol=1e-6):
            for kind in ("weight", "bias"):
                tensors[f"mapping.{name}.{kind}"] = tensors[f"mapping.{name}.{kind}"] * (rate / MAPPING_RATE)


def _check_parts(net: Module) -> None:
    """Raise ValueError where StyleGAN2's networks could be built otherwise than ours are."""
    usual = torch.outer(*(torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8,) * 2)
    for name, module in net.walk():
        state = module.state
        if state.get("activation", "lrelu") not in ("lrelu", "linear"):
            raise ValueError(f"{name} has another activation than a leaky ReLU")
        if state.get("architecture", "skip") not in ("skip", "resnet") or (
            state.get("architecture") == ("resnet" if name.startswith("synthesis.") else "skip")
        ):
            raise ValueError(f"{name} is neither a generator with skips nor a residual discriminator")
        filters = state.get("_buffers")
        found = filters.get("resample_filter") if isinstance(filters, dict) else None
        if found is not None and (found.shape != usual.shape or not torch.allclose(found.float(), usual)):
            raise ValueError(f"{name} has another filter than [1, 3, 3, 1]")


def _clamp(net: Module) -> float | None:
    """Return the limit of the convolutions' outputs, None for none. Raises ValueError: they differ."""
    found = [m for name, m in net.walk() if name.endswith((".conv1", ".conv0", ".torgb", ".fromrgb"))]
    return _one_clamp(found)


def _one_clamp(layers: Sequence[Module]) -> float | None:
    clamps = {None if m.state.get("conv_clamp") is None else m.number("conv_clamp") for m in layers}
    if len(clamps) != 1:
        raise ValueError("its layers have different clamps")
    return clamps.pop()


def not_ours(label: str, what: str, error: Exception) -> WeightsError:
    """Return the error for a network that is built otherwise than those that are known."""
    words = f"it has no {error.args[0]}" if isinstance(error, KeyError) else one_line(str(error))
    return WeightsError(
        f"{label}: its {what} is none that is known: {words}; expected StyleGAN2's or StyleGAN3's of faces"
    )
