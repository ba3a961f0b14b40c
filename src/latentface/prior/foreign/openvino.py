"""OpenVINO's intermediate representation, version 10: an XML of the graph beside a flat file of its constants.

Only the constants are read, in the order of the graph; OpenVINO is not needed. `write_ffhq1024` makes a prior's file of
MobileStyleGAN's two networks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

from latentface.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

    from latentface.prior.mobilestylegan import MobileGenerator

MOST_XML = 1 << 20  # bytes; MobileStyleGAN's graph has 0.4 MB
MOST_AXES = 8
FOLDER = "random_face/data"
FFHQ1024_MEMBERS = tuple(
    f"{FOLDER}/{net}.{end}" for net in ("MappingNetwork", "SynthesisNetwork") for end in ("xml", "bin")
)
FFHQ1024_CARD = {
    "alignment": "ffhq",
    "licence": "research and non-commercial use only (distilled from NVIDIA's StyleGAN2 of FFHQ; the package that carries it says Apache-2.0)",
    "origin": "MobileStyleGAN (Belousov 2021), distilled from StyleGAN2 (Karras et al. 2020)",
    "data": "FFHQ: 70,000 photographs at 1024 px, by way of its teacher; never a test set for this prior",
    "landmarks": "eyes at (48.0, 60.7) and (81.4, 61.2) of 128 px, the mean over samples as YuNet finds them",
    "rows": "16 of the 23 published style rows: those that draw in this file (0, then 1 + 3 i and 2 + 3 i of block i, and 22)",
}


class Constant(NamedTuple):
    """A constant float32 tensor of a graph, by its name in the file."""

    name: str
    value: Tensor


def read_constants(xml: bytes, flat: bytes, name: str = "the network") -> list[Constant]:
    """Return a graph's float32 constants of more than one number, in the order of its layers.

    Raises WeightsError: it is no such graph, or a constant lies outside the flat file (little-endian).
    """
    import torch

    try:
        text = xml[: MOST_XML + 1].decode()
        if len(xml) > MOST_XML or "<!" in text:  # entities could grow without bound; this format has no declarations
            raise WeightsError(
                f"{name}: {len(xml)} bytes of XML, or a declaration in it; expected a plain OpenVINO graph"
            )
        layers = ElementTree.fromstring(text).findall("layers/layer[@type='Const']")
    except (ElementTree.ParseError, ValueError) as error:
        raise WeightsError(f"{name}: its XML cannot be read ({error}); fetch the file again") from None
    shared = bytearray(flat)  # the constants are views of it: many that overlap take no more memory
    out = []
    for layer in layers:
        label, data = layer.get("name", "?"), layer.find("data")
        if data is None or data.get("element_type") != "f32":
            continue
        try:
            shape = [int(n) for n in data.get("shape", "").split(",") if n.strip()]
            offset, size = int(data.get("offset", "")), int(data.get("size", ""))
        except ValueError:
            raise WeightsError(f"{name}: the constant {label} has no size; fetch the file again") from None
        bounded = len(shape) <= MOST_AXES and all(0 < n <= len(flat) for n in shape)  # before they are multiplied
        if not bounded or 4 * math.prod(shape) != size or not 0 <= offset <= len(flat) - size:
            raise WeightsError(
                f"{name}: the constant {label} does not fit the file's {len(flat)} bytes; fetch it again"
            )
        if size > 4:
            value = torch.frombuffer(shared, dtype=torch.float32, count=size // 4, offset=offset)
            out.append(Constant(label, value.reshape(shape)))
    return out


def mapping_tensors(constants: Sequence[Constant]) -> dict[str, Tensor]:
    """Return the mapping network's tensors under our names: eight square weights and their biases, in order."""
    weights = [c.value for c in constants if c.value.ndim == 2 and min(c.value.shape) > 1]
    biases = [c.value for c in constants if c.value.ndim == 1]
    if not weights or len(weights) != len(biases):
        raise WeightsError(f"the mapping network has {len(weights)} weights and {len(biases)} biases; expected as many")
    pairs = zip(weights, biases, strict=True)
    return {
        f"mapping.fc{i}.{k}": v for i, pair in enumerate(pairs) for k, v in zip(("weight", "bias"), pair, strict=True)
    }


def synthesis_tensors(constants: Sequence[Constant]) -> dict[str, Tensor]:
    """Return the synthesis network's tensors under our names.

    Named parameters keep their places. The pointwise weights, in which the demodulation is folded, are called
    `Mul_*_copy`, and the noise maps have numbers for names; both stand in the order of the layers.
    """
    named = {c.name: c.value for c in constants}
    convs = [k.removesuffix(".conv.weight_dw") for k in named if k.endswith(".conv.weight_dw")]
    convs.sort(key=lambda k: [int(n) for n in re.findall(r"\d+", k)])
    points = [c.value for c in constants if re.fullmatch(r"Mul_\d+_copy", c.name)]
    maps = [c.value for c in constants if re.fullmatch(r"\d+", c.name) and c.value.ndim == 4]
    maps = [value[0, 0] for value in maps if value.shape[:2] == (1, 1)]  # the others are Haar filters
    if not convs or len(points) != len(convs) + 1 or len(maps) != len(convs) + 1:
        raise WeightsError(
            f"the synthesis network has {len(convs)} layers, {len(points)} weights and {len(maps)} noise maps; "
            "it is no MobileStyleGAN"
        )
    out = {"b4.const": named["m.input.input"]}
    for i, conv in enumerate(["m.conv1", *convs]):
        block, _, kind = conv.rpartition(".")
        ours = f"b{len(maps[i])}.{kind}"
        out |= {f"{ours}.weight": points[i], f"{ours}.noise": maps[i], f"{ours}.bias": named[f"{conv}.bias"].flatten()}
        out |= _affine(named, f"{conv}.conv.modulation", f"{ours}.affine")
        if i:
            out[f"{ours}.depthwise"] = named[f"{conv}.conv.weight_dw"].flatten(0, 2)[:, None]
        if i and kind == "conv1":
            out |= _affine(named, f"{block}.up.modulation", f"b{len(maps[i])}.up")
    last, image = convs[-1].rpartition(".")[0], f"b{len(maps[-1])}.image"
    out |= _affine(named, f"{last}.to_img.conv.modulation", f"{image}.affine")
    out[f"{image}.weight"] = named[f"{last}.to_img.conv.weight"]
    out[f"{image}.bias"] = named[f"{last}.to_img.bias"].flatten()
    return {f"synthesis.{name}": value for name, value in out.items()}


