"""Exits of a generator: small heads that paint the face after an early block, at its size, without the layers above.

A search at an exit costs a fraction of one at full size. A head is learnt from the generator's own samples
(`latentface.train.exits`); a file of heads belongs to one prior, whose sha256 its card names. The file: safetensors
`e<resolution>.*`, the card as JSON under the metadata key `latentface-exits`; float16 on disk, float32 in use.

Shape legend: B batch, L style rows, D width of w, C channels, r side of the features.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from latentface.errors import InputError, WeightsError
from latentface.io.atomic import write_bytes
from latentface.prior.mobilestylegan import Affine, MobileGenerator, inverse_haar, pointwise

FORMAT = 1
KEY = "latentface-exits"


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


def beside(prior_path: str | Path) -> Path:
    """Return where a prior's exits are looked for first: beside its file, NAME.exits.safetensors."""
    path = Path(prior_path)
    return path.with_name(f"{path.stem}.exits.safetensors")


def rows_of(resolution: int) -> int:
    """Return how many style rows an exit of that resolution has: those of its blocks and one for the picture."""
    return 2 * (int(math.log2(resolution)) - 2)


def whole_rows(w_plus: Tensor, rows: int) -> Tensor:
    """Return an exit's style rows (B, l, D) as all of the generator's (B, L, D): the rows above it are its last one."""
    return torch.cat([w_plus, w_plus[:, -1:].expand(-1, rows - w_plus.shape[1], -1)], 1)


def write_exits(path: str | Path, heads: Mapping[int, ExitLayer], prior_sha256: str, card: Mapping[str, Any]) -> None:
    """Write a prior's exits atomically. Raises OutputError, or WeightsError where a number does not fit float16."""
    halves = {
        f"e{r}.{k}": v.detach().cpu().half().contiguous()
        for r, head in heads.items()
        for k, v in head.state_dict().items()
    }
    for name, value in halves.items():
        if not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{path}: {name} does not fit float16; the training has diverged")
    full = {**card, "format": FORMAT, "prior_sha256": prior_sha256}
    write_bytes(path, save(halves, {KEY: json.dumps(full, ensure_ascii=False)}))


def read_exits(path: str | Path, generator: MobileGenerator, prior_sha256: str) -> dict[int, ExitLayer]:
    """Return resolution -> head, in float32 on the CPU.

    Raises:
        WeightsError: no such file, broken, no exits, or those of another prior.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            card = json.loads((file.metadata() or {})[KEY])
            values = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        raise WeightsError(f"{path}: these are no exits of a prior ({type(error).__name__}: {error})") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT or card.get("prior_sha256") != prior_sha256:
        raise WeightsError(
            f"{path}: these exits are another prior's, or of another version; train them with: latentface train exits"
        )
    sizes = [2 * r for r in generator.synthesis.resolutions[:-1]]
    parts = {r: {k.partition(".")[2]: v for k, v in values.items() if k.startswith(f"e{r}.")} for r in sizes}
    if not values or sum(map(len, parts.values())) < len(values):
        raise WeightsError(f"{path}: it holds {', '.join(values) or 'nothing'}; expected exits of {sizes} px alone")
    heads = {}
    for r, own in parts.items():
        if not own:
            continue
        try:
            with torch.device("meta"):  # whatever width the file claims, it costs no memory before its shapes agree
                head = ExitLayer(generator.arch.channels[r // 2], generator.arch.w_dim, len(own["biases.0"]))
            head.load_state_dict(own, assign=True)
        except (KeyError, RuntimeError, TypeError) as error:
            raise WeightsError(
                f"{path}: the exit of {r} px does not fit the prior ({str(error).splitlines()[0]})"
            ) from None
        if not all(bool(torch.isfinite(v).all()) for v in own.values()):
            raise WeightsError(f"{path}: the exit of {r} px holds NaN or infinite values")
        heads[r] = head.eval().requires_grad_(False)
    return heads


def check_exit(resolution: int, heads: Mapping[int, ExitLayer]) -> ExitLayer:
    """Return the head of a resolution. Raises InputError where there is none."""
    if resolution not in heads:
        known = ", ".join(f"{r} px" for r in heads) or "none"
        raise InputError(f"there is no exit of {resolution} px (there are: {known})")
    return heads[resolution]
