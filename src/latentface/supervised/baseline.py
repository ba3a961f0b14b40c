"""A trained baseline: a low picture in, its one answer out, no search, no seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentface.degradation import Degradation
from latentface.errors import InputError
from latentface.io.pictures import check_batch
from latentface.supervised.registry import count_parameters, kind_named
from latentface.supervised.tiles import upscale_in_tiles

AT_ONCE = 64  # pictures that go through a network together


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """A trained network with what is known about it.

    Attributes:
        kind: "vdsr", "esrgan" or "fsrnet".
        network: in evaluation mode, maps (B, 3, h, w) in [0, 1] to (B, 3, h factor, w factor), not clamped.
        factor: how many times larger the output's side is.
        resolution: the side in px of the faces it was trained on; None for somebody else's file, made for any size.
        stage: "pixel" or "gan" (ESRGAN's second stage); "unknown" for somebody else's file.
        card: data, steps, figures, licence, date.
    """

    kind: str
    network: nn.Module
    factor: int
    resolution: int | None
    stage: str
    card: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Return the name for tables and captions."""
        return kind_named(self.kind).title + (
            " (pixel stage)" if (self.kind, self.stage) == ("esrgan", "pixel") else ""
        )

    @property
    def parameters(self) -> int:
        """Return how many learnt numbers the network holds."""
        return count_parameters(self.network)

    @property
    def device(self) -> torch.device:
        """Return where the network is."""
        return next(self.network.parameters()).device

    def to(self, device: str | torch.device) -> Baseline:
        """Move the network; returns the same baseline."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def restore(self, low: Tensor) -> Tensor:
        """Return low pictures (B, 3, h, w) in [0, 1] as (B, 3, h factor, w factor) in [0, 1], on `low`'s device.

        Raises InputError: `low` is no such batch.
        """
        check_batch(low, "the low pictures")
        device = self.device
        parts = [
            self.network(part.to(device, torch.float32).contiguous(memory_format=torch.channels_last)).clamp(0, 1)
            for part in low.split(AT_ONCE)
        ]
        return torch.cat(parts).to(low.device).contiguous()

    def upscale(self, picture: Tensor, *, tile: int = 192, overlap: int = 16) -> Tensor:
        """Enlarge one photograph (3, H, W) in [0, 1] to (3, H factor, W factor) in [0, 1] on the CPU, tile by tile.

        Meant for somebody else's ESRGAN; a network trained on aligned faces draws faces everywhere.

        Raises InputError: the picture or the numbers cannot be used.
        """
        return upscale_in_tiles(self.network, self.factor, picture.to(self.device), tile=tile, overlap=overlap)


def restore_with(kind: str, low: Tensor, degradation: Degradation | None, model: Baseline) -> Tensor:
    """Restore low pictures (B, 3, h, w) in [0, 1] with the named baseline: (B, 3, H, W) in [0, 1]. Raises InputError."""
    if model.kind != kind:
        raise InputError(f"the method is {kind}, but the weights are of {model.kind}; name the method {model.kind}")
    if degradation is not None:
        (h, w), (high, wide) = degradation.low_size, degradation.high_size
        if (h * model.factor, w * model.factor) != (high, wide):
            raise InputError(
                f"{model.title} was trained for {model.factor}x, but the picture must grow from {w}x{h} to {wide}x{high};"
                " use weights of that factor or another method"
            )
    return model.restore(low)
