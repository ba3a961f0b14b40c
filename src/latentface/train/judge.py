"""Train a judge for a prior: a discriminator that tells the prior's samples from photographs.

Made pictures are plain samples and, as many, style rows as searches find them. They are painted at full size, shrunk to the
judge's size and kept: a sample costs more than a look at it. Pictures of both kinds are mirrored, shifted and blurred
alike, so that the face alone tells them apart. Each is judged alone: there is no deviation of a minibatch.

Shape legend: B pictures of each kind a step, s side of the judge's pictures.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.degradation import shrinking
from latentface.devices import seeded
from latentface.errors import InputError, TrainingError
from latentface.io.pictures import write_picture
from latentface.io.sheets import grid
from latentface.io.sources import open_sources
from latentface.metrics.verification import verification
from latentface.prior.judge import Judge, signed, write_judge
from latentface.prior.prior import Prior
from latentface.prior.stylegan2 import Discriminator
from latentface.train.companions import JudgeSettings
from latentface.train.fit import Fit
from latentface.train.gan import lazy_adam, logistic_loss, r1_penalty
from latentface.train.pictures import Shuffled, load_pictures
from latentface.train.run import OnTick, check_run, resume_from, run_facts, train, write_history
from latentface.train.samples import wandering_rows

HELD = 128  # pictures of each kind, never trained on, by which the figures are measured
SMALLEST = 4  # px to which pictures are shrunk before they are blurred
HELD_FACTOR = 8  # by which the held pictures are shrunk
FIGURES = ("auc", "real", "made", "auc_blurred", "real_blurred", "made_blurred")


class JudgeFit(Fit):
    """A judge in training.

    Args:
        start: the judge whose network training starts from.
        pictures: photographs, uint8 (N, 3, s, s); a fourth of them, at most HELD, is held back.
    """

    KEY, WHAT = "judge", "a judge"
    PARTS = ("network", "average", "optimiser")
    COUNTED = ("steps", "seconds", "history", "pool", "painted")

    def __init__(self, prior: Prior, start: Judge, pictures: Tensor, settings: JudgeSettings) -> None:
        check_pair(prior, start)
        if len(pictures) < 4:
            raise TrainingError(f"{len(pictures)} pictures are too few to train on and to measure by; add some")
        self.prior, self.start, self.settings, self.pictures = prior, start, settings, pictures
        self.resolution = start.resolution
        with seeded(settings.seed):
            network = Discriminator(replace(start.network.arch, mbstd_group=1))
        network.load_state_dict(start.network.state_dict())
        self.network = network.to(prior.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = lazy_adam(self.network, settings.rate, settings.r1_every)
        self.rate = self.optimiser.param_groups[0]["lr"]
        self.pool: list[Tensor] = []  # made pictures, uint8 (3, s, s)
        self.painted = 0
        self.history: list[dict[str, float]] = []
        places = torch.randperm(len(pictures), generator=self._random(-1))
        count = min(HELD, len(pictures) // 4)
        self.held, self.shown = places[:count], places[count:]
        self.order = Shuffled(len(self.shown), settings.seed)
        self._sets: tuple[Tensor, Tensor] | None = None

    def _random(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.settings.seed * 1_000_003 + number)

    @torch.no_grad()
    def paint(self, count: int, random: torch.Generator) -> Tensor:
        """Draw samples of the prior, shrunk to the judge's size, uint8 (count, 3, s, s)."""
        prior, side = self.prior, self.resolution
        plain = prior.mapping(torch.randn(count, prior.z_dim, generator=random).to(prior.device, prior.dtype))
        wander = torch.rand(count, 1, 1, generator=random) < self.settings.wandering
        rows = torch.where(wander.to(prior.device), wandering_rows(prior, random, count), plain)
        shrink = shrinking(side, prior.resolution, "lanczos")
        parts = [shrink.forward(prior.synthesis(part, fast=True).clamp(0, 1)) for part in rows.split(4)]
        return torch.cat(parts).clamp(0, 1).mul(255).round().byte().cpu()

    def views(self, pictures: Tensor, random: torch.Generator) -> Tensor:
        """Pictures uint8 (N, 3, s, s) -> mirrored and shifted at random, in some steps all blurred, (N, 3, s, s) in [0, 1]."""
        x = self._unit(pictures)
        flips = torch.rand(len(x), 1, 1, 1, generator=random) < 0.5
        x = shifted(torch.where(flips.to(x.device), x.flip(3), x), random)
        blurs = float(torch.rand(1, generator=random)) < self.settings.blurred
        octaves = math.log2(max(1.0, self.resolution / 2 / SMALLEST)) * float(torch.rand(1, generator=random))
        return blurred(x, round(SMALLEST * 2**octaves)) if blurs else x

    def _unit(self, pictures: Tensor) -> Tensor:
        return pictures.to(self.prior.device).float() / 255

    def keep(self, samples: Tensor) -> None:
        """Put samples (N, 3, s, s) into the pool; where it is full, in the place of the oldest ones."""
        for sample in samples:
            place = self.painted % self.settings.kept
            self.pool[place : place + 1] = [sample.clone()]
            self.painted += 1

    def step(self, done: float) -> float:
        """Draw a sample where one is due, and show a batch of photographs and kept samples."""
        settings, random = self.settings, self._random(self.steps)
        if self.steps % settings.sample_every == 0:
            self.keep(self.paint(1 if self.pool else settings.batch, random))
        real = self.pictures[self.shown[self.order.indices(self.steps * settings.batch, settings.batch)]]
        chosen = torch.randint(len(self.pool), (settings.batch,), generator=random).tolist()
        made = torch.stack([self.pool[i] for i in chosen])
        seen = signed(self.views(torch.cat([real, made]), random))
        self.anneal(done, settings.warmup)
        with torch.autocast(seen.device.type, dtype=torch.bfloat16, enabled=settings.precision == "bf16"):
            logits = self.network(seen)
        loss = self.descend(logistic_loss(*logits.split(settings.batch)), self.network)
        if settings.gamma > 0 and self.steps % settings.r1_every == 0:
            r1 = r1_penalty(self.network, seen[: settings.batch])
            weighed = self.descend(r1 * (settings.gamma / 2 * settings.r1_every), self.network)
            loss = loss if math.isfinite(weighed) else weighed
        with torch.no_grad():
            pair = list(self.average.parameters()), list(self.network.parameters())
            torch._foreach_lerp_(*pair, 1 - settings.average)
        return self.count(loss)

    def clip(self, module: nn.Module) -> None:
        """Leave the gradients as they are: limits would change R1's weight."""

    def sets(self) -> tuple[Tensor, Tensor]:
        """Return the held photographs and as many samples, (N, 3, s, s) in [0, 1]."""
        if self._sets is None:
            made = self.paint(len(self.held), self._random(-2))
            self._sets = self._unit(self.pictures[self.held]), self._unit(made)
        return self._sets

    def figures(self) -> Mapping[str, float]:
        """Return the average's area under the curve and mean logits on held pictures, as they are and blurred."""
        return self.history[-1] if self.history else {}

    @torch.no_grad()
    def check(self, loss: float) -> None:
        """Measure the held pictures and note it."""
        row = {"step": float(self.steps), "seconds": self.seconds, "loss": loss}
        for name, side in (("", None), ("_blurred", max(2, self.resolution // HELD_FACTOR))):
            seen = [x if side is None else blurred(x, side) for x in self.sets()]
            real, made = (torch.cat([self.average(part) for part in signed(x).split(32)]).cpu() for x in seen)
            row |= {f"auc{name}": verification(real, made).auc}
            row |= {f"real{name}": float(real.mean()), f"made{name}": float(made.mean())}
        self.history.append(row)

    def identity(self) -> dict[str, Any]:
        return {
            "prior": self.prior.sha256,
            "start": self.start.name,
            "architecture": self.network.arch.to_json(),
            "pictures": len(self.pictures),
            "settings": asdict(self.settings),
        }


def check_pair(prior: Prior, start: Judge) -> None:
    """Raise InputError unless a judge like `start` can be trained for the prior."""
    if not prior.sha256:
        raise InputError(f"the prior {prior.name} was made in memory; write it to a file first, which a judge names")
    if start.resolution > prior.resolution:
        raise InputError(
            f"the judge {start.name} looks at {start.resolution} px, and the prior {prior.name} makes faces of "
            f"{prior.resolution} px; start from a smaller judge (--init)"
        )


def shifted(pictures: Tensor, random: torch.Generator) -> Tensor:
    """Shift each picture (B, 3, s, s) by whole pixels, at most a sixteenth of the side; borders are reflected."""
    side = pictures.shape[-1]
    reach = side // 16
    wide = F.pad(pictures, (reach,) * 4, mode="reflect")
    corners = torch.randint(2 * reach + 1, (len(pictures), 2), generator=random).tolist()
    return torch.stack([one[:, y : y + side, x : x + side] for one, (y, x) in zip(wide, corners, strict=True)])


def blurred(pictures: Tensor, side: int) -> Tensor:
    """Return pictures (B, 3, s, s) as the semantic loss shows them: shrunk to `side` px and enlarged again."""
    degradation = shrinking(side, pictures.shape[-1])
    return degradation.fit(degradation.forward(pictures).clamp(0, 1))


def train_judge(
    prior: Prior,
    data: Sequence[str | Path],
    output: str | Path,
    *,
    start: Judge,
    steps: int | None = None,
    minutes: float | None = None,
    settings: JudgeSettings | None = None,
    licence: str | None = None,
    resume: bool = False,
    save_seconds: float = 300.0,
    on_tick: OnTick = lambda tick: None,
    say: Callable[[str], None] = lambda message: None,
) -> Path:
    """Train a judge for `prior`, on the prior's device, and write it to `output`.

    Beside it stands the folder `output`.train with `checkpoint.pt`, `samples.png` and `log.csv`.

    Args:
        data: folders or zips of faces that stand as the prior's do; every picture's central square is resized.
        start: the judge to start from, which says how large the new one is.
        steps, minutes: the budget in all, calls that were cut off included; one of them is needed.

    Raises TrainingError: there is a checkpoint and no `resume`, no checkpoint and `resume`, one of another run, too few
    pictures, or the loss diverged. InputError: no budget, or a judge that does not fit. OutputError: a file cannot be
    written. MissingDataError: no pictures.
    """
    target = Path(output)
    checkpoint = check_run(target, steps, minutes, resume)
    check_pair(prior, start)
    settings = settings or JudgeSettings()
    sources = open_sources(data)
    say(f"reading {len(sources)} pictures at {start.resolution} px")
    loaded, _ = load_pictures(sources, start.resolution, scratch=checkpoint.with_name("pictures.npy"), warn=say)
    fit = JudgeFit(prior, start, loaded, settings)
    if resume:
        resume_from(checkpoint, fit)
    names = ", ".join(Path(name).name for name in sources.name.split(", "))
    described = {
        "data": f"{len(loaded)} pictures of {names}, and samples of {prior.name}".encode(errors="replace").decode(),
        "licence": licence or f"unknown; the owners of the pictures and of {prior.name} decide",
    }
    train(
        fit,
        target,
        write=lambda folder: _write(fit, target, folder, described),
        batch=settings.batch,
        checks=settings.checks,
        steps=steps,
        minutes=minutes,
        save_seconds=save_seconds,
        on_tick=on_tick,
        say=say,
    )
    return target


def _write(fit: JudgeFit, target: Path, folder: Path, described: Mapping[str, str]) -> None:
    last = fit.figures()
    card = {
        "prior": fit.prior.name,
        "alignment": fit.prior.alignment,
        **described,
        "start": fit.start.name,
        "training": asdict(fit.settings),
        **run_facts(fit, fit.prior.device),
        "samples": fit.painted,
        "held": len(fit.held),
        "figures": {name: round(last[name], 4) for name in FIGURES if name in last},
    }
    write_judge(target, fit.average, fit.prior.sha256, card)
    rows = [part[:8] for part in fit.sets()]
    rows += [blurred(part, max(2, fit.resolution // HELD_FACTOR)) for part in rows]
    write_picture(folder / "samples.png", grid(torch.cat(rows).cpu(), len(rows[0])))
    write_history(folder, ("step", "seconds", "loss", *FIGURES), fit.history)
