"""What `upscale` makes of the results of a search: faded where they disagree with the input, projected, scored once more.

It costs no search, so a table may have both: what a method found, and what a person gets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from latentface.bench.core.records import Records
from latentface.bench.core.runner import Runner
from latentface.bench.core.tasks import load_batch, to_8_bit
from latentface.degradation import project
from latentface.faces.trust import trusted
from latentface.io.pictures import read_picture

FINISHED = "finished.csv"  # the figures, in the output's folder, as `per_image.csv` has those of the searches
AT_ONCE = 16


def finished_metrics(runner: Runner, wanted: Sequence[str]) -> list[str]:
    """Return those of the wanted metrics that tell one finished face from another: not its time, and not its agreement."""
    names = set(runner.suite.available("image", wanted, side=runner.side))
    return [name for name in wanted if name in names and name != "consistency"]


@torch.no_grad()
def score_finished(runner: Runner, metrics: Sequence[str]) -> Records:
    """Finish every result that the runner has a picture of, at full detail, score it, and return the figures.

    They are made anew each time: they depend on more than the searches do. It is done at the table's size, so where the
    prior's pictures are larger, a little less of a face is faded and projected than `upscale` has. Results that a method projected itself are left out.
    """
    records = Records(runner.folder / FINISHED)
    for task in runner.tasks:
        for variant in runner.variants_of(task):
            names = [] if variant.projects else list(task.entries)
            made_of = [image for image in names if runner.path(task, variant.name, image).exists()]
            for start in range(0, len(made_of), AT_ONCE):
                images, truth, low, _ = load_batch(task, made_of[start : start + AT_ONCE], 1)
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
