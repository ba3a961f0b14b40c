"""What makes RLSE win: one setting moved at a time on validation faces, paired against the defaults.

A second table asks the same of inputs that are not what the method assumes: noise, JPEG, another kernel.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from latentface.bench.core.progress import Progress
from latentface.bench.core.records import Records
from latentface.bench.core.runner import Runner, check_metrics
from latentface.bench.core.settings import RunSettings
from latentface.bench.core.setup import open_table, shrunk
from latentface.bench.core.tasks import Task, load_batch, to_8_bit
from latentface.bench.core.unexpected import KINDS, Damage, DamagedTask
from latentface.bench.tables.ablation_rows import DEFAULT, UNEXPECTED, group_of, make_rows
from latentface.bench.tables.notes import last_lines, protocol_line
from latentface.bench.tables.settings import AblationSettings
from latentface.bench.tables.tables import PROJECTED, Row, aggregate, differences, paired_table, write_rows, write_table
from latentface.datasets import FaceSet, open_faces
from latentface.degradation import project
from latentface.errors import InputError
from latentface.faces.trust import trusted
from latentface.io.pictures import read_picture
from latentface.metrics.psnr import psnr
from latentface.metrics.registry import METRICS

METRIC_NAMES = (
    "psnr",
    "ssim",
    "lpips-alex",
    "lpips-vgg",
    "squeezenet-distance",
    "identity",
    "identity-sface",
    "consistency",
    "seconds",
)
FINISHED = "finished.csv"  # the figures, in the output's folder, as `per_image.csv` has those of the searches
FINISHED_TABLE = "ablation-finished.csv"


def refuse_test(faces: FaceSet, source: str | Path) -> None:
    """Refuse test faces: what is tuned on them cannot be reported on them. Raises InputError."""
    name = Path(str(source).partition("#")[0]).name.lower()
    if faces.partition == "test" or name in ("test.zip", "test"):
        raise InputError(
            f"{source} is a test partition, and settings must not be chosen on it; give validation faces, such as val.zip"
        )


def run_ablation(table: AblationSettings, run: RunSettings) -> Path:
    """Write ablation.csv and ablation.md; return ablation.md. Resumes as `run_table1`.

    With `finished` there is a table more of the same results, and ablation-finished.csv: as `upscale` writes them.
    Raises InputError: test faces, or as `run_table1`.
    """
    wanted = check_metrics(table.metrics, METRIC_NAMES)
    faces = open_faces(table.high)
    refuse_test(faces, table.high)
    variants = make_rows(table.rows, table.preset)
    others = make_rows(UNEXPECTED if table.damage_rows is None else table.damage_rows, table.preset)
    kinds = [Damage.named(name) for name in (KINDS if table.damages is None else table.damages)]
    prior, side = open_table(table, run)
    tasks = shrunk(faces, side, sorted(set(table.factors)), table)
    damaged: list[Task] = [DamagedTask.of(task, damage) for damage in kinds for task in tasks]
    for stale in (FINISHED, FINISHED_TABLE):
        (run.folder / stale).unlink(missing_ok=True)
    rows: list[Row] = []
    finished: list[Row] = []
    lines: list[str] = []
    parts = ["## Ablation"]
    for some, compared in ((tasks, variants), (damaged, others)):
        if not some:
            continue
        if lines:  # of the first table
            parts += ["\n".join(f"- {line}" for line in lines), "## Inputs that are not what is assumed"]
        runner = Runner(table, run, prior, side, some, compared, wanted)
        runner.run()
        apart = [m for m in wanted if METRICS[m].scope != "set"]
        if "psnr" in wanted:
            run.on_progress(Progress("projecting the results"))
            score_projected(runner)
            apart.insert(1, PROJECTED)
        parts += compare(runner, runner.records, apart, rows)
        if table.finished:
            run.on_progress(Progress("finishing the results as upscale does"))
            known = runner.suite.available("image", wanted, side=runner.side)
            kept = [name for name in wanted if name in known and name != "consistency"]
            parts += compare(runner, score_finished(runner, kept), kept, finished, ", as upscale writes them")
        lines = _notes(runner, table.finished)
    if table.finished:
        write_rows(run.folder / FINISHED_TABLE, finished)
    return write_table(run.folder, "ablation", rows, parts, lines)


def compare(runner: Runner, records: Records, metrics: Sequence[str], table: list[Row], title: str = "") -> list[str]:
    """Put the means of a run's rows and their differences to the default into `table`; return a Markdown table a task."""
    names = [v.name for v in runner.variants]
    means = aggregate(records, runner.tasks, names, metrics)
    gaps = differences(records, runner.tasks, [(n, DEFAULT) for n in names if n != DEFAULT], metrics)
    table += [*means, *gaps]
    first = {name: [group_of(name) or "default", name] for name in names}
    parts = []
    for task in runner.tasks:
        parts.append(f"### {task.dataset} at {task.factor_text}x ({task.degradation.low} px){title}")
        parts.append(paired_table(means, gaps, task, first, metrics, DEFAULT, ["group", "row"], intervals=False))
    return parts


