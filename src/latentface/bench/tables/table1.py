"""Table 1: every method against the truth at some factors, and by NIQE where no truth exists."""

from collections.abc import Sequence
from pathlib import Path

from latentface.bench.core import poster
from latentface.bench.core.runner import Runner, check_metrics
from latentface.bench.core.sets import Galleries, gallery_of, set_figures
from latentface.bench.core.settings import RunSettings
from latentface.bench.core.setup import open_table
from latentface.bench.core.tasks import Task, low_side, task_with_truth, task_without_truth
from latentface.bench.core.variants import TRUTH, make_variants, title_of
from latentface.bench.tables.notes import notes
from latentface.bench.tables.order import order_parts
from latentface.bench.tables.settings import Table1Settings
from latentface.bench.tables.sheets import write_sheets
from latentface.bench.tables.tables import Row, aggregate, differences, markdown_table, write_rows, write_table
from latentface.datasets import FaceSet, open_faces
from latentface.errors import InputError, MissingDataError
from latentface.explore.registry import METHODS
from latentface.metrics.registry import METRICS

METRIC_NAMES = (
    *("psnr", "psnr-y", "ssim", "lpips-alex", "lpips-vgg", "squeezenet-distance", "niqe", "niqe-pooled"),
    *("identity", "identity-sface", "verification-auc", "verification-auc-sface", "verification-tar"),
    *("verification-tar-sface", "verification-rank1", "verification-rank1-sface", "consistency", "null-space"),
    "seconds",
)
REFERENCE = "rlse"  # the method whose differences to all others are printed


def run_table1(table: Table1Settings, run: RunSettings) -> Path:
    """Write table1.csv, table1_differences.csv, table1.md, per_image.csv and faces.png; return table1.md.

    A run that was cut off goes on where it stopped, and a folder may be extended by methods, factors, sets and faces.
    Raises LatentfaceError: data, names or numbers that cannot be used, or a folder of another protocol.
    """
    wanted = check_metrics(table.metrics, METRIC_NAMES)
    variants = make_variants(table.methods, table.preset, table.projection)
    if not table.factors:
        raise InputError("no factor is named; expected some, as in --factors 8,16")
    if table.high is None and table.native is None:
        raise MissingDataError("no data was named; give --high SOURCE (with truth), --native SOURCE (without), or both")
    with_truth, without = (None if s is None else open_faces(s) for s in (table.high, table.native))
    if with_truth and without and with_truth.name == without.name:
        raise InputError(
            f"both sets are called {without.name!r}; rename one of the folders, so that the table can tell them"
        )
    prior, side = open_table(table, run)
    tasks = []
    for low in [low_side(side, factor) for factor in dict.fromkeys(table.factors)]:
        if with_truth is not None:
            tasks.append(task_with_truth(with_truth, side, low, table.kernel, table.limit))
        if without is not None:
            tasks.append(task_without_truth(without, side, low, table.kernel, table.limit))
    runner = Runner(table, run, prior, side, tasks, variants, wanted, curve=True)
    runner.run()
    matched = any(METRICS[m].reference == "other photo" for m in wanted)
    sets = set_figures(runner, galleries_for(with_truth, table) if matched else {})
    write_sheets(runner, "faces")

    def applies(task: Task, metric: str) -> bool:
        return task.has_truth or METRICS[metric].reference in ("none", "input")

    names = [v.name for v in variants]
    rows = aggregate(runner.records, tasks, [*names, TRUTH], wanted, sets, applies)
    pairs = [(REFERENCE, name) for name in names if name != REFERENCE] if REFERENCE in names else []
    gaps = differences(runner.records, tasks, pairs, [m for m in wanted if METRICS[m].scope == "image"])
    write_rows(runner.folder / "table1_differences.csv", gaps)
    runner.tidy()
    return write_table(runner.folder, "table1", rows, _parts(runner, rows, gaps), notes(runner, rows))


def galleries_for(faces: FaceSet | None, table: Table1Settings) -> Galleries:
    """Return another photograph for each person of a set, where somebody knows who is who. Raises as `open_faces`."""
    if faces is None or not faces.person:
        return {}
    gallery = table.gallery
    if gallery is None and table.high is not None:
        beside = Path(table.high).expanduser()
        beside = beside.with_name(f"{beside.stem}-more{beside.suffix}")
        gallery = beside if beside.is_file() else None
    return {faces.name: gallery_of(faces, open_faces(gallery) if gallery is not None else None)}


def _parts(runner: Runner, rows: Sequence[Row], gaps: Sequence[Row]) -> list[str]:
    searchers = frozenset(name for name, method in METHODS.items() if method.searches)
    parts = ["## Table 1: methods"]
    for dataset, truth in {t.dataset: t.has_truth for t in runner.tasks}.items():
        kind = "truth" if truth else "native"
        counts = [f"{t.factor_text}x: n = {len(t.entries)}" for t in runner.tasks if t.dataset == dataset]
        parts.append(f"### {dataset} ({'with' if truth else 'without'} truth; {', '.join(counts)})")

        def theirs(row: Row, kind: str = kind) -> float | None:
            return poster.table1_figure(row.method, float(row.factor), row.metric, kind)

        here = [r for r in rows if r.dataset == dataset]
        parts.append(markdown_table(here, searchers=searchers, theirs=theirs))
    if gaps:
        parts.append(f"### {title_of(REFERENCE)} minus each other method, same faces")
        heads = {r.method: "- " + title_of(r.method.removeprefix(f"{REFERENCE} - ")) for r in gaps}
        for dataset in dict.fromkeys(r.dataset for r in gaps):
            here = [r for r in gaps if r.dataset == dataset]
            parts += [f"{dataset}:", markdown_table(here, searchers=frozenset(), heads=heads, marks=False)]
    return parts + order_parts(gaps, {t.dataset: t.has_truth for t in runner.tasks})
