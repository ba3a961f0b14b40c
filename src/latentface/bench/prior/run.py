"""What a prior is worth: `latentface bench prior`. Every figure of a model card comes from here.

Parts: distances and coverage along a truncation curve, faces found, diversity, what D tells apart, invertibility, and
inversions and RLSE by group of people. A finished part stands in `sets.csv` (sets), `per_image.csv` (inversions and RLSE)
or `traits.csv` (which group a face is of), and is not measured again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING

from latentface.bench.core.draws import Places, place_faces, read_places, sample
from latentface.bench.core.progress import OnProgress, Progress, quiet
from latentface.bench.core.records import Key, Records, factor_text
from latentface.bench.core.runner import Runner
from latentface.bench.core.setup import MEANT_FOR, batch_size, make_runner, open_prior, weights_from
from latentface.bench.core.sizes import high_side
from latentface.bench.core.statistics import Estimate
from latentface.bench.core.tasks import Task, low_side, square_side, task_with_truth
from latentface.bench.core.variants import Variant, make_variant
from latentface.bench.prior import quality
from latentface.bench.prior.card import card_figures, check_card, write_card
from latentface.bench.prior.features import Features, gather, open_features
from latentface.bench.prior.group_table import group_table
from latentface.bench.prior.groups import tell_groups
from latentface.bench.prior.inversion import inversions
from latentface.bench.prior.page import prior_page, prior_sections
from latentface.bench.prior.sheet import write_prior_sheet
from latentface.bench.tables.tables import Row, aggregate, write_rows
from latentface.datasets import FaceSet, open_faces
from latentface.errors import InputError, PictureError
from latentface.io.atomic import write_text
from latentface.metrics.registry import METRICS

if TYPE_CHECKING:
    from torch import Tensor

    from latentface.prior.prior import Prior

PERCEPTUAL = "lpips-alex"  # where its weights are at hand: they are not fetched for it
METRIC_NAMES = ("psnr", "ssim", "identity", PERCEPTUAL, "squeezenet-distance", "seconds")
TRUNCATIONS = (0.5, 0.7, 1.0)
# How many, where nobody says: with priors of up to 256 px, and with larger ones, of which a pass takes seconds on a CPU.
COUNTS = {"samples": (5000, 1000), "inversions": (100, 16), "steps": (500, 100), "detections": (500, 200)}
LOOKED_AT = 16  # pictures of a set that say how large its faces are
TRAIN, VALIDATION = "training faces", "validation faces"


@dataclass(kw_only=True)
class Study:
    """One run's faces, what is known of them, and where figures are kept; features are computed when first asked for.

    Attributes:
        side: px of the faces that are compared; the prior's larger ones are shrunk by area.
        held, train: the faces of both sets, in a random order; samples: how many faces a distance is measured on.
        detections: how many faces are looked for with a detector; records: `sets.csv`.
    """

    prior: Prior
    side: int
    held: Places
    train: Places
    dataset: str
    samples: int
    detections: int
    truncations: tuple[float, ...]
    seed: int
    batch: int
    features: dict[str, Features]
    records: Records
    on_progress: OnProgress
    _known: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def pictures(self, method: str, count: int) -> Iterator[Tensor]:
        """Yield the first faces of a set: a truncation's samples, the training or the validation faces."""
        if method in (TRAIN, VALIDATION):
            places = self.train if method == TRAIN else self.held
            yield from read_places(places[:count], self.side, self.batch)
        else:
            truncation = float(method.rpartition(" ")[2])
            yield from sample(self.prior, count, truncation, seed=self.seed, batch=self.batch, side=self.side)

    def size(self, method: str) -> int:
        """Return how many faces of a set distances are measured on."""
        return {TRAIN: min(self.samples, len(self.train)), VALIDATION: len(self.held)}.get(method, self.samples)

    def embedded(self, method: str) -> dict[str, Tensor]:
        """Return a set's features, name -> (N, D)."""
        if method not in self._known:
            self.on_progress(Progress(f"features of {self.size(method)} {method}"))
            self._known[method] = gather(self.pictures(method, self.size(method)), self.features.values())
        return self._known[method]

    def key(self, method: str) -> Key:
        """Return where a set's figures stand; they belong to these sizes."""
        sizes = f"{self.samples} samples, {len(self.held)} held out, {len(self.train)} training, {self.detections} looked at"
        return self.dataset, method, "1", f"{sizes}, seed {self.seed}"

    def figures(self, method: str, metrics: Sequence[str], measure: Callable[[], dict[str, float]]) -> None:
        """Measure some figures of a set unless they are known."""
        if not set(metrics) <= set(self.records.get(self.key(method))):
            self.records.add({self.key(method): measure()})


def samples_at(truncation: float) -> str:
    """Return the name that a truncation's samples have in the table."""
    return f"samples at {truncation:g}"


