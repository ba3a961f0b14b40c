"""The page of `bench prior`, and the figures of each group of faces: rows for `groups.csv` and a Markdown table."""

import math
from collections.abc import Sequence
from pathlib import Path

from latentface.bench.core.protocol import provenance
from latentface.bench.core.runner import Runner
from latentface.bench.core.statistics import NOTHING, Estimate, estimate
from latentface.bench.core.variants import title_of
from latentface.bench.prior.groups import EVERYONE, Groups
from latentface.bench.prior.inversion import RATES, InversionSettings
from latentface.bench.prior.looks import Becoming
from latentface.bench.prior.quality import COVERAGE_FACES, DETECTION_SIDE, own_judge
from latentface.bench.prior.study import Study
from latentface.bench.tables.notes import last_lines
from latentface.bench.tables.tables import Row, cell, headed, markdown, value_of, values_of
from latentface.errors import InputError
from latentface.io.atomic import write_text

ROWS = {  # metric of each kind of features -> the line's head
    "frechet-{}": "Frechet distance to the validation faces ↓ ({})",
    "frechet-{}-ratio": "as a ratio to the training faces' (1 is the best to hope for, {})",
    "precision-{}": "precision ↑ ({})",
    "recall-{}": "recall ↑ ({})",
}
LAST_ROWS = {
    "one-face": "exactly one face found ↑",
    "alikeness": "mean identity cosine between faces (lower: more diverse)",
    "separation-samples": "AUC of D's logits, held-out faces against samples (0.5: cannot tell)",
    "separation-training": "AUC of D's logits, training against held-out faces (0.5: has not learnt them by heart)",
}
LEAST = 5  # faces from which a mean says something of a group
FIGURES = {  # variant -> metrics, in the table's order
    "invert-w_plus": ("psnr", "identity", "identity-sface", "lpips-alex", "squeezenet-distance"),
    "rlse": ("identity", "identity-sface", "consistency", "psnr", "lpips-alex"),
}
IN_CARD = ("identity", "identity-sface", "lpips-alex")  # the others stand in prior.md
SMALL = (
    f"Groups of fewer than {LEAST} faces have no figures. Intervals: 95 %, bootstrap over the "
    "group's faces. Identity is the cosine of two recognition networks; how well each knows a group is not known here."
)


def prior_page(
    study: Study, rows: Sequence[Row], groups: Groups | None, becoming: Becoming | None, steps: int
) -> tuple[list[str], list[str]]:
    """Return the parts of prior.md and the lines under them; without `groups` where nothing was inverted."""
    runner = study.runner
    parts = [f"## The prior {study.prior.name}", _quality(study, rows)]
    lines = _notes(study, steps)
    if runner.tasks:
        names = [v.name for v in runner.variants_of(runner.tasks[0])]
        metrics = [m for m in runner.metrics if any(r.metric == m and r.value.n for r in rows if r.method in names)]
        cells = {n: [cell(value_of(rows, study.dataset, n, "1", m), m) for m in metrics] for n in names}
        body = [[name.removeprefix("invert-"), *figures] for name, figures in cells.items()]
        parts.append(markdown(["nearest face found in", *map(headed, metrics)], body))
    by_group = group_markdown(groups, group_rows(groups, runner)) if groups is not None else ""
    if groups is not None and by_group:
        parts += ["### By group of people", by_group]
        lines += [*groups.notes, SMALL]
    if becoming is not None:
        parts += becoming.parts
        lines += becoming.notes
    return parts, [*lines, f"Device {runner.protocol.device}.", *last_lines(runner)]


def groups_page(study: Study, groups: Groups | None, becoming: Becoming | None) -> str:
    """Return the tables by group and what they mean, for a model card."""
    if groups is None or becoming is None:
        return "Nothing was measured by group."
    runner = study.runner
    searches = [f"{t.factor_text}x from {t.degradation.low} px" for t in runner.tasks[1:]]
    lines = [
        f"{study.dataset}: {len(runner.tasks[0].entries)} faces at {study.side} px"
        + (f"; RLSE at {', '.join(searches)}, not projected." if searches else "."),
        *groups.notes,
        SMALL,
        *becoming.notes,
        provenance(runner.command),
    ]
    by_group = group_markdown(groups, [r for r in group_rows(groups, runner) if r.metric in IN_CARD])
    parts = [without_empty_lines(part) for part in (by_group, *becoming.parts)]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in lines)])


def without_empty_lines(table: str) -> str:
    """Return a Markdown table without the groups that have no figure; other text as it is."""
    lines = table.splitlines()
    return "\n".join(
        line for line in lines if not line.startswith("|") or any(c.strip() for c in line.split("|")[3:-1])
    )


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- groups: {name} -->", f"<!-- end of groups: {name} -->"


