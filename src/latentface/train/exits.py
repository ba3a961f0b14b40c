"""Train a prior's exits on its own samples: no pictures needed.

Each step draws style rows as searches find them, runs the frozen generator once, keeps the rows and the final picture
shrunk by area to one exit's size, and fits the exit's head to some of what was kept so far: pixels, the same after shrinking,
and the features of the prior's judge, without which a head paints too softly.

A small exit (`SMALL`) learns from the pictures of a larger one, where the prior has one: they cost a seventh, and a search goes
on there.

Shape legend: B samples a look, L style rows, D width of w.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.devices import seeded
from latentface.errors import InputError
from latentface.io.weights import read_card
from latentface.prior.exits import ExitLayer, rows_of, whole_rows, write_exits
from latentface.prior.judge import Judge
from latentface.prior.mobilestylegan import MobileGenerator
from latentface.prior.prior import Prior
from latentface.train.companions import COARSE, ExitSettings
from latentface.train.fit import Fit
from latentface.train.run import OnTick, check_run, resume_from, run_facts, train
from latentface.train.samples import wandering_rows

Pair = tuple[Tensor, Tensor]  # an exit's style rows (1, l, D), and its picture (1, 3, r, r) in bytes

SMALL = 16  # an exit so many times smaller than the prior's faces learns from a larger exit's pictures
LOOK_SIDE = 128  # px, below which a look is at more samples: they cost less
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
        self.pools: dict[int, list[Pair]] = {r: [] for r in settings.resolutions}
        self.psnr: dict[int, tuple[float, float]] = {}
        self._held: dict[int, list[Pair]] = {}
        self.eye_dtype = prior.fast_dtype or prior.dtype
        self.judge = prior.judge.to(self.eye_dtype) if prior.judge and settings.judge_weight else None
        self.painters = {r: painter_of(prior, r) for r in settings.resolutions}

    @torch.no_grad()
    def features(self, rows: Tensor, resolution: int) -> Tensor:
        """Return the features before an exit of its style rows (B, l, D)."""
        network = self.generator.synthesis
        features: Tensor = network(rows, leave=resolution // 2, dtype=self.prior.fast_dtype)[0]
        return features

    @torch.no_grad()
    def sample(self, random: torch.Generator, resolution: int) -> Pair:
        """Draw an exit's style rows (1, l, D) and the picture that they make, shrunk to it, (1, 3, r, r) in bytes.

        The painter's rows above the exit are its last one.
        """
        rows = wandering_rows(self.prior, random, 1)[:, : rows_of(resolution)]
        painter = self.painters[resolution]
        picture = painter.synthesis(whole_rows(rows, painter.num_ws), fast=True)
        return rows, (F.adaptive_avg_pool2d(picture, resolution).clamp(0, 1) * 255).round().byte()

    def step(self, done: float) -> float:
        """Draw a sample for one exit, each in its turn, and look at kept ones; return the mean loss."""
        settings = self.settings
        random = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.steps)
        resolution = settings.resolutions[self.steps % len(settings.resolutions)]
        sample = self.sample(random, resolution)
        pool = self.pools[resolution]
        place = self.steps // len(settings.resolutions) % max(settings.batch, settings.kept // sample[1].nbytes)
        pool[place : place + 1] = [sample]  # the newest takes the place of the oldest
        self.anneal(done, 0.03)
        total = 0.0
        for look in range(settings.looks):
            count = settings.batch * max(1, LOOK_SIDE // resolution)
            chosen = torch.randint(len(pool), (count,), generator=random).tolist()
            if look == 0:
                chosen[0] = min(place, len(pool) - 1)
            total += self._look(resolution, [pool[i] for i in chosen], random)
        return self.count(total / settings.looks)

    def _look(self, resolution: int, samples: Sequence[Pair], random: torch.Generator) -> float:
        """Fit a head to some samples."""
        rows, pictures = (torch.cat(parts) for parts in zip(*samples, strict=True))
        head, wanted = self.heads[str(resolution)], pictures / 255
        made = self.prior.to_unit(head(self.features(rows, resolution), rows[:, -1]).float())
        loss = _distance(made, wanted) + self.settings.coarse_weight * _distance(
            F.avg_pool2d(made, 2 * COARSE), F.avg_pool2d(wanted, 2 * COARSE)
        )
        if self.judge is not None and resolution >= self.judge.resolution:
            loss = loss + self.settings.judge_weight * self._seen_apart(self.judge, made, wanted, random)
        value = self.descend(loss, head)
        with torch.no_grad():
            for k, v in head.state_dict().items():
                self.average[f"{resolution}.{k}"].lerp_(v, 1 - self.settings.average)
        return value

    def _seen_apart(self, judge: Judge, made: Tensor, wanted: Tensor, random: torch.Generator) -> Tensor:
        """Return how the judge's features of two pictures differ, in a window of its size where they are larger."""
        side = judge.resolution
        both = torch.cat([made, wanted])
        top, left = torch.randint(max(0, made.shape[-1] - side) + 1, (2,), generator=random).tolist()
        both = both[:, :, top : top + side, left : left + side]
        both = F.interpolate(both, size=(side, side), mode="bilinear", align_corners=False).to(self.eye_dtype)
        differences = (a.float() - b.float() for a, b in (f.chunk(2) for f in judge.features(both)))
        return torch.stack([d.abs().mean() for d in differences]).sum()

    def averaged(self) -> dict[int, ExitLayer]:
        """Return the averaged heads."""
        heads = self._new_heads()
        heads.load_state_dict(self.average)
        return {int(r): head for r, head in heads.eval().items() if isinstance(head, ExitLayer)}

    def _new_heads(self) -> nn.ModuleDict:
        prior = self.prior
        sizes = zip(self.settings.resolutions, self.settings.widths, strict=True)
        heads = nn.ModuleDict({str(r): ExitLayer.of(self.generator, r, width) for r, width in sizes})
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
            for rows, picture in self._held[r]:
                made = self.prior.to_unit(head(self.features(rows, r), rows[:, -1]).float())
                error = made.clamp(0, 1) - picture / 255
                errors.append([float(e.square().mean()) for e in (error, F.avg_pool2d(error, 2 * COARSE))])
            fine, coarse = (10 * torch.tensor(errors).clamp_min(1e-10).log10().mul(-1).mean(0)).tolist()
            self.psnr[r] = fine, coarse

    def identity(self) -> dict[str, Any]:
        return {"prior": self.prior.sha256, "settings": asdict(self.settings)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        own = self.average
        super().load_state_dict(saved)
        self.average = {k: v.to(own[k]) for k, v in self.average.items()}


def painter_of(prior: Prior, resolution: int) -> Prior:
    """Return whose pictures an exit of `resolution` px learns: the prior's, or a larger exit's where it is small."""
    small = resolution * SMALL <= prior.resolution
    return prior.at(min((r for r in prior.exits if small and r > resolution), default=prior.resolution))


def _distance(a: Tensor, b: Tensor) -> Tensor:
    error = a - b
    return error.abs().mean() + 2 * error.square().mean()


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
    """Write the trained exits beside the prior's others."""
    prior, heads = fit.prior, fit.averaged()
    others = {r: head for r, head in prior.exits.items() if r not in heads}
    old = read_card(prior.exits_path, "exits") if others and prior.exits_path else {}
    run = {"training": asdict(fit.settings), **run_facts(fit, prior.device), "samples": fit.steps}
    psnr = {str(r): [round(v, 2) for v in pair] for r, pair in fit.psnr.items()}
    card = {
        "prior": prior.name,
        "data": "the prior's own samples",
        "licence": prior.licence,
        "psnr": {**_facts_of(others, old.get("psnr")), **psnr},
        "runs": {**_facts_of(others, old.get("runs")), **{str(r): run for r in heads}},
    }
    write_exits(target, {**others, **heads}, prior.sha256, card)


def _facts_of(exits: Collection[int], facts: Any) -> dict[str, Any]:
    """Return what a card says of some exits."""
    return {str(r): facts[str(r)] for r in exits if isinstance(facts, dict) and str(r) in facts}
