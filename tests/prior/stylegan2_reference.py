"""StyleGAN2 computed a second time, straight from the papers and the authors' release, with nothing shared or fused.

Every operation is the published definition: a kernel a sample in one grouped convolution, filters by explicit zero
insertion and sixteen shifted sums, doubling as "filter, then convolve" and halving as "convolve, then filter" (the
package fuses both the other way round). `s` is a state dict.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

FILTER = [1 / 8, 3 / 8, 3 / 8, 1 / 8]


def upfirdn(x, up=1, down=1, pad=(0, 0), gain=1.0):
    """Insert zeros, pad, filter, take every `down`-th sample."""
    b, c, h, w = x.shape
    wide = x.new_zeros(b, c, h * up, w * up)
    wide[:, :, ::up, ::up] = x
    wide = F.pad(wide, [pad[0], pad[1], pad[0], pad[1]])
    rows, columns = wide.shape[2] - 3, wide.shape[3] - 3
    out = sum(FILTER[i] * FILTER[j] * wide[:, :, i : i + rows, j : j + columns] for i in range(4) for j in range(4))
    return gain * out[:, :, ::down, ::down]


def lrelu(x):
    return torch.where(x < 0, 0.2 * x, x) * math.sqrt(2)


def linear(s, name, x, lr=1.0):
    weight, bias = s[f"{name}.weight"], s[f"{name}.bias"]
    return x @ (weight * (lr / math.sqrt(weight.shape[1]))).t() + bias * lr


def mapping(s, z, layers):
    """normalize_2nd_moment, then the fully connected layers at a hundredth of the rate."""
    x = z / (z.pow(2).mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(layers):
        x = lrelu(linear(s, f"mapping.fc{i}", x, lr=0.01))
    return x


def modulated_conv(x, weight, style, *, up=False, demodulate=True):
    """A kernel for every sample, all in one grouped convolution."""
    b, i = x.shape[:2]
    o, _, k, _ = weight.shape
    kernels = weight[None] * style[:, None, :, None, None]  # (B, O, I, k, k)
    if demodulate:
        kernels = kernels / (kernels.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    if up:  # a true convolution there (mirrored kernel), a correlation elsewhere: so the authors' weights are stored
        x, kernels = upfirdn(x, up=2, pad=(3, 2), gain=4.0), kernels.flip(3, 4)
    out = F.conv2d(
        x.reshape(1, b * i, *x.shape[2:]), kernels.reshape(b * o, i, k, k), padding=0 if up else k // 2, groups=b
    )
    return out.reshape(b, o, *out.shape[2:])


def layer(s, name, x, w, noise, up):
    style = linear(s, f"{name}.affine", w)
    x = modulated_conv(x, s[f"{name}.weight"], style, up=up)
    noise = s[f"{name}.noise_const"] if noise is None else noise
    return lrelu(x + noise * s[f"{name}.noise_strength"] + s[f"{name}.bias"][:, None, None])


def synthesis(s, resolutions, ws, noise=None):
    """ws (B, L, D) -> picture in [-1, 1]; `noise` one map a convolution."""
    maps = list(noise) if noise is not None else [None] * (2 * len(resolutions) - 1)
    rgb, row = None, 0
    for r in resolutions:
        block = f"synthesis.b{r}"
        if r == 4:
            x = s[f"{block}.const"].expand(len(ws), -1, -1, -1)
        else:
            x = layer(s, f"{block}.conv0", x, ws[:, row], maps[row], up=True)
            row += 1
        x = layer(s, f"{block}.conv1", x, ws[:, row], maps[row], up=False)
        row += 1
        weight = s[f"{block}.torgb.weight"]
        style = linear(s, f"{block}.torgb.affine", ws[:, row]) / math.sqrt(weight.shape[1])
        y = modulated_conv(x, weight, style, demodulate=False) + s[f"{block}.torgb.bias"][:, None, None]
        rgb = y if rgb is None else upfirdn(rgb, up=2, pad=(2, 1), gain=4.0) + y
    return rgb


def conv(s, name, x, *, down=False, act=True, bias=True):
    weight = s[f"{name}.weight"]
    k = weight.shape[2]
    pad = k // 2 + (1 if down else 0)
    x = F.conv2d(x, weight / math.sqrt(weight.shape[1] * k * k), padding=pad)
    if down:
        x = upfirdn(x, down=2)
    if bias:
        x = x + s[f"{name}.bias"][:, None, None]
    return lrelu(x) if act else x


def discriminator_features(s, resolutions, x):
    out = []
    for r in resolutions[:0:-1]:
        if r == resolutions[-1]:
            x = conv(s, f"b{r}.fromrgb", x)
        y = conv(s, f"b{r}.skip", x, down=True, act=False, bias=False)
        x = conv(s, f"b{r}.conv1", conv(s, f"b{r}.conv0", x), down=True)
        x = math.sqrt(0.5) * (x + y)
        out.append(x)
    return out


def minibatch_deviation(x, group):
    """Samples n, n + B/g, n + 2 B/g, ... are one group; each gets its group's mean deviation as one more channel."""
    b = len(x)
    g = max(k for k in range(1, min(group, b) + 1) if b % k == 0)
    extra = torch.empty(b, 1, 4, 4, dtype=x.dtype)
    for n in range(b):
        members = x[[m for m in range(b) if m % (b // g) == n % (b // g)]]
        extra[n] = (members.var(0, unbiased=False) + 1e-8).sqrt().mean()
    return torch.cat([x, extra], 1)


def discriminator(s, resolutions, x, group):
    """Pictures in [-1, 1] -> logits (B,)."""
    x = minibatch_deviation(discriminator_features(s, resolutions, x)[-1], group)
    x = lrelu(linear(s, "b4.fc", conv(s, "b4.conv", x).flatten(1)))
    return linear(s, "b4.out", x)[:, 0]