@torch.no_grad()
def score_projected(runner: Runner) -> None:
    """Record for each result the PSNR that it has after the projection, which costs no search."""
    for task in runner.tasks:
        for variant in runner.variants:
            for image in task.entries:
                key, path = runner.key(task, variant.name, image), runner.path(task, variant.name, image)
                if PROJECTED in runner.records.get(key) or not path.exists():
                    continue
                truth, low = task.load(image)
                if truth is not None:
                    found = project(task.degradation, read_picture(path)[None], low[None])
                    runner.records.add({key: {PROJECTED: float(psnr(found, truth[None]))}})


@torch.no_grad()
def score_finished(runner: Runner, metrics: Sequence[str]) -> Records:
    """Finish every result that has a picture as `upscale` does, at full detail, score it, and return the figures.

    They are made anew each time, at the table's size. Results that a method projected itself are left out.
    """
    records = Records(runner.folder / FINISHED)
    for task in runner.tasks:
        for variant in runner.variants_of(task):
            names = [] if variant.projects else list(task.entries)
            made_of = [image for image in names if runner.path(task, variant.name, image).exists()]
            for start in range(0, len(made_of), 16):
                images, truth, low, _ = load_batch(task, made_of[start : start + 16], 1)
                if low is None:
                    continue
                found = torch.stack([read_picture(runner.path(task, variant.name, image)) for image in images])
                made = to_8_bit(project(task.degradation, trusted(task.degradation, found, low), low))
                scores = runner.suite.score(made, truth, low, task.degradation, metrics)
                records.add(
                    {
                        runner.key(task, variant.name, image): {name: values[i] for name, values in scores.items()}
                        for i, image in enumerate(images)
                    }
                )
    return records


def _notes(runner: Runner, finished: bool) -> list[str]:
    out = [
        protocol_line(runner),
        f"Below each mean stands its difference to the row `{DEFAULT}` over the same faces, with its paired 95 % interval: "
        "**bold** where the row is better than the default for certain, *italic* where it is worse. Many rows are compared: one in "
        "twenty intervals misses by chance.",
        "A row that would be the default itself is left out. `ratio` is the length of the semantic loss's gradient against the pixel loss's.",
        f"`{PROJECTED}`: PSNR of the same results, projected onto the faces that shrink to the input.",
    ]
    if finished:
        out.append(
            "As upscale writes them: the same results, their detail faded where they disagree with the input, and projected (with "
            "`--detail full`: each face taken at its own size)."
        )
    if any(isinstance(task, DamagedTask) for task in runner.tasks):
        out.append(
            "noiseS: Gaussian noise of standard deviation S on the low picture, which the method is not told of (`told`: it is); jpegQ: coded at quality Q; "
            f"a kernel's name: shrunk with it, while the method assumes {runner.protocol.kernel}."
        )
    return out + last_lines(runner)
