"""Table 1: every method against the truth at some factors, and by NIQE where no truth exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latentface.bench.core import poster
from latentface.bench.core.progress import OnProgress, quiet
from latentface.bench.core.protocol import Protocol
from latentface.bench.core.records import factor_text
from latentface.bench.core.runner import Runner, check_metrics
from latentface.bench.core.sets import Galleries, gallery_of, set_figures
from latentface.bench.core.setup import batch_size, make_runner, open_pair, open_prior, weights_from
from latentface.bench.core.sizes import high_side
from latentface.bench.core.tasks import low_side, task_with_truth, task_without_truth
from latentface.bench.core.variants import TRUTH, make_variants, title_of
from latentface.bench.report.notes import notes
from latentface.bench.report.sheets import write_sheets
from latentface.bench.tables.tables import Row, aggregate, differences, markdown_table, write_rows
from latentface.datasets import FaceSet, open_faces
from latentface.errors import InputError
from latentface.explore.registry import METHODS
from latentface.io.atomic import write_text
from latentface.metrics.registry import METRICS

if TYPE_CHECKING:
    from latentface.prior.prior import Prior

METRIC_NAMES = (
    "psnr",
    "psnr-y",
    "ssim",
    "lpips-alex",
    "squeezenet-distance",
    "niqe",
    "niqe-pooled",
    "identity",
    "verification-auc",
    "verification-tar",
    "verification-rank1",
    "consistency",
    "null-space",
    "seconds",
)
REFERENCE = "rlse"  # the method whose differences to all others are printed


def run_table1(
    *,
    output: str | Path,
    high: str | Path | None = None,
    native: str | Path | None = None,
    prior: Prior | str | Path | None = None,
    high_size: int | None = None,
    factors: Sequence[float] = (8, 16),
    methods: Sequence[str] | None = None,
    preset: str = "equal",
    projection: str = "off",
    metrics: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    kernel: str = "bicubic",
    gallery: str | Path | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    batch: int | None = None,
    fetch: bool = True,
    command: str = "",
    on_progress: OnProgress = quiet,
) -> Path:
    """Write table1.csv, table1_differences.csv, table1.md, per_image.csv and faces.png into `output`; return table1.md.

    A run that was cut off goes on where it stopped, and a folder may be extended by methods, factors, sets and faces.

    Args:
        high, native: sets with and without truth, as `open_faces` takes them; at least one.
        prior: a prior, its name or file; None: the embedded one.
        high_size: px of the table's faces; None: the prior's, 512 px at most. A larger prior's are shrunk (see `sizes`).
        methods: variants as `make_variant` takes them (`rlse`, `rlse@paper`, `rlse+projection`); None: all registered.
        projection: "off" (the poster's setting), "on" or "both".
        limit: the first faces of each set; seed: of every face; kernel: of the shrinking.
        gallery: other photographs of the same people, for verification; None: NAME-more.zip beside NAME.zip.
        weights: folder of metric weights; fetch: whether missing ones may be fetched.
        batch: faces searched together; None: the device's usual. command: printed with the table.

    Raises:
        LatentfaceError: data, names or numbers that cannot be used, or a folder of another protocol.
    """
    wanted = check_metrics(metrics, METRIC_NAMES)
    variants = make_variants(methods, preset, projection)
    if not factors:
        raise InputError("no factor is named; expected some, as in --factors 8,16")
    with_truth, without = open_pair(high, native)
    loaded = open_prior(prior, device, fetch=fetch)
    side = high_side(loaded, high_size)
    lows = [low_side(side, factor) for factor in dict.fromkeys(factors)]
    tasks = []
    for low in lows:
        if with_truth is not None:
            tasks.append(task_with_truth(with_truth, side, low, kernel, limit))
        if without is not None:
            tasks.append(task_without_truth(without, side, low, kernel, limit))
    with weights_from(weights):
        runner, protocol = make_runner(
            prior=loaded,
            side=side,
            tasks=tasks,
            variants=variants,
            metrics=wanted,
            kernel=kernel,
            preset=preset,
            seed=seed,
            batch=batch_size(batch, loaded, output),
            output=output,
            fetch=fetch,
            curve=True,
            on_progress=on_progress,
        )
        runner.run()
        matched = any(METRICS[m].reference == "other photo" for m in wanted)
        galleries = galleries_for(with_truth, gallery, high) if matched else {}
        sets = set_figures(runner, galleries)
    write_sheets(runner, runner.folder)
    groups = [(t.dataset, factor_text(t.factor), list(t.entries)) for t in tasks]
    names = [*(v.name for v in variants), TRUTH]
    has_truth = {t.dataset: t.has_truth for t in tasks}

    def applies(dataset: str, metric: str) -> bool:
        return has_truth[dataset] or METRICS[metric].reference in ("none", "input")

    rows = aggregate(runner.records, groups, names, wanted, sets, applies)
    write_rows(runner.folder / "table1.csv", rows)
    pairs = [(REFERENCE, v.name) for v in variants if v.name != REFERENCE]
    apart = [m for m in wanted if METRICS[m].scope == "image"]
    gaps = differences(runner.records, groups, pairs, apart) if any(v.name == REFERENCE for v in variants) else []
    write_rows(runner.folder / "table1_differences.csv", gaps)
    runner.tidy()
    target = runner.folder / "table1.md"
    write_text(target, _markdown(runner, protocol, rows, gaps, has_truth, command))
    return target


def galleries_for(faces: FaceSet | None, gallery: str | Path | None, high: str | Path | None) -> Galleries:
    """Return another photograph for each person of a set, where somebody knows who is who. Raises as `open_faces`."""
    if faces is None or not faces.person:
        return {}
    if gallery is None and high is not None:
        beside = Path(high).expanduser()
        beside = beside.with_name(f"{beside.stem}-more{beside.suffix}")
        gallery = beside if beside.is_file() else None
    return {faces.name: gallery_of(faces, open_faces(gallery) if gallery is not None else None)}


def _markdown(
    runner: Runner,
    protocol: Protocol,
    rows: Sequence[Row],
    gaps: Sequence[Row],
    has_truth: Mapping[str, bool],
    command: str,
) -> str:
    searchers = frozenset(name for name, method in METHODS.items() if method.searches)
    parts = ["## Table 1: methods"]
    for dataset, truth in has_truth.items():
        kind = "truth" if truth else "native"
        counts = [f"{factor_text(t.factor)}x: n = {len(t.entries)}" for t in runner.tasks if t.dataset == dataset]
        parts.append(f"### {dataset} ({'with' if truth else 'without'} truth; {', '.join(counts)})")

        def theirs(row: Row, kind: str = kind) -> float | None:
            return poster.table1_figure(row.method, float(row.factor), row.metric, kind)

        here = [r for r in rows if r.dataset == dataset]
        parts.append(markdown_table(here, searchers=searchers, theirs=theirs))
    if gaps:
        parts.append(f"### {title_of(REFERENCE)} minus each other method, same faces")
        heads = {r.method: "- " + title_of(r.method.removeprefix(f"{REFERENCE} - ")) for r in gaps}
        for dataset in dict.fromkeys(r.dataset for r in gaps):
            parts += [
                f"{dataset}:",
                markdown_table(
                    [r for r in gaps if r.dataset == dataset], searchers=frozenset(), heads=heads, marks=False
                ),
            ]
    parts.append("\n".join(f"- {line}" for line in notes(runner, protocol, rows, command)))
    return "\n\n".join(parts) + "\n"
