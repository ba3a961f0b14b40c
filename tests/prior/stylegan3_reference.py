"""StyleGAN3 written plainly, one face at a time, with dense filters; and small networks by the paper's formulas."""

from __future__ import annotations

import math

import numpy as np
import scipy.signal
import scipy.special
import torch
import torch.nn.functional as F

from latentface.prior.prior import Prior
from latentface.prior.stylegan3 import AliasFreeArchitecture, AliasFreeGenerator, FilteredShape


def lowpass(taps, cutoff, width, rate, radial):
    """Return a Kaiser low-pass filter, (taps,), or a round one, (taps, taps)."""
    if not radial:
        return torch.tensor(scipy.signal.firwin(taps, cutoff, width=width, fs=rate), dtype=torch.float32)
    x = (np.arange(taps) - (taps - 1) / 2) / rate
    r = np.hypot(x[:, None], x)
    window = np.kaiser(taps, scipy.signal.kaiser_beta(scipy.signal.kaiser_atten(taps, 2 * width / rate)))
    f = scipy.special.j1(2 * cutoff * np.pi * r) / (np.pi * r) * np.outer(window, window)
    return torch.tensor(f / f.sum(), dtype=torch.float32)


def plan(kind="t", resolution=32, layers=6, base=256, most=12, margin=4):
    """Return layers (dicts of numbers) by the paper's section 3.2: cutoffs and stop bands grow geometrically."""
    kernel, grow = (1, 2) if kind == "r" else (3, 1)
    step = np.minimum(np.arange(layers + 1) / (layers - 2), 1)
    cutoff = 2 * (resolution / 2 / 2) ** step
    stop = 2**2.1 * (resolution / 2 * 2**0.3 / 2**2.1) ** step
    rate = np.exp2(np.ceil(np.log2(np.minimum(2 * stop, resolution)))).astype(int)
    half = np.maximum(stop, rate / 2) - cutoff
    side = rate + 2 * margin
    side[-2:] = resolution
    channels = np.rint(np.minimum(base * grow / 2 / cutoff, most * grow)).astype(int)
    channels[-1] = 3
    out = []
    for i in range(layers + 1):
        before, last = max(i - 1, 0), i == layers
        fine = max(rate[before], rate[i]) * (1 if last else 2)
        up, down, k = int(fine // rate[before]), int(fine // rate[i]), 1 if last else kernel
        up_taps, down_taps = (1 if n == 1 or last else 6 * n for n in (up, down))
        radial = kind == "r" and i < layers - 2 and down_taps > 1
        total = (side[i] - 1) * down + 1 - (side[before] + k - 1) * up + up_taps + down_taps - 2
        first = (total + up) // 2
        out.append(
            {
                "rate": int(rate[i]),
                "inputs": int(channels[before]),
                "outputs": int(channels[i]),
                "kernel": k,
                "up": up,
                "down": down,
                "up_taps": up_taps,
                "down_taps": down_taps,
                "radial": radial,
                "pad": (int(first), int(total - first)),
                "in_side": int(side[before]),
                "out_side": int(side[i]),
                "up_filter": lowpass(up_taps, cutoff[before], 2 * half[before], fine, False) if up_taps > 1 else None,
                "down_filter": lowpass(down_taps, cutoff[i], 2 * half[i], fine, radial) if down_taps > 1 else None,
            }
        )
    return out, float(cutoff[0])


def small_generator(kind="t", resolution=32, seed=0, **more):
    """Return a generator of random numbers, with the paper's filters, and its plan."""
    layers, bandwidth = plan(kind, resolution, **more)
    names = FilteredShape.__dataclass_fields__
    arch = AliasFreeArchitecture(
        resolution=resolution,
        z_dim=9,
        w_dim=10,
        mapping_layers=2,
        input_side=layers[0]["in_side"],
        input_rate=float(layers[0]["rate"]),
        bandwidth=bandwidth,
        layers=[FilteredShape(**{k: v for k, v in one.items() if k in names}) for one in layers],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = AliasFreeGenerator(arch)
        with torch.no_grad():
            for name, value in generator.named_parameters():
                if name.endswith("bias"):
                    value += torch.randn_like(value) * (10 if "mapping" in name else 0.3)
            for name, value in generator.named_buffers():
                if name.endswith("magnitude_ema"):
                    value.uniform_(0.5, 2)
                if name.endswith("w_avg"):
                    value.normal_()
    for layer, one in zip(layers_of(generator), layers, strict=True):
        for name in ("up_filter", "down_filter"):
            if one[name] is not None:
                setattr(layer, name, one[name])
    return generator.eval().requires_grad_(False), layers


def small_prior(kind="t", resolution=32, judge=None):
    """Return a prior of such a generator."""
    generator, _ = small_generator(kind, resolution)
    return Prior(generator, judge, None, {"alignment": "celeba"}, name="small3")


def layers_of(generator):
    """Return the layers in their order, the last one to the picture."""
    blocks = [generator.synthesis.block(r) for r in generator.synthesis.resolutions]
    return [getattr(b, f"layer{i}") for b in blocks for i in range(b.convs - b.first)] + [generator.synthesis.torgb]


def filtered(x, taps, up, down, pad, gain):
    """Insert zeros, pad or cut, convolve with the whole filter, keep every down-th: x (C, h, w)."""
    c, h, w = x.shape
    wide = x.new_zeros(c, h * up, w * up)
    wide[:, ::up, ::up] = x
    wide = F.pad(wide, [pad[0], pad[1], pad[0], pad[1]])
    if taps is not None:
        whole = torch.outer(taps, taps) if taps.ndim == 1 else taps
        wide = F.conv2d(wide[:, None], (whole * gain).flip(0, 1)[None, None])[:, 0]
    return wide[:, ::down, ::down]


def synthesis_reference(generator, layers, w_plus):
    """w_plus (B, L, D) in float64 -> pictures, by sections 3 and F of the paper, each face with kernels of its own."""
    state = {k: v.double() for k, v in generator.state_dict().items()}
    arch, first = generator.arch, f"synthesis.b{layers[0]['rate']}.input"
    names, rates = [], [one["rate"] for one in layers[:-1]]
    for i, rate in enumerate(rates):
        names.append(f"synthesis.b{rate}.layer{i - rates.index(rate)}")
    pictures = []
    for rows in w_plus:
        t = state[f"{first}.affine.weight"] @ rows[0] / math.sqrt(len(rows[0])) + state[f"{first}.affine.bias"]
        t = t / t[:2].norm()
        turn = torch.tensor([[t[0], -t[1]], [t[1], t[0]]], dtype=torch.float64)
        # x' = R (x - shift): frequencies turn, phases move.
        freqs = state[f"{first}.freqs"] @ turn
        phases = state[f"{first}.phases"] + state[f"{first}.freqs"] @ (turn @ -t[2:])
        n, rate = arch.input_side, arch.input_rate
        place = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / rate
        fade = (1 - (freqs.norm(dim=1) - arch.bandwidth) / (rate / 2 - arch.bandwidth)).clamp(0, 1)
        angle = freqs[:, 0, None, None] * place + freqs[:, 1, None, None] * place[:, None] + phases[:, None, None]
        x = (2 * math.pi * angle).sin() * fade[:, None, None]
        x = torch.einsum("dc,chw->dhw", state[f"{first}.weight"], x) / math.sqrt(len(x))
        for i, (name, one) in enumerate(zip([*names, "synthesis.torgb"], layers, strict=True)):
            last = i == len(layers) - 1
            style = (
                state[f"{name}.affine.weight"] @ rows[i + 1] / math.sqrt(len(rows[0])) + state[f"{name}.affine.bias"]
            )
            weight = state[f"{name}.weight"] * style[:, None, None]
            if last:
                weight = weight / math.sqrt(one["inputs"])
            else:
                weight = weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
            x = x / state[f"{name}.magnitude_ema"].sqrt()
            x = F.conv2d(x[None], weight, padding=one["kernel"] - 1)[0] + state[f"{name}.bias"][:, None, None]
            up, down = (None if one[k] is None else one[k].double() for k in ("up_filter", "down_filter"))
            x = filtered(x, up, one["up"], 1, one["pad"], one["up"] ** 2)
            x = x if last else torch.where(x < 0, 0.2 * x, x) * math.sqrt(2)
            x = filtered(x.clamp(-256, 256), down, 1, one["down"], (0, 0), 1)
        pictures.append(x * arch.scale)
    return torch.stack(pictures)
