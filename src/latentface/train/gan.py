"""Train a prior: StyleGAN2 with the non-saturating loss, lazy R1, style mixing and adaptive augmentation.

Every random number of a step follows from (seed, step, rank), so a run that was cut off resumes exactly: the checkpoint
holds the networks, their average, both optimisers and the step's number, and nothing else is needed.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.devices import seeded
from latentface.errors import InputError, TrainingError
from latentface.prior.architecture import Architecture
from latentface.prior.stylegan2 import Discriminator, Generator
from latentface.train.augment import augment, next_probability
from latentface.train.pictures import Shuffled
from latentface.train.settings import GanSettings
from latentface.train.vision import Vision, deceive_loss, draw_view, judge_loss, look, make_vision

NETWORKS = ("generator", "discriminator", "average")
OPTIMISERS = ("g_optimiser", "d_optimiser")
COUNTED = ("step", "pictures", "inherited_pictures", "seconds", "augment_p", "history")


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """What one step tells: losses are means over the batch, `pictures` counts all that were shown so far."""

    step: int
    pictures: int
    g_loss: float
    d_loss: float
    real_sign: float  # E[sign D(real)], the sign of overfitting
    r1: float | None
    augment_p: float


@dataclass(slots=True)
class GanState:
    """Everything that a checkpoint holds."""

    generator: Generator
    discriminator: Discriminator
    average: Generator
    g_optimiser: torch.optim.Adam
    d_optimiser: torch.optim.Adam
    settings: GanSettings
    vision: Vision | None = None
    step: int = 0
    pictures: int = 0
    inherited_pictures: int = 0  # shown to the file that --init named
    origin: dict[str, Any] = field(default_factory=dict)  # what that file's card says of its run
    seconds: float = 0.0
    augment_p: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """Return plain tensors and numbers, readable with `weights_only=True`."""
        plain = {name: getattr(self, name) for name in COUNTED}
        modules = {name: getattr(self, name).state_dict() for name in (*NETWORKS, *OPTIMISERS)}
        if self.vision is not None:
            modules["vision"] = self.vision.state_dict()
        described = {"settings": asdict(self.settings), "architecture": self.generator.arch.to_json()}
        return {**plain, **modules, **described, "origin": self.origin}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value, under the settings in force, which need not be the checkpoint's.

        Raises TrainingError: it is of another architecture.
        """
        if saved["architecture"] != self.generator.arch.to_json():
            raise TrainingError("the checkpoint is of another architecture; start anew under another name with -o")
        for name in NETWORKS:
            getattr(self, name).load_state_dict(saved[name])
        for name in OPTIMISERS:
            optimiser: torch.optim.Adam = getattr(self, name)
            rates = {key: optimiser.param_groups[0][key] for key in ("lr", "betas")}
            optimiser.load_state_dict(saved[name])
            optimiser.param_groups[0].update(rates)
        for name in COUNTED:
            setattr(self, name, saved[name])
        if not self.settings.noise:
            silence(self.generator)
            silence(self.average)
        if self.vision is not None and "vision" in saved:
            self.vision.load_state_dict(saved["vision"])
        self.origin = saved.get("origin", {})  # older checkpoints have none


def settings_from(saved: Mapping[str, Any]) -> GanSettings:
    """Rebuild settings out of a checkpoint, dropping names that this version does not know."""
    known = {f.name for f in fields(GanSettings)}
    return GanSettings(**{k: v for k, v in saved.items() if k in known})


def new_state(
    arch: Architecture,
    settings: GanSettings,
    device: torch.device,
    init: tuple[Generator, Discriminator] | None = None,
    vision_weights: str | Path | None = None,
) -> GanState:
    """Make networks and optimisers; `init` gives a published prior's networks a fresh start.

    Raises MissingDataError, WeightsError: `settings.vision` wants a classifier whose weights (`vision_weights`, by
    default the installed package's) are not at hand, or are none.
    """
    with seeded(settings.seed):
        generator, discriminator = init if init is not None else (Generator(arch), Discriminator(arch))
    for module in (generator, discriminator):
        module.to(device).to(memory_format=torch.channels_last).train().requires_grad_(True)  # type: ignore[call-overload]
    if not settings.noise:
        silence(generator)
    average = copy.deepcopy(generator).eval().requires_grad_(False)
    g_optimiser = torch.optim.Adam(generator.parameters(), lr=settings.g_rate, betas=(0.0, 0.99), fused=True)
    d_optimiser = lazy_adam(discriminator, settings.d_rate, settings.r1_every)
    vision = (
        make_vision(arch.resolution, settings.d_rate, settings.seed, vision_weights, device)
        if settings.vision > 0
        else None
    )
    return GanState(generator, discriminator, average, g_optimiser, d_optimiser, settings, vision)


