"""MobileStyleGAN as its OpenVINO file has it: tiny random parameters, the published formulas, and the file itself."""

from __future__ import annotations

import math
import struct

import torch
import torch.nn.functional as F

from latentface.prior.exits import ExitLayer, beside, write_exits
from latentface.prior.foreign.openvino import FFHQ1024_MEMBERS
from latentface.prior.formats import write_prior
from latentface.prior.mobilestylegan import MobileArchitecture, MobileGenerator
from latentface.prior.prior import Prior
from latentface.prior.statistics import latent_statistics


def mobile_arch(resolution=32, **changes):
    """Few channels, different from side to side."""
    sides = [4 << i for i in range(resolution.bit_length() - 3)]
    channels = {r: 4 * (len(sides) - i) for i, r in enumerate(sides)} | {sides[-1]: 3}
    return MobileArchitecture(
        resolution=resolution, **{"channels": channels, "z_dim": 6, "w_dim": 7, "mapping_layers": 2, **changes}
    )


def published(arch, seed=0, dtype=torch.float64):
    """Return the file's constants, name -> value in its order, those of the mapping network called fc<i>.

    Values are float32 numbers, so that the file loses nothing.
    """
    g = torch.Generator().manual_seed(seed)
    out = {}

    def draw(name, *shape, scale=1.0):
        out[name] = (torch.randn(*shape, generator=g) * scale).to(dtype)

    def modulation(name, channels):
        draw(f"{name}.modulation.weight", channels, arch.w_dim, scale=0.3)
        draw(f"{name}.modulation.bias", 1, channels)

    def styled(name, number, inputs, outputs, side, kernel):
        if kernel == 1:
            draw(f"{name}.conv.weight_dw", inputs, 1, 1, 3, 3)
        draw(f"Mul_{number}_copy", outputs, inputs, kernel, kernel, scale=1.5 / kernel)
        draw(f"{1500 + number}", 1, 1, side, side, scale=0.5)
        draw(f"{name}.bias", 1, outputs, 1, 1, scale=0.3)

    sides = sorted(arch.channels)
    c = [arch.channels[r] for r in sides]
    last = len(sides) - 2
    modulation(f"m.layers.{last}.to_img.conv", c[-1])  # styles come first, from the last layer to the first
    for i in range(last, -1, -1):
        modulation(f"m.layers.{i}.conv2.conv", c[i + 1])
        modulation(f"m.layers.{i}.conv1.conv", c[i] // 4)
        modulation(f"m.layers.{i}.up", c[i])
    modulation("m.conv1.conv", c[0])
    draw("m.input.input", 1, c[0], 4, 4)
    styled("m.conv1", 39, c[0], c[0], 4, 3)
    for i in range(last + 1):
        for k in range(3):  # of the transform; they are no noise maps
            draw(f"{1540 + 100 * i + k}", c[i] // 4, 1, 1, *((2, 1) if k < 2 else (1, 2)))
        styled(f"m.layers.{i}.conv1", 106 + 100 * i, c[i] // 4, c[i + 1], sides[i + 1], 1)
        styled(f"m.layers.{i}.conv2", 139 + 100 * i, c[i + 1], c[i + 1], sides[i + 1], 1)
    draw(f"m.layers.{last}.to_img.conv.weight", 12, c[-1], 1, 1)
    draw(f"m.layers.{last}.to_img.bias", 1, 12, 1, 1, scale=0.3)
    for i in range(arch.mapping_layers):
        draw(f"fc{i}.weight", arch.w_dim, arch.w_dim if i else arch.z_dim, scale=0.5)
        draw(f"fc{i}.bias", arch.w_dim, scale=0.3)
    return out


# -- the published formulas --------------------------------------------------------------------------------------------


def haar_reference(x):
    """x (B, 4 C, h, w), ll of all channels and then lh, hl, hh of each -> (B, C, 2 h, 2 w)."""
    b, channels, h, w = x.shape
    c = channels // 4
    ll = x[:, :c]
    lh, hl, hh = (torch.stack([x[:, c + 3 * k + band] for k in range(c)], 1) for band in range(3))
    out = x.new_zeros(b, c, 2 * h, 2 * w)
    out[:, :, 0::2, 0::2] = (ll + lh + hl + hh) / 2
    out[:, :, 1::2, 0::2] = (ll - lh + hl - hh) / 2
    out[:, :, 0::2, 1::2] = (ll + lh - hl - hh) / 2
    out[:, :, 1::2, 1::2] = (ll - lh - hl + hh) / 2
    return out


def mapping_reference(p, z):
    """z (B, z_dim) -> w (B, w_dim)."""
    x = z / z.square().mean(1, keepdim=True).sqrt()
    for i in range(sum(k.startswith("fc") for k in p) // 2):
        x = x @ p[f"fc{i}.weight"].T + p[f"fc{i}.bias"]
        x = torch.where(x < 0, 0.2 * x, x) * math.sqrt(2)
    return x


def synthesis_reference(p, ws, maps=None):
    """ws (B, L, D), row by row -> picture (B, 3, R, R); `maps` take the place of the file's."""
    own = [v for k, v in p.items() if k.isdigit() and v.ndim == 4]
    points = [v for k, v in p.items() if k.startswith("Mul_")]
    maps = own if maps is None else maps

    def modulated(x, name, row):
        style = ws[:, row] @ p[f"{name}.modulation.weight"].T + p[f"{name}.modulation.bias"]
        return x * style[:, :, None, None]

    def styled(x, name, layer):
        x = modulated(x, f"{name}.conv", layer) / math.sqrt(9 * x.shape[1])
        if layer:
            x = F.conv2d(x, p[f"{name}.conv.weight_dw"][:, 0], padding=1, groups=x.shape[1])
        x = F.conv2d(x, points[layer], padding=0 if layer else 1) + maps[layer] + p[f"{name}.bias"]
        return torch.where(x < 0, 0.2 * x, x)

    x = styled(p["m.input.input"].expand(len(ws), -1, -1, -1), "m.conv1", 0)
    blocks = (len(points) - 1) // 2
    for i in range(blocks):
        x = haar_reference(modulated(x, f"m.layers.{i}.up", 1 + 2 * i))
        x = styled(x, f"m.layers.{i}.conv1", 1 + 2 * i)
        x = styled(x, f"m.layers.{i}.conv2", 2 + 2 * i)
    name = f"m.layers.{blocks - 1}.to_img"
    x = modulated(x, f"{name}.conv", 1 + 2 * blocks) / math.sqrt(x.shape[1])
    return haar_reference(F.conv2d(x, p[f"{name}.conv.weight"]) + p[f"{name}.bias"])


# -- the same numbers under our names ----------------------------------------------------------------------------------


def planes(v):
    """Rows ll of all channels, then lh, hl, hh of each -> planes ll, lh, hl, hh."""
    c = len(v) // 4
    return v[[k if band == 0 else c + 3 * k + band - 1 for band in range(4) for k in range(c)]]


def state_of(arch, p):
    """Return the generator's state: our names, constant factors in the weights, bands in planes."""
    sides = sorted(arch.channels)
    points = [v for k, v in p.items() if k.startswith("Mul_")]
    maps = [v[0, 0] for k, v in p.items() if k.isdigit() and v.ndim == 4]
    out = {f"mapping.{k}": v for k, v in p.items() if k.startswith("fc")}

    def put(ours, weight, bias, split):
        out[f"{ours}.weight"], out[f"{ours}.bias"] = (planes(v) if split else v for v in (weight, bias.flatten()))

    def layer(ours, theirs, n, split):
        point = points[n] if n else points[n] / math.sqrt(9 * points[n].shape[1])
        put(ours, point, p[f"{theirs}.bias"], split)
        put(f"{ours}.affine", p[f"{theirs}.conv.modulation.weight"], p[f"{theirs}.conv.modulation.bias"], False)
        out[f"{ours}.noise"] = maps[n]
        if n:
            dw = p[f"{theirs}.conv.weight_dw"]
            out[f"{ours}.depthwise"] = dw[:, 0] / math.sqrt(9 * len(dw))

    out["synthesis.b4.const"] = p["m.input.input"]
    layer("synthesis.b4.conv1", "m.conv1", 0, True)
    for i, r in enumerate(sides[1:]):
        up = [p[f"m.layers.{i}.up.modulation.{k}"] for k in ("weight", "bias")]
        put(f"synthesis.b{r}.up", up[0] / 2, up[1] / 2, True)
        layer(f"synthesis.b{r}.conv1", f"m.layers.{i}.conv1", 1 + 2 * i, False)
        layer(f"synthesis.b{r}.conv2", f"m.layers.{i}.conv2", 2 + 2 * i, r != sides[-1])
    theirs, ours = f"m.layers.{len(sides) - 2}.to_img", f"synthesis.b{sides[-1]}.image"
    scaled = p[f"{theirs}.conv.weight"] / math.sqrt(arch.channels[sides[-1]])
    put(ours, scaled / 2, p[f"{theirs}.bias"] / 2, True)
    put(f"{ours}.affine", p[f"{theirs}.conv.modulation.weight"], p[f"{theirs}.conv.modulation.bias"], False)
    return out


def mobile_generator(arch, p):
    """Return the generator of `published` constants, frozen."""
    dtype = p["m.input.input"].dtype
    generator = MobileGenerator(arch).to(dtype)
    generator.load_state_dict(state_of(arch, p))
    return generator.eval().requires_grad_(False)


def mobile_prior(resolution=32, judge=None, dtype=torch.float32, **card):
    """Return a prior of random numbers."""
    arch = mobile_arch(resolution)
    generator = mobile_generator(arch, published(arch, dtype=dtype))
    statistics = latent_statistics(generator.mapping, arch.z_dim, 20_000)
    return Prior(generator, judge, statistics, {"alignment": "celeba", **card}, name="mobile")


def written_prior(folder, resolution=64, name="mobile"):
    """Write `mobile_prior` and return it as read from its file."""
    made = mobile_prior(resolution)
    path = folder / f"{name}.safetensors"
    write_prior(path, made.generator, None, made.statistics, made.card)
    return Prior.read(path)


def random_exits(prior, sizes=(16, 32), width=5):
    """Return heads of random numbers that paint about as brightly as a face."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        heads = {r: ExitLayer(prior.generator.arch.channels[r // 2], prior.w_dim, width) for r in sizes}
    return {r: head.eval().requires_grad_(False) for r, head in heads.items()}


def prior_with_exits(folder, resolution=64, sizes=(16, 32)):
    """Write a prior and its exits beside it, and return the prior."""
    prior = written_prior(folder, resolution)
    write_exits(beside(prior.path), random_exits(prior, sizes), prior.sha256, {})
    return prior


# -- the file ----------------------------------------------------------------------------------------------------------


class Graph:
    """Writes an XML and its flat file; a constant may be given another description than its own."""

    def __init__(self):
        self.xml, self.flat = [], b""

    def add(self, name, value, **described):
        size = 8 if value.dtype == torch.int64 else 4
        code = "q" if size == 8 else "f"
        fields = {
            "element_type": "i64" if size == 8 else "f32",
            "shape": ", ".join(map(str, value.shape)),
            "offset": len(self.flat),
            "size": size * value.numel(),
            **described,
        }
        self.flat += struct.pack(f"<{value.numel()}{code}", *value.flatten().tolist())
        data = " ".join(f'{k}="{v}"' for k, v in fields.items() if v is not None)
        self.xml.append(
            f'<layer id="{len(self.xml)}" name="{name}" type="Const" version="opset1"><data {data}/></layer>'
        )

    def text(self):
        start = '<layer id="0" name="style" type="Parameter"><data element_type="f32" shape="1, 512"/></layer>'
        return f'<?xml version="1.0" ?>\n<net version="10"><layers>{start}{"".join(self.xml)}</layers></net>'


def members_of(p, described=None, without=(), also=()):
    """Return the archive's members. `described`: name -> fields of its description that differ from the truth."""
    mapping, synthesis = Graph(), Graph()
    for graph in (mapping, synthesis):  # neither is a parameter
        graph.add("ReduceMean_1/axis", torch.tensor([1]))
        graph.add("Constant_5", torch.ones(1, 1))
        graph.add("126", torch.full((1, 1), 0.5))
    for name, value in [*p.items(), *also]:
        if name not in without:
            own = mapping if name.startswith("fc") else synthesis
            label = str(170 + len(own.xml)) if own is mapping else name
            own.add(label, value, **(described or {}).get(name, {}))
            own.add(f"Unsqueeze_{len(own.xml)}/Dims", torch.tensor([0]))
            own.add(f"LeakyRelu_{len(own.xml)}/weights", torch.tensor([0.2]))
    contents = (mapping.text().encode(), mapping.flat, synthesis.text().encode(), synthesis.flat)
    return dict(zip(FFHQ1024_MEMBERS, contents, strict=True))
