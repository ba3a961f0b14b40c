"""DGP: exploiting deep generative prior (Pan, Zhan, Dai, Lin, Loy, Luo; ECCV 2020), the published D-feature loss.

A latent code and, block by block from shallow to deep, the generator's own weights move until the discriminator sees
the input in the shrunk result. Every face moves its own copy of the generator; faces are searched in micro-batches
whose copies fit, and nothing leaks from one to another.

Shape legend: B faces, b faces of a micro-batch, K candidate draws, S stages.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from latentface.degradation import Degradation, faces_of
from latentface.errors import InputError, UnknownNameError
from latentface.explore import losses
from latentface.explore.engine import Adam, Found, Iterate, Variables, drawn, search
from latentface.explore.result import Exploration, MethodSettings, OnStep, Step, check_faces, finish
from latentface.explore.space import SPACES, Space, style_rows
from latentface.explore.trunks import FeatureLoss, make_trunk
from latentface.prior.prior import Prior

PREFIX = "generator."
COPIES = (
    6  # tensors a weight of a face's generator: itself, two moments, the best so far, the gradient and its clean copy
)
CANDIDATES_AT_ONCE = 10


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

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise UnknownNameError("latent space", self.space, SPACES)
        if not len(self.steps) == len(self.latent_rates) == len(self.generator_rates) >= 1:
            raise InputError(
                f"steps, latent_rates and generator_rates have {len(self.steps)}, {len(self.latent_rates)} and {len(self.generator_rates)} stages; give each as many"
            )
        if min(self.steps) < 1 or min(self.candidates, self.candidate_blocks) < 1:
            raise InputError("each stage's steps, candidates and candidate_blocks must be at least 1")
        if (
            min(*self.latent_rates, *self.generator_rates, self.feature_weight, self.pixel_weight, self.prior_weight)
            < 0
        ):
            raise InputError("rates and weights must not be negative")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise InputError(f"micro_batch is {self.micro_batch}; expected at least 1, or None")


def dgp(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: DgpSettings = DgpSettings(),
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    start: Tensor | None = None,
) -> Exploration:
    """Move a latent code and a copy of the generator a face until its result shrinks to `low`.

    Args:
        low: (B, 3, h, w) in [0, 1]; seeds: one number a face. The prior itself is never changed.
        start: w (B, D) or w_plus (B, L, D) to start from instead of the best candidate; not in the space z.

    Raises:
        InputError: shapes, values or seeds that cannot be used. WeightsError: a prior without a discriminator.
    """
    began = time.perf_counter()
    seeds = tuple(seeds)
    check_faces(low, degradation, seeds, prior.resolution)
    low = low.to(prior.device, prior.dtype)
    begin = None if start is None else style_rows(prior, start, len(low))
    size = settings.micro_batch or faces_that_fit(prior)
    told = _Telling(on_step, low, degradation, sum(settings.steps), size)
    founds: list[Found] = []
    for first in range(0, len(low), size):
        part = slice(first, first + size)
        whole = size >= len(low)
        one = (low, degradation) if whole else faces_of(low, degradation, range(len(low))[part])
        padding = 10 * math.log10(low[0].numel() / one[0][0].numel())  # errors are means over the padded picture
        found = _search(
            prior, *one, settings, seeds[part], told.part(first, padding), None if begin is None else begin[part]
        )
        found.history["consistency_db"] = found.history["consistency_db"] + padding
        founds.append(found)
        told.ended(founds[-1])
        if not settings.keep_generators:  # only a micro-batch's copies are in memory at a time
            founds[-1].variables = {"latent": founds[-1].variables["latent"]}
    variables = {k: torch.cat([f.variables[k] for f in founds]) for k in founds[0].variables}
    steps = max(f.steps for f in founds)
    history = {k: torch.cat([_padded(f.history[k], steps) for f in founds], 1) for k in founds[0].history}
    space = Space(prior, settings.space, constraint="none")
    return finish(
        torch.cat([f.high for f in founds]),
        low,
        degradation,
        method="dgp",
        settings=settings,
        seeds=seeds,
        seconds=time.perf_counter() - began,
        latent={**variables, "w_plus": space.w_plus(variables["latent"])},
        history=history,
        best_step=torch.cat([f.best_step for f in founds]),
        passes=steps + (settings.candidates if start is None and settings.candidates > 1 else 0) / 3,
    )


def _search(
    prior: Prior,
    low: Tensor,
    degradation: Degradation,
    settings: DgpSettings,
    seeds: Sequence[int],
    on_step: OnStep | None,
    begin: Tensor | None,
) -> Found:
    """Search one micro-batch; every variable has a row a face, the generator's weights too."""
    b = len(low)
    features = FeatureLoss(make_trunk("discriminator", prior, degradation), low)
    space = Space(prior, settings.space, tied=True, constraint="none")
    network = prior.generator.synthesis
    shared = dict(network.named_parameters())
    found = best_candidate(space, low, degradation, settings, seeds) if begin is None else space.latent_of(begin)
    variables: Variables = {"latent": found}
    variables |= {PREFIX + k: v.detach()[None].repeat(b, *([1] * v.ndim)) for k, v in shared.items()}
    wanted = degradation.fit(low)

    def evaluate(now: Variables, t: float) -> Iterate:
        w_plus = space.w_plus(now["latent"])
        pictures = []
        for i in range(b):  # a generator a face
            own = {k: now[PREFIX + k][i] for k in shared}
            pictures.append(functional_call(network, own, (w_plus[i : i + 1],))[1])
        high = prior.to_unit(torch.cat(pictures))
        low_again = degradation.forward(high)
        terms = {
            "feature": settings.feature_weight * features(low_again),
            "pixel": settings.pixel_weight * losses.pixel(degradation.fit(low_again), wanted),
            "prior": settings.prior_weight * losses.latent_prior(now["latent"]),
        }
        return Iterate(high, low_again, terms)

    return search(
        low,
        variables,
        evaluate,
        steps=sum(settings.steps),
        rates=stage_rates(settings, list(variables), prior.layers),
        # One Adam for all stages: a frozen weight has the rate 0 and still gathers its moments, as in the authors' code.
        optimiser=Adam(variables, betas=(0.0, 0.999)),
        on_step=on_step,
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
    space: Space,
    low: Tensor,
    degradation: Degradation,
    settings: DgpSettings,
    seeds: Sequence[int],
) -> Tensor:
    """Return the best of the face's candidate z by the loss of D's last blocks, as a latent (B, rows, width)."""
    prior, count, b = space.prior, settings.candidates, len(low)
    z = drawn(seeds, count * prior.z_dim).to(prior.device, prior.dtype).view(b, count, prior.z_dim)  # (B, K, z)
    best = z[:, 0]
    if count > 1:
        last = min(settings.candidate_blocks, prior.needed_judge().blocks)
        scores = []
        for i in range(b):
            own, down = faces_of(low, degradation, [i])
            loss = FeatureLoss(make_trunk("discriminator", prior, down), own, range(-last, 0))
            parts = [prior.synthesis(prior.mapping(some)) for some in z[i].split(CANDIDATES_AT_ONCE)]
            scores.append(torch.cat([loss(down.forward(high)) for high in parts]))
        best = z[torch.arange(b, device=z.device), torch.stack(scores).argmin(1)]
    return best[:, None].clone() if space.kind == "z" else space.latent_of(prior.mapping(best)[:, 0])