def run_prior(
    *,
    output: str | Path,
    high: str | Path,
    prior: Prior | str | Path | None = None,
    high_size: int | None = None,
    train: Sequence[str | Path] = (),
    samples: int | None = None,
    inversions_of: int | None = None,
    steps: int | None = None,
    detections: int | None = None,
    truncations: Sequence[float] = TRUNCATIONS,
    limit: int | None = None,
    train_limit: int | None = None,
    perceptual: float = 0.0,
    factor: float = 8.0,
    attributes: str | Path | None = None,
    into_card: bool = False,
    seed: int = 0,
    weights: str | Path | None = None,
    device: str = "auto",
    batch: int | None = None,
    fetch: bool = True,
    command: str = "",
    on_progress: OnProgress = quiet,
) -> Path:
    """Write prior.csv, groups.csv, prior.md and prior.png into `output`; return prior.md.

    Args:
        high: faces that the prior has not seen; train: those that it was trained on, for the ratio and the neighbours.
        high_size: px at which faces are compared; None: the smaller of the prior's and the data's.
        samples: of each truncation, and at most so many training faces; inversions_of: validation faces to invert
            (0: none), `steps` each; detections: faces of each set that are looked for with CenterFace. None: `COUNTS`.
        limit, train_limit: take so many faces at most, of an order that the seed decides.
        perceptual: see `InversionSettings`.
        factor: of RLSE (preset "equal") on the faces that are inverted, for the groups; 0: none.
        attributes: CelebA's `list_attr_celeba.txt`, for the groups; else it is looked for beside the faces.
        into_card: write the main figures into the card of the prior's file at the end.

    Raises:
        LatentfaceError: data, prior or output that cannot be used, or figures of another protocol in the folder.
    """
    faces = open_faces(high)
    loaded = open_prior(prior, device, fetch=fetch)
    usual = {name: pair[loaded.resolution > MEANT_FOR] for name, pair in COUNTS.items()}
    samples = usual["samples"] if samples is None else samples
    inversions_of = usual["inversions"] if inversions_of is None else inversions_of
    steps = usual["steps"] if steps is None else steps
    detections = usual["detections"] if detections is None else detections
    if samples < 2 or inversions_of < 0 or detections < 0:
        raise InputError(
            f"got {samples} samples, {inversions_of} inversions, {detections} detections; expected at least 2, 0 and 0"
        )
    if not truncations or min(truncations) <= 0:
        raise InputError(f"the truncations are {list(truncations)}; expected positive numbers such as 0.5,0.7,1")
    side = high_side(loaded, min(loaded.resolution, data_side(faces)) if high_size is None else high_size)
    if into_card:
        check_card(loaded)
    tasks, variants = _searches(faces, side, inversions_of, steps, perceptual, factor)
    with weights_from(weights):
        wanted = [m for m in METRIC_NAMES if m != PERCEPTUAL or METRICS[m].at_hand()]
        wanted += ["consistency"] if len(tasks) > 1 else []
        runner, protocol = make_runner(
            prior=loaded,
            side=side,
            tasks=tasks,
            variants=variants,
            metrics=wanted,
            kernel="bicubic",
            preset="equal",
            seed=seed,
            batch=batch_size(batch, loaded, output),
            output=output,
            fetch=fetch,
            curve=False,
            on_progress=on_progress,
        )
        features, missing = open_features(loaded.device, fetch=fetch)
    study = Study(
        prior=loaded,
        side=side,
        held=place_faces([high], limit, seed),
        train=place_faces(train, train_limit, seed),
        dataset=faces.name,
        samples=samples,
        detections=detections,
        truncations=tuple(truncations),
        seed=seed,
        batch=runner.batch if loaded.resolution > MEANT_FOR else max(16, runner.batch),
        features=features,
        records=runner.set_records,
        on_progress=on_progress,
    )
    if tasks:
        traits = Records(runner.folder / "traits.csv")
        groups = tell_groups(tasks[0], loaded.alignment, traits, attributes, on_progress)
    measure_samples(study)
    if quality.own_judge(loaded) is not None:
        measure_judge(study)
    runner.run()
    rows = prior_rows(study, runner)
    write_rows(runner.folder / "prior.csv", rows)
    by_group = group_table(groups, runner) if tasks else None
    if by_group is not None:
        write_rows(runner.folder / "groups.csv", by_group.rows)
    on_progress(Progress("drawing the sheet"))
    write_prior_sheet(runner.folder / "prior.png", prior_sections(study, runner))
    target = runner.folder / "prior.md"
    write_text(target, prior_page(study, runner, protocol, rows, by_group, missing, steps, command))
    if into_card:
        drawn = samples_at(1.0 if 1.0 in study.truncations else max(study.truncations))
        figures = card_figures(rows, drawn, VALIDATION, [v.name for v in runner.variants], command)
        on_progress(Progress(f"{write_card(loaded, figures)}: the figures are in the card"))
    on_progress(Progress("done"))
    return target


