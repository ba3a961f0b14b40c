"""Exits of a generator: small heads that paint the face after an early block, at its size, without the layers above.

A search at an exit costs a fraction of one at full size. A head is learnt from the generator's own samples
(`latentface.train.exits`); a file of heads (`io.weights`; tensors `e<resolution>.*`) belongs to one prior, whose sha256 its
card names.

Shape legend: B batch, L style rows, D width of w, C channels, r side of the features.
"""

import math
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.degradation import Degradation, enlargements
from latentface.errors import WeightsError
from latentface.io.weights import filled, read_card, read_tensors, write_weights
from latentface.prior.mobilestylegan import Affine, MobileGenerator, StyledLayer, inverse_haar, pointwise

# From the input to an exit: below it the exit, which is softer than the prior, cannot follow the input.
LEAST_ENLARGEMENT = 2.0


class ExitLayer(nn.Module):
    """Features (B, C, r / 2, r / 2) and a style row -> picture (B, 3, r, r).

    The generator's own next block, narrow: its doubling and its first depthwise convolution, then `width` channels instead
    of the block's, one 3x3 convolution, and a modulated 1x1 convolution to the picture.
    """

    def __init__(self, inputs: int, w_dim: int, side: int, width: int) -> None:
        super().__init__()
        self.up = Affine(w_dim, inputs)
        self.conv1 = StyledLayer(inputs // 4, width, w_dim, side)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.affine = Affine(w_dim, width)
        self.weight = nn.Parameter(0.1 * torch.randn(3, width) / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(3))
        with torch.no_grad():
            nn.init.normal_(self.affine.weight, std=0.002)
            nn.init.ones_(self.affine.bias)
            nn.init.normal_(self.conv2.weight, std=1 / math.sqrt(9 * width))

    @classmethod
    def of(cls, generator: MobileGenerator, resolution: int, width: int) -> Self:
        """Return a layer that begins as the generator's own block does, with at most `width` of its channels."""
        block = generator.synthesis.block(resolution)
        width = min(width, len(block.conv1.bias))
        layer = cls(generator.arch.channels[resolution // 2], generator.arch.w_dim, resolution, width)
        layer.up.load_state_dict(block.up.state_dict())
        narrow = {k: v[:width] if k in ("weight", "bias") else v for k, v in block.conv1.state_dict().items()}
        layer.conv1.load_state_dict(narrow)
        return layer

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x (B, C, r / 2, r / 2) channels last, w (B, D) -> (B, 3, r, r) in about [-1, 1]."""
        x = self.conv1(inverse_haar(x * self.up(w).to(x.dtype)[:, :, None, None]), w, None)
        x = F.conv2d(x, self.conv2.weight.to(x.dtype), self.conv2.bias.to(x.dtype), padding=1)  # type: ignore[union-attr]
        return pointwise(F.leaky_relu_(x, 0.2), self.weight, self.affine(w), None, self.bias)


def beside(prior_path: str | Path, what: str = "exits") -> Path:
    """Return where a prior's exits, its judge or its encoder are looked for first: beside its file, NAME.exits.safetensors."""
    path = Path(prior_path)
    return path.with_name(f"{path.stem}.{what}.safetensors")


def rows_of(resolution: int) -> int:
    """Return how many style rows an exit of that resolution has: those of its blocks and one for the picture."""
    return 2 * (int(math.log2(resolution)) - 2)


def exit_for(exits: Iterable[int], degradation: Degradation, faces: int) -> int | None:
    """Return the resolution of the smallest exit at which inputs are enlarged enough, None where none is."""
    low = degradation.high_size[0] / min(enlargements(degradation, faces))  # px of the largest face
    return min((r for r in exits if r >= LEAST_ENLARGEMENT * low), default=None)


def whole_rows(w_plus: Tensor, rows: int) -> Tensor:
    """Return an exit's style rows (B, l, D) as all of the generator's (B, L, D): the rows above it are its last one."""
    return torch.cat([w_plus, w_plus[:, -1:].expand(-1, rows - w_plus.shape[1], -1)], 1)


def write_exits(path: str | Path, heads: Mapping[int, ExitLayer], prior_sha256: str, card: Mapping[str, Any]) -> None:
    """Write a prior's exits atomically. Raises OutputError, or WeightsError where a number does not fit float16."""
    values = {f"e{r}.{name}": value for r, head in heads.items() for name, value in head.state_dict().items()}
    write_weights(path, "exits", values, card, {"prior_sha256": prior_sha256})


def read_exits(path: str | Path, generator: MobileGenerator, prior_sha256: str) -> dict[int, ExitLayer]:
    """Return resolution -> head, in float32 on the CPU.

    Raises WeightsError: no such file, broken, no exits, or those of another prior.
    """
    card, values = read_card(path, "exits"), read_tensors(path)
    if card.get("prior_sha256") != prior_sha256:
        raise WeightsError(f"{path}: these exits are another prior's; train them with: latentface train exits")
    sizes = [2 * r for r in generator.synthesis.resolutions[:-1]]
    parts = {r: {k.partition(".")[2]: v for k, v in values.items() if k.startswith(f"e{r}.")} for r in sizes}
    if not values or sum(map(len, parts.values())) < len(values):
        raise WeightsError(f"{path}: it holds {', '.join(values) or 'nothing'}; expected exits of {sizes} px alone")
    heads = {}
    for r, own in parts.items():
        if not own:
            continue
        width = own["conv2.bias"].numel() if "conv2.bias" in own else 1
        inputs, w_dim = generator.arch.channels[r // 2], generator.arch.w_dim
        head = filled(partial(ExitLayer, inputs, w_dim, r, width), own, f"{path}: e{r}.")
        heads[r] = head.eval().requires_grad_(False)
    return heads
