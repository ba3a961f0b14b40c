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
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.degradation import Degradation, enlargements
from latentface.errors import WeightsError
from latentface.io.weights import filled, read_card, read_tensors, write_weights
from latentface.prior.mobilestylegan import Affine, MobileGenerator, inverse_haar, pointwise

# From the input to an exit: below it the exit, which is softer than the prior, cannot follow the input.
LEAST_ENLARGEMENT = 2.0


class ExitLayer(nn.Module):
    """Features (B, C, r, r) and a style row -> picture (B, 3, 2 r, 2 r): three modulated convolutions, inverse Haar.

    1x1 to `width` channels, then 3x3 and 3x3 to the four planes of the picture, as the generator's own last layer has them.
    """

    def __init__(self, inputs: int, w_dim: int, width: int = 96) -> None:
        super().__init__()
        sizes = (inputs, width, width)
        self.affines = nn.ModuleList(Affine(w_dim, n) for n in sizes)
        outputs, kernels = (width, width, 12), (1, 3, 3)
        self.weights = nn.ParameterList(
            torch.randn(o, i, k, k) / math.sqrt(i * k * k) for o, i, k in zip(outputs, sizes, kernels, strict=True)
        )
        self.biases = nn.ParameterList(torch.zeros(o) for o in outputs)
        with torch.no_grad():
            self.weights[2].mul_(0.1)
            for affine in self.affines.children():
                nn.init.normal_(affine.weight, std=0.002)  # type: ignore[arg-type]
                nn.init.ones_(affine.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x (B, C, r, r) channels last, w (B, D) -> (B, 3, 2 r, 2 r) in about [-1, 1]."""
        styles = [affine(w) for affine in self.affines]
        x = pointwise(x, self.weights[0][:, :, 0, 0], styles[0], None, self.biases[0], 0.2)
        for i in (1, 2):
            x = F.conv2d(
                x * styles[i].to(x.dtype)[:, :, None, None],
                self.weights[i].to(x.dtype),
                self.biases[i].to(x.dtype),
                padding=1,
            )
            x = F.leaky_relu(x, 0.2) if i == 1 else x
        return inverse_haar(x)


def beside(prior_path: str | Path, what: str = "exits") -> Path:
    """Return where a prior's exits, or its judge, are looked for first: beside its file, NAME.exits.safetensors."""
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
        width = own["biases.0"].numel() if "biases.0" in own else 1
        inputs, w_dim = generator.arch.channels[r // 2], generator.arch.w_dim
        head = filled(partial(ExitLayer, inputs, w_dim, width), own, f"{path}: e{r}.")
        heads[r] = head.eval().requires_grad_(False)
    return heads
