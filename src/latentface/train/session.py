"""A training run on disk: checkpoint, prior file, sample sheets, curves; what `latentface train prior` calls."""

import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from latentface.errors import InputError, TrainingError
from latentface.io.pictures import write_picture
from latentface.io.sheets import grid
from latentface.io.sources import open_sources
from latentface.prior.architecture import Architecture
from latentface.prior.formats import read_card, read_prior, write_prior
from latentface.prior.statistics import latent_statistics
from latentface.prior.stylegan2 import Generator
from latentface.train.gan import GanState, GanTrainer, TrainingStep, new_state, settings_from
from latentface.train.grow import grow, grown_architecture
from latentface.train.pictures import load_pictures
from latentface.train.run import (
    OnTick,
    Signals,
    Tick,
    check_run,
    checkpoint_path,
    hardware_of,
    read_checkpoint,
    write_checkpoint,
    write_history,
)
from latentface.train.settings import GanSettings

KEYS = ("architecture", "g_optimiser")  # of a checkpoint
LOGGED = ("pictures", "seconds", "g_loss", "d_loss", "real_sign", "r1", "augment_p")
CURVES = ({"g_loss": "g loss", "d_loss": "d loss"}, {"real_sign": "E[sign D(real)]", "augment_p": "augmentation p"})


def train_prior(
    data: Sequence[str | Path],
    output: str | Path,
    *,
    arch: Architecture | None = None,
    settings: GanSettings | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    pictures: int | None = None,
    minutes: float | None = None,
    device: str | torch.device = "cpu",
    save_seconds: float = 300.0,
    card: Mapping[str, Any] | None = None,
    vision_weights: str | Path | None = None,
    on_tick: OnTick = lambda tick: None,
    say: Callable[[str], None] = lambda message: None,
) -> Path:
    """Train a prior on folders or zips of aligned faces and write it to `output`.

    Beside it stands the folder `output`.train with `checkpoint.pt`, `samples.png`, `log.csv` and, where matplotlib is
    installed, `curves.png`. Under `torchrun` every process calls this function.

    Args:
        data: folders, zips; every picture's central square is resized to the prior's size.
        arch: the networks; with `init` the file's own, or one that `grown_architecture` makes of it.
        init: a published prior: its G and D with fresh optimisers, grown first where `arch` is larger (`train.grow`).
        resume: go on from the checkpoint exactly where it stopped.
        pictures: stop after so many in all; minutes: stop after so long a time. One of them is needed.
        vision_weights: the classifier's file where `settings.vision` is not 0; by default the installed package's.

    SIGINT and SIGTERM end the run after the current step, with everything saved.

    Raises TrainingError: there is a checkpoint and no `resume`, no checkpoint and `resume`, or the losses diverged.
    KeyboardInterrupt: SIGINT came. SystemExit: SIGTERM came. InputError: no budget, or settings that do not fit.
    """
    target = Path(output)
    checkpoint = check_run(target, pictures, minutes, resume, "pictures")
    device, leader = _join(torch.device(device))
    saved = read_checkpoint(checkpoint, "a prior", KEYS) if resume else None
    state = _make_state(arch, settings, init, saved, device, vision_weights)
    resolution = state.generator.arch.resolution
    sources = open_sources(data)
    say(f"reading {len(sources)} pictures at {resolution} px")
    loaded, _ = load_pictures(sources, resolution, scratch=checkpoint.with_name("pictures.npy"), warn=say)
    trainer = GanTrainer(state, loaded, device)
    before = target if resume else init
    inherited = read_card(before) if before is not None and Path(before).exists() else {}
    kept: dict[str, Any] = {k: inherited[k] for k in ("alignment", "licence") if k in inherited}
    description = _description(state, sources.name, len(loaded), device, {**kept, **(card or {})})

    def save() -> None:
        if leader:
            _save(state, target, checkpoint, description)

    start = last_save = time.monotonic()
    first = state.pictures
    shown: TrainingStep | None = None
    with Signals() as signals:
        for shown in trainer.run(pictures=pictures, minutes=minutes, stop=lambda: bool(signals.caught)):
            now = time.monotonic()
            due = now - last_save > save_seconds
            if due:
                _record(state, shown)
                save()
                last_save = now
            if leader and (due or shown.step % 16 == 0):
                on_tick(_tick(shown, first, now - start, pictures, minutes, due))
        if shown is not None:
            _record(state, shown)
        save()
        if dist.is_initialized():
            dist.barrier()
    signals.obey(f"picture {state.pictures}", say)
    return target


