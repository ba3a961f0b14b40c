"""Score a folder of results against the truth, matched by the files' stems: `latentface evaluate RESULTS --against TRUTH`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentface.bench.core.progress import OnProgress, Progress, quiet
from latentface.bench.core.runner import check_metrics
from latentface.bench.core.sets import most_at_once
from latentface.bench.core.sizes import by_area
from latentface.bench.core.statistics import Estimate, estimate
from latentface.bench.core.tasks import to_8_bit
from latentface.datasets import FaceSet, open_faces
from latentface.errors import InputError, LatentfaceError, PictureError
from latentface.io.pictures import read_picture
from latentface.io.sources import Entry, open_source, read_entry
from latentface.metrics.registry import METRICS
from latentface.metrics.suite import Suite

METRIC_NAMES = (
    "psnr",
    "psnr-y",
    "ssim",
    "lpips-alex",
    "lpips-vgg",
    "squeezenet-distance",
    "niqe",
    "niqe-pooled",
    "identity",
    "identity-sface",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        scores: metric -> mean over the faces with its 95 % interval (pooled figures have none); n is in it.
        faces: stem -> metric -> figure.
        problems: one line each: missing truth, stray files, sizes that differ, metrics not at hand.
    """

    scores: dict[str, Estimate]
    faces: dict[str, dict[str, float]]
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; a figure that is not there is null."""

        def number(value: float) -> float | None:
            return value if np.isfinite(value) else None

        return {
            "scores": {
                name: {"mean": number(s.mean), "ci_low": number(s.low), "ci_high": number(s.high), "n": s.n}
                for name, s in self.scores.items()
            },
            "faces": {stem: {m: number(v) for m, v in row.items()} for stem, row in self.faces.items()},
            "problems": self.problems,
        }


def evaluate(
    results: str | Path,
    truth: str | Path,
    metrics: Sequence[str] | None = None,
    *,
    high_size: int | None = None,
    device: str = "cpu",
    fetch: bool = True,
    on_progress: OnProgress = quiet,
) -> Evaluation:
    """Score the pictures of `results` against those of `truth` with the same stem.

    Raises UnknownNameError: a metric does not exist. MissingDataError: a source does not exist or is empty. InputError:
    a metric needs more than a result and its truth, stems stand for several files, nothing matches, or the high size is
    below 2 px.

    Args:
        results: a folder, zip or picture; truth: the same, or a named data set (`celeba:PATH#test`), whose crop is then
            brought to each result's size; of plain sources the sizes must agree.
        metrics: names; None: the usual ones.
        high_size: px at which everything is compared: larger square results are shrunk to it by area, as the tables do
            it, and truths brought to it as the tables bring theirs; None: each result at its own size.
    """
    wanted = check_metrics(metrics, METRIC_NAMES)
    for name in wanted:
        metric = METRICS[name]
        if metric.scope == "run" or metric.reference in ("input", "other photo") or name == "null-space":
            raise InputError(
                f"the metric {name!r} needs more than a result and its truth; it is measured by `latentface bench table1`"
            )
    if high_size is not None and high_size < 2:
        raise InputError(f"the high size is {high_size} px; expected at least 2")
    found = _by_stem(open_source(results), str(results))
    faces = open_faces(truth)
    truths = _by_stem(faces, str(truth))
    problems = [
        f"{entry.label}: no truth has the stem {stem!r}; left out"
        for stem, entry in found.items()
        if stem not in truths
    ]
    if lacking := [stem for stem in truths if stem not in found]:
        some = ", ".join([*lacking[:3], *["..."] * (len(lacking) > 3)])
        problems.append(f"{len(lacking)} of {len(truths)} truths have no result ({some})")
    shared = [stem for stem in found if stem in truths]
    if not shared:
        raise InputError(
            f"no file of {results} has the stem of one of {truth}; results are matched by name, as 0001.png with 0001.jpg"
        )
    suite = Suite(wanted, device=device, fetch=fetch)
    problems += [f"the metric {name} is not at hand: {reason}" for name, reason in suite.missing.items()]
    rows: dict[str, dict[str, float]] = {}
    kept: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]] = {}
    pooled = suite.available("set")
    for done, stem in enumerate(shared):
        try:
            result, target = _pair(faces, truths[stem], found[stem], high_size)
            scores = suite.score(result[None], target[None])
        except LatentfaceError as error:
            problems.append(f"{error}; left out")
            continue
        rows[stem] = {name: values[0] for name, values in scores.items()}
        same = kept.setdefault(tuple(result.shape), []) if pooled else []
        if pooled and len(same) < most_at_once(result.shape[-1]):
            same.append((result, target))
        on_progress(Progress(stem, done + 1, len(shared)))
    if not rows:
        raise InputError(f"not one of {len(shared)} pairs could be scored; the first: {problems[-1]}")
    per_image = {n: estimate(np.array([row.get(n, np.nan) for row in rows.values()])) for n in wanted}
    return Evaluation(
        scores=per_image | (_pooled(suite, kept, problems) if pooled else {}), faces=rows, problems=problems
    )


def _pair(faces: FaceSet, truth: Entry, found: Entry, side: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a result and its truth (3, H, W) at one size, as `evaluate` says. Raises PictureError."""
    result = read_picture(read_entry(found), found.label)
    if side is not None:
        height, width = result.shape[-2:]
        if height != width or height < side:
            raise PictureError(
                f"{found.label}: it is {width} x {height} px, expected a square of at least {side} px; use a smaller --high-size"
            )
        result = result if height == side else to_8_bit(by_area(result[None], side)[0])  # as a table keeps it
        target = faces.read(truth, side)
    elif faces.crop.box is not None and result.shape[1] == result.shape[2]:
        target = faces.read(truth, result.shape[1])
    else:
        target = read_picture(read_entry(truth), truth.label)
    if result.shape != target.shape:
        raise PictureError(
            f"{found.label}: it is {result.shape[2]} x {result.shape[1]} px, its truth {target.shape[2]} x "
            f"{target.shape[1]}; resize one of them first, or compare both at one size with --high-size"
        )
    return result, target


def _by_stem(entries: Iterable[Entry], source: str) -> dict[str, Entry]:
    found = list(entries)
    counts = Counter(entry.stem for entry in found)
    if twice := [stem for stem, count in counts.items() if count > 1]:
        raise InputError(
            f"{source}: {len(twice)} stems stand for several pictures ({twice[0]!r}); give them names of their own"
        )
    return {entry.stem: entry for entry in found}


def _pooled(
    suite: Suite, kept: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]], problems: list[str]
) -> dict[str, Estimate]:
    if len(kept) > 1:
        problems.append(f"the results have {len(kept)} different sizes; figures of the whole set need one size")
        return {}
    results, truths = (torch.stack(pictures) for pictures in zip(*next(iter(kept.values())), strict=True))
    try:
        if len(results) < 2:
            raise InputError("figures of the whole set need at least 2 faces")
        scores = suite.score_set(results, truths)
    except LatentfaceError as error:
        problems.append(str(error))
        return {}
    return {name: Estimate(value, np.nan, np.nan, len(results)) for name, value in scores.items()}
