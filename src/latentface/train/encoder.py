"""Train the encoder of a prior on the prior's own faces: unlimited pairs, no data set.

Each step draws new faces, shrinks them to a random size with a little noise, lets the encoder answer, and compares the
answer's picture with the face and, shrunk, with the input. Random numbers follow from (seed, step), so that a run with a
budget of steps that was cut off resumes exactly.

Shape legend: B faces a step, R side of the prior's faces, n of the small ones.
"""

from __future__ import annotations

import csv
import datetime
import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentface.degradation import Downscale, resampling_matrix
from latentface.devices import seeded
from latentface.errors import InputError, TrainingError
from latentface.explore.result import psnr_each
from latentface.explore.start.encoder import Encoder, EncoderNetwork, EncoderShape, write_encoder
from latentface.explore.start.sight import blur
from latentface.io.atomic import write_text
from latentface.io.pictures import write_picture
from latentface.io.sheets import comparison_sheet
from latentface.prior.prior import Prior
from latentface.train.checkpoints import check_run, hardware_of, read_checkpoint, spent, write_checkpoint

STEM_FACES = 1024  # from which the stem's whitening is measured
PRECISIONS = ("fp32", "bf16")
HELD = 64  # faces, never trained on, by which the figures are measured at 8x


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSettings:
    """How an encoder is trained.

    Attributes:
        batch: faces a step; rate: Adam's, after a warm-up over the share `warmup` of the budget a half cosine down to 0.
        largest_factor: inputs are from R / largest_factor to R / 2 px wide, all octaves alike.
        noise: the largest standard deviation of an input's noise. Real faces are not the prior's; it keeps the encoder
            from reading what only the prior's own faces say.
        low_weight: of the small pictures' mean square difference; that of the large ones weighs 1.
        precision: of the prior's convolutions, "fp32", or "bf16" where the processor has it in silicon.
    """

    batch: int = 32
    rate: float = 2e-3
    warmup: float = 0.03
    largest_factor: float = 16.0
    noise: float = 0.04
    low_weight: float = 4.0
    checks: int = 20
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.checks < 1 or not self.rate > 0 or not 0 <= self.warmup < 1:
            raise InputError(
                f"batch {self.batch}, checks {self.checks}, rate {self.rate}, warmup {self.warmup}; expected >= 1, >= 1, > 0 and in [0, 1)"
            )
        if self.precision not in PRECISIONS:
            raise InputError(f"precision is {self.precision!r}, expected one of {', '.join(PRECISIONS)}")
        if self.largest_factor < 2 or min(self.noise, self.low_weight) < 0:
            raise InputError(
                f"largest_factor {self.largest_factor}, noise {self.noise}, low_weight {self.low_weight}; expected >= 2, >= 0 and >= 0"
            )


@dataclass(frozen=True, slots=True)
class EncoderTick:
    """A report during training; psnr and consistency (dB, at 8x) are of the last check, NaN before the first."""

    step: int
    loss: float
    faces_per_second: float
    done: float
    seconds_left: float
    psnr: float
    consistency: float
    saved: bool


def train_encoder(
    prior: Prior,
    output: str | Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    settings: EncoderSettings | None = None,
    shape: EncoderShape | None = None,
    resume: bool = False,
    save_seconds: float = 60.0,
    card: Mapping[str, Any] | None = None,
    on_tick: Callable[[EncoderTick], None] = lambda tick: None,
    say: Callable[[str], None] = lambda message: None,
) -> Path:
    """Train an encoder for `prior`, on the prior's device, and write it to `output`.

    Beside it stands the folder `output`.train with `checkpoint.pt`, `samples.png` and `log.csv`. An interrupted run goes
    on from its last checkpoint, at most `save_seconds` old.

    Args:
        steps, minutes: the budget in all, calls that were cut off included; one of them is needed.

    Raises:
        TrainingError: there is a checkpoint and no `resume`, no checkpoint and `resume`, one of another run, or the loss
            diverged. InputError: no budget, or a prior without a file.
    """
    target = Path(output)
    checkpoint = check_run(target, steps, minutes, resume)
    if not prior.sha256:
        raise InputError(f"the prior {prior.name} was made in memory; write it to a file first, which an encoder names")
    settings = settings or EncoderSettings()
    shape = shape or EncoderShape(rows=prior.num_ws, width=prior.w_dim)
    fit = EncoderFit(prior, shape, settings)
    if resume:
        fit.load_state_dict(read_checkpoint(checkpoint, "an encoder", ("encoder", "optimiser")))
    else:
        say(f"measuring {STEM_FACES} faces of {prior.name}")
        fit.begin()

    def done() -> float:
        return spent(fit.steps, fit.seconds, steps, minutes)

    first, start = fit.steps, time.monotonic()
    last_save = start
    while (share := done()) < 1:
        began = time.monotonic()
        loss = fit.step(share)
        fit.seconds += time.monotonic() - began
        if int(done() * settings.checks) > fit.checks:
            fit.checks = int(done() * settings.checks)
            fit.check(loss)
        over = time.monotonic() - last_save > save_seconds or done() >= 1
        if over:
            _save(fit, target, checkpoint, card or {})
            last_save = time.monotonic()
        on_tick(_tick(fit, loss, done(), first, time.monotonic() - start, over))
    if not target.exists():  # a run that had spent its budget before this call
        _save(fit, target, checkpoint, card or {})
    return target


