"""Small runs: networks of 8 px, coloured pictures, and files of them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from latentface.prior.architecture import Architecture
from latentface.train.gan import GanSettings, GanTrainer, new_state

ARCH = Architecture(
    resolution=8, channels={4: 8, 8: 8}, d_channels={4: 6, 8: 6}, z_dim=8, w_dim=8, mapping_layers=2, mbstd_group=2
)
CPU = torch.device("cpu")


def coloured(count=40, size=8, seed=0, colour=(0.8, 0.3, 0.5)):
    """Return uint8 pictures (count, 3, size, size) that scatter around one colour."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 3, size, size, generator=generator) * 0.05
    shade = torch.randn(count, 1, 1, 1, generator=generator) * 0.05
    return ((torch.tensor(colour)[:, None, None] + shade + noise).clamp(0, 1) * 255).byte()


def write_pictures(folder, count=20, size=8):
    """Write `coloured` as PNG files 000.png, 001.png, ...."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(coloured(count, size)):
        Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).numpy())).save(folder / f"{i:03}.png")
    return folder


def settings(**changes):
    """Return settings of small batches, with R1 and augmentation in use."""
    return GanSettings(**{"batch": 4, "r1_every": 3, "average_pictures": 40.0, **changes})


def trainer(pictures=None, **changes):
    """Return a trainer on the CPU."""
    return GanTrainer(new_state(ARCH, settings(**changes), CPU), coloured() if pictures is None else pictures, CPU)


def same(first, second):
    """Say whether two nested states are equal bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second
