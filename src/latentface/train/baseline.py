"""A baseline in training: networks, optimisers, schedule, the step and the validation.

Every random number of a step follows from (seed, step), so that a run with a budget of steps that was cut off resumes
exactly. `latentface.train.supervised` gives it pictures, a budget and a place on the disk.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentface.degradation import Downscale
from latentface.devices import seeded
from latentface.supervised.blocks import channels_last, enlarge
from latentface.supervised.landmarks import mirror
from latentface.supervised.losses import Features, VggDiscriminator, perceptual, pixel_loss, relativistic
from latentface.supervised.registry import Shape, make_network
from latentface.train.fit import Fit, set_rate
from latentface.train.pictures import Shuffled
from latentface.train.settings import SupervisedSettings

STAGES = ("pixel", "gan", "flow")
RATES = {"vdsr": 1e-3, "esrgan": 1e-3, "fsrnet": 1.5e-3, "pmrf": 5e-4}  # Adam's, for budgets of minutes
GAN_RATES = (1e-4, 1e-4)  # generator, discriminator, as published


@dataclass(frozen=True, slots=True)
class Pairs:
    """What a baseline is trained on and chosen by.

    Attributes:
        high: uint8 (N, 3, R, R); held: uint8 (M, 3, R, R); landmarks: (N, 5, 2) or None; name, held_name: for the card.
    """

    high: Tensor
    held: Tensor
    landmarks: Tensor | None
    name: str
    held_name: str


class BaselineFit(Fit):
    """A baseline in training.

    Attributes:
        features: the second stage's trunk; None: its own discriminator's features.
    """

    KEY, WHAT = "baseline", "a baseline"
    PARTS = ("network", "optimiser", "judge", "judge_optimiser")
    COUNTED = ("steps", "seconds", "best", "noted", "history")

    pairs: Pairs
    order: Shuffled

    def __init__(
        self, kind: str, shape: Shape, stage: str, resolution: int, settings: SupervisedSettings, device: torch.device
    ) -> None:
        self.kind, self.shape, self.stage, self.resolution = kind, shape, stage, resolution
        self.settings, self.device = settings, device
        with seeded(settings.seed):
            self.network = make_network(kind, shape)
            self.judge = VggDiscriminator(resolution) if stage == "gan" else None
        channels_last(self.network.to(device)).train()
        self.rate = settings.rate or (GAN_RATES[0] if stage == "gan" else RATES[kind])
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=self.rate, betas=(0.9, 0.99))
        self.judge_optimiser: torch.optim.Optimizer | None = None
        if self.judge is not None:
            channels_last(self.judge.to(device)).train()
            self.judge_optimiser = torch.optim.Adam(self.judge.parameters(), lr=GAN_RATES[1], betas=(0.9, 0.99))
        self.degradation = Downscale(resolution // shape.factor, resolution)
        self.features: Features | None = None
        self.best: dict[str, Tensor] = {}
        self.noted: dict[str, float] = {}
        self.history: list[dict[str, float]] = []

    def identity(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "stage": self.stage,
            "resolution": self.resolution,
            "shape": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.shape).items()},
            "settings": asdict(self.settings),
        }

    def learn_from(self, pairs: Pairs) -> None:
        """Take the pictures, in an order that the seed decides."""
        self.pairs, self.order = pairs, Shuffled(len(pairs.high), self.settings.seed)

    def step(self, done: float) -> float:
        """Show the next pictures of the order."""
        settings, device = self.settings, self.device
        index = self.order.indices(self.steps * settings.batch, settings.batch)
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.steps)
        high = self.pairs.high[index].to(device).float() / 255
        marks = self.pairs.landmarks[index].to(device) if self.pairs.landmarks is not None else None
        if settings.flips:
            flip = (torch.rand(len(high), generator=random) < 0.5).to(device)
            high = torch.where(flip[:, None, None, None], high.flip(3), high)
            marks = mirror(marks, flip, self.resolution) if marks is not None else None
        high = high.contiguous(memory_format=torch.channels_last)
        low = self.degradation.forward(high).clamp(0, 1)
        share = self.anneal(done, settings.warmup)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.precision == "bf16"):
            loss, restored = pixel_loss(self.network, low, high, marks, random)
            if self.judge is not None:
                loss = self._gan_loss(self.judge, loss, restored, high, share)
        return self.count(self.descend(loss, self.network))

    def clip(self, module: nn.Module) -> None:
        """Limit the gradients' norm as the settings say."""
        if self.settings.clip:
            nn.utils.clip_grad_norm_(module.parameters(), self.settings.clip)

    def _gan_loss(self, judge: VggDiscriminator, pixel: Tensor, restored: Tensor, high: Tensor, share: float) -> Tensor:
        """Update the discriminator, then return the generator's loss of the second stage."""
        settings, optimiser = self.settings, self.judge_optimiser
        assert optimiser is not None
        set_rate(optimiser, GAN_RATES[1] * share)
        optimiser.zero_grad(set_to_none=True)
        d_loss = relativistic(judge(high)[0], judge(restored.detach())[0])
        d_loss.backward()
        optimiser.step()
        judge.requires_grad_(False)
        real, real_features = judge(high)
        fake, fake_features = judge(restored)
        if self.features is not None:
            with torch.no_grad():
                real_features = list(self.features(high))
            fake_features = list(self.features(restored))
        judge.requires_grad_(True)
        return (
            settings.pixel_weight * pixel
            + settings.perceptual_weight * perceptual(fake_features, real_features)
            + settings.gan_weight * relativistic(fake, real.detach())
        )

    @torch.no_grad()
    def restore(self, low: Tensor) -> Tensor:
        """Return (B, 3, H, W) in [0, 1] by the network as it stands."""
        self.network.eval()
        result = [
            self.network(part.contiguous(memory_format=torch.channels_last)).clamp(0, 1) for part in low.split(32)
        ]
        self.network.train()
        return torch.cat(result)

    def figures(self) -> Mapping[str, float]:
        """Return PSNR and its gain over bicubic of the last validation, in dB."""
        return self.history[-1] if self.history else {}

    def check(self, loss: float) -> None:
        """Measure PSNR of R, G and B together on the held-out pictures, note it, and keep the weights that count."""
        held = self.pairs.held
        high = held.to(self.device).float() / 255
        low = self.degradation.forward(high).clamp(0, 1)
        psnr = _psnr(self.restore(low), high)
        gain = psnr - _psnr(enlarge(low, self.shape.factor).clamp(0, 1), high)
        if self.stage != "pixel" or not self.noted or psnr > self.noted["psnr"]:
            self.best = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
            self.noted = {"psnr": psnr, "gain_db": gain, "pictures": float(len(held)), "step": float(self.steps)}
        numbers = {"step": float(self.steps), "seconds": self.seconds, "psnr": psnr, "gain_db": gain}
        self.history.append({**numbers, "loss": loss, "rate": self.optimiser.param_groups[0]["lr"]})


def _psnr(restored: Tensor, high: Tensor) -> float:
    return float((-10 * torch.log10((restored - high).square().mean((1, 2, 3)).clamp_min(1e-10))).mean())
