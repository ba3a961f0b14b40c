"""Figures of whole sets: pooled NIQE, Frechet distance, and verification against another photograph of each person."""

from __future__ import annotations

import torch
from torch import Tensor

from latentface.bench.core.records import Key
from latentface.bench.core.runner import Runner
from latentface.bench.core.statistics import Estimate
from latentface.bench.core.tasks import Task
from latentface.bench.core.variants import TRUTH
from latentface.datasets import FaceSet
from latentface.errors import LatentfaceError
from latentface.io.pictures import read_picture
from latentface.io.sources import Entry
from latentface.metrics.registry import METRICS

MEMORY = 1 << 30  # bytes of pictures that are held at once
GALLERY_SIDE = 128  # px of the other photographs
Galleries = dict[str, dict[str, tuple[FaceSet, Entry]]]  # data set -> picture's stem -> another photograph
SetFigures = dict[tuple[str, str, str, str], Estimate]


def gallery_of(faces: FaceSet, gallery: FaceSet | None) -> dict[str, tuple[FaceSet, Entry]]:
    """Return, for one picture of each person, another photograph of that person: picture's key stem -> photograph.

    Photographs come from `gallery` and, where it has none of a person, from the set itself; never the picture that was
    shrunk. A person is taken once, by the first picture.
    """
    others: dict[str, list[tuple[FaceSet, Entry]]] = {}
    for source in (gallery, faces):
        for entry in source or ():
            person = source.person_of(entry) if source else None
            if source is not None and person is not None:
                others.setdefault(person, []).append((source, entry))
    chosen: dict[str, tuple[FaceSet, Entry]] = {}
    seen: set[str] = set()
    for entry in faces:
        person = faces.person_of(entry)
        if person is None or person in seen:
            continue
        other = next((o for o in others.get(person, []) if o[1].stem != entry.stem), None)
        if other is not None:
            seen.add(person)
            chosen[entry.stem] = other
    return chosen


def set_figures(runner: Runner, galleries: Galleries) -> SetFigures:
    """Return the figures of whole sets for every task and variant whose faces are all there.

    They are kept in `sets.csv`, so that a second run does not compute them again.

    Args:
        galleries: data set -> `gallery_of` it.
    """
    out: SetFigures = {}
    for task in runner.tasks:
        for name in (TRUTH, *(v.name for v in runner.variants)):
            images = _ready(runner, task, name)
            if len(images) < 2:
                continue
            for metric in runner.metrics:
                if METRICS[metric].scope == "set":
                    gallery = galleries.get(task.dataset, {})
                    used = [i for i in images if task.entries[i].stem in gallery] if _needs_gallery(metric) else images
                    out |= _figure(runner, task, name, metric, used, gallery)
    return out


def most_at_once(side: int) -> int:
    """Return how many faces of `side` px the memory holds; the first ones of a larger set stand for it."""
    return max(2, MEMORY // (12 * side**2))


def _needs_gallery(metric: str) -> bool:
    return METRICS[metric].reference == "other photo"


def _ready(runner: Runner, task: Task, name: str) -> list[str]:
    """Return the faces of which a result is kept, as many as fit the memory."""
    most = most_at_once(task.degradation.high)
    images = list(task.entries)
    if name == TRUTH:
        return images[:most] if task.has_truth else []
    return [i for i in images if runner.path(task, name, i).exists()][:most]


def _figure(
    runner: Runner, task: Task, name: str, metric: str, images: list[str], gallery: dict[str, tuple[FaceSet, Entry]]
) -> SetFigures:
    needs_truth = METRICS[metric].reference == "truth"
    if metric not in runner.suite.available("set") or len(images) < 2 or (needs_truth and not task.has_truth):
        return {}
    if name == TRUTH and needs_truth:
        return {}
    dataset, _, factor, _ = runner.key(task, name, "")
    store = runner.set_records
    key: Key = (dataset, name, factor, f"first {len(images)}")
    if metric not in store.get(key):
        # One look at the other photographs answers all that is asked of them.
        asked = [m for m in runner.metrics if _needs_gallery(m)] if _needs_gallery(metric) else [metric]
        asked = [m for m in asked if m not in store.get(key)]
        truths = _truths(task, images) if needs_truth or name == TRUTH else None
        results = truths if name == TRUTH else _results(runner, task, name, images)
        assert results is not None
        others = None
        if _needs_gallery(metric):
            pairs = [gallery[task.entries[i].stem] for i in images]
            others = torch.stack([source.read(entry, GALLERY_SIDE) for source, entry in pairs])
        try:
            scores = runner.suite.score_set(results, truths, others, asked)
        except LatentfaceError as error:
            runner.remark(f"`{metric}` at {factor}x on {dataset} is not available: {error}.")
            return {}
        store.add({key: {m: scores.get(m, float("nan")) for m in asked}})
    value = store.get(key)[metric]
    nan = float("nan")
    return {} if value is None else {(dataset, name, factor, metric): Estimate(value, nan, nan, len(images))}


def _truths(task: Task, images: list[str]) -> Tensor:
    return torch.stack([task.faces.read(task.entries[i], task.degradation.high) for i in images])


def _results(runner: Runner, task: Task, name: str, images: list[str]) -> Tensor:
    return torch.stack([read_picture(runner.path(task, name, i)) for i in images])
