"""RLS: super-resolution through StyleGAN regularized latent search (Gheisari, Genovesio; NeurIPS workshop 2022).

From the mean w, the style rows move to a face that shrinks to the input, held where a normalising flow says that w are
likely, at the usual norm of the flow's normal numbers, and near each other.

Shape legend: B faces, L style rows, D width of w.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from latentface.degradation import Degradation
from latentface.explore import losses
from latentface.explore.engine import Iterate, Problem
from latentface.explore.optim import SCHEDULES
from latentface.explore.result import MethodSettings
from latentface.explore.space import Variables
from latentface.prior.flow import FlowSettings, flow_path, load_flow, log_prob
from latentface.prior.prior import Prior


@dataclass(frozen=True, kw_only=True, slots=True)
class RlsSettings(MethodSettings):
    """Settings of RLS; the defaults are the published ones, in [0, 1] units.

    Attributes:
        steps, rate: of Adam; schedule: the factor on its rate.
        pixel_weight: of the mean absolute difference: 20 in [0, 1] is the published 10 in [-1, 1]; pixel_norm: "l1", or
            "l2" for the mean square.
        density_weight: of -log p(w) in nats, mean over rows; norm_weight: of (|u| - sqrt D)^2, u the flow's numbers;
        cross_weight: of the mean distance between rows.
        flow: the flow's size and training.
    """

    steps: int = 500
    rate: float = 0.5
    schedule: str = "cosine"
    pixel_weight: float = 20.0
    pixel_norm: str = "l1"
    density_weight: float = 0.002
    norm_weight: float = 0.004
    cross_weight: float = 0.5
    flow: FlowSettings = field(default_factory=FlowSettings)

    choices: ClassVar = {"pixel_norm": ("l1", "l2")}

    @property
    def regular(self) -> bool:
        """Whether a flow is asked."""
        return bool(self.density_weight or self.norm_weight)

    def made_first(self, prior: Prior, degradation: Degradation) -> str:
        """The prior's flow, where it is not kept yet."""
        if not self.regular or (prior.sha256 and flow_path(prior, self.flow).is_file()):
            return ""
        return f"a flow over the latent space of {prior.name} is trained once: about a minute on a CPU"


def rls(
    prior: Prior,
    low: Tensor,
    *,
    degradation: Degradation,
    settings: RlsSettings,
    seeds: Sequence[int],
    start: Tensor | None,
) -> Problem:
    """State the problem for inputs low (B, 3, h, w), from `start` or the mean w, which knows no seed.

    The prior's flow comes from the cache, trained at first use.
    """
    flow = load_flow(prior, settings.flow) if settings.regular else None
    w = prior.w_mean.to(low).expand(len(low), -1) if start is None else start
    variables = {"w_plus": w if w.ndim == 3 else w[:, None].repeat(1, prior.num_ws, 1)}

    def objective(now: Variables, t: float) -> Iterate:
        w_plus = now["w_plus"]
        high = prior.synthesis(w_plus)
        low_again = degradation.forward(high)
        terms = {"pixel": settings.pixel_weight * losses.pixel(low_again, low, settings.pixel_norm, degradation)}
        if flow is not None:
            u, log_det = flow(w_plus)
            terms["density"] = settings.density_weight * -log_prob(u, log_det).mean(1)
            terms["norm"] = settings.norm_weight * losses.norm_prior(u)
        if settings.cross_weight:
            terms["cross"] = settings.cross_weight * losses.cross(w_plus)
        return Iterate(high, low_again, terms)

    return Problem(
        variables=variables,
        losses=objective,
        steps=settings.steps,
        rates={"w_plus": settings.rate},
        schedule=SCHEDULES[settings.schedule],
    )
