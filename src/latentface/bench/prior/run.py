"""What a prior is worth: `latentface bench prior`. Every figure of a model card comes from here.

Parts: distances and coverage along a truncation curve, faces found, diversity, what D tells apart, invertibility, and
inversions and RLSE by group of people, and what a face of each group becomes. A finished part stands in `sets.csv` (sets), `per_image.csv` (inversions and RLSE)
or `traits.csv` (what faces look like), and is not measured again.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median_low
from typing import Any

from latentface.bench.core.progress import Progress
from latentface.bench.core.protocol import origin
from latentface.bench.core.records import Records
from latentface.bench.core.runner import Runner
from latentface.bench.core.settings import RunSettings
from latentface.bench.core.setup import MEANT_FOR, open_prior
from latentface.bench.core.sizes import high_side
from latentface.bench.core.statistics import Estimate
from latentface.bench.core.tasks import Task, low_side, square_side, task_with_truth
from latentface.bench.core.variants import Variant, make_variant
from latentface.bench.prior import quality
from latentface.bench.prior.groups import Groups, tell_groups
from latentface.bench.prior.inversion import inversions
from latentface.bench.prior.looks import Becoming, look_at_all
from latentface.bench.prior.page import check_marks, group_rows, groups_page, prior_page, write_between_marks
from latentface.bench.prior.settings import PriorSettings
from latentface.bench.prior.sheet import write_prior_sheet
from latentface.bench.prior.study import VALIDATION, Study, measure_judge, measure_samples, samples_at, study_rows
from latentface.bench.tables.tables import Row, aggregate, write_rows, write_table
from latentface.datasets import FaceSet, open_faces
from latentface.errors import InputError, PictureError
from latentface.io.atomic import check_folder
from latentface.prior.formats import write_figures
from latentface.prior.prior import Prior

METRIC_NAMES = (
    "psnr",
    "ssim",
    "identity",
    "identity-sface",
    "lpips-alex",
    "lpips-vgg",
    "squeezenet-distance",
    "seconds",
)
# How many, where nobody says: with priors of up to 256 px, and with larger ones, of which a pass takes seconds on a CPU.
COUNTS = {"samples": (5000, 1000), "inversions": (100, 16), "steps": (500, 100), "detections": (500, 200)}
LOOKED_AT = 16  # pictures of a set that say how large its faces are


def run_prior(table: PriorSettings, run: RunSettings) -> Path:
    """Write prior.csv, groups.csv, becomes.csv, prior.md and prior.png; return prior.md. Raises LatentfaceError as `run_table1`."""
    faces = open_faces(table.high)
    prior = open_prior(table.prior, run.device, fetch=not run.no_fetch)
    usual = {name: pair[prior.resolution > MEANT_FOR] for name, pair in COUNTS.items()}
    samples, inverted, steps, detections = (
        usual[name] if asked is None else asked
        for name, asked in zip(COUNTS, (table.samples, table.inversions, table.steps, table.detections), strict=True)
    )
    if samples < 2 or inverted < 0 or detections < 0:
        raise InputError(
            f"got {samples} samples, {inverted} inversions, {detections} detections; expected at least 2, 0 and 0"
        )
    if not table.truncations or min(table.truncations) <= 0:
        raise InputError(f"the truncations are {list(table.truncations)}; expected positive numbers such as 0.5,0.7,1")
    asked = min(prior.resolution, data_side(faces)) if table.high_size is None else table.high_size
    side = high_side(prior, asked)
    card = check_card(prior) if table.into_card else None
    if table.into_page is not None:
        check_marks(table.into_page, faces.name)
    tasks, variants = _searches(faces, side, inverted, steps, table)
    wanted = [*METRIC_NAMES, *["consistency"] * (len(tasks) > 1)]
    runner = Runner(table, run, prior, side, tasks, variants, wanted)
    study = Study(table, runner, samples, detections, fetch=not run.no_fetch)
    groups: Groups | None = None
    becoming: Becoming | None = None
    traits = Records(runner.folder / "traits.csv")
    if tasks:
        groups = tell_groups(tasks[0], prior.alignment, traits, table.attributes, run.on_progress)
    measure_samples(study)
    if quality.own_judge(prior) is not None:
        measure_judge(study)
    runner.run()
    rows = study_rows(study)
    for task in tasks:  # where nothing was shrunk, consistency is PSNR once more
        told = [m for m in runner.metrics if m != "consistency" or task.factor > 1]
        rows += aggregate(runner.records, [task], [v.name for v in runner.variants_of(task)], told)
    if groups is not None:
        becoming = look_at_all(study, traits, fetch=not run.no_fetch)
        apparent = {name: images for name, images in becoming.members.items() if name.startswith("apparent")}
        groups = replace(groups, members={**groups.members, **apparent})
        write_rows(runner.folder / "groups.csv", group_rows(groups, runner))
        write_rows(runner.folder / "becomes.csv", becoming.rows)
    run.on_progress(Progress("drawing the sheet"))
    write_prior_sheet(runner.folder / "prior.png", study)
    parts, lines = prior_page(study, rows, groups, becoming, steps)
    target = write_table(runner.folder, "prior", rows, parts, lines)
    if table.into_page is not None:
        write_between_marks(table.into_page, faces.name, groups_page(study, groups, becoming))
        run.on_progress(Progress(f"{table.into_page}: the tables by group are in the page"))
    if card is not None:
        drawn = samples_at(1.0 if 1.0 in study.truncations else max(study.truncations))
        write_figures(card, card_figures(rows, drawn, VALIDATION, [v.name for v in runner.variants], run.command))
        run.on_progress(Progress(f"{card}: the figures are in the card"))
    run.on_progress(Progress("done"))
    return target


def data_side(faces: FaceSet) -> int:
    """Return the median width in px of a set's first faces. Raises PictureError: not one of them can be read."""
    sides, reasons = [], []
    for entry in faces.pictures.entries[:LOOKED_AT]:
        try:
            sides.append(square_side(faces, entry))
        except PictureError as error:
            reasons.append(error)
    if not sides:
        raise reasons[0]
    return median_low(sides)


