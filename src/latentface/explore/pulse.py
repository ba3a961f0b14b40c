"""PULSE: photo upsampling via latent space exploration (Menon, Damian, Hu, Ravi, Rudin; CVPR 2020).

Style rows drawn from a gaussianised W, and the first noise maps, move on spheres until the face shrinks to the input;
a geodesic distance keeps the rows together. docs/methods.md sets every number beside the paper's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from latentface.degradation import Degradation
from latentface.errors import InputError
from latentface.explore import losses
from latentface.explore.engine import Iterate, Problem
from latentface.explore.optim import SCHEDULES
from latentface.explore.result import MethodSettings
from latentface.explore.space import Space, Variables
from latentface.prior.prior import Prior


@dataclass(frozen=True, kw_only=True, slots=True)
class PulseSettings(MethodSettings):
    """Settings of PULSE; the defaults are the published ones.

    Attributes:
        steps, rate, schedule: of the spherical Adam.
        tied: start with all style rows alike; the published search draws each alone.
        noise: "searched", "drawn" or "constant" maps; noise_maps: how many of them are searched. See `Space`.
        pixel_weight: of the mean square in [0, 1] units; geocross: of the distance between style rows of w.
        eps: the mean square below which the pixel loss is flat, 0 for never.
        stop_at_eps: end a face's search at its first iterate within eps, instead of lessening geocross further.
    """

    steps: int = 100
    rate: float = 0.4
    schedule: str = "pulse"
    tied: bool = False
    noise: str = "searched"
    noise_maps: int = 5
    pixel_weight: float = 100.0
    geocross: float = 0.05
    eps: float = 2e-3
    stop_at_eps: bool = False

    def __post_init__(self) -> None:
        MethodSettings.__post_init__(self)
        if self.stop_at_eps and self.eps == 0:
            raise InputError("stop_at_eps needs an eps above 0 (the paper's is 2e-3)")


def pulse(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: PulseSettings,
    seeds: Sequence[int],
    start: Tensor | None,
) -> Problem:
    """State the problem for inputs low (B, 3, h, w), from `start`, w (B, D) or w_plus (B, L, D), or random rows.

    The best iterate is the result, never refused.
    """
    space = Space(
        prior,
        tied=settings.tied,
        constraint="sphere",
        noise=settings.noise,
        noise_maps=min(settings.noise_maps, prior.num_ws - 2),  # the last map is zero
    )
    variables = space.draw(seeds)
    if start is not None:
        variables["latent"] = space.latent_of(start)
    moved = space.searched(variables)
    fixed = {k: v for k, v in variables.items() if k not in moved}

    def objective(now: Variables, t: float) -> Iterate:
        w_plus = space.w_plus(now["latent"])
        high = prior.synthesis(w_plus, space.noise_maps_of({**now, **fixed}))
        low_again = degradation.forward(high)
        # Equation 2, flat below eps (section 4): there only the geodesic distance is left to lessen.
        terms = {
            "pixel": settings.pixel_weight * losses.pixel(low_again, low, "l2", degradation).clamp_min(settings.eps)
        }
        if settings.geocross:
            terms["geocross"] = settings.geocross * losses.geocross(w_plus)
        return Iterate(high, low_again, terms)

    def within(iterate: Iterate) -> Tensor:
        return losses.pixel(iterate.low_again.detach(), low, "l2", degradation) <= settings.eps

    return Problem(
        variables=moved,
        losses=objective,
        steps=settings.steps,
        rates=dict.fromkeys(moved, settings.rate),
        schedule=SCHEDULES[settings.schedule],
        constrain=space.constraint_on(moved),
        done=within if settings.stop_at_eps else None,
        latent=lambda found: space.with_w_plus({**found, **fixed}),
    )
