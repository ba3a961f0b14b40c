"""Grow a prior to a larger picture without losing what it knows: `latentface train prior --init SMALL --resolution LARGE`.

A small picture costs a fraction of a large one, and the shape of a face is learnt there. Karras et al. 2018 grew their
networks by fading new layers in. Here the new layers change nothing at first, as in Net2Net (Chen, Goodfellow, Shlens 2016):
the large generator's picture is the small one's, doubled, and the large discriminator's logit is the small one's of the
picture, halved. Training then moves both from there; no schedule is needed.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from latentface.devices import seeded
from latentface.errors import InputError
from latentface.prior.architecture import Architecture, resolutions_of
from latentface.prior.layers import SQRT2, Conv
from latentface.prior.stylegan2 import Discriminator, DiscriminatorBlock, Generator

SIGNED = 6  # channels that carry a colour picture through leaky ReLUs: each colour, and its negative
LEAK = 1.2  # leaky(a) - leaky(-a) = 1.2 a, with the slope 0.2


def grown_architecture(arch: Architecture, resolution: int, channels: Mapping[int, int] | None = None) -> Architecture:
    """Return `arch` at a larger resolution; `channels` names the new layers', by default each half of the one before.

    Raises InputError: it is not larger, not a power of two, or a table that disagrees with the file's or is too narrow.
    """
    if resolution <= arch.resolution:
        raise InputError(f"the file's faces have {arch.resolution} px; --resolution {resolution} is not larger")
    try:
        steps = resolutions_of(resolution)
    except ValueError as error:
        raise InputError(str(error)) from None
    asked = dict(channels or {})
    table, judge = dict(arch.channels), dict(arch.d_channels)
    for r in steps:
        if r in table:
            if asked.get(r, table[r]) != table[r]:
                raise InputError(f"the file has {table[r]} channels at {r} px; only new resolutions may be named")
            continue
        table[r] = asked.get(r, max(SIGNED, table[r // 2] // 2))
        judge[r] = asked.get(r, max(SIGNED, judge[r // 2] // 2))
        if table[r] < SIGNED:
            raise InputError(f"{table[r]} channels at {r} px are too few to hand a picture on; at least {SIGNED}")
    return replace(arch, resolution=resolution, channels=table, d_channels=judge)


def grow(
    generator: Generator, discriminator: Discriminator, arch: Architecture, *, seed: int = 0
) -> tuple[Generator, Discriminator]:
    """Return networks of `arch` (see `grown_architecture`) that behave as the given ones, one doubling at a time.

    With them, G'(z) = upsample2(G(z)) and D'(x) = D(downsample2(x)), up to rounding.
    """
    with seeded(seed):
        while generator.arch.resolution < arch.resolution:
            r = 2 * generator.arch.resolution
            step = replace(
                arch,
                resolution=r,
                channels={k: v for k, v in arch.channels.items() if k <= r},
                d_channels={k: v for k, v in arch.d_channels.items() if k <= r},
            )
            generator, discriminator = _doubled_generator(generator, step), _doubled_discriminator(discriminator, step)
    return generator, discriminator


@torch.no_grad()
def _doubled_generator(small: Generator, arch: Architecture) -> Generator:
    large = Generator(arch).to(small.mapping.w_avg.dtype)
    _take(large, small)
    # The skip output: the picture so far, doubled, plus nothing yet.
    nn.init.zeros_(large.synthesis.block(arch.resolution).torgb.weight)
    return large


@torch.no_grad()
def _doubled_discriminator(small: Discriminator, arch: Architecture) -> Discriminator:
    before = getattr(small, f"b{small.arch.resolution}")
    assert isinstance(before, DiscriminatorBlock)
    large = Discriminator(arch).to(before.fromrgb.weight.dtype)
    _take(large, small)
    block = getattr(large, f"b{arch.resolution}")
    assert isinstance(block, DiscriminatorBlock)
    hand_on(block, before.fromrgb)
    return large


def hand_on(block: DiscriminatorBlock, fromrgb: Conv) -> None:
    """Set a block's weights so that it gives what `fromrgb` (1x1, leaky ReLU) gives of the picture halved.

    Six channels carry the colours and their negatives, whose differences are linear again after any leaky ReLU, up to
    the last one, which is fromrgb's own. The other channels keep their random weights, and the next layer is deaf to
    them at first: its weights there are zero, their gradient is not.
    """
    middle = block.conv0.weight.shape[1]
    colours = torch.eye(3, dtype=fromrgb.weight.dtype)
    signed = torch.cat([colours, -colours])  # (6, 3)
    undo = torch.cat([colours, -colours], 1) / (LEAK * SQRT2)  # (3, 6): colours from their activations, gain sqrt(2)
    _put(block.fromrgb, signed[:, :, None, None], rows=SIGNED)
    carry = torch.zeros(SIGNED, middle, 3, 3, dtype=signed.dtype)
    carry[:, :SIGNED, 1, 1] = signed @ undo
    _put(block.conv0, carry, rows=SIGNED)
    assert fromrgb.bias is not None
    assert block.conv1.bias is not None
    read = torch.zeros_like(block.conv1.weight)  # (C', C, 3, 3)
    share = fromrgb.gain / block.conv1.gain  # conv1 ends in its share of the residual sum, fromrgb in its own gain
    weight = fromrgb.weight[:, :, 0, 0] * fromrgb.weight_gain  # (C', 3)
    read[:, :SIGNED, 1, 1] = weight @ undo * share
    _put(block.conv1, read, rows=len(read))
    block.conv1.bias.copy_(fromrgb.bias * share)
    nn.init.zeros_(block.skip.weight)


def _put(conv: Conv, wanted: Tensor, *, rows: int) -> None:
    # Equalised rates: what is stored is scaled when it is used.
    conv.weight[:rows] = wanted / conv.weight_gain
    if conv.bias is not None:
        conv.bias[:rows] = 0.0


def _take(large: nn.Module, small: nn.Module) -> None:
    """Copy every tensor that both networks have; what reads or ends the small picture has no place in the large one."""
    known = large.state_dict()
    large.load_state_dict({**known, **{k: v for k, v in small.state_dict().items() if k in known}})
