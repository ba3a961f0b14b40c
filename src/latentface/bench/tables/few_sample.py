"""The poster's last claim: how many training pairs does a supervised method need to do what a search does with none?

Each baseline is trained anew on 100, 1,000, 10,000 and all pairs with one budget, and meets the search on the same faces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latentface.bench.core.progress import OnProgress, Progress, quiet
from latentface.bench.core.protocol import provenance
from latentface.bench.core.records import factor_text
from latentface.bench.core.runner import check_metrics
from latentface.bench.core.setup import batch_size, make_runner, open_prior, weights_from
from latentface.bench.core.sizes import high_side
from latentface.bench.core.tasks import Task, low_side, task_with_truth
from latentface.bench.core.variants import Variant, make_variant, title_of
from latentface.bench.report.notes import NOTICE
from latentface.bench.report.sheets import write_sheets
from latentface.bench.tables.ablation import gap_text
from latentface.bench.tables.tables import Row, aggregate, arrow, cell, differences, value_of, write_rows
from latentface.datasets import open_faces
from latentface.errors import InputError
from latentface.io.atomic import write_text
from latentface.io.sources import open_sources
from latentface.supervised.registry import KINDS, Shape, kind_named

if TYPE_CHECKING:
    from latentface.prior.prior import Prior

METRIC_NAMES = ("psnr", "ssim", "lpips-alex", "squeezenet-distance", "niqe", "identity", "consistency", "seconds")
PAIRS = (100, 1000, 10_000, None)  # None: all


def run_few_sample(
    *,
    output: str | Path,
    high: str | Path,
    train: Sequence[str | Path],
    trainer: Callable[..., Path],
    prior: Prior | str | Path | None = None,
    high_size: int | None = None,
    factor: int = 8,
    kinds: Sequence[str] | None = None,
    searches: Sequence[str] = ("rlse",),
    pairs: Sequence[int | None] = PAIRS,
    steps: int | None = None,
    minutes: float | None = None,
    size: str | Shape = "small",
    preset: str = "equal",
    metrics: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    kernel: str = "bicubic",
    weights: str | Path | None = None,
    device: str = "auto",
    batch: int | None = None,
    fetch: bool = True,
    command: str = "",
    on_progress: OnProgress = quiet,
) -> Path:
    """Write few-sample.csv, few-sample.md and few-sample_faces.png into `output`; return few-sample.md. Resumes.

    Args:
        trainer: `train.supervised.train_supervised`; handed in, since bench and train do not import each other.
        train: pictures for the baselines, whose files go to `output`/baselines; none of them may be in `high`.
        kinds: vdsr, esrgan (its pixel stage), fsrnet; None: all. searches: methods, the first of which the differences are to.
        pairs: how many training pairs, None for all; numbers beyond what there is are left out.
        steps, minutes: the budget of each training.

    Raises:
        InputError: no budget, no search, or as `run_table1` and `train_supervised`.
    """
    wanted = check_metrics(metrics, METRIC_NAMES)
    names = list(KINDS if kinds is None else kinds)
    for name in names:
        kind_named(name)
    if not searches or not pairs or (steps is None and minutes is None):
        raise InputError("name a search, numbers of pairs, and the budget of each training: --steps or --minutes")
    faces = open_faces(high)
    found = [make_variant(name, preset) for name in searches]
    loaded = open_prior(prior, device, fetch=fetch)
    side = high_side(loaded, high_size)
    task = task_with_truth(faces, side, low_side(side, factor), kernel, limit)
    at_hand = len(open_sources(train))
    counts = [n for n in pairs if n is None or n < at_hand]
    budget = f"{steps} steps" if minutes is None else f"{minutes:g} minutes"
    folder = Path(output).expanduser()
    for name in names:
        for count in counts:
            label = label_of(name, count)
            target = folder / "baselines" / f"{name}-{side}-{factor}x-{count or 'all'}.safetensors"
            on_progress(Progress(f"training {label} ({budget})"))
            _train(
                trainer,
                name,
                train,
                target,
                factor,
                side,
                count,
                steps,
                minutes,
                size,
                str(loaded.device),
                budget,
            )
            found.append(make_variant(name, preset, name=label, weights=str(target)))
    with weights_from(weights):
        runner, protocol = make_runner(
            prior=loaded,
            side=side,
            tasks=[task],
            variants=found,
            metrics=wanted,
            kernel=kernel,
            preset=preset,
            seed=seed,
            batch=batch_size(batch, loaded, output),
            output=output,
            fetch=fetch,
            curve=False,
            on_progress=on_progress,
        )
        runner.run()
    write_sheets(runner, runner.folder, "few-sample_faces")
    groups = [(task.dataset, factor_text(task.factor), list(task.entries))]
    rows = aggregate(runner.records, groups, [v.name for v in found], wanted, {})
    gaps = differences(runner.records, groups, [(v.name, found[0].name) for v in found[1:]], wanted)
    write_rows(folder / "few-sample.csv", [*rows, *gaps])
    lines = [
        protocol.line({task.dataset: len(task.entries)}),
        f"Each baseline: {budget}, {at_hand} training pictures at hand, weights chosen by pictures held out of them (at most 256, whatever the number of pairs: that favours the baselines); "
        "ESRGAN without its GAN stage. The search has seen no pair; its prior was trained on pictures alone.",
        f"Below each figure stands its difference to {title_of(found[0].name)} over the same faces, with its paired 95 % interval; **bold** where the baseline is better for certain, *italic* where it is worse.",
        *(f"`{name}` is not available: {reason}." for name, reason in runner.suite.missing.items()),
        *(f"{name} is not available: {reason}." for (_, _, name), reason in runner.unavailable.items()),
        *runner.remarks,
        provenance(command),
        NOTICE,
    ]
    parts = [f"## Few samples: {task.label}", _markdown(rows, gaps, task, found, wanted)]
    target = folder / "few-sample.md"
    write_text(target, "\n\n".join([*parts, "\n".join(f"- {line}" for line in lines)]) + "\n")
    return target


def label_of(kind: str, pairs: int | None) -> str:
    """Return how a baseline's row is called."""
    return f"{kind}-{'all' if pairs is None else pairs}-pairs"