def mobilestylegan(members: Mapping[str, bytes]) -> MobileGenerator:
    """Return MobileStyleGAN's generator from both of its networks' files.

    Constant factors go into the weights: 1 / sqrt(9 C) of each convolution, 1 / sqrt(C) of the picture's, and the half of
    each inverse Haar transform. The channels before a transform are put into planes, ll, lh, hl, hh, of C each. Raises
    WeightsError: a file is missing, broken, or another network's.
    """
    absent = [name for name in FFHQ1024_MEMBERS if name not in members]
    if absent:
        raise WeightsError(f"{absent[0]} is missing; fetch the package again")
    mapping, synthesis = (
        read_constants(members[graph], members[flat], graph)
        for graph, flat in (FFHQ1024_MEMBERS[:2], FFHQ1024_MEMBERS[2:])
    )
    return generator_of(mapping, synthesis)


def generator_of(mapping: Sequence[Constant], synthesis: Sequence[Constant]) -> MobileGenerator:
    """Return the generator of both networks' constants, as `mobilestylegan` does. Raises WeightsError."""
    from latentface.io.weights import unfilled
    from latentface.prior.mobilestylegan import MobileArchitecture, MobileGenerator

    try:
        tensors = mapping_tensors(mapping) | synthesis_tensors(synthesis)
        sides = _fold_factors(tensors)
        arch = MobileArchitecture(
            resolution=2 * sides[-1],
            channels={r: len(tensors[f"synthesis.b{r}.conv1.bias"]) for r in sides},
            z_dim=tensors["mapping.fc0.weight"].shape[1],
            w_dim=len(tensors["mapping.fc0.weight"]),
            mapping_layers=sum(k.startswith("mapping.") for k in tensors) // 2,
        )
        with unfilled():
            generator = MobileGenerator(arch)
        generator.load_state_dict(tensors, assign=True)
    except KeyError as error:
        raise WeightsError(f"the networks have no {error.args[0]}; they are no MobileStyleGAN") from None
    except (IndexError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"the networks do not fit MobileStyleGAN ({reason}); fetch the package again") from None
    return generator


def _fold_factors(tensors: dict[str, Tensor]) -> list[int]:
    """Put constant factors into the weights and channels into planes, in place; return the sides of the blocks."""
    sides = sorted(int(k.split(".")[1][1:]) for k in tensors if k.endswith("conv1.bias"))
    image = f"synthesis.b{sides[-1]}.image"
    for name, value in tensors.items():
        if name.endswith(".depthwise"):
            tensors[name] = value / math.sqrt(9 * len(value))
    for name, kernel in (("synthesis.b4.conv1.weight", 9), (f"{image}.weight", 1)):
        tensors[name] = tensors[name] / math.sqrt(kernel * tensors[name].shape[1])
    before = [f"synthesis.b{r}.conv{1 if r == 4 else 2}" for r in sides[:-1]]
    for place in (f"{layer}.{kind}" for layer in before for kind in ("weight", "bias")):
        tensors[place] = _planes(tensors[place])
    transformed = [*(f"synthesis.b{r}.up" for r in sides[1:]), image]
    for place in (f"{layer}.{kind}" for layer in transformed for kind in ("weight", "bias")):
        tensors[place] = _planes(tensors[place]) / 2
    return sides


def write_ffhq1024(members: Mapping[str, bytes], target: Path, provenance: Mapping[str, str]) -> None:
    """Write the prior ffhq1024 from its package's members; the same bytes on every machine.

    The latent statistics lie in our package: measured anew, they would differ in their last bits, and with them the
    file's sha256, by which results, exits and encoders name their prior.

    `provenance` has lines for the card. Raises WeightsError: see `mobilestylegan`. OutputError: the file cannot be
    written.
    """
    from safetensors.torch import load_file

    from latentface.prior.formats import write_prior

    generator = mobilestylegan(members)
    bundled = Path(str(resources.files("latentface.prior") / "bundled"))
    statistics = load_file(bundled / "ffhq1024.statistics.safetensors")
    write_prior(target, generator, None, statistics, {**FFHQ1024_CARD, **provenance})


def _planes(rows: Tensor) -> Tensor:
    """Reorder rows (4 C, ...) from ll of all channels, then lh, hl, hh of each, to planes ll, lh, hl, hh of C rows."""
    import torch

    c = len(rows) // 4
    return torch.cat([rows[:c], rows[c:].unflatten(0, (c, 3)).transpose(0, 1).flatten(0, 1)])


def _affine(named: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    return {f"{ours}.weight": named[f"{theirs}.weight"], f"{ours}.bias": named[f"{theirs}.bias"].flatten()}
