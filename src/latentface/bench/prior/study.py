"""The sets of faces that a prior is measured on, and what is measured of them: distances, faces found, what D tells apart."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from latentface.bench.core.draws import place_faces, read_places, sample
from latentface.bench.core.progress import Progress
from latentface.bench.core.records import Key
from latentface.bench.core.runner import Runner
from latentface.bench.core.setup import MEANT_FOR
from latentface.bench.core.statistics import Estimate
from latentface.bench.prior import quality
from latentface.bench.prior.features import gather, open_features
from latentface.bench.prior.settings import PriorSettings
from latentface.bench.tables.tables import Row
from latentface.datasets import open_faces
from latentface.metrics.verification import verification

TRAIN, VALIDATION = "training faces", "validation faces"
KEPT_BYTES = 256 << 20  # of the samples of one truncation; more are drawn again each time


class Study:
    """One run's faces, what is known of them, and where figures are kept; features are computed when first asked for.

    Attributes:
        runner: of the searches; side: px of the faces that are compared; the prior's larger ones are shrunk by area.
        held, train: the faces of both sets, in a random order; samples: how many faces a distance is measured on.
        detections: how many faces are looked for with a detector; features: by name; missing: those not at hand -> why.
    """

    def __init__(self, table: PriorSettings, runner: Runner, samples: int, detections: int, fetch: bool) -> None:
        self.runner, self.samples, self.detections = runner, samples, detections
        self.prior, self.side, self.seed = runner.prior, runner.side, table.seed
        self.truncations = table.truncations
        self.batch = runner.batch if self.prior.resolution > MEANT_FOR else max(16, runner.batch)
        self.dataset = open_faces(table.high).name
        self.held = place_faces([table.high], table.limit, table.seed)
        self.train = place_faces(table.train, table.train_limit, table.seed)
        self.features, self.missing = open_features(self.prior.device, fetch=fetch)
        self.records, self.on_progress = runner.set_records, runner.on_progress
        self._known: dict[str, dict[str, Tensor]] = {}
        self._drawn: dict[str, list[Tensor]] = {}  # samples, which are looked at several times, in bytes

    def pictures(self, method: str, count: int) -> Iterator[Tensor]:
        """Yield the first faces of a set: a truncation's samples, the training or the validation faces."""
        if method in (TRAIN, VALIDATION):
            places = self.train if method == TRAIN else self.held
            yield from read_places(places[:count], self.side, self.batch)
        elif sum(map(len, self._drawn.get(method, []))) >= count:
            for batch in torch.cat(self._drawn[method])[:count].split(self.batch):
                yield batch / 255
        else:
            truncation, kept = float(method.rpartition(" ")[2]), list[Tensor]()
            for batch in sample(self.prior, count, truncation, seed=self.seed, batch=self.batch, side=self.side):
                if count * batch[0].numel() <= KEPT_BYTES:
                    kept.append((batch * 255).round().byte())
                yield batch
            self._drawn[method] = kept

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


def measure_samples(study: Study) -> None:
    """Measure distances, coverage, diversity and faces found of samples, training and validation faces."""
    samples = [samples_at(t) for t in study.truncations]

    def distances(method: str, name: str) -> dict[str, float]:
        rows, truths = study.embedded(method)[name], study.embedded(VALIDATION)[name]
        precision, recall = quality.coverage(rows, truths)
        distance = quality.frechet(rows, truths)
        return {f"frechet-{name}": distance, f"precision-{name}": precision, f"recall-{name}": recall}

    def alike(method: str) -> dict[str, float]:
        return {"alikeness": quality.alikeness(study.embedded(method)["identity"])}

    def one_face(method: str) -> dict[str, float]:
        study.on_progress(Progress(f"looking for faces on {method}"))
        found, total = quality.one_face(study.pictures(method, min(study.detections, study.size(method))))
        return {"one-face": found / total if total else math.nan, "looked-at": total}

    for method in [TRAIN] * bool(study.train) + samples:
        for name in study.features:
            study.figures(method, [f"frechet-{name}"], partial(distances, method, name))
    for method in [VALIDATION, *samples]:
        if "identity" in study.features:
            study.figures(method, ["alikeness"], partial(alike, method))
        if study.detections:
            study.figures(method, ["one-face", "looked-at"], partial(one_face, method))


def measure_judge(study: Study) -> None:
    """Measure how well D tells held-out faces from samples, and from the training faces that it knows."""

    def measure() -> dict[str, float]:
        study.on_progress(Progress("what D tells apart"))
        count = min(study.samples, len(study.held), quality.COVERAGE_FACES)
        held, drawn, *known = (quality.logits(study.prior, study.pictures(m, count)) for m in methods)
        pairs = [(held, drawn), *((k, held) for k in known)]  # 0.5: D sees no difference
        return dict(zip(wanted, [verification(a, b).auc for a, b in pairs], strict=True))

    methods = [VALIDATION, samples_at(1.0)] + [TRAIN] * bool(study.train)
    wanted = ["separation-samples"] + ["separation-training"] * bool(study.train)
    study.figures(VALIDATION, wanted, measure)


def study_rows(study: Study) -> list[Row]:
    """Return the lines of prior.csv that are about sets of faces."""
    rows = []
    train = study.records.get(study.key(TRAIN))
    for method in (VALIDATION, TRAIN, *(samples_at(t) for t in study.truncations)):
        known = study.records.get(study.key(method))
        count = study.size(method)
        found: dict[str, Estimate] = {}
        for metric, value in known.items():
            if metric == "looked-at" or value is None:
                continue
            found[metric] = Estimate(value, math.nan, math.nan, count)
            if metric == "one-face":
                looked = int(known.get("looked-at") or 0)
                found[metric] = quality.share(round(value * looked), looked)
            base = train.get(metric)
            if metric.startswith("frechet-") and method != TRAIN and base:
                found[f"{metric}-ratio"] = Estimate(value / base, math.nan, math.nan, count)
        rows += [
            Row(dataset=study.dataset, method=method, factor="1", metric=metric, value=value)
            for metric, value in found.items()
        ]
    return rows
