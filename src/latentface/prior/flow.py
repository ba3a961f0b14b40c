"""A normalising flow over W: how likely a w is, for RLS.

Affine couplings (RealNVP, Dinh et al. 2017) with fixed permutations, after a fixed first layer that whitens. Trained by
maximum likelihood on mapped z, once a prior: the file is kept in the cache under the prior's sha256. Mapped z lie close
to a thin sheet, off which a sharp density falls without measure (at the mean w, where RLS starts, by millions of nats);
so the flow learns them with a little noise, the density that a search can climb.

Shape legend: D width of w.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from latentface.cache import kept, made_of_prior
from latentface.devices import seeded
from latentface.errors import InputError
from latentface.prior.prior import Prior

VERSION = 2  # raise it when a cached flow would no longer be what training makes
REACH = 1.0  # a coupling scales by exp of at most this


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowSettings:
    """Size and training of the flow: about a minute on two CPU cores for D = 256.

    Attributes:
        couplings, hidden: how many, and the width of each one's two hidden layers.
        smooth: standard deviation of the noise on mapped z, in those of w (per number).
        steps, batch, rate: of Adam, the rate falling to 0 by half a cosine; seed: of weights, draws and permutations.
    """

    couplings: int = 6
    hidden: int = 256
    smooth: float = 0.2
    steps: int = 1000
    batch: int = 256
    rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.smooth < 10:
            raise InputError(f"smooth is {self.smooth}; expected a number between 0 and 10")
        if min(self.couplings, self.hidden, self.steps) < 1 or self.batch < 2 or self.rate <= 0:
            raise InputError("couplings, hidden, steps and rate must be positive, batch at least 2")


class Coupling(nn.Module):
    """Half of the numbers scale and shift the other half: x2' = x2 exp(s(x1)) + t(x1), and log |det| = sum s."""

    order: Tensor

    def __init__(self, width: int, hidden: int, order: Tensor) -> None:
        super().__init__()
        self.keep = width // 2
        moved = width - self.keep
        self.register_buffer("order", order)
        self.net = nn.Sequential(
            nn.Linear(self.keep, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2 * moved)
        )
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)  # an untrained flow is its first layer alone
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (..., D) -> (..., D) and log |det| (...)."""
        x = x[..., self.order]
        x1, x2 = x[..., : self.keep], x[..., self.keep :]
        s, t = self.net(x1).chunk(2, -1)
        s = REACH * torch.tanh(s / REACH)
        return torch.cat([x1, x2 * s.exp() + t], -1), s.sum(-1)


class Flow(nn.Module):
    """w (..., D) -> u (..., D), standard normal where w is a mapped z."""

    mean: Tensor
    whiten: Tensor
    log_scale: Tensor

    def __init__(self, width: int, settings: FlowSettings = FlowSettings()) -> None:
        super().__init__()
        self.width, self.settings = width, settings
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("whiten", torch.eye(width))
        self.register_buffer("log_scale", torch.zeros(()))
        generator = torch.Generator().manual_seed(settings.seed)
        orders = [torch.randperm(width, generator=generator) for _ in range(settings.couplings)]
        self.couplings = nn.ModuleList(Coupling(width, settings.hidden, order) for order in orders)

    @torch.no_grad()
    def fit_first_layer(self, w: Tensor) -> None:
        """Set mean and whitening from w (N, D)."""
        v = w.double()
        values, vectors = torch.linalg.eigh(torch.cov(v.t()).reshape(self.width, self.width))
        values = values.clamp_min(values.max() * 1e-6)
        self.mean.copy_(v.mean(0))
        self.whiten.copy_(vectors / values.sqrt())
        self.log_scale.copy_(-values.log().sum() / 2)

    def forward(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """w (..., D) -> u (..., D) and log |du/dw| (...)."""
        log_det = self.log_scale.expand(w.shape[:-1])
        x = (w - self.mean) @ self.whiten
        for coupling in self.couplings:
            x, change = coupling(x)
            log_det = log_det + change
        return x, log_det


def log_prob(u: Tensor, log_det: Tensor) -> Tensor:
    """log p(w) in nats, (...), from what the flow gives."""
    return log_det - (u.square().sum(-1) + u.shape[-1] * math.log(2 * math.pi)) / 2


def train_flow(prior: Prior, settings: FlowSettings = FlowSettings()) -> Flow:
    """Train a flow on the prior's mapped z, in float32 on the CPU: the same settings give the same flow."""
    spread = settings.smooth * prior.w_std.detach().to("cpu", torch.float32)
    mapping = prior.to(torch.device("cpu")).to(torch.float32).generator.mapping
    generator = torch.Generator().manual_seed(settings.seed)
    with seeded(settings.seed):
        flow = Flow(prior.w_dim, settings)

    def draws(count: int) -> Tensor:
        with torch.no_grad():
            w: Tensor = mapping(torch.randn(count, prior.z_dim, generator=generator))
            return w + spread * torch.randn(w.shape, generator=generator)

    flow.fit_first_layer(torch.cat([draws(10_000) for _ in range(2 + prior.w_dim // 128)]))
    optimiser = torch.optim.Adam(flow.parameters(), lr=settings.rate)
    for step in range(settings.steps):
        optimiser.param_groups[0]["lr"] = settings.rate * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps))
        with torch.enable_grad():
            loss = -log_prob(*flow(draws(settings.batch))).mean() / prior.w_dim
            optimiser.zero_grad()
            loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimiser.step()
    return flow.eval().requires_grad_(False)


def flow_path(prior: Prior, settings: FlowSettings) -> Path:
    """Return where the prior's flow is cached: `flows/` in LATENTFACE_CACHE or the user's cache folder."""
    words = json.dumps([VERSION, prior.w_dim, asdict(settings)], sort_keys=True)
    return made_of_prior("flows", prior.sha256, words)


def load_flow(prior: Prior, settings: FlowSettings = FlowSettings()) -> Flow:
    """Return the prior's flow from the cache, trained and kept there at first use, on the prior's device and type.

    A prior without a sha256 (made in memory) is not cached.
    """
    with seeded(settings.seed):  # its first weights are replaced
        flow = Flow(prior.w_dim, settings)
    path = flow_path(prior, settings) if prior.sha256 else None
    flow.load_state_dict(kept(path, lambda: train_flow(prior, settings).state_dict(), flow.load_state_dict))
    return flow.eval().requires_grad_(False).to(prior.device, prior.dtype)