def _train(
    trainer: Callable[..., Path],
    kind: str,
    train: Sequence[str | Path],
    target: Path,
    factor: int,
    resolution: int,
    pairs: int | None,
    steps: int | None,
    minutes: float | None,
    size: str | Shape,
    device: str,
    budget: str,
) -> None:
    """Train a baseline unless it is finished; one that was cut off goes on. Raises InputError for another budget."""
    mark = target.with_suffix(".done")
    if mark.exists() and target.exists():
        if (before := mark.read_text(encoding="utf-8").strip()) != budget:
            raise InputError(f"{target} was trained for {before}, not {budget}; choose another folder with -o")
        return
    checkpoint = target.with_name(target.name + ".train") / "checkpoint.pt"
    trainer(
        kind,
        train,
        target,
        factor=factor,
        resolution=resolution,
        size=size,
        steps=steps,
        minutes=minutes,
        pairs=pairs,
        resume=checkpoint.exists(),
        device=device,
    )
    write_text(mark, budget + "\n")


def _markdown(
    rows: Sequence[Row], gaps: Sequence[Row], task: Task, variants: Sequence[Variant], metrics: Sequence[str]
) -> str:
    factor = factor_text(task.factor)
    shown = [m for m in metrics if any(r.metric == m and r.value.n for r in rows)]
    out = ["| method | pairs | " + " | ".join(f"{m} {arrow(m)}" for m in shown) + " |", "|---" * (len(shown) + 2) + "|"]
    for variant in variants:
        name, _, rest = variant.name.partition("-")
        cells = []
        for metric in shown:
            gap = value_of(gaps, task.dataset, f"{variant.name} - {variants[0].name}", factor, metric)
            text = cell(value_of(rows, task.dataset, variant.name, factor, metric), metric)
            cells.append(f"{text}<br>{gap_text(gap, metric)}" if gap.n > 1 else text)
        count = rest.removesuffix("-pairs") or "none"
        out.append(f"| {title_of(name)} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(out)