def lazy_adam(discriminator: nn.Module, rate: float, r1_every: int) -> torch.optim.Adam:
    """Return a discriminator's optimiser, rate and betas corrected as the authors do for lazy R1.

    R1 is one step in `r1_every` + 1 of the optimiser's.
    """
    ratio = r1_every / (r1_every + 1)
    return torch.optim.Adam(discriminator.parameters(), lr=rate * ratio, betas=(0.0, 0.99**ratio), fused=True)


def logistic_loss(real: Tensor, made: Tensor) -> Tensor:
    """Return D's loss, mean softplus(made) + mean softplus(-real), of logits (B,) each."""
    return F.softplus(made.float()).mean() + F.softplus(-real.float()).mean()


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Return R1, the mean squared length of D's slope at real pictures (B, 3, R, R); differentiable in D's weights.

    Source: Mescheder et al. 2018.
    """
    at = real.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(discriminator(at).sum(), at, create_graph=True)
    return slope.square().sum((1, 2, 3)).mean()


def silence(generator: Generator) -> None:
    """Set the strengths of all noise maps to zero, and keep them there."""
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.zero_()
            parameter.requires_grad_(False)


class GanTrainer:
    """Runs training steps on one process of possibly many.

    Args:
        state: networks and optimisers, the same on every process.
        pictures: uint8 (N, 3, R, R), all of them on every process.
        device: where to compute; the pictures follow when they fit.
    """

    def __init__(self, state: GanState, pictures: Tensor, device: torch.device) -> None:
        self.state, self.device = state, device
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        if state.settings.batch % self.world:
            raise InputError(f"batch is {state.settings.batch}; it must be a multiple of the {self.world} processes")
        resolution = state.generator.arch.resolution
        if pictures.dtype != torch.uint8 or tuple(pictures.shape[1:]) != (3, resolution, resolution):
            raise InputError(
                f"pictures are {pictures.dtype} {tuple(pictures.shape)}, expected uint8 (N, 3, {resolution}, {resolution})"
            )
        self.pictures = pictures.to(device) if device.type == "cuda" and pictures.nbytes < 16 << 30 else pictures
        self.order = Shuffled(len(pictures), state.settings.seed)
        self._synthesis: Callable[..., Any] = state.generator.synthesis
        self._judge: Callable[[Tensor], Tensor] = state.discriminator
        if state.settings.compile:
            self._synthesis = torch.compile(state.generator.synthesis)
            self._judge = torch.compile(state.discriminator)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = state.settings.precision != "fp32"

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.state.settings.precision == "bf16")

    def generator_of(self, stream: int = 0, rank: int | None = None) -> torch.Generator:
        rank = self.rank if rank is None else rank
        seed = ((self.state.settings.seed + stream * 0x5EED) * 1_000_003 + self.state.step) * 4099 + rank
        return torch.Generator(self.device).manual_seed(seed % 2**63)

    def real(self, random: torch.Generator) -> Tensor:
        share = self.state.settings.batch // self.world
        start = self.state.pictures + self.rank * share
        batch = self.pictures[self.order.indices(start, share).to(self.pictures.device)]
        x = batch.to(self.device, non_blocking=True).float() / 127.5 - 1
        if self.state.settings.flips:
            flip = torch.rand(share, 1, 1, 1, device=self.device, generator=random) < 0.5
            x = torch.where(flip, x.flip(3), x)
        return x.contiguous(memory_format=torch.channels_last)

    def styles(self, count: int, random: torch.Generator) -> Tensor:
        g = self.state.generator
        rows = g.arch.num_ws
        z = torch.randn(2 * count, g.arch.z_dim, device=self.device, generator=random)
        first, second = g.mapping(z).chunk(2)
        cut = torch.randint(1, rows, (count,), device=self.device, generator=random)
        mixed = torch.rand(count, device=self.device, generator=random) < self.state.settings.mixing
        cut = torch.where(mixed, cut, rows)
        take_first = torch.arange(rows, device=self.device)[None] < cut[:, None]  # (B, L)
        with torch.no_grad():
            mean = first.detach().float().mean(0)
            self._mean(mean)
            g.mapping.w_avg.copy_(mean.lerp(g.mapping.w_avg, 0.995))
        return torch.where(take_first[:, :, None], first[:, None], second[:, None])

    def fakes(self, count: int, random: torch.Generator) -> Tensor:
        shapes = self.state.generator.synthesis.noise_shapes
        ws = self.styles(count, random)
        noise = None
        if self.state.settings.noise:
            noise = [torch.randn(count, 1, *shape, device=self.device, generator=random) for shape in shapes]
        fakes: Tensor = self._synthesis(ws, noise)[1]
        return fakes

    def _mean(self, value: Tensor) -> None:
        if self.world > 1:
            dist.all_reduce(value)
            value /= self.world

    def update(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        grads = [p.grad for p in module.parameters() if p.grad is not None]
        if self.world > 1:  # one message for all gradients; DDP's hooks do not support R1's second order
            flat = torch.cat([g.flatten() for g in grads])
            self._mean(flat)
            for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
                grad.copy_(part.view_as(grad))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def step(self) -> TrainingStep:
        """Show one batch: update D on real and generated faces, then G on the same generated faces, then the average.

        Raises TrainingError: a loss is not finite; the state must then be thrown away.
        """
        state, settings = self.state, self.state.settings
        g, d = state.generator, state.discriminator
        random = self.generator_of()
        real = self.real(random)
        share, p = len(real), state.augment_p if settings.augment_target > 0 else 0.0
        with self._autocast():
            fakes = self.fakes(share, random)
            real_seen = augment(real, p, random)
            fake_logits = self._judge(augment(fakes.detach(), p, random))
            real_logits = self._judge(real_seen)
            d_loss = logistic_loss(real_logits, fake_logits)
        d_loss.backward()
        self.update(d, state.d_optimiser)

        r1_value: Tensor | None = None
        if state.step % settings.r1_every == 0 and settings.gamma > 0:
            r1_value = r1_penalty(d, real_seen)  # never compiled nor in half precision: second order
            (r1_value * (settings.gamma / 2 * settings.r1_every)).backward()
            self.update(d, state.d_optimiser)

        d.requires_grad_(False)
        with self._autocast():
            seen = augment(fakes, p, random)
            g_loss = F.softplus(-self._judge(seen).float()).mean()
            total = g_loss
            if state.vision is not None:
                total = g_loss + settings.vision * self._through_vision(state.vision, real_seen, seen)
        total.backward()
        d.requires_grad_(True)
        self.update(g, state.g_optimiser)

        state.step += 1
        state.pictures += settings.batch
        self.average_weights()
        numbers = torch.stack(
            [
                g_loss.detach(),
                d_loss.detach(),
                real_logits.detach().float().sign().mean(),
                r1_value.detach() if r1_value is not None else g_loss.new_zeros([]),
            ]
        )
        self._mean(numbers)
        g_value, d_value, sign, r1 = numbers.tolist()
        if not math.isfinite(g_value + d_value + r1):
            raise TrainingError(
                f"the training diverged at picture {state.pictures} (G loss {g_value}, D loss {d_value}, R1 {r1}); go on from the last checkpoint with a larger gamma or smaller rates"
            )
        on = settings.augment_target > 0
        state.augment_p = next_probability(p, sign, settings.batch, settings.augment_target) if on else 0.0
        return TrainingStep(
            state.step, state.pictures, g_value, d_value, sign, r1 if r1_value is not None else None, state.augment_p
        )

    def _through_vision(self, vision: Vision, real: Tensor, fakes: Tensor) -> Tensor:
        """Update the heads on both kinds of faces, and return G's loss through the updated ones."""
        view = draw_view(
            real.shape[-1], self.generator_of(1, rank=0)
        )  # of one size for all, so that none waits for others
        with torch.no_grad():
            real_features = vision.projection(look(real, view))
        features = vision.projection(look(fakes, view))
        vision.heads.requires_grad_(True)
        loss = judge_loss(vision.heads(real_features), vision.heads([x.detach() for x in features]))
        loss.backward()
        self.update(vision.heads, vision.optimiser)
        vision.heads.requires_grad_(False)
        return deceive_loss(vision.heads(features))

    @torch.no_grad()
    def average_weights(self) -> None:
        state, settings = self.state, self.state.settings
        shown = state.pictures + state.inherited_pictures
        half_life = min(settings.average_pictures, shown * settings.average_rampup)
        keep = 0.5 ** (settings.batch / max(half_life, 1e-8))
        torch._foreach_lerp_(list(state.average.parameters()), list(state.generator.parameters()), 1 - keep)
        for mine, theirs in zip(state.average.buffers(), state.generator.buffers(), strict=True):
            mine.copy_(theirs)

    def run(
        self, *, pictures: int | None = None, minutes: float | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[TrainingStep]:
        """Yield steps until `pictures` were shown in all, `minutes` have passed since this call, or `stop` says so."""
        start = last = time.monotonic()
        while pictures is None or self.state.pictures < pictures:
            shown = self.step()
            now = time.monotonic()
            self.state.seconds += now - last
            last = now
            yield shown
            over = stop() or (minutes is not None and now - start > minutes * 60)
            ends = torch.tensor(float(over), device=self.device)
            self._mean(ends)  # processes must stop at the same step
            if ends.item() > 0:
                return
