"""The poster's last claim: how many training pairs does a supervised method need to do what a search does with none?

Each baseline is trained anew on 100, 1,000, 10,000 and all pairs with one budget, and meets the search on the same faces.
"""

from collections.abc import Callable
from pathlib import Path

from latentface.bench.core.progress import Progress
from latentface.bench.core.runner import Runner, check_metrics
from latentface.bench.core.settings import RunSettings
from latentface.bench.core.setup import open_table
from latentface.bench.core.tasks import low_side, task_with_truth
from latentface.bench.core.variants import make_variant, title_of
from latentface.bench.tables.notes import last_lines, protocol_line
from latentface.bench.tables.settings import FewSampleSettings
from latentface.bench.tables.sheets import write_sheets
from latentface.bench.tables.tables import aggregate, differences, paired_table, write_table
from latentface.datasets import open_faces
from latentface.errors import InputError
from latentface.io.atomic import write_text
from latentface.io.sources import open_sources
from latentface.supervised.registry import KINDS, PLAIN, kind_named

METRIC_NAMES = (
    "psnr",
    "ssim",
    "lpips-alex",
    "lpips-vgg",
    "squeezenet-distance",
    "niqe",
    "identity",
    "identity-sface",
    "consistency",
    "seconds",
)


def run_few_sample(table: FewSampleSettings, run: RunSettings, *, trainer: Callable[..., Path]) -> Path:
    """Write few-sample.csv, few-sample.md and few-sample_faces.png; return few-sample.md. Resumes.

    The baselines' files go to the folder baselines. `trainer` is `train_supervised`, handed in, since bench and train
    do not import each other. Raises InputError: no budget, no search, or as `run_table1` and `train_supervised`.
    """
    wanted = check_metrics(table.metrics, METRIC_NAMES)
    names = list(PLAIN if table.baselines is None else table.baselines)
    for name in names:
        kind_named(name)
    if not table.methods or not table.pairs or (table.steps is None and table.minutes is None):
        raise InputError("name a search, numbers of pairs, and the budget of each training: --steps or --minutes")
    faces = open_faces(table.high)
    variants = [make_variant(name, table.preset) for name in table.methods]
    prior, side = open_table(table, run)
    task = task_with_truth(faces, side, low_side(side, table.factor), table.kernel, table.limit)
    at_hand = len(open_sources(table.train))
    budget = f"{table.steps} steps" if table.minutes is None else f"{table.minutes:g} minutes"
    for name in names:
        for count in (n for n in table.pairs if n is None or n < at_hand):
            label = f"{name}-{count or 'all'}-pairs"
            target = run.folder / "baselines" / f"{name}-{side}-{table.factor}x-{count or 'all'}.safetensors"
            run.on_progress(Progress(f"training {label} ({budget})"))
            if not _trained(target, budget):
                trainer(
                    name,
                    table.train,
                    target,
                    factor=table.factor,
                    resolution=side,
                    size=table.size,
                    steps=table.steps,
                    minutes=table.minutes,
                    pairs=count,
                    resume=(target.with_name(target.name + ".train") / "checkpoint.pt").exists(),
                    device=str(prior.device),
                )
                write_text(target.with_suffix(".done"), budget + "\n")
            variants.append(make_variant(name, table.preset, name=label, weights=str(target)))
    runner = Runner(table, run, prior, side, [task], variants, wanted)
    runner.run()
    write_sheets(runner, "few-sample_faces")
    reference = variants[0].name
    rows = aggregate(runner.records, [task], [v.name for v in variants], wanted)
    gaps = differences(runner.records, [task], [(v.name, reference) for v in variants[1:]], wanted)
    lines = [
        protocol_line(runner),
        f"Each baseline: {budget}, {at_hand} training pictures at hand, weights chosen by pictures held out of them (at most 256, whatever the number of pairs: that favours the baselines); "
        "ESRGAN without its GAN stage. The search has seen no pair; its prior was trained on pictures alone.",
        f"Below each figure stands its difference to {title_of(reference)} over the same faces, with its paired 95 % interval; **bold** where the baseline is better for certain, *italic* where it is worse.",
        *last_lines(runner),
    ]
    first = {}
    for name in (v.name for v in variants):
        kind, _, rest = name.partition("-")
        first[name] = [KINDS[kind].title if kind in KINDS else title_of(kind), rest.removesuffix("-pairs") or "none"]
    body = paired_table(rows, gaps, task, first, wanted, reference, ["method", "pairs"])
    parts = [f"## Few samples: {task.label}", body]
    return write_table(run.folder, "few-sample", [*rows, *gaps], parts, lines)


def _trained(target: Path, budget: str) -> bool:
    """Say whether a baseline is finished. Raises InputError where it was trained for another budget."""
    mark = target.with_suffix(".done")
    if not (mark.exists() and target.exists()):
        return False
    if (before := mark.read_text(encoding="utf-8").strip()) != budget:
        raise InputError(f"{target} was trained for {before}, not {budget}; choose another folder with -o")
    return True
