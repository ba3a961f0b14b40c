"""Train a prior's exits on its own samples: no pictures needed.

Each step draws style rows as searches find them, runs the frozen generator once, keeps the features before one exit and
the final picture shrunk by area to its size, and fits the exit's head to what was kept so far: a sample costs ten times
what a look at it costs.

Shape legend: B samples a look, L style rows, D width of w.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.devices import seeded
from latentface.errors import InputError
from latentface.prior.exits import ExitLayer, rows_of, whole_rows, write_exits
from latentface.prior.mobilestylegan import MobileGenerator
from latentface.prior.prior import Prior
from latentface.train.fit import Fit
from latentface.train.run import OnTick, check_run, resume_from, run_facts, train
from latentface.train.samples import wandering_rows
from latentface.train.settings import COARSE, ExitSettings

HELD = 16  # samples, never trained on, by which the figures are measured


class ExitFit(Fit):
    """A prior's exits in training."""

    KEY = WHAT = "exits"
    PARTS = ("heads", "optimiser")
    COUNTED = ("average", "steps", "seconds", "psnr")

    def __init__(self, prior: Prior, settings: ExitSettings) -> None:
        if not isinstance(prior.generator, MobileGenerator):
            raise InputError(
                f"the prior {prior.name} is no MobileStyleGAN, and only those can have exits; take ffhq1024"
            )
        if not prior.sha256:
            raise InputError(f"the prior {prior.name} was made in memory; write it to a file first, which exits name")
        self.prior, self.settings, self.generator = prior, settings, prior.generator
        for r in settings.resolutions:
            if r not in self.generator.synthesis.resolutions:
                raise InputError(f"an exit of {r} px is not between the blocks of a prior of {prior.resolution} px")
        with seeded(settings.seed):
            self.heads = self._new_heads()
        self.average = {k: v.detach().clone() for k, v in self.heads.state_dict().items()}
        self.optimiser = torch.optim.Adam(self.heads.parameters(), lr=settings.rate, betas=(0.9, 0.99))
        self.rate = settings.rate
        self.pools: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {r: [] for r in settings.resolutions}
        self.psnr: dict[int, tuple[float, float]] = {}
        self._held: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}

    @torch.no_grad()
    def pairs(self, w_plus: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
        """Return features before an exit and the final picture shrunk to it, rows above the exit tied to its last."""
        w_plus = whole_rows(w_plus[:, : rows_of(resolution)], self.prior.num_ws)
        dtype, network = self.prior.fast_dtype, self.generator.synthesis
        features = network(w_plus, leave=resolution // 2, dtype=dtype)[0]
        picture = network(w_plus, enter=(resolution // 2, features, None), dtype=dtype)[1]
        assert picture is not None
        return features, F.adaptive_avg_pool2d(picture.float(), resolution)

    def sample(self, random: torch.Generator, resolution: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw one: features before an exit, its style row (1, D), and the picture that it should paint."""
        w_plus = wandering_rows(self.prior, random, 1)
        features, wanted = self.pairs(w_plus, resolution)
        return features, w_plus[:, rows_of(resolution) - 1], wanted

    def step(self, done: float) -> float:
        """Draw a sample for one exit, each in its turn, and look at kept ones; return the mean loss."""
        settings = self.settings
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.steps)
        resolution = settings.resolutions[self.steps % len(settings.resolutions)]
        sample = self.sample(random, resolution)
        pool = self.pools[resolution]
        most = max(settings.batch, settings.kept // (sample[0].nbytes + sample[2].nbytes))
        if len(pool) < most:
            pool.append(sample)
        else:
            pool[self.steps // len(settings.resolutions) % most] = sample
        self.anneal(done, 0.03)
        total = 0.0
        for look in range(settings.looks):
            chosen = torch.randint(len(pool), (settings.batch,), generator=random).tolist()
            if look == 0:
                chosen[0] = len(pool) - 1 if pool[-1] is sample else self.steps // len(settings.resolutions) % most
            total += self._look(resolution, [pool[i] for i in chosen])
        return self.count(total / settings.looks)

    def _look(self, resolution: int, samples: Sequence[tuple[Tensor, Tensor, Tensor]]) -> float:
        """Fit a head to some samples."""
        features, row, wanted = (torch.cat(parts) for parts in zip(*samples, strict=True))
        features = features.contiguous(memory_format=torch.channels_last)
        head = self.heads[str(resolution)]
        error = head(features, row).float() - wanted
        coarse = F.avg_pool2d(error, 2 * COARSE)
        weight = self.settings.coarse_weight
        loss = error.abs().mean() + error.square().mean() + weight * (coarse.abs().mean() + coarse.square().mean())
        value = self.descend(loss, head)
        with torch.no_grad():
            for k, v in head.state_dict().items():
                self.average[f"{resolution}.{k}"].lerp_(v, 1 - self.settings.average)
        return value

    def averaged(self) -> dict[int, ExitLayer]:
        """Return the averaged heads."""
        heads = self._new_heads()
        heads.load_state_dict(self.average)
        return {int(r): head for r, head in heads.eval().items() if isinstance(head, ExitLayer)}

    def _new_heads(self) -> nn.ModuleDict:
        channels, prior = self.generator.arch.channels, self.prior
        sizes = zip(self.settings.resolutions, self.settings.widths, strict=True)
        heads = nn.ModuleDict({str(r): ExitLayer(channels[r // 2], prior.w_dim, width) for r, width in sizes})
        return heads.to(prior.device, prior.dtype, memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]

    def figures(self) -> Mapping[str, Any]:
        """Return each exit's PSNR in dB against the shrunk picture, and of both shrunk to a sixteenth."""
        return {"psnr": dict(self.psnr)}

    @torch.no_grad()
    def check(self, loss: float = 0.0) -> None:
        """Measure every exit on held samples."""
        for r, head in self.averaged().items():
            if r not in self._held:
                self._held[r] = [self.sample(torch.Generator().manual_seed(-1 - k), r) for k in range(HELD)]
            errors = []
            for features, row, wanted in self._held[r]:
                error = (head(features, row).float().clamp(-1, 1) - wanted.clamp(-1, 1)) / 2
                errors.append([float(e.square().mean()) for e in (error, F.avg_pool2d(error, 2 * COARSE))])
            fine, coarse = (10 * torch.tensor(errors).clamp_min(1e-10).log10().mul(-1).mean(0)).tolist()
            self.psnr[r] = fine, coarse

    def identity(self) -> dict[str, Any]:
        return {"prior": self.prior.sha256, "settings": asdict(self.settings)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        own = self.average
        super().load_state_dict(saved)
        self.average = {k: v.to(own[k]) for k, v in self.average.items()}


def train_exits(
    prior: Prior,
    output: str | Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    settings: ExitSettings | None = None,
    resume: bool = False,
    save_seconds: float = 60.0,
    checks: int = 20,
    on_tick: OnTick = lambda tick: None,
    say: Callable[[str], None] = lambda message: None,
) -> Path:
    """Train the exits of `prior`, on its device, and write them to `output`; the checkpoint is `output`.train/checkpoint.pt.

    Args:
        steps, minutes: the budget in all, calls that were cut off included; one of them is needed.

    Raises TrainingError: there is a checkpoint and no `resume`, no checkpoint and `resume`, one of another run, or the
    loss diverged. InputError: no budget, or a prior that can have no such exits. OutputError: a file cannot be written.
    """
    target = Path(output)
    checkpoint = check_run(target, steps, minutes, resume)
    fit = ExitFit(prior, settings or ExitSettings())
    if resume:
        resume_from(checkpoint, fit)

    train(
        fit,
        target,
        write=lambda folder: _write(fit, target),
        batch=1,
        checks=checks,
        steps=steps,
        minutes=minutes,
        save_seconds=save_seconds,
        on_tick=on_tick,
        say=say,
    )
    return target


def _write(fit: ExitFit, target: Path) -> None:
    card = {
        "prior": fit.prior.name,
        "data": "the prior's own samples",
        "licence": fit.prior.licence,
        "training": asdict(fit.settings),
        **run_facts(fit, fit.prior.device),
        "samples": fit.steps,
        "psnr": {str(r): [round(v, 2) for v in pair] for r, pair in fit.psnr.items()},
    }
    write_exits(target, fit.averaged(), fit.prior.sha256, card)
