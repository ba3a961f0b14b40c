"""Warm starts: near the answer instead of at random.

A bank holds latents of the prior with their small pictures; the nearest to the input are the start. An encoder, where the
prior has one (`explore.start.encoder`), answers with style rows at once, and better. Either is turned toward the face's own
random code, so that several samples of a face start, and end, apart.

Shape legend: B faces, K latents of a bank, L style rows, D width of w.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from latentface.cache import kept, made_of_prior
from latentface.degradation import Degradation, resize
from latentface.errors import InputError, UnknownNameError
from latentface.explore.engine import best_of, draws_of
from latentface.explore.losses import pixel
from latentface.explore.space import Variables, drawn
from latentface.explore.start.encoder import find_encoder, load_encoder
from latentface.explore.start.sight import EYE, blur, low_sides, seen
from latentface.prior.exits import exit_for, whole_rows
from latentface.prior.prior import Prior

SIZE = 4096  # latents
VERSION = 1  # raise it when a cached bank would no longer be what building makes
STARTS = ("random", "bank", "encoder")
# The share of the face's own random code in a start's direction: in the style rows that draw what the input shows, and in
# those that draw what is finer than its pixels. An encoder's answer is the mean of what may be there, too smooth in those.
WANDER = {"random": (0.0, 0.0), "bank": (0.1, 0.1), "encoder": (0.3, 0.9)}
# Codes a face, of which the one whose picture is nearest to the input is taken; a third of a pass each.
DRAWS = {"random": 1, "bank": 1, "encoder": 4}
SIDES_KEPT = 8  # of a photograph's faces nearly each has a side of its own: some 12 MB each for 4096 latents


class Bank:
    """Latents of a prior and their pictures.

    Args:
        w: (K, D); pictures: (K, 3, EYE, EYE), the same faces; high: side of the prior's faces.
    """

    def __init__(self, w: Tensor, pictures: Tensor, high: int) -> None:
        self.w, self.pictures, self.high = w, pictures, high
        self.looks = lru_cache(SIDES_KEPT)(self._blurred)

    def nearest(self, low: Tensor, degradation: Degradation) -> Tensor:
        """Return the place in the bank of the picture most like each `low` (B, 3, h, w), (B,)."""
        views, sides = seen(low, degradation).flatten(1), low_sides(degradation, len(low))
        found = []
        for view, side in zip(views, sides, strict=True):
            pictures, half_squares = self.looks(side)
            found.append((pictures @ view - half_squares).argmax())
        return torch.stack(found)

    def _blurred(self, side: int) -> tuple[Tensor, Tensor]:
        """Return the pictures as a face of `side` px is seen, (K, 3 E E), and half their squared norms, (K,)."""
        flat = blur(self.pictures, side, self.high).flatten(1)
        return flat, flat.square().sum(1) / 2

    def rows(self, prior: Prior, low: Tensor, degradation: Degradation) -> Tensor:
        """Low pictures (B, 3, h, w) -> gaussianised w (B, 1, D): the direction of the nearest, of norm sqrt(D)."""
        return on_sphere(prior.gaussianise(self.w[self.nearest(low, degradation)])[:, None])


@torch.no_grad()
def make_bank(prior: Prior, size: int = SIZE) -> Bank:
    """Draw a bank from the prior, on its device: the same size gives the same draws.

    Faces are painted at the smallest exit where there is one: of 1024 px, they would take half an hour.
    """
    painter = prior.at(min(prior.exits, default=prior.resolution))
    generator = torch.Generator().manual_seed(0)
    codes, pictures = [], []
    for start in range(0, size, 32):
        z = torch.randn(min(32, size - start), prior.z_dim, generator=generator)
        w_plus = painter.mapping(z.to(prior.device, prior.dtype))
        codes.append(w_plus[:, 0])
        pictures.append(resize(painter.synthesis(w_plus).clamp(0, 1), EYE))
    return Bank(torch.cat(codes), torch.cat(pictures).contiguous(), prior.resolution)


def bank_path(prior: Prior, size: int = SIZE) -> Path:
    """Return where the prior's bank is cached: `banks/` in LATENTFACE_CACHE or the user's cache folder."""
    painted = [prior.exits_sha256] if prior.exits else []
    return made_of_prior("banks", prior.sha256, json.dumps([VERSION, EYE, size, 0, *painted]))


def load_bank(prior: Prior, size: int = SIZE) -> Bank:
    """Return the prior's bank from the cache, built and kept there at first use, in seconds.

    A prior without a sha256 (made in memory) is not cached.
    """

    def make() -> dict[str, Tensor]:
        bank = make_bank(prior, size)
        # The same bank whether it was just made or read: half precision in both.
        return {"w": bank.w.half(), "pictures": bank.pictures.half()}

    def check(held: dict[str, Tensor]) -> None:
        shapes = held["w"].shape, held["pictures"].shape
        if shapes != ((size, prior.w_dim), (size, 3, EYE, EYE)):
            raise ValueError(f"a bank of the shapes {shapes}")

    held = kept(bank_path(prior, size) if prior.sha256 else None, make, check)
    w, pictures = (held[name].to(prior.device, prior.dtype) for name in ("w", "pictures"))
    return Bank(w, pictures, prior.resolution)


def on_sphere(v: Tensor) -> Tensor:
    """Scale gaussianised rows (..., D) to the norm that a random one has, sqrt(D)."""
    return torch.nn.functional.normalize(v, dim=-1) * math.sqrt(v.shape[-1])


class WarmStart:
    """Where the searches of a prior begin.

    Args:
        kind: "random" (a method's own start), "bank" or "encoder".
        wander: the share of a face's own random code in its start's direction, 0 to 1, in the style rows that draw what the
            input shows and in the finer ones; None for `WANDER`'s. size: of the bank.

    Raises:
        UnknownNameError: no such start. MissingDataError: the prior has no encoder. WeightsError: one that cannot be used.
    """

    def __init__(
        self,
        prior: Prior,
        kind: str,
        *,
        wander: tuple[float, float] | None = None,
        size: int = SIZE,
    ) -> None:
        if kind not in STARTS:
            raise UnknownNameError("start", kind, STARTS)
        shares = WANDER[kind] if wander is None else wander
        if len(shares) != 2 or not all(0 <= share <= 1 for share in shares):
            raise InputError(f"wander is {wander}; expected two shares from 0 to 1")
        self.prior, self.kind, self.wander = prior, kind, shares
        self._rows: Callable[[Tensor, Degradation], Tensor] | None = None
        self.sha256 = ""  # of the encoder's file
        if kind == "bank":
            held = load_bank(prior, size)
            self._rows = lambda low, degradation: held.rows(prior, low, degradation)
        elif kind == "encoder":
            encoder = find_encoder(prior)
            self._rows, self.sha256 = encoder.rows, encoder.sha256

    def __call__(self, low: Tensor, degradation: Degradation, seeds: Sequence[int]) -> Tensor | None:
        """Return w_plus (B, L, D) to begin at for low pictures (B, 3, h, w) in [0, 1], or None for the method's own start.

        A face's start depends on its picture and its seed alone.
        """
        if self._rows is None:
            return None
        low = low.to(self.prior.device, self.prior.dtype)
        v = whole_rows(self._rows(low, degradation), self.prior.num_ws)  # (B, L, D)
        if not any(self.wander):
            return self.prior.degaussianise(v)
        shares = self._shares(low_sides(degradation, len(low))).to(v)
        starts = self._turned(v, shares, seeds)
        if DRAWS[self.kind] == 1:
            return next(starts)["w_plus"]
        painter = self.prior.at(exit_for(self.prior.exits, degradation, len(low)) or self.prior.resolution)
        shrink = degradation.at(painter.resolution)
        best = best_of(
            starts,
            lambda start: painter.synthesis(start["w_plus"][:, : painter.num_ws], fast=True),
            lambda high: pixel(shrink.forward(high), low, degradation=shrink),
        )
        return best["w_plus"]

    def _turned(self, v: Tensor, shares: Tensor, seeds: Sequence[int]) -> Iterator[Variables]:
        """Yield w_plus of style rows v (B, L, D) turned by their shares toward each of a face's random codes."""
        for own_seeds in draws_of(seeds, DRAWS[self.kind]):
            own = drawn(own_seeds, self.prior.w_dim).to(v)[:, None]  # (B, 1, D): one code for all rows
            turned = on_sphere((1 - shares.square()).sqrt() * v + shares * on_sphere(own))
            yield {"w_plus": self.prior.degaussianise(turned)}

    def _shares(self, sides: Sequence[int]) -> Tensor:
        """The share of chance in each style row of faces of so many low pixels, (B, L, 1)."""
        coarse, fine = self.wander
        shares = torch.full((len(sides), self.prior.num_ws, 1), fine)
        for face, side in zip(shares, sides, strict=True):
            face[: shown_rows(side)] = coarse
        return shares


def usual_start(prior: Prior, coarse: int) -> Literal["encoder", "random"]:
    """Return where searches with `coarse` steps at exits begin: at the prior's encoder where there are both.

    Raises WeightsError: an encoder beside the prior's file that cannot be used.
    """
    return "encoder" if coarse and load_encoder(prior) is not None else "random"


def shown_rows(side: int) -> int:
    """Return how many style rows draw what a picture of `side` px shows: those that a generator of that size has."""
    return 2 * max(1, int(math.log2(side)) - 1)
