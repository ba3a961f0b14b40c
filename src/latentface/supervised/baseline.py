"""A trained baseline: a low picture in, its one answer out, no search, no seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from latentface.errors import InputError
from latentface.io.pictures import check_batch
from latentface.supervised.registry import KINDS, Shape, title_of

AT_ONCE = 64  # pictures that go through a network together


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """A trained network with what is known about it.

    Attributes:
        kind: "vdsr", "esrgan" or "fsrnet", or a rival's name, whose title the card has.
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
        if self.kind not in KINDS:
            return str(self.card["title"])
        stage = " (pixel stage)" if (self.kind, self.stage) == ("esrgan", "pixel") else ""
        return title_of(self.kind, cast(Shape, self.network.shape)) + stage

    @property
    def device(self) -> torch.device:
        """Return where the network is."""
        return next(self.network.parameters()).device

    def to(self, device: str | torch.device) -> Self:
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

    @torch.no_grad()
    def upscale(self, picture: Tensor, *, tile: int = 192, overlap: int = 16) -> Tensor:
        """Enlarge one photograph (3, H, W) in [0, 1] to (3, H factor, W factor) in [0, 1] on the CPU, tile by tile.

        Meant for somebody else's ESRGAN; a network trained on aligned faces draws faces everywhere. Memory follows the
        tile and not the picture.

        Args:
            tile: side in px of the part that a tile gives to the result; overlap: px around it that it only looks at.
                Where the network sees no farther than `overlap`, the result equals that of the whole picture at once.

        Raises InputError: the picture or the numbers cannot be used.
        """
        if tile < 1 or overlap < 0:
            raise InputError(f"tile is {tile} and overlap {overlap} px; expected at least 1 and 0")
        check_batch(picture[None] if picture.ndim == 3 else picture, "the picture to enlarge")
        if picture.ndim != 3:
            raise InputError(f"the picture to enlarge: got {tuple(picture.shape)}, expected one picture (3, H, W)")
        picture = picture.to(self.device)
        _, height, width = picture.shape
        result = torch.empty(3, height * self.factor, width * self.factor)
        for top in range(0, height, tile):
            bottom, above = min(top + tile, height), min(overlap, top)
            for left in range(0, width, tile):
                right, before = min(left + tile, width), min(overlap, left)
                part = picture[None, :, top - above : bottom + overlap, left - before : right + overlap]
                high = self.network(part.contiguous(memory_format=torch.channels_last))[0].clamp(0, 1)
                y, x = above * self.factor, before * self.factor
                inner = high[:, y : y + (bottom - top) * self.factor, x : x + (right - left) * self.factor]
                result[:, top * self.factor : bottom * self.factor, left * self.factor : right * self.factor] = (
                    inner.cpu()
                )
        return result
