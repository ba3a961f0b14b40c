"""Figures of whole sets: pooled NIQE, Frechet distance, and verification against another photograph of each person."""

import math
from collections.abc import Mapping

import torch

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
Gallery = dict[str, tuple[FaceSet, Entry]]  # picture -> another photograph of its person
Galleries = dict[str, Gallery]  # of each data set, by the picture's stem
SetFigures = dict[tuple[str, str, str, str], Estimate]


def gallery_of(faces: FaceSet, gallery: FaceSet | None) -> Gallery:
    """Return, for one picture of each person, another photograph of that person: picture's key stem -> photograph.

    Photographs come from `gallery` and, where it has none of a person, from the set itself; never the picture that was
    shrunk. A person is taken once, by the first picture.
    """
    others: dict[str, list[tuple[FaceSet, Entry]]] = {}
    for source in (gallery, faces) if gallery is not None else (faces,):
        for entry in source:
            if (person := source.person_of(entry)) is not None:
                others.setdefault(person, []).append((source, entry))
    chosen: Gallery = {}
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
    """Return the figures of whole sets for every task and variant whose faces are all there; kept in `sets.csv`."""
    out: SetFigures = {}
    wanted = [m for m in runner.suite.available("set", runner.metrics) if m in runner.metrics]
    matched = [m for m in wanted if METRICS[m].reference == "other photo"]
    for task in runner.tasks:
        gallery = galleries.get(task.dataset, {})
        for name in (TRUTH, *(v.name for v in runner.variants)):
            images = _ready(runner, task, name)
            for metric in wanted:
                if METRICS[metric].reference == "truth" and (name == TRUTH or not task.has_truth):
                    continue
                used = [i for i in images if task.entries[i].stem in gallery] if metric in matched else images
                # One look at the other photographs answers all that is asked of them.
                asked = matched if metric in matched else [metric]
                if len(used) > 1:
                    others = {i: gallery[task.entries[i].stem] for i in used} if metric in matched else {}
                    value = _known(runner, task, name, used, others, asked).get(metric)
                    if value is not None:
                        key = (task.dataset, name, task.factor_text, metric)
                        out[key] = Estimate(value, math.nan, math.nan, len(used))
    return out


def most_at_once(side: int) -> int:
    """Return how many faces of `side` px the memory holds; the first ones of a larger set stand for it."""
    return max(2, MEMORY // (12 * side**2))


def _ready(runner: Runner, task: Task, name: str) -> list[str]:
    """Return the faces of which a result is kept, as many as fit the memory."""
    most = most_at_once(task.degradation.high)
    if name == TRUTH:
        return list(task.entries)[:most] if task.has_truth else []
    return [i for i in task.entries if runner.path(task, name, i).exists()][:most]


def _known(
    runner: Runner, task: Task, name: str, images: list[str], others: Gallery, metrics: list[str]
) -> Mapping[str, float | None]:
    """Return the metrics of a set of faces, measured now unless they were before."""
    key = runner.key(task, name, f"first {len(images)}")
    store = runner.set_records
    asked = [m for m in metrics if m not in store.get(key)]
    if asked:
        truths = None
        if name == TRUTH or any(METRICS[m].reference == "truth" for m in asked):
            truths = torch.stack([task.faces.read(task.entries[i], task.degradation.high) for i in images])
        results = truths if name == TRUTH else None
        if results is None:
            results = torch.stack([read_picture(runner.path(task, name, i)) for i in images])
        photographs = [source.read(entry, GALLERY_SIDE) for source, entry in others.values()]
        try:
            scores = runner.suite.score_set(results, truths, torch.stack(photographs) if photographs else None, asked)
        except LatentfaceError as error:
            runner.remarks[f"`{asked[0]}` at {task.factor_text}x on {task.dataset} is not available: {error}."] = None
            return {}
        store.add({key: {m: scores.get(m, math.nan) for m in asked}})
    return store.get(key)