class EncoderFit:
    """Everything that a checkpoint holds, and the step."""

    def __init__(self, prior: Prior, shape: EncoderShape, settings: EncoderSettings) -> None:
        self.prior, self.shape, self.settings = prior, shape, settings
        with seeded(settings.seed):
            self.network = EncoderNetwork(shape).to(prior.device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.rate, betas=(0.9, 0.99))
        self.steps, self.checks, self.seconds = 0, 0, 0.0
        self.history: list[dict[str, float]] = []
        self.held = self.faces(HELD, torch.Generator().manual_seed(settings.seed * 1_000_003 - 1))

    def _autocast(self) -> torch.autocast:
        half = self.settings.precision == "bf16"
        return torch.autocast(self.prior.device.type, dtype=torch.bfloat16, enabled=half)

    @torch.no_grad()
    def faces(self, count: int, random: torch.Generator) -> Tensor:
        """Draw new faces of the prior, (count, 3, R, R) in [0, 1]."""
        z = torch.randn(count, self.prior.z_dim, generator=random).to(self.prior.device)
        return torch.cat([self.prior.synthesis(self.prior.mapping(part)).clamp(0, 1) for part in z.split(32)])

    def sides(self, count: int, random: torch.Generator) -> list[int]:
        """Draw widths of inputs in pixels, every octave of the enlargement alike."""
        high = self.prior.resolution
        octaves = 1 + (math.log2(self.settings.largest_factor) - 1) * torch.rand(count, generator=random)
        return [max(2, round(high / 2**x)) for x in octaves.tolist()]

    def views(self, high: Tensor, side: int, random: torch.Generator) -> Tensor:
        """Faces (B, 3, R, R) -> how they look after having been shrunk to `side` px, with noise there, (B, 3, E, E)."""
        sigma = self.settings.noise * torch.rand(len(high), 1, 1, 1, generator=random)
        grain = sigma * torch.randn(len(high), 3, side, side, generator=random)
        return blur(high, side, self.prior.resolution) + blur(grain.to(high), side, self.prior.resolution)

    def begin(self) -> None:
        """Fit the stem to views of the prior's faces."""
        random = torch.Generator().manual_seed(self.settings.seed * 1_000_003 - 2)
        faces = self.faces(STEM_FACES, random)
        sides = self.sides(16, random)
        self.network.fit_stem(
            torch.cat([self.views(part, n, random) for part, n in zip(faces.chunk(len(sides)), sides, strict=True)])
        )

    def step(self, done: float) -> float:
        """Show one batch and return the loss; `done`: how much of the budget is spent, 0 to 1.

        Raises:
            TrainingError: the loss is not finite; the state must then be thrown away.
        """
        settings, prior = self.settings, self.prior
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.steps)
        with self._autocast():
            high = self.faces(settings.batch, random).float()
        side = self.sides(1, random)[0]
        view = self.views(high, side, random)
        rise = min(1.0, done / settings.warmup) if settings.warmup else 1.0
        rate = settings.rate * max(1e-3, rise * 0.5 * (1 + math.cos(math.pi * done)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        v = self.network(view, torch.full((len(high),), math.log2(prior.resolution / side)).to(view))
        with self._autocast():
            answer = prior.synthesis(prior.degaussianise(v)).float()
        r = resampling_matrix(side, prior.resolution, "bicubic").to(high)
        low_error = (r @ (answer - high) @ r.t()).square().mean()
        loss = (answer - high).square().mean() + settings.low_weight * low_error
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.steps += 1
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"the training diverged at step {self.steps} (loss {value}); use a smaller rate")
        return value

    @torch.no_grad()
    def answers(self, low: Tensor, degradation: Downscale) -> Tensor:
        """Low pictures (B, 3, n, n) -> the encoder's faces (B, 3, R, R) in [0, 1]."""
        v = Encoder(self.network).rows(low, degradation)
        return torch.cat([self.prior.synthesis(self.prior.degaussianise(rows)) for rows in v.split(32)]).clamp(0, 1)

    def check(self, loss: float) -> None:
        """Measure the held faces at 8x and note it."""
        degradation = Downscale(max(2, self.prior.resolution // 8), self.prior.resolution)
        low = degradation.forward(self.held).clamp(0, 1)
        answers = self.answers(low, degradation)
        psnr = float(psnr_each(answers, self.held).mean())
        consistency = float(psnr_each(degradation.forward(answers), low).mean())
        numbers = {"step": float(self.steps), "seconds": self.seconds, "loss": loss}
        self.history.append({**numbers, "psnr": psnr, "consistency": consistency})

    def identity(self) -> dict[str, Any]:
        """Return what a checkpoint must agree on."""
        return {"prior": self.prior.sha256, "shape": asdict(self.shape), "settings": asdict(self.settings)}

    def state_dict(self) -> dict[str, Any]:
        """Return plain tensors and numbers, readable with `weights_only=True`."""
        parts = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        plain = {name: getattr(self, name) for name in ("steps", "checks", "seconds", "history")}
        return {"encoder": self.identity(), **parts, **plain}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s value. Raises TrainingError when it is of another run."""
        mine, theirs = self.identity(), saved["encoder"]
        other = [name for name in mine if mine[name] != theirs.get(name)]
        if other:
            raise TrainingError(
                f"the checkpoint's {other[0]} is {theirs.get(other[0])}, not {mine[other[0]]}; resume with the same options or start anew with another -o"
            )
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        for name in ("steps", "checks", "seconds", "history"):
            setattr(self, name, saved[name])


def _save(fit: EncoderFit, target: Path, checkpoint: Path, card: Mapping[str, Any]) -> None:
    write_checkpoint(checkpoint, fit.state_dict())
    last = fit.history[-1] if fit.history else {}
    full = {
        "prior": fit.prior.name,
        "data": "the prior's own faces",
        "parameters": sum(p.numel() for p in fit.network.parameters()),
        "training": asdict(fit.settings),
        "licence": fit.prior.licence,
        "hardware": hardware_of(fit.prior.device),
        "date": datetime.date.today().isoformat(),
        "steps": fit.steps,
        "faces": fit.steps * fit.settings.batch,
        "minutes": round(fit.seconds / 60, 2),
        "figures": {name: round(last[name], 2) for name in ("psnr", "consistency") if name in last},
        **card,
    }
    write_encoder(target, fit.network, fit.prior.sha256, full)
    degradation = Downscale(max(2, fit.prior.resolution // 8), fit.prior.resolution)
    low = degradation.forward(fit.held[:6]).clamp(0, 1)
    columns = {"input": low, "encoder": fit.answers(low, degradation), "face": fit.held[:6]}
    write_picture(checkpoint.parent / "samples.png", comparison_sheet({k: list(v.cpu()) for k, v in columns.items()}))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["step", "seconds", "loss", "psnr", "consistency"])
    writer.writeheader()
    writer.writerows(fit.history)
    write_text(checkpoint.parent / "log.csv", text.getvalue())


def _tick(fit: EncoderFit, loss: float, done: float, first: int, seconds: float, saved: bool) -> EncoderTick:
    last = fit.history[-1] if fit.history else {}
    speed = (fit.steps - first) * fit.settings.batch / max(seconds, 1e-9)
    left = fit.seconds * (1 - done) / max(done, 1e-9)
    unknown = float("nan")
    figures = last.get("psnr", unknown), last.get("consistency", unknown)
    return EncoderTick(fit.steps, loss, speed, done, left, *figures, saved)