def check_marks(page: Path, name: str) -> str:
    """Return a Markdown file's text. Raises InputError: it lacks the pair of lines between which tables are written."""
    first, last = _marks(name)
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{page}: it cannot be read ({error})") from None
    if not 0 <= text.find(first) < text.find(last):
        raise InputError(
            f"{page}: there is no place for these tables; write the lines {first} and {last} where they go"
        )
    return text


def write_between_marks(page: Path, name: str, tables: str) -> None:
    """Replace what stands between a data set's pair of lines in a Markdown file. Raises InputError, OutputError."""
    first, last = _marks(name)
    text = check_marks(page, name)
    before, after = text[: text.find(first) + len(first)], text[text.find(last) :]
    write_text(page, f"{before}\n\n{tables}\n\n{after}")


def _quality(study: Study, rows: Sequence[Row]) -> str:
    searches = {v.name for v in study.runner.variants}
    columns = list(dict.fromkeys(r.method for r in rows if r.method not in searches))
    found = {(r.method, r.metric): r.value for r in rows}
    titles = {m.format(kind): title.format(kind) for kind in study.features for m, title in ROWS.items()}
    titles |= ({"": "Frechet distance (inception)"} if "inception" in study.missing else {}) | LAST_ROWS
    lines = []
    for metric, title in titles.items():
        values = [found.get((c, metric), NOTHING) for c in columns]
        if any(v.n for v in values) or not metric:
            lines.append([title, *(cell(v, metric) if v.n else "" for v in values)])
    return markdown(["", *columns], lines)


def _notes(study: Study, steps: int) -> list[str]:
    p, runner, protocol = study.prior, study.runner, study.runner.protocol
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
        *(f"`{name}` features are not available: {reason}." for name, reason in study.missing.items()),
    ]
    if own_judge(p) is None:
        out.append("What D tells apart is not measured: the prior has no discriminator of its own.")
    if runner.tasks:
        fixed = InversionSettings()
        spaces = [v.settings.space for v in runner.variants_of(runner.tasks[0])]
        rates = ", ".join(f"{RATES[space]:g} in {space}" for space in spaces)
        out.append(
            f"Inversions: {len(runner.tasks[0].entries)} held-out faces at {study.side} px, {steps} evaluations of the mean square, {100 * fixed.first:g} % by Adam (rate {rates}, half a cosine) "
            f"and the rest by L-BFGS ({fixed.memory} pairs), from the mean w (z: from the best of {fixed.candidates} draws), unconstrained, w_plus as one w for the first {100 * fixed.together:g} % of Adam's; PSNR over RGB, SSIM on Y; intervals: 95 %, bootstrap over faces."
        )
    for task in runner.tasks[1:]:
        out.append(
            f"RLSE at {task.factor_text}x: the same faces, shrunk to {task.degradation.low} px ({protocol.kernel}, rounded to 8 bits), "
            f"preset {protocol.preset}, seed {protocol.seed}, each face searched from {protocol.seeds}, not projected; {protocol.searched}its figures over all faces stand in prior.csv."
        )
    return out


def group_rows(groups: Groups, runner: Runner) -> list[Row]:
    """Return the rows of `groups.csv`, as method `VARIANT, GROUP`; below `LEAST` faces only their number."""
    rows = []
    for task in runner.tasks:
        for variant in runner.variants_of(task):
            for metric in FIGURES.get(variant.name, ()):
                for group, images in groups.members.items():
                    values = values_of(runner.records, task.dataset, variant.name, task.factor_text, metric, images)
                    found = estimate(values)
                    if 0 < found.n < LEAST:
                        found = Estimate(math.nan, math.nan, math.nan, found.n)
                    method, factor = f"{variant.name}, {group}", task.factor_text
                    rows.append(Row(dataset=task.dataset, method=method, factor=factor, metric=metric, value=found))
    return rows


def group_markdown(groups: Groups, rows: Sequence[Row]) -> str:
    """Return a line a group, a column a method's metric; "" where there is no figure."""
    found = {(r.method, r.metric): r for r in rows}
    columns = [
        (variant, metric, row.factor)
        for variant, metrics in FIGURES.items()
        for metric in metrics
        if (row := found.get((f"{variant}, {EVERYONE}", metric))) is not None
    ]
    if not columns:
        return ""
    titles = {"invert-w_plus": "inversion in w_plus"}
    heads = [f"{titles.get(v, title_of(v))}{f' {f}x' if f != '1' else ''}: {headed(m)}" for v, m, f in columns]
    lines = [
        [group, str(len(images)), *(_cell(found[f"{v}, {group}", m].value, m, len(images)) for v, m, _ in columns)]
        for group, images in groups.members.items()
    ]
    lines += [[f"{trait}: cannot be told", *[""] * (len(columns) + 1)] for trait in groups.untold]
    return markdown(["group", "n", *heads], lines)


def _cell(value: Estimate, metric: str, faces: int) -> str:
    return "" if faces < LEAST or 0 < value.n < LEAST else cell(value, metric)
