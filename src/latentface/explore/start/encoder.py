"""An encoder from low pictures to style rows: where a warm start begins, and its file.

It is trained on the prior's own faces (`latentface.train.encoder`), so it belongs to one prior, whose sha256 its card
names. Its file is one of `io.weights`.

Shape legend: B faces, E side of what it sees, L style rows, D width of w.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.degradation import Degradation
from latentface.errors import InputError, MissingDataError, WeightsError
from latentface.explore.start.sight import EYE, low_sides, octaves, seen
from latentface.io.atomic import sha256
from latentface.io.weights import filled, read_card, read_tensors, write_weights
from latentface.prior.exits import beside
from latentface.prior.prior import Prior

RIDGE = 0.05  # of the variance of a whitened part: faces are few, and the parts at the end are noise


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderShape:
    """Sizes of an encoder: rows L, the prior's or those of an exit, and width D of the prior's, and its own.

    Attributes:
        parts: principal components of what it sees that it works on; hidden, blocks: of the residual network;
        rank: how many directions the rows may differ in.
    """

    rows: int
    width: int
    parts: int = 256
    hidden: int = 384
    blocks: int = 4
    rank: int = 64

    def __post_init__(self) -> None:
        if min(self.rows, self.width, self.parts, self.hidden, self.rank) < 1 or self.blocks < 0:
            raise InputError(f"an encoder's sizes must be positive, got {self}")
        if self.parts > 3 * EYE * EYE:
            raise InputError(f"parts is {self.parts}; what an encoder sees has {3 * EYE * EYE} numbers")


class EncoderNetwork(nn.Module):
    """What is seen (B, 3, E, E) and log2 of the enlargement (B,) -> gaussianised style rows (B, L, D), of norm sqrt(D)."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.stem = nn.Linear(3 * EYE * EYE, shape.parts)
        self.inlet = nn.Linear(shape.parts + 1, shape.hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(), nn.Linear(shape.hidden, shape.hidden), nn.SiLU(), nn.Linear(shape.hidden, shape.hidden)
            )
            for _ in range(shape.blocks)
        )
        self.common = nn.Linear(shape.hidden, shape.width)
        self.linear = nn.Linear(shape.parts, shape.width)
        self.apart = nn.Sequential(nn.Linear(shape.hidden, shape.rank), nn.Linear(shape.rank, shape.rows * shape.width))

    @torch.no_grad()
    def fit_stem(self, views: Tensor) -> None:
        """Make the stem whiten what is seen: `views` (N, 3, E, E) -> numbers of variance 1, strongest part first."""
        x = views.flatten(1).double()
        mean = x.mean(0)
        values, vectors = torch.linalg.eigh((x - mean).t() @ (x - mean) / len(x))
        values, vectors = values.flip(0)[: self.shape.parts], vectors.flip(1)[:, : self.shape.parts]
        weight = (
            vectors / (values + 1e-4).sqrt()
        ).t()  # 1e-4: parts fainter than a hundredth of the grey range are noise
        self.stem.weight.copy_(weight)
        self.stem.bias.copy_(-weight @ mean)

    @torch.no_grad()
    def fit_linear(self, views: Tensor, v: Tensor) -> None:
        """Make the linear part answer with the latents v (N, D) of these views by least squares, and the rest with nothing."""
        x = self.stem(views.flatten(1)).double()
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        ridge = torch.eye(x.shape[1], dtype=x.dtype, device=x.device) * len(x) * RIDGE
        found = torch.linalg.solve(x.t() @ x + ridge, x.t() @ v.double())  # (parts + 1, D)
        self.linear.weight.copy_(found[:-1].t())
        self.linear.bias.copy_(found[-1])
        for layer in (self.common, self.apart[1]):
            layer.weight.mul_(0.1)  # type: ignore[operator]
            layer.bias.zero_()  # type: ignore[operator]

    def forward(self, views: Tensor, enlargement: Tensor) -> Tensor:
        x = self.stem(views.flatten(1))  # (B, parts)
        h = self.inlet(torch.cat([x, enlargement[:, None] / 2 - 1.5], 1))  # 2x to 32x: -1 to 1
        for block in self.blocks:
            h = h + block(h)
        h = F.silu(h)
        v = self.common(h) + self.linear(x)  # (B, D)
        v = v[:, None] + self.apart(h).view(-1, self.shape.rows, self.shape.width)
        return F.normalize(v, dim=-1) * math.sqrt(self.shape.width)


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder; `card`: everything its file says about it, sha256: of the file."""

    network: EncoderNetwork
    card: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    @torch.no_grad()
    def rows(self, low: Tensor, degradation: Degradation) -> Tensor:
        """Low pictures (B, 3, h, w) in [0, 1] -> gaussianised style rows (B, L, D); a face depends on itself alone."""
        views, sides = seen(low, degradation), low_sides(degradation, len(low))
        enlargement = octaves(sides, degradation.high_size[0]).to(views)
        pairs = zip(views.split(1), enlargement.split(1), strict=True)
        return torch.cat([self.network(view, octave) for view, octave in pairs])


def write_encoder(path: str | Path, network: EncoderNetwork, prior_sha256: str, card: Mapping[str, Any]) -> None:
    """Write an encoder atomically, its matrices in 8 bits: a search goes on from its answer anyway.

    `card` is completed by the format, its shape and the prior's sha256.

    Raises:
        OutputError: it cannot be written. WeightsError: a number is not finite in half precision.
    """
    facts = {"shape": asdict(network.shape), "prior_sha256": prior_sha256}
    tensors = network.state_dict()
    write_weights(path, "encoder", tensors, card, facts, narrow=[name for name, v in tensors.items() if v.ndim == 2])


def read_encoder(path: str | Path, prior: Prior) -> Encoder:
    """Return the encoder of a file, on the prior's device and in its floating type.

    Raises:
        WeightsError: no such file, broken, no encoder, or one that was trained for another prior.
    """
    card = read_card(path, "encoder")
    try:
        shape = EncoderShape(**card["shape"])
        made_for = str(card["prior_sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: the card cannot be used ({type(error).__name__}: {error})") from None
    if made_for != prior.sha256 or shape.rows > prior.num_ws or shape.width != prior.w_dim:
        raise WeightsError(
            f"{path}: it was trained for the prior {made_for[:12]}, not for {prior.name} ({prior.sha256[:12] or 'in memory'}); train one with: latentface train encoder -p PRIOR -o FILE"
        )
    network = filled(lambda: EncoderNetwork(shape), read_tensors(path), f"{path}: ")
    network.eval().requires_grad_(False).to(prior.device, prior.dtype)
    return Encoder(network, card, sha256(Path(path).read_bytes()))


def load_encoder(prior: Prior) -> Encoder | None:
    """Return the prior's encoder, beside its file or in the package, or None.

    Raises WeightsError: it cannot be used, or is another prior's.
    """
    return prior.companion("encoder", lambda path: read_encoder(path, prior))


def find_encoder(prior: Prior) -> Encoder:
    """Return the prior's encoder as `load_encoder` does.

    Raises MissingDataError: there is none. WeightsError as there.
    """
    encoder = load_encoder(prior)
    if encoder is None:
        where = (
            f"{beside(prior.path, 'encoder')}: there is no encoder"
            if prior.path
            else "a prior that was made in memory has no encoder"
        )
        raise MissingDataError(
            f"{where} for the prior {prior.name}; train one in minutes (latentface train encoder -p PRIOR), or use --start bank"
        )
    return encoder