def data_side(faces: FaceSet) -> int:
    """Return how many px wide the faces of a set are: the median of the first pictures that can be read.

    Raises:
        PictureError: not one of them can be read.
    """
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
    faces: FaceSet, side: int, count: int, steps: int, perceptual: float, factor: float
) -> tuple[list[Task], list[Variant]]:
    """Return the inversions and, at a factor that is not 0, RLSE on the same faces; nothing for no faces."""
    if not count:
        return [], []
    if factor and not factor > 1:
        raise InputError(f"the factor is {factor:g}; expected a number above 1 such as 8, or 0 for no search")
    inverting = inversions(steps, perceptual)
    names = tuple(v.name for v in inverting)
    tasks = [replace(task_with_truth(faces, side, side, "bicubic", count), only=names)]
    if not factor:
        return tasks, inverting
    searching = make_variant("rlse")
    low = low_side(side, factor)
    tasks.append(replace(task_with_truth(faces, side, low, "bicubic", count), only=(searching.name,)))
    return tasks, [*inverting, searching]


def measure_samples(study: Study) -> None:
    """Measure distances, coverage, diversity and faces found of samples, training and validation faces."""
    for method in [TRAIN] * bool(study.train) + [samples_at(t) for t in study.truncations]:
        for name in study.features:
            study.figures(method, (f"frechet-{name}",), partial(_distance, study, method, name))
    for method in [VALIDATION, *(samples_at(t) for t in study.truncations)]:
        if "identity" in study.features:
            study.figures(method, ("alikeness",), partial(_alikeness, study, method))
        if study.detections:
            study.figures(method, ("one-face", "looked-at"), partial(_one_face, study, method))


def _distance(study: Study, method: str, name: str) -> dict[str, float]:
    rows, truths = study.embedded(method)[name], study.embedded(VALIDATION)[name]
    precision, recall = quality.coverage(rows, truths)
    return {
        f"frechet-{name}": quality.frechet(rows, truths),
        f"precision-{name}": precision,
        f"recall-{name}": recall,
    }


def _alikeness(study: Study, method: str) -> dict[str, float]:
    return {"alikeness": quality.alikeness(study.embedded(method)["identity"])}


def _one_face(study: Study, method: str) -> dict[str, float]:
    study.on_progress(Progress(f"looking for faces on {method}"))
    found, total = quality.one_face(study.pictures(method, min(study.detections, study.size(method))))
    return {"one-face": found / total if total else math.nan, "looked-at": total}


def measure_judge(study: Study) -> None:
    """Measure how well D tells held-out faces from samples, and from the training faces that it knows."""
    drawn = samples_at(1.0)
    wanted = ["separation-samples"] + ["separation-training"] * bool(study.train)

    def measure() -> dict[str, float]:
        study.on_progress(Progress("what D tells apart"))
        count = min(study.samples, len(study.held), quality.COVERAGE_FACES)
        held = quality.logits(study.prior, study.pictures(VALIDATION, count))
        found = {
            "separation-samples": quality.separation(held, quality.logits(study.prior, study.pictures(drawn, count)))
        }
        if study.train:
            known = quality.logits(study.prior, study.pictures(TRAIN, count))
            found["separation-training"] = quality.separation(known, held)
        return found

    study.figures(VALIDATION, wanted, measure)


def prior_rows(study: Study, runner: Runner) -> list[Row]:
    """Return the lines of prior.csv: sets first, then inversions."""
    rows = []
    train = study.records.get(study.key(TRAIN))
    for method in (VALIDATION, TRAIN, *(samples_at(t) for t in study.truncations)):
        known = study.records.get(study.key(method))
        count = study.size(method)
        for metric, value in known.items():
            if metric == "looked-at" or value is None:
                continue
            if metric == "one-face":
                looked = int(known.get("looked-at") or 0)
                estimate = quality.share(round(value * looked), looked)
            else:
                estimate = Estimate(value, math.nan, math.nan, count)
            rows.append(Row(dataset=study.dataset, method=method, factor="1", metric=metric, value=estimate))
            base = train.get(metric)
            if metric.startswith("frechet-") and method != TRAIN and base:
                ratio = Estimate(value / base, math.nan, math.nan, count)
                rows.append(
                    Row(dataset=study.dataset, method=method, factor="1", metric=f"{metric}-ratio", value=ratio)
                )
    for task in runner.tasks:
        place = [(task.dataset, factor_text(task.factor), list(task.entries))]
        names = [v.name for v in runner.variants_of(task)]
        rows += aggregate(runner.records, place, names, metrics_of(task, runner), {})
    return rows


def metrics_of(task: Task, runner: Runner) -> list[str]:
    """Return the metrics that say something of a task: where nothing was shrunk, consistency is PSNR once more."""
    return [m for m in runner.metrics if m != "consistency" or task.factor > 1]