def _join(device: torch.device) -> tuple[torch.device, bool]:
    """Join torchrun's process group where there is one; return this process's device and whether it leads."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return device, True
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device, dist.get_rank() == 0


def _make_state(
    arch: Architecture | None,
    settings: GanSettings | None,
    init: str | Path | None,
    saved: dict[str, Any] | None,
    device: torch.device,
    vision_weights: str | Path | None,
) -> GanState:
    if saved is not None:
        its = Architecture(**saved["architecture"])
        if arch is not None and arch != its:
            raise InputError("the checkpoint is of another architecture; leave the architecture's options out")
        state = new_state(its, settings or settings_from(saved["settings"]), device, vision_weights=vision_weights)
        state.load_state_dict(saved)
        return state
    settings = settings or GanSettings()
    if init is None:
        return new_state(arch or Architecture(resolution=128), settings, device, vision_weights=vision_weights)
    generator, discriminator, _, card = read_prior(init)
    if not isinstance(generator, Generator) or discriminator is None:
        raise InputError(
            f"{init}: training goes on from StyleGAN2's generator and its discriminator; name a file of both"
        )
    small = generator.arch
    if arch is not None and arch != small:
        if arch.resolution <= small.resolution or arch != grown_architecture(small, arch.resolution, arch.channels):
            raise InputError(f"{init}: its architecture is not the one asked for; leave the architecture's options out")
        generator, discriminator = grow(generator, discriminator, arch, seed=settings.seed)
    state = new_state(generator.arch, settings, device, (generator, discriminator), vision_weights)
    state.origin = {k: v for k, v in card.items() if k in ("pictures", "hours", "origin")}
    state.origin["resolution"] = small.resolution
    state.inherited_pictures = int(card.get("pictures", 0))
    state.augment_p = float(card.get("augment_p", 0.0))
    return state


def saved_settings(output: str | Path) -> GanSettings:
    """Return the settings of the run whose output is `output`. Raises TrainingError."""
    checkpoint = checkpoint_path(Path(output))
    if not checkpoint.exists():
        raise TrainingError(f"{checkpoint}: there is no checkpoint to resume; start without --resume")
    return settings_from(read_checkpoint(checkpoint, "a prior", KEYS)["settings"])


def _description(
    state: GanState, data: str, count: int, device: torch.device, card: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "alignment": "ffhq",
        "data": f"{count} pictures of {', '.join(Path(d).name for d in data.split(', '))}".encode(
            errors="replace"
        ).decode(),
        "licence": "unknown; the owner of the pictures decides",
        "hardware": hardware_of(device),
        "training": asdict(state.settings),
        **card,
    }


def _save(state: GanState, target: Path, checkpoint: Path, description: Mapping[str, Any]) -> None:
    _require_finite(state)
    write_checkpoint(checkpoint, state.state_dict())
    statistics = latent_statistics(state.average.mapping, state.average.arch.z_dim, 100_000)
    card = {
        **description,
        "date": datetime.date.today().isoformat(),
        "pictures": state.pictures + state.inherited_pictures,
        "hours": round(state.seconds / 3600, 2),
        "augment_p": round(state.augment_p, 4),
        **({"origin": state.origin} if state.origin else {}),
    }
    write_prior(target, state.average, state.discriminator, statistics, card)
    write_picture(checkpoint.parent / "samples.png", grid(samples(state), 8))
    write_history(checkpoint.parent, LOGGED, state.history, CURVES)


def _require_finite(state: GanState) -> None:
    for name in ("generator", "discriminator", "average"):
        for key, value in getattr(state, name).state_dict().items():
            if not bool(torch.isfinite(value).all()):
                raise TrainingError(
                    f"the training diverged at picture {state.pictures} ({name}.{key} is not finite); the last checkpoint is kept, go on from it with a larger gamma or smaller rates"
                )


@torch.no_grad()
def samples(state: GanState, count: int = 64, truncation: float = 0.8) -> Tensor:
    """Return the same `count` faces of the averaged generator each time, (count, 3, R, R) in [0, 1]."""
    device = next(state.average.parameters()).device
    z = torch.randn(count, state.average.arch.z_dim, generator=torch.Generator().manual_seed(7)).to(device)
    return torch.cat([state.average(part, truncation) for part in z.split(16)]).add(1).div(2).clamp(0, 1).cpu()


def _record(state: GanState, shown: TrainingStep) -> None:
    if state.history and state.history[-1]["step"] == shown.step:
        return  # the last step may be due and final
    row = {k: float(v) for k, v in asdict(shown).items() if v is not None}
    state.history.append({**row, "seconds": state.seconds})


def _tick(
    shown: TrainingStep, first: int, seconds: float, pictures: int | None, minutes: float | None, saved: bool
) -> Tick:
    speed = (shown.pictures - first) / max(seconds, 1e-9)
    shares = []
    if pictures is not None:
        shares.append((shown.pictures - first) / max(1, pictures - first))
    if minutes is not None:
        shares.append(seconds / 60 / minutes)
    done = min(1.0, max(shares))
    left = seconds * (1 - done) / max(done, 1e-9)
    return Tick(shown.step, shown.g_loss, speed, done, left, asdict(shown), True, saved)
