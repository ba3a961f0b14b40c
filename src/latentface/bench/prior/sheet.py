"""The picture sheet of `bench prior`: samples, their nearest training faces, inversions, interpolations. It stays in the output folder."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from latentface.bench.core.draws import Places, latents, paint, read_places, sample
from latentface.bench.core.progress import Progress
from latentface.bench.prior.features import SQUEEZE_SIDE, gather
from latentface.bench.prior.quality import nearest
from latentface.bench.prior.study import Study
from latentface.explore.space import drawn
from latentface.io.pictures import read_picture, to_pillow, write_picture

SIDE, GAP, HEAD = 96, 4, 30  # px
SHOWN, NEIGHBOURS, INVERTED, INTERPOLATIONS, BETWEEN = 36, 12, 12, 8, 12
SEEN = 128  # px at most of the samples on the sheet


def in_rows(pictures: Tensor) -> Sequence[Sequence[Tensor]]:
    """Cut pictures (N, 3, S, S) into rows of 12."""
    return [list(row) for row in pictures.split(12)]


def write_prior_sheet(path: Path, study: Study) -> None:
    """Draw the sections below each other, every picture at 96 px. Raises OutputError."""
    kept = {title: rows for title, rows in prior_sections(study).items() if any(rows)}
    columns = max((len(row) for rows in kept.values() for row in rows), default=1)
    height = sum(HEAD + len(rows) * (SIDE + GAP) for rows in kept.values()) + GAP
    sheet = Image.new("RGB", (GAP + columns * (SIDE + GAP), max(height, 1)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    top = 0
    for title, rows in kept.items():
        draw.text((GAP, top + HEAD / 2), title, fill="black", font=font, anchor="lm")
        top += HEAD
        for row in rows:
            for i, picture in enumerate(row):
                face = to_pillow(picture)
                smooth = Image.Resampling.BICUBIC if face.width < SIDE else Image.Resampling.LANCZOS
                sheet.paste(face.resize((SIDE, SIDE), smooth), (GAP + i * (SIDE + GAP), top))
            top += SIDE + GAP
    write_picture(path, sheet, {"latentface": "faces of a prior and of its data: keep it out of publications"})


def prior_sections(study: Study) -> dict[str, Sequence[Sequence[Tensor]]]:
    """Return title -> rows of pictures, (3, S, S) in [0, 1], made from seeds; inversions are the folder's."""
    p, runner, n = study.prior, study.runner, min(SHOWN, study.samples)
    options = {"seed": study.seed, "batch": min(16, study.batch), "side": min(study.side, SEEN)}
    plain, cut = (torch.cat(list(sample(p, n, truncation, **options))) for truncation in (1.0, 0.7))
    sections = {
        "samples at truncation 1, the first seeds": in_rows(plain),
        "samples at truncation 0.7, the same seeds": in_rows(cut),
    }
    if study.train and study.features:
        sections |= _neighbours(study, plain[:NEIGHBOURS])
    for task in runner.tasks:
        variants = runner.variants_of(task)
        shown = [i for i in task.entries if all(runner.path(task, v.name, i).exists() for v in variants)][:INVERTED]
        truths, lows = zip(*(task.load(i) for i in shown), strict=True) if shown else ((), ())
        found = [[read_picture(runner.path(task, v.name, i)) for i in shown] for v in variants]
        names = ", ".join(v.name.removeprefix("invert-") for v in variants)
        if task.factor == 1:
            sections[f"held-out faces, and the nearest found in {names}"] = [truths, *found]
        else:
            title = f"held-out faces, shrunk to {task.degradation.low} px, and enlarged by {names}"
            sections[title] = [truths, lows, *found]
    return {**sections, "interpolations in w": _interpolations(study)}


def _neighbours(study: Study, pictures: Tensor) -> dict[str, Sequence[Sequence[Tensor]]]:
    """Find each sample's nearest face among all training faces."""
    kind = study.features.get("squeezenet") or next(iter(study.features.values()))
    study.on_progress(Progress(f"nearest of {len(study.train)} training faces, by {kind.name}"))
    places: Places = []  # those that can be read
    among = gather(read_places(study.train, study.side, study.batch, places), [kind])[kind.name]
    best = nearest(kind.embed(pictures), among).tolist()
    faces = torch.cat(list(read_places([places[i] for i in best], min(study.side, SEEN), 1)))
    side = f", seen at {SQUEEZE_SIDE} px" if kind.name == "squeezenet" else ""
    title = f"samples, and below the nearest of {len(among)} training faces ({kind.name}{side})"
    return {title: [list(pictures), list(faces)]}


def _interpolations(study: Study) -> list[list[Tensor]]:
    p, side = study.prior, min(study.side, SEEN)
    ends = latents(p, drawn(range(study.seed, study.seed + 2 * INTERPOLATIONS), p.z_dim), 0.7)
    steps = torch.linspace(0, 1, BETWEEN)
    rows = []
    for a, b in ends.view(INTERPOLATIONS, 2, *ends.shape[1:]):
        between = torch.stack([a.lerp(b, float(t)) for t in steps])
        rows.append([face for part in between.split(study.batch) for face in paint(p, part, side)])
    return rows
