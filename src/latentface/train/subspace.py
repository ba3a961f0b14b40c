"""Measure the active subspace of a prior: along which directions the loss of a search changes most, on the prior's own faces.

Each face is shrunk and searched for with RLSE's losses. The outer products of the steps' gradients, each scaled to length 1,
are summed. No pictures are needed, and nothing is kept between calls: it takes minutes.

Shape legend: L style rows, D width of w, K directions.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentface.degradation import Downscale
from latentface.errors import InputError
from latentface.explore.coarse import FEW_FULL, last_side
from latentface.explore.engine import solve
from latentface.explore.optim import Adam
from latentface.explore.rlse import RlseSettings, rlse
from latentface.explore.start.bank import WarmStart, usual_start
from latentface.prior.prior import Prior
from latentface.prior.subspace import write_subspace
from latentface.train.companions import DIRECTIONS, FACES

LEAST_INPUT, LEAST_FACTOR = 8, 4  # px; an input is at most a fourth of the exit


def train_subspace(
    prior: Prior,
    output: str | Path,
    *,
    faces: int = FACES,
    directions: int = DIRECTIONS,
    seed: int = 0,
    on_face: Callable[[int], None] = lambda done: None,
) -> Path:
    """Measure the subspace of `prior`, on the prior's device, and write it to `output`.

    Searches of few steps stand at the prior's exit of an eighth of its side, so there it is measured, where there is one.

    Args:
        faces: samples of the prior, a search of `FEW_FULL` + 1 steps each; directions: K that are kept for each style row.
        on_face: told how many faces are done.

    Raises InputError: a number that cannot be used, or a prior without a file. WeightsError: a prior without a judge.
    OutputError: the file cannot be written.
    """
    if not prior.sha256:
        raise InputError(f"the prior {prior.name} was made in memory; write it to a file first, which a subspace names")
    if faces < 1 or not 1 <= directions <= prior.w_dim:
        raise InputError(f"faces {faces}, directions {directions}; expected at least 1 and 1 to {prior.w_dim}")
    painter = prior.at(last_side(prior, min(prior.exits), 0)) if prior.exits else prior
    moments = gradient_moments(prior, painter, faces, seed, on_face)
    values, vectors = torch.linalg.eigh(moments)  # rising
    found = vectors.flip(2)[:, :, :directions]
    held = values.flip(1)[:, :directions].sum(1) / values.sum(1)
    card: Mapping[str, Any] = {
        "prior": prior.name,
        "data": "the prior's own faces",
        "side": painter.resolution,
        "faces": faces,
        "seed": seed,
        "share_of_gradient": [round(float(share), 3) for share in held],
        "licence": prior.licence,
    }
    write_subspace(output, found, prior.sha256, card)
    return Path(output)


def gradient_moments(
    prior: Prior, painter: Prior, faces: int, seed: int, on_face: Callable[[int], None] = lambda done: None
) -> Tensor:
    """Return the sum over searches and steps of g g^T for each style row of `painter`, float64 (L, D, D).

    g is the gradient of all rows together, of length 1: the start of a search counts no more than its end.
    """
    random = torch.Generator().manual_seed(seed)
    moments = torch.zeros(painter.num_ws, painter.w_dim, painter.w_dim, dtype=torch.float64, device=painter.device)

    class Counted(Adam):
        def step(self, variables: Any, gradients: Any, rates: Any) -> None:
            g = gradients["latent"].double()
            g = g / g.square().sum((1, 2), keepdim=True).sqrt().clamp_min(1e-30)
            moments.add_(torch.einsum("brd,bre->rde", g, g))
            super().step(variables, gradients, rates)

    settings = RlseSettings(steps=FEW_FULL + 1)
    start = WarmStart(prior, usual_start(prior, settings.steps))
    settings = settings if start.kind == "random" else settings.from_start()
    most = max(LEAST_INPUT, painter.resolution // LEAST_FACTOR)
    sides = [side for side in (LEAST_INPUT * 2**k for k in range(10)) if side <= most]
    for face in range(faces):
        z = torch.randn(1, prior.z_dim, generator=random).to(prior.device, prior.dtype)
        with torch.no_grad():
            high = painter.synthesis(painter.mapping(z)).clamp(0, 1)
            down = Downscale(sides[face % len(sides)], painter.resolution)
            low = down.forward(high).clamp(0, 1)
            at_full = Downscale(down.low, prior.resolution)
            begin = start(low, at_full, [face])
            begin = None if begin is None else begin[:, : painter.num_ws]
            problem = rlse(painter, low, degradation=down, settings=settings, seeds=[face], start=begin)
        solve(replace(problem, optimiser=partial(Counted, betas=settings.betas)), low, down)
        on_face(face + 1)
    return moments.cpu()