def _searches(
    faces: FaceSet, side: int, count: int, steps: int, table: PriorSettings
) -> tuple[list[Task], Sequence[Variant]]:
    """Return the inversions and, at a factor that is not 0, RLSE on the same faces; nothing for no faces."""
    if not count:
        return [], []
    if table.factor and not table.factor > 1:
        raise InputError(f"the factor is {table.factor:g}; expected a number above 1 such as 8, or 0 for no search")

    def task(low: int, variants: Sequence[Variant]) -> Task:
        shrunk = task_with_truth(faces, side, low, table.kernel, count)
        return replace(shrunk, only=tuple(v.name for v in variants))

    inverting = inversions(steps, table.perceptual, table.spaces)
    if not table.factor:
        return [task(side, inverting)], inverting
    searching = [make_variant("rlse", table.preset)]
    return [task(side, inverting), task(low_side(side, table.factor), searching)], [*inverting, *searching]


def check_card(prior: Prior) -> Path:
    """Return a prior's file, to write figures into. Raises InputError: it has none. OutputError."""
    if prior.path is None:
        raise InputError(f"the prior {prior.name} was made in memory and has no card; name a file with -p")
    check_folder(prior.path.resolve().parent)
    return prior.path


def card_figures(
    rows: Sequence[Row], drawn: str, faces: str, searches: Sequence[str], command: str = ""
) -> dict[str, Any]:
    """Return the card's figures out of the rows of `prior.csv`: {"dataset", "truncation", "values", "measured"}.

    `values`: of the methods `drawn` ("samples at T") and `searches`, and what D tells apart of the held-out `faces`:
    name -> {"value": number or [mean, low, high], "n": faces}. Names are the metrics' of `prior.csv`; those of searches
    have the method before them: `invert-w psnr`, `rlse 8x identity`.
    """
    values: dict[str, Any] = {}
    for row in rows:
        if not math.isfinite(row.value.mean) or row.metric == "seconds":  # a machine's, not the prior's
            continue
        if row.method == drawn or (row.method == faces and row.metric.startswith("separation-")):
            values[row.metric] = _figure(row.value)
        elif row.method in searches:
            factor = "" if row.factor == "1" else f"{row.factor}x "
            values[f"{row.method} {factor}{row.metric}"] = _figure(row.value)
    readable = command.encode("utf-8", "backslashreplace").decode()  # a file's name may be no Unicode
    return {
        "dataset": rows[0].dataset if rows else "",
        "truncation": float(drawn.rpartition(" ")[2]),
        "values": values,
        "measured": origin(readable),
    }


def _figure(value: Estimate) -> dict[str, Any]:
    numbers = [float(f"{v:.5g}") for v in (value.mean, value.low, value.high) if math.isfinite(v)]
    return {"value": numbers if len(numbers) == 3 else numbers[0], "n": value.n}
