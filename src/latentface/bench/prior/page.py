"""The page and the sheet's sections of `bench prior`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentface.bench.core.draws import Places, latents, paint, read_places, sample
from latentface.bench.core.progress import Progress
from latentface.bench.core.protocol import Protocol, provenance
from latentface.bench.core.records import factor_text
from latentface.bench.core.runner import Runner
from latentface.bench.core.statistics import NOTHING
from latentface.bench.prior.features import SQUEEZE_SIDE, gather
from latentface.bench.prior.group_table import GroupTable
from latentface.bench.prior.inversion import RATES, InversionSettings
from latentface.bench.prior.quality import COVERAGE_FACES, DETECTION_SIDE, nearest, own_judge
from latentface.bench.prior.sheet import Section, in_rows
from latentface.bench.report.notes import NOTICE
from latentface.bench.tables.tables import Row, cell, value_of
from latentface.explore.space import drawn
from latentface.io.pictures import read_picture

if TYPE_CHECKING:
    from latentface.bench.prior.run import Study

SHOWN, NEIGHBOURS, INVERTED, INTERPOLATIONS, BETWEEN = 36, 12, 12, 8, 12
SEEN = 128  # px at most of the samples on the sheet
ROWS = {
    "frechet": "Frechet distance to the validation faces ↓",
    "precision": "precision ↑",
    "recall": "recall ↑",
}


def prior_page(
    study: Study,
    runner: Runner,
    protocol: Protocol,
    rows: Sequence[Row],
    by_group: GroupTable | None,
    missing: dict[str, str],
    steps: int,
    command: str,
) -> str:
    """Return prior.md; without `by_group` where nothing was inverted."""
    searches = {v.name for v in runner.variants}
    columns = list(dict.fromkeys(r.method for r in rows if r.method not in searches))
    found = {(r.method, r.metric): r.value for r in rows}
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]

    def add(title: str, metric: str) -> None:
        values = [found.get((c, metric), NOTHING) for c in columns]
        if any(v.n for v in values):
            lines.append(f"| {title} | " + " | ".join(cell(v, metric) if v.n else "" for v in values) + " |")

    for name in study.features:
        for metric, title in ROWS.items():
            add(f"{title} ({name})", f"{metric}-{name}")
            if metric == "frechet":
                add(f"as a ratio to the training faces' (1 is the best to hope for, {name})", f"frechet-{name}-ratio")
    lines.append("| Frechet distance (inception) |" + " |" * len(columns) if "inception" in missing else "")
    add("exactly one face found ↑", "one-face")
    add("mean identity cosine between faces (lower: more diverse)", "alikeness")
    add("AUC of D's logits, held-out faces against samples (0.5: cannot tell)", "separation-samples")
    add("AUC of D's logits, training against held-out faces (0.5: has not learnt them by heart)", "separation-training")
    parts = [f"## The prior {study.prior.name}", "\n".join(line for line in lines if line)]
    if runner.tasks:
        parts.append("\n".join(_inversions(rows, runner, study.dataset)))
    notes = _notes(study, runner, protocol, missing, steps)
    if by_group is not None and by_group.markdown:
        parts += ["### By group of people", by_group.markdown]
        notes += by_group.notes
    notes += [*runner.remarks, f"Device {protocol.device}.", provenance(command), NOTICE]
    parts.append("\n".join(f"- {line}" for line in notes))
    return "\n\n".join(parts) + "\n"


def _inversions(rows: Sequence[Row], runner: Runner, dataset: str) -> list[str]:
    variants = runner.variants_of(runner.tasks[0])
    names = {v.name for v in variants}
    metrics = [m for m in runner.metrics if any(r.metric == m and r.value.n for r in rows if r.method in names)]
    out = ["| nearest face found in | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for variant in variants:
        cells = [cell(value_of(rows, dataset, variant.name, "1", m), m) for m in metrics]
        out.append(f"| {variant.name.removeprefix('invert-')} | " + " | ".join(cells) + " |")
    return out


def _notes(study: Study, runner: Runner, protocol: Protocol, missing: dict[str, str], steps: int) -> list[str]:
    p = study.prior
    shrunk = (
        "" if p.resolution == study.side else f"samples shrunk by area to {study.side} px, the size of the comparison, "
    )
    out = [
        f"Prior {p.name} ({p.sha256[:12] or 'unsaved'}), {p.resolution} px, {shrunk}{p.card.get('pictures', 'an unknown number of')} pictures shown in training.",
        f"{study.dataset}: {len(study.held)} held-out faces; {len(study.train)} training faces"
        + (f", of which {study.size('training faces')} take part in the distances." if study.train else "."),
        f"{study.samples} samples of each truncation, seeds {study.seed} to {study.seed + study.samples - 1}, constant noise maps, everything rounded to 8 bits. "
        "A Frechet distance falls with the number of faces: compare equal counts.",
        *(
            f"`{f.name}` features: {f.description}; a Frechet distance on them is not FID."
            for f in study.features.values()
        ),
        f"Precision and recall (Kynkaanniemi 2019, k = 3) on at most {COVERAGE_FACES} faces of each set.",
        f"Faces are looked for by CenterFace (threshold 0.5) on pictures brought bicubically to {DETECTION_SIDE} px; Wilson's 95 % interval.",
        *(
            []
            if own_judge(p) is not None
            else ["What D tells apart is not measured: the prior has no discriminator of its own."]
        ),
        *(f"`{name}` features are not available: {reason}." for name, reason in missing.items()),
        *(f"`{name}` is not available: {reason}." for name, reason in runner.suite.missing.items()),
        *(f"{name} is not available: {reason}." for (_, _, name), reason in runner.unavailable.items()),
    ]
    if runner.tasks:
        fixed = InversionSettings()
        rates = ", ".join(f"{rate:g} in {space}" for space, rate in RATES.items())
        out.append(
            f"Inversions: {len(runner.tasks[0].entries)} held-out faces at {study.side} px, {steps} evaluations of the mean square, {100 * fixed.first:g} % by Adam (rate {rates}, half a cosine) "
            f"and the rest by L-BFGS ({fixed.memory} pairs), from the mean w (z: from the best of {fixed.candidates} draws), unconstrained, w_plus as one w for the first {100 * fixed.together:g} % of Adam's; PSNR over RGB, SSIM on Y; intervals: 95 %, bootstrap over faces."
        )
    for task in runner.tasks[1:]:
        out.append(
            f"RLSE at {factor_text(task.factor)}x: the same faces, shrunk to {task.degradation.low} px ({protocol.kernel}, rounded to 8 bits), "
            f"preset {protocol.preset}, seed {protocol.seed}, not projected; {protocol.searched}its figures over all faces stand in prior.csv."
        )
    return out


def prior_sections(study: Study, runner: Runner) -> list[Section]:
    """Return what the sheet shows; all of it is made anew from seeds but for the inversions, which lie in the folder."""
    p, n = study.prior, min(SHOWN, study.samples)
    options = {"seed": study.seed, "batch": min(16, study.batch), "side": min(study.side, SEEN)}
    plain, cut = (torch.cat(list(sample(p, n, truncation, **options))) for truncation in (1.0, 0.7))
    sections = [
        Section("samples at truncation 1, the first seeds", in_rows(list(plain))),
        Section("samples at truncation 0.7, the same seeds", in_rows(list(cut))),
    ]
    if study.train and study.features:
        sections.append(_neighbours(study, plain[:NEIGHBOURS]))
    for task in runner.tasks:
        variants = runner.variants_of(task)
        shown = [i for i in task.entries if all(runner.path(task, v.name, i).exists() for v in variants)][:INVERTED]
        truths, lows = zip(*(task.load(i) for i in shown), strict=True) if shown else ((), ())
        found = [[read_picture(runner.path(task, v.name, i)) for i in shown] for v in variants]
        names = ", ".join(v.name.removeprefix("invert-") for v in variants)
        if task.factor == 1:
            sections.append(Section(f"held-out faces, and the nearest found in {names}", [truths, *found]))
        else:
            title = f"held-out faces, shrunk to {task.degradation.low} px, and enlarged by {names}"
            sections.append(Section(title, [truths, lows, *found]))
    sections.append(Section("interpolations in w", _interpolations(study)))
    return sections


def _neighbours(study: Study, pictures: Tensor) -> Section:
    """Find each sample's nearest face among all training faces."""
    kind = study.features.get("squeezenet") or next(iter(study.features.values()))
    study.on_progress(Progress(f"nearest of {len(study.train)} training faces, by {kind.name}"))
    places: Places = []  # those that can be read
    among = gather(read_places(study.train, study.side, study.batch, places), [kind])[kind.name]
    best = nearest(kind.embed(pictures), among).tolist()
    faces = torch.cat(list(read_places([places[i] for i in best], min(study.side, SEEN), 1)))
    side = f", seen at {SQUEEZE_SIDE} px" if kind.name == "squeezenet" else ""
    return Section(
        f"samples, and below the nearest of {len(among)} training faces ({kind.name}{side})",
        [list(pictures), list(faces)],
    )


def _interpolations(study: Study) -> list[list[Tensor]]:
    p, side = study.prior, min(study.side, SEEN)
    ends = latents(p, drawn(range(study.seed, study.seed + 2 * INTERPOLATIONS), p.z_dim), 0.7)
    steps = torch.linspace(0, 1, BETWEEN)
    rows = []
    for a, b in ends.view(INTERPOLATIONS, 2, *ends.shape[1:]):
        between = torch.stack([a.lerp(b, float(t)) for t in steps])
        rows.append([face for part in between.split(study.batch) for face in paint(p, part, side)])
    return rows
