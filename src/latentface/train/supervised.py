"""Train a supervised baseline: one trainer for VDSR, ESRGAN (both stages), FSRNet and PMRF, resumable, on a budget.

The rate falls as a cosine to the budget's end. The pixel stage keeps the weights that did best on the held-out pictures;
ESRGAN's GAN stage and PMRF's flow keep their last ones, since by PSNR their first would always win.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from latentface.errors import InputError, MissingDataError, TrainingError
from latentface.io.pictures import write_picture
from latentface.io.sheets import comparison_sheet
from latentface.io.sources import Entry, Pictures, open_sources
from latentface.supervised.blocks import check_factor, enlarge
from latentface.supervised.formats import load_baseline, write_baseline
from latentface.supervised.fsrnet import FsrnetShape
from latentface.supervised.landmarks import NETWORK, LandmarkNet, believed, find_table, read_landmarks
from latentface.supervised.losses import Features
from latentface.supervised.registry import (
    Shape,
    count_parameters,
    kind_named,
    make_shape,
    pmrf_shape,
    title_of,
)
from latentface.train.baseline import STAGES, BaselineFit, Pairs
from latentface.train.pictures import load_pictures
from latentface.train.run import OnTick, check_run, resume_from, run_facts, train, write_history
from latentface.train.settings import SupervisedSettings

OWN_FEATURES = "the features of its own discriminator"


def train_supervised(
    kind: str,
    data: Sequence[str | Path],
    output: str | Path,
    *,
    factor: int,
    resolution: int = 64,
    size: str | Shape = "small",
    stage: str = "pixel",
    steps: int | None = None,
    minutes: float | None = None,
    pairs: int | None = None,
    validation: Sequence[str | Path] | None = None,
    landmarks: str | Path | None = None,
    init: str | Path | None = None,
    features: Features | None = None,
    features_name: str = "",
    settings: SupervisedSettings | None = None,
    resume: bool = False,
    device: str | torch.device = "cpu",
    save_seconds: float = 120.0,
    card: Mapping[str, Any] | None = None,
    on_tick: OnTick = lambda tick: None,
    say: Callable[[str], None] = lambda message: None,
) -> Path:
    """Train "vdsr", "esrgan", "fsrnet" or "pmrf" on folders or zips of aligned faces and write it to `output`.

    Beside it stands the folder `output`.train with `checkpoint.pt`, `samples.png`, `log.csv` and, where matplotlib is
    installed, `curves.png`.

    Args:
        size: "small", "published", or a shape of one's own.
        stage: "pixel", or "gan": ESRGAN's second stage, which starts from the pixel stage's file, `init`. PMRF's is "flow",
            over the file of a trained baseline, `init`, which gives the mean answer and stays as it is.
        steps, minutes: the budget in all, calls that were cut off included; one of them is needed. Minutes count the
            steps alone: reading, validating and saving come on top.
        pairs: train on so many pictures only, the first of an order that the seed decides.
        validation: pictures to choose the weights by; without, 1/20 of `data` (at most 256) is held out.
        landmarks: FSRNet's table of five; without, landmarks.csv beside the data. "68": found by a network, which is
            fetched once; faces where it disagrees with the table, if there is one, stay without.
        features, features_name: the GAN stage's trunk, pictures in [0, 1] -> features, and what the card calls it.

    Raises TrainingError: there is a checkpoint and no `resume`, no checkpoint and `resume`, or the loss diverged.
    InputError: no budget, or options that do not fit. MissingDataError: no pictures or landmarks.
    """
    target = Path(output)
    stage = "flow" if kind == "pmrf" else stage
    _check(kind, factor, resolution, stage, pairs, features)
    checkpoint = check_run(target, steps, minutes, resume)
    settings = settings or SupervisedSettings()
    mean: nn.Module | None = None
    if kind == "pmrf":
        if init is None:
            raise InputError("PMRF stands on the mean answer of a trained baseline; name its file, such as fsrnet's")
        model = load_baseline(init)
        size = pmrf_shape(model.kind, cast(Shape, model.network.shape), size if isinstance(size, str) else "small")
        card = {"mean answer": f"{model.title} ({Path(init).name})", **(card or {})}
        mean, init = model.network, None
    started_from = load_baseline(init) if init is not None and not resume else None
    shape = make_shape(kind, size, factor) if isinstance(size, str) else size
    if isinstance(shape, FsrnetShape):
        shape = replace(shape, landmarks=NETWORK if str(landmarks) == str(NETWORK) else 5)
    if shape.factor != factor:
        raise InputError(f"the networks enlarge {shape.factor} times; expected {factor} times, as was asked for")
    if started_from is not None and (
        started_from.kind != kind or getattr(started_from.network, "shape", None) != shape
    ):
        raise InputError(
            f"{init}: it holds a {started_from.kind} of another shape; expected {kind} at {factor}x of the same size"
        )
    fit = BaselineFit(kind, shape, stage, resolution, settings, torch.device(device))
    if started_from is not None:
        fit.network.load_state_dict(started_from.network.state_dict())
    if mean is not None:
        fit.network.get_submodule("mean").load_state_dict(mean.state_dict())
    if resume:
        resume_from(checkpoint, fit)
    fit.features = features
    fit.learn_from(_load(kind, data, resolution, settings, pairs, validation, landmarks, say))
    trunk = features_name or ("unnamed features" if features else OWN_FEATURES)
    description = _description(fit, size, trunk, card)
    train(
        fit,
        target,
        write=lambda folder: _write(fit, target, folder, description),
        batch=settings.batch,
        checks=settings.checks,
        steps=steps,
        minutes=minutes,
        save_seconds=save_seconds,
        on_tick=on_tick,
        say=say,
    )
    return target


def _check(kind: str, factor: int, resolution: int, stage: str, pairs: int | None, features: Features | None) -> None:
    kind_named(kind)
    check_factor(factor, 2)
    if resolution % factor or resolution // factor < 2:
        raise InputError(f"faces of {resolution} px cannot be shrunk {factor} times to a whole number of at least 2 px")
    if stage not in STAGES:
        raise InputError(f"stage is {stage!r}, expected one of {', '.join(STAGES)}")
    if stage != "pixel" and kind != {"gan": "esrgan", "flow": "pmrf"}[stage]:
        raise InputError(f"{kind} has no second stage; leave the stage out")
    if stage == "gan" and (resolution < 8 or resolution & (resolution - 1)):
        raise InputError(f"the second stage's discriminator needs a power of two from 8 px up, got {resolution} px")
    if features is not None and stage != "gan":
        raise InputError("features are for ESRGAN's second stage; leave them out or train with stage 'gan'")
    if pairs is not None and pairs < 1:
        raise InputError(f"pairs is {pairs}; at least one picture is needed")


def _load(
    kind: str,
    data: Sequence[str | Path],
    resolution: int,
    settings: SupervisedSettings,
    pairs: int | None,
    validation: Sequence[str | Path] | None,
    landmarks: str | Path | None,
    say: Callable[[str], None],
) -> Pairs:
    """Decode the training and the held-out pictures, both taken in an order that the seed decides."""
    sources = open_sources(data)
    order = torch.randperm(len(sources), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    entries = [sources.entries[i] for i in order]
    if validation is None:
        count = min(settings.validation_pictures, max(1, len(entries) // 20))
        if len(entries) < 2:
            raise TrainingError(f"{sources.name}: one picture is too few to train on and to choose by; add some")
        held, entries = Pictures(sources.name, entries[:count]), entries[count:]
    else:
        other = open_sources(validation)
        chosen = torch.randperm(len(other), generator=torch.Generator().manual_seed(settings.seed)).tolist()
        held = Pictures(other.name, [other.entries[i] for i in chosen[: settings.validation_pictures]])
    if pairs is not None:
        if pairs > len(entries):
            raise InputError(f"pairs is {pairs}, but only {len(entries)} pictures are there to train on")
        entries = entries[:pairs]
    table = None
    finder = LandmarkNet.load() if kind == "fsrnet" and str(landmarks) == str(NETWORK) else None
    if kind == "fsrnet":
        table = _table(entries, None if finder else landmarks, needed=finder is None)
    if table is not None:
        read_landmarks(table, entries, resolution)  # before the long decoding: a bad table is known at once
    say(f"reading {len(entries)} pictures and {len(held)} to choose by, at {resolution} px")
    high, kept = load_pictures(Pictures(sources.name, entries), resolution, warn=say)
    held_pictures, _ = load_pictures(held, resolution, warn=say)
    marks = read_landmarks(table, kept.entries, resolution) if table is not None else None
    if finder is not None:
        say(f"finding {NETWORK} landmarks of {len(high)} faces")
        found = finder.find(high)
        marks = found if marks is None else believed(found, marks)
        say(f"known of {int((~marks.isnan().any(2).any(1)).sum())} faces")
    held_name = "held out of the data" if validation is None else _file_names(held.name)
    return Pairs(high, held_pictures, marks, _file_names(sources.name), held_name)


def _table(entries: Sequence[Entry], named: str | Path | None, *, needed: bool) -> Path | None:
    """Return the table of five landmarks; None where there is none and it is not needed. Raises MissingDataError."""
    if named is not None:
        return Path(named)
    try:
        return find_table(entries)
    except MissingDataError:
        if needed:
            raise
        return None


def _file_names(sources: str) -> str:
    return ", ".join(Path(name).name for name in sources.split(", "))


def _description(fit: BaselineFit, size: str | Shape, trunk: str, card: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "title": title_of(fit.kind, fit.shape),
        "size": size if isinstance(size, str) else "own",
        "parameters": count_parameters(fit.network),
        "resolution": fit.resolution,
        "stage": fit.stage,
        "data": f"{len(fit.pairs.high)} pictures of {fit.pairs.name}",
        "validation": f"{len(fit.pairs.held)} pictures {fit.pairs.held_name}",
        "low pictures": "bicubic with antialiasing, no noise",
        **({"perceptual loss": trunk} if fit.stage == "gan" else {}),
        "training": {**asdict(fit.settings), "rate": fit.rate, "schedule": "cosine over the budget"},
        "licence": "unknown; the owner of the pictures decides",
        **(card or {}),
    }


def _write(fit: BaselineFit, target: Path, folder: Path, description: Mapping[str, Any]) -> None:
    card = {
        **description,
        **run_facts(fit, fit.device),
        "pictures": fit.steps * fit.settings.batch,
        "figures": {name: round(value, 4) for name, value in fit.noted.items()},
    }
    write_baseline(target, fit.kind, fit.shape, fit.best or fit.network.state_dict(), card)
    high = fit.pairs.held[:6].to(fit.device).float() / 255
    low = fit.degradation.forward(high).clamp(0, 1)
    columns = {"input": low, "bicubic": enlarge(low, fit.shape.factor), fit.kind: fit.restore(low), "truth": high}
    write_picture(folder / "samples.png", comparison_sheet({k: list(v) for k, v in columns.items()}))
    columns_of_log = ("step", "seconds", "loss", "rate", "psnr", "gain_db")
    write_history(folder, columns_of_log, fit.history, ({"loss": "loss"}, {"gain_db": "PSNR over bicubic, dB"}))