def faces_that_fit(prior: Prior, budget: int = 2 << 30) -> int:
    """Return how many faces may be searched at once: their copies of the generator stay under `budget` bytes."""
    weights = sum(p.numel() * p.element_size() for p in prior.generator.synthesis.parameters())
    return max(1, budget // (COPIES * weights))


def _padded(history: Tensor, steps: int) -> Tensor:
    """(S', b) -> (S, b): NaN where a micro-batch was not searched."""
    return F.pad(history, (0, 0, 0, steps - len(history)), value=float("nan"))


class _Telling:
    """Tells `on_step` of micro-batches as of one batch: NaN for faces not at work, their preview a bilinear one until they are."""

    def __init__(self, on_step: OnStep | None, low: Tensor, degradation: Degradation, steps: int, size: int) -> None:
        self.on_step, self.steps, self.size, self.faces = on_step, steps, size, len(low)
        self.pictures = degradation.fit(low).clamp(0, 1) if on_step is not None else low
        self.done = 0
        self.stopped = False

    def part(self, first: int, padding: float) -> OnStep | None:
        """Return the callback of the micro-batch that begins with face `first`; `padding` is added to its decibels."""
        if self.stopped:
            return lambda step: True  # the start's picture is the result
        if self.on_step is None:
            return None
        call, total = self.on_step, self.steps * -(-self.faces // self.size)

        def tell(step: Step) -> bool | None:
            return call(
                replace(
                    step,
                    number=self.done + step.number,
                    total=total,
                    losses={k: self._among(v, first) for k, v in step.losses.items()},
                    consistency_db=self._among(step.consistency_db + padding, first),
                    preview=lambda: self._all(step.preview(), first),
                )
            )

        return tell

    def ended(self, found: Found) -> None:
        """Note that a micro-batch is done."""
        if self.on_step is not None and not self.stopped:
            first = (self.done // self.steps) * self.size
            self.pictures[first : first + len(found.high)] = found.high.clamp(0, 1)
        self.done += self.steps
        self.stopped = self.stopped or found.stopped

    def _among(self, values: Tensor, first: int) -> Tensor:
        out = values.new_full((self.faces,), float("nan"))
        out[first : first + len(values)] = values
        return out

    def _all(self, pictures: Tensor, first: int) -> Tensor:
        out = self.pictures.clone()
        out[first : first + len(pictures)] = pictures
        return out
