"""StyleGAN's first generator written plainly, and PULSE's two files of random numbers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

SIZES = {"z_dim": 9, "w_dim": 9, "depth": 3}


def files(channels, seed=0, dtype=torch.float32):
    """Return the states of PULSE's synthesis and mapping network, under its names."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=1.0):
        return (torch.randn(*shape, generator=g) * scale).to(dtype)

    width = SIZES["w_dim"]
    mapping = {}
    for i in range(SIZES["depth"]):
        mapping |= {f"dense{i}.weight": draw(width, width, scale=100), f"dense{i}.bias": draw(width, scale=30)}
    out, before = {}, 0
    for r, c in channels.items():
        place = f"blocks.{r}x{r}"
        if r == 4:
            out |= {f"{place}.const": draw(1, c, 4, 4), f"{place}.bias": draw(c)}
            convs = {"conv": (c, c)}
        else:
            convs = {"conv0_up": (before, c), "conv1": (c, c)}
            out[f"{place}.conv0_up.intermediate.kernel"] = torch.ones(1, 1, 3, 3)
        for name, (inputs, outputs) in convs.items():
            out |= {f"{place}.{name}.weight": draw(outputs, inputs, 3, 3), f"{place}.{name}.bias": draw(outputs)}
        for k in (1, 2):
            out |= {f"{place}.epi{k}.noise.weight": draw(c, scale=0.3)}
            out |= {f"{place}.epi{k}.style_mod.lin.weight": draw(2 * c, width)}
            out |= {f"{place}.epi{k}.style_mod.lin.bias": draw(2 * c, scale=0.3)}
        before = c
    return out | {"torgb.weight": draw(3, before, 1, 1), "torgb.bias": draw(3)}, mapping


def mapping_reference(p, z):
    """z (B, z_dim) -> w (B, D): normalised, then leaky ReLU(0.2) of layers at a hundredth of the rate, gain sqrt 2 in W."""
    x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(SIZES["depth"]):
        weight, bias = p[f"dense{i}.weight"].double(), p[f"dense{i}.bias"].double()
        x = F.leaky_relu(x @ (weight * 0.01 * math.sqrt(2 / weight.shape[1])).t() + 0.01 * bias, 0.2)
    return x


def doubled(x, weight, side):
    """Double and convolve x (C, h, w): below 128 px nearest neighbours first, from there on one transposed convolution."""
    if side < 128:
        return F.conv2d(x.repeat_interleave(2, 1).repeat_interleave(2, 2)[None], weight, padding=1)[0]
    wide = weight.new_zeros(*weight.shape[:2], 4, 4)
    for dy in (0, 1):
        for dx in (0, 1):
            wide[:, :, dy : dy + 3, dx : dx + 3] += weight
    _, h, w = x.shape
    out = x.new_zeros(len(weight), 2 * h + 2, 2 * w + 2)
    for y in range(h):
        for column in range(w):
            out[:, 2 * y : 2 * y + 4, 2 * column : 2 * column + 4] += torch.einsum("oikl,i->okl", wide, x[:, y, column])
    return out[:, 1:-1, 1:-1]


def synthesis_reference(p, w_plus, noise):
    """w_plus (B, L, D), noise (L maps, the last zero) -> pictures (B, 3, R, R)."""
    p = {k: v.double() for k, v in p.items()}
    sides = sorted({int(k.split(".")[1].split("x")[0]) for k in p if k.startswith("blocks")})
    blur = torch.outer(*(torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4,) * 2)[None, None]
    pictures = []
    for rows in w_plus:
        x, row = None, 0
        for r in sides:
            place = f"blocks.{r}x{r}"
            for k in (1, 2):
                if r == 4 and k == 1:
                    x = p[f"{place}.const"][0] + p[f"{place}.bias"][:, None, None]
                else:
                    name = f"{place}.{'conv' if r == 4 else ('conv0_up', 'conv1')[k - 1]}"
                    weight = p[f"{name}.weight"] * math.sqrt(2) / math.sqrt(p[f"{name}.weight"][0].numel())
                    if k == 1:
                        x = F.conv2d(doubled(x, weight, r)[:, None], blur, padding=1)[:, 0]
                    else:
                        x = F.conv2d(x[None], weight, padding=1)[0]
                    x = x + p[f"{name}.bias"][:, None, None]
                epi = f"{place}.epi{k}"
                x = x + p[f"{epi}.noise.weight"][:, None, None] * noise[row]
                x = torch.where(x < 0, 0.2 * x, x)
                x = (x - x.mean((1, 2), keepdim=True)) / (x.var((1, 2), unbiased=False, keepdim=True) + 1e-5).sqrt()
                style = (
                    p[f"{epi}.style_mod.lin.weight"] @ rows[row] / math.sqrt(len(rows[row]))
                    + p[f"{epi}.style_mod.lin.bias"]
                )
                x = x * (style[: len(x), None, None] + 1) + style[len(x) :, None, None]
                row += 1
        weight = p["torgb.weight"][:, :, 0, 0]
        pictures.append(
            torch.einsum("oi,ihw->ohw", weight, x) / math.sqrt(weight.shape[1]) + p["torgb.bias"][:, None, None]
        )
    return torch.stack(pictures)
