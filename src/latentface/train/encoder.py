"""Train the encoder of a prior on the prior's own faces: unlimited pairs, no data set.

Each step draws some new faces and takes some that are kept, shrinks them to a random size with a little noise, lets the encoder answer, and compares the
answer's picture with the face and, shrunk, with the input; and the answer with the face's own latent. A prior with exits
paints all of this at the smallest of them: there a pair costs a tenth. Random numbers follow from (seed, step), so that a run with a
budget of steps that was cut off resumes exactly.

Shape legend: B faces a step, R side of the faces as they are painted, n of the small ones.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentface.degradation import Downscale, resampling_matrix
from latentface.devices import seeded
from latentface.errors import InputError
from latentface.explore.result import psnr_each
from latentface.explore.start.encoder import Encoder, EncoderNetwork, EncoderShape, write_encoder
from latentface.explore.start.sight import blur
from latentface.io.pictures import write_picture
from latentface.io.sheets import comparison_sheet
from latentface.prior.prior import Prior
from latentface.supervised.registry import count_parameters
from latentface.train.companions import EncoderSettings
from latentface.train.fit import Fit
from latentface.train.run import OnTick, check_run, resume_from, run_facts, train, write_history
from latentface.train.samples import wandering_rows

KEPT_PART = 64  # kept faces are painted in parts of so many
HELD = 64  # faces, never trained on, by which the figures are measured
HELD_SIDE = 16  # px of the inputs that are made of them, or half of what is painted where that is less
LEAST_INPUT = 8  # px; with a small prior `largest_factor` goes further down


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
    on_tick: OnTick = lambda tick: None,
    say: Callable[[str], None] = lambda message: None,
) -> Path:
    """Train an encoder for `prior`, on the prior's device, and write it to `output`.

    Beside it stands the folder `output`.train with `checkpoint.pt`, `samples.png` and `log.csv`. A run that SIGINT or
    SIGTERM stops saves everything after its step; one that dies goes on from a checkpoint at most `save_seconds` old.

    Args:
        steps, minutes: the budget in all, calls that were cut off included; one of them is needed.

    Raises TrainingError: there is a checkpoint and no `resume`, no checkpoint and `resume`, one of another run, or the
    loss diverged. InputError: no budget, or a prior without a file. OutputError: a file cannot be written.
    """
    target = Path(output)
    checkpoint = check_run(target, steps, minutes, resume)
    if not prior.sha256:
        raise InputError(f"the prior {prior.name} was made in memory; write it to a file first, which an encoder names")
    settings = settings or EncoderSettings()
    shape = shape or EncoderShape(rows=painter_of(prior).num_ws, width=prior.w_dim)
    fit = EncoderFit(prior, shape, settings)
    if resume:
        resume_from(checkpoint, fit)
    else:
        say(f"painting {settings.kept} faces of {prior.name}")
        fit.begin()

    train(
        fit,
        target,
        write=lambda folder: _write(fit, target, folder),
        batch=settings.batch,
        checks=settings.checks,
        steps=steps,
        minutes=minutes,
        save_seconds=save_seconds,
        on_tick=on_tick,
        say=say,
    )
    return target


def painter_of(prior: Prior) -> Prior:
    """Return the prior as an encoder learns from it: at its smallest exit, where there is one."""
    return prior.at(min(prior.exits, default=prior.resolution))


class EncoderFit(Fit):
    """An encoder in training."""

    KEY, WHAT = "encoder", "an encoder"
    PARTS = ("network", "optimiser")
    COUNTED = ("steps", "seconds", "history")

    def __init__(self, prior: Prior, shape: EncoderShape, settings: EncoderSettings) -> None:
        self.prior, self.shape, self.settings = prior, shape, settings
        self.painter = painter_of(prior)
        with seeded(settings.seed):
            self.network = EncoderNetwork(shape).to(prior.device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.rate, betas=(0.9, 0.99))
        self.rate = settings.rate
        self.new = max(1, settings.batch // 4)  # faces of a step that nobody saw before
        self.history: list[dict[str, float]] = []
        self.held = self.faces(HELD, torch.Generator().manual_seed(settings.seed * 1_000_003 - 1))[0]

    def paint(self, w_plus: Tensor) -> Tensor:
        """Style rows (B, L, D) -> faces (B, 3, R, R), in the precision that the settings ask for."""
        half = self.settings.precision == "bf16"
        if half and self.painter.fast_dtype is not None:
            return self.painter.synthesis(w_plus, fast=True)
        with torch.autocast(self.prior.device.type, dtype=torch.bfloat16, enabled=half):
            return self.painter.synthesis(w_plus).float()

    @torch.no_grad()
    def faces(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw new faces, (count, 3, R, R) in [0, 1], and their gaussianised style rows, (count, L, D)."""
        z = torch.randn(count, self.prior.z_dim, generator=random).to(self.prior.device)
        rows = torch.cat([self.painter.mapping(part) for part in z.split(32)])
        if self.settings.wander:
            apart = torch.rand(count, 1, 1, generator=random).to(rows) < self.settings.wander
            rows = torch.where(apart, wandering_rows(self.painter, random, count), rows)
        pictures = torch.cat([self.paint(part).clamp(0, 1) for part in rows.split(32)])
        return pictures, self.prior.gaussianise(rows)

    def sides(self, count: int, random: torch.Generator) -> list[int]:
        """Draw widths of inputs in pixels, every octave of the enlargement alike."""
        high = self.prior.resolution
        least = max(1.0, math.log2(high / self.painter.resolution) - 1)  # an exit of R px knows inputs of up to 2 R
        most = math.log2(max(self.settings.largest_factor, high / LEAST_INPUT))
        octaves = least + (most - least) * torch.rand(count, generator=random)
        return [max(2, round(high / 2**x)) for x in octaves.tolist()]

    def views(self, high: Tensor, side: int, random: torch.Generator) -> Tensor:
        """Faces (B, 3, R, R) -> how they look after having been shrunk to `side` px, with noise there, (B, 3, E, E)."""
        sigma = self.settings.noise * torch.rand(len(high), 1, 1, 1, generator=random)
        grain = sigma * torch.randn(len(high), 3, side, side, generator=random)
        return blur(high, side, self.prior.resolution) + blur(grain.to(high), side, self.prior.resolution)

    def begin(self) -> None:
        """Fit the stem and the linear part to the kept faces: the training begins at the best linear answer."""
        random = torch.Generator().manual_seed(self.settings.seed * 1_000_003 - 2)
        faces, v = self.kept
        sides = self.sides(16, random)
        parts = zip(faces.chunk(len(sides)), sides, strict=True)
        views = torch.cat([self.views(part / 255, n, random) for part, n in parts])
        self.network.fit_stem(views)
        self.network.fit_linear(views, v.mean(1))

    @cached_property
    def kept(self) -> tuple[Tensor, Tensor]:
        """Faces that are looked at again and again, (N, 3, R, R) in bytes, and their gaussianised style rows, (N, L, D)."""
        random = torch.Generator().manual_seed(self.settings.seed * 1_000_003 - 3)
        parts = [self.faces(KEPT_PART, random) for _ in range(self.settings.kept // KEPT_PART)]
        return torch.cat([(p * 255).round().byte() for p, _ in parts]), torch.cat([v for _, v in parts])

    def batch(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return faces of one step and their latents: new ones and, of `settings.kept` faces, three times as many."""
        high, v = self.faces(self.new, random)
        faces, codes = self.kept
        chosen = torch.randint(len(faces), (self.settings.batch - self.new,), generator=random)
        return torch.cat([high, faces[chosen].to(high) / 255]), torch.cat([v, codes[chosen]])

    def step(self, done: float) -> float:
        """Show one batch of new faces, all shrunk to one size."""
        settings, prior = self.settings, self.prior
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.steps)
        high, wanted = self.batch(random)
        side = self.sides(1, random)[0]
        view = self.views(high, side, random)
        self.anneal(done, settings.warmup)
        v = self.network(view, torch.full((len(high),), math.log2(prior.resolution / side)).to(view))
        difference = self.paint(prior.degaussianise(v)) - high
        r = resampling_matrix(min(side, high.shape[-1]), high.shape[-1], "bicubic").to(high)
        loss = difference.square().mean() + settings.low_weight * (r @ difference @ r.t()).square().mean()
        if settings.latent_weight:
            loss = loss + settings.latent_weight * (v - wanted).square().mean()
        return self.count(self.descend(loss, self.network))

    @torch.no_grad()
    def held_answers(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return held faces, shrunk, and the encoder's answers, shrunk too."""
        high = self.held[:count]
        down = Downscale(min(HELD_SIDE, high.shape[-1] // 2), high.shape[-1])
        low = down.forward(high).clamp(0, 1)
        v = Encoder(self.network).rows(low, Downscale(down.low, self.prior.resolution))
        answers = torch.cat([self.paint(self.prior.degaussianise(rows)) for rows in v.split(32)]).clamp(0, 1)
        return low, answers, down.forward(answers)

    def figures(self) -> Mapping[str, float]:
        """Return PSNR and consistency of the held faces from `HELD_SIDE`, in dB."""
        return self.history[-1] if self.history else {}

    def check(self, loss: float) -> None:
        """Measure the held faces and note it."""
        low, answers, low_again = self.held_answers(HELD)
        psnr = float(psnr_each(answers, self.held).mean())
        consistency = float(psnr_each(low_again, low).mean())
        numbers = {"step": float(self.steps), "seconds": self.seconds, "loss": loss}
        self.history.append({**numbers, "psnr": psnr, "consistency": consistency})

    def identity(self) -> dict[str, Any]:
        return {"prior": self.prior.sha256, "shape": asdict(self.shape), "settings": asdict(self.settings)}


def _write(fit: EncoderFit, target: Path, folder: Path) -> None:
    last = fit.figures()
    full = {
        "prior": fit.prior.name,
        "data": "the prior's own faces",
        "parameters": count_parameters(fit.network),
        "training": asdict(fit.settings),
        "licence": fit.prior.licence,
        **run_facts(fit, fit.prior.device),
        "faces": fit.settings.kept // KEPT_PART * KEPT_PART + fit.steps * fit.new,
        "figures": {name: round(last[name], 2) for name in ("psnr", "consistency") if name in last},
    }
    write_encoder(target, fit.network, fit.prior.sha256, full)
    low, answers, _ = fit.held_answers(6)
    columns = {"input": low, "encoder": answers, "face": fit.held[:6]}
    write_picture(folder / "samples.png", comparison_sheet({k: list(v.cpu()) for k, v in columns.items()}))
    write_history(folder, ("step", "seconds", "loss", "psnr", "consistency"), fit.history)
