"""MobileStyleGAN's published formulas, written down again, and its OpenVINO file."""

from __future__ import annotations

import math
import struct

import torch
import torch.nn.functional as F

from latentface.prior.foreign.openvino import FFHQ1024_MEMBERS


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
