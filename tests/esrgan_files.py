"""An ESRGAN file as others write them, of random numbers."""

from __future__ import annotations

from pathlib import Path

import torch

from latentface.supervised.esrgan import RrdbNet, RrdbShape


def esrgan_file(path: Path, ups: int = 2, sight: bool = True) -> Path:
    """Write a random ESRGAN as others do; without `sight` it enlarges each pixel by itself, by its nearest neighbour."""
    torch.manual_seed(1)
    net = RrdbNet(RrdbShape(blocks=1, features=8, growth=4, tail=(8,) * ups))
    with torch.no_grad():
        for name, value in net.named_parameters():
            if not sight:
                value.zero_()
                if name.endswith("weight") and "body" not in name:
                    value[:3, :3, 1, 1] = torch.eye(3)
            elif name == "conv_last.bias":
                value.fill_(0.5)
    names = {f"conv_ups.{i}": f"conv_up{i + 1}" for i in range(ups)}
    tensors = {}
    for name, value in net.state_dict().items():
        stem, _, end = name.rpartition(".")
        tensors[f"{names.get(stem, stem)}.{end}"] = value
    torch.save({"params_ema": tensors}, path)
    return path
