"""DGP: exploiting deep generative prior (Pan, Zhan, Dai, Lin, Loy, Luo; ECCV 2020), the published D-feature loss.

A latent code and, block by block from shallow to deep, the generator's own weights move until the discriminator sees
the input in the shrunk result. Every face moves its own copy of the generator; faces are searched in micro-batches
whose copies fit, and nothing leaks from one to another.

Shape legend: B faces, b faces of a micro-batch, K candidate draws, S stages.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call

from latentface.degradation import Degradation
from latentface.errors import InputError
from latentface.explore import losses
from latentface.explore.engine import Iterate, Problem, best_of
from latentface.explore.optim import Adam
from latentface.explore.result import MethodSettings
from latentface.explore.space import SPACES, Space, Variables, drawn
from latentface.prior.prior import Prior

PREFIX = "generator."
COPIES = (
    6  # tensors a weight of a face's generator: itself, two moments, the best so far, the gradient and its clean copy
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DgpSettings(MethodSettings):
    """Settings of DGP; the defaults are the published ones, in [0, 1] units.

    Attributes:
        steps, latent_rates, generator_rates: one a stage; stage s of S moves the first s/S of the generator's blocks.
        space: "z" as published, "w" or "w_plus" (gaussianised).
        candidates, candidate_blocks: the start is the best of so many draws by the last blocks of D.
        feature_weight: of the D-feature loss, all blocks; pixel_weight: 4 in [0, 1] is the published 1 in [-1, 1];
        prior_weight: of mean(z^2 / 2).
        micro_batch: faces at once; None: as many as have copies of the generator in 2 GiB.
        keep_generators: give each face's weights back in `Exploration.latent` (as large as the generator, each).
    """

    steps: tuple[int, ...] = (200, 200, 200, 200, 200)
    latent_rates: tuple[float, ...] = (2e-3, 1e-3, 2e-5, 1e-5, 1e-5)
    generator_rates: tuple[float, ...] = (5e-5, 5e-5, 2e-5, 1e-5, 1e-5)
    space: str = "z"
    candidates: int = 500
    candidate_blocks: int = 3
    feature_weight: float = 1.0
    pixel_weight: float = 4.0
    prior_weight: float = 0.02
    micro_batch: int | None = None
    keep_generators: bool = False

    choices: ClassVar = {"space": SPACES}

    def __post_init__(self) -> None:
        MethodSettings.__post_init__(self)
        if not len(self.steps) == len(self.latent_rates) == len(self.generator_rates) >= 1:
            raise InputError(
                f"steps, latent_rates and generator_rates have {len(self.steps)}, {len(self.latent_rates)} and {len(self.generator_rates)} stages; give each as many"
            )

    @property
    def in_w(self) -> bool:
        """Not in the space z."""
        return self.space != "z"

    def at_once(self, prior: Prior) -> int:
        """Every face has its own copy of the generator."""
        return self.micro_batch or faces_that_fit(prior)


def dgp(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: DgpSettings,
    seeds: Sequence[int],
    start: Tensor | None,
) -> Problem:
    """State the problem for inputs low (B, 3, h, w), from `start`, w (B, D) or w_plus (B, L, D), or the best of random z.

    Every variable has a row a face, the generator's weights too; the prior itself is never changed.

    Raises:
        WeightsError: a prior without a discriminator.
    """
    features = losses.semantic(prior, low, degradation)
    space = Space(prior, settings.space, tied=True, constraint="none")
    network = prior.generator.synthesis
    shared = dict(network.named_parameters())
    latent = best_candidate(space, low, degradation, settings, seeds) if start is None else space.latent_of(start)
    variables: Variables = {"latent": latent}
    variables |= {PREFIX + k: v.detach()[None].repeat(len(low), *([1] * v.ndim)) for k, v in shared.items()}
    wanted = degradation.fit(low)

    def objective(now: Variables, t: float) -> Iterate:
        w_plus = space.w_plus(now["latent"])
        pictures = []
        for i in range(len(low)):  # a generator a face
            own = {k: now[PREFIX + k][i] for k in shared}
            pictures.append(functional_call(network, own, (w_plus[i : i + 1],))[1])
        high = prior.to_unit(torch.cat(pictures))
        low_again = degradation.forward(high)
        terms = {
            "feature": settings.feature_weight * features(low_again),  # equation 5
            "pixel": settings.pixel_weight * losses.pixel(degradation.fit(low_again), wanted),
            "prior": settings.prior_weight * losses.latent_prior(now["latent"]),
        }
        return Iterate(high, low_again, terms)

    def kept(found: Variables) -> Variables:
        return space.with_w_plus(found if settings.keep_generators else {"latent": found["latent"]})

    return Problem(
        variables=variables,
        losses=objective,
        steps=sum(settings.steps),
        rates=stage_rates(settings, list(variables), prior.layers),
        # One Adam for all stages: a frozen weight has the rate 0 and still gathers its moments, as in the authors' code.
        optimiser=partial(Adam, betas=(0.0, 0.999)),
        latent=kept,
        draws=settings.candidates if start is None and settings.candidates > 1 else 0,
    )


def stage_rates(
    settings: DgpSettings, names: Sequence[str], layers: Sequence[int]
) -> Callable[[int], Mapping[str, float]]:
    """Return the rate of every variable at a step: the latent's, and the generator's for the blocks that may move."""
    stages = len(settings.steps)
    tables: list[dict[str, float]] = []
    for s in range(stages):
        free = {f"b{r}" for r in layers[: -(-len(layers) * (s + 1) // stages)]}  # rounded up
        table = {k: settings.generator_rates[s] if k.split(".")[1] in free else 0.0 for k in names if k != "latent"}
        tables.append({"latent": settings.latent_rates[s], **table})
    ends = [sum(settings.steps[: s + 1]) for s in range(stages)]
    return lambda number: tables[next(s for s, end in enumerate(ends) if number <= end)]


@torch.no_grad()
def best_candidate(
    space: Space, low: Tensor, degradation: Degradation, settings: DgpSettings, seeds: Sequence[int]
) -> Tensor:
    """Return the best of a face's random z by the loss of D's last blocks, as a latent (B, rows, width)."""
    prior, count = space.prior, settings.candidates
    z = drawn(seeds, count * prior.z_dim).to(prior.device, prior.dtype).view(-1, count, prior.z_dim)  # (B, K, z)
    best = z[:, 0]
    if count > 1:
        last = range(-min(settings.candidate_blocks, prior.needed_judge().blocks), 0)
        features = losses.semantic(prior, low, degradation, last)
        best = best_of(
            ({"z": z[:, k]} for k in range(count)),
            lambda start: prior.synthesis(prior.mapping(start["z"])),
            lambda high: features(degradation.forward(high)),
        )["z"]
    return best[:, None].clone() if space.kind == "z" else space.latent_of(prior.mapping(best)[:, 0])


def faces_that_fit(prior: Prior, budget: int = 2 << 30) -> int:
    """Return how many faces may be searched at once: their copies of the generator stay under `budget` bytes."""
    weights = sum(p.numel() * p.element_size() for p in prior.generator.synthesis.parameters())
    return max(1, budget // (COPIES * weights))
