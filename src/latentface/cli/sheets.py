"""What `upscale` draws beside a result: the comparison of an aligned face, and strips of a search's steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from latentface.restore.photo import Job

STEP_SIDE = 192  # px of a preview of a photograph's face that is kept


def comparison(result: Any) -> Any:
    """Return input, bilinear and result side by side, a Pillow image; of a soft face also what was searched with."""
    import torch.nn.functional as F

    from latentface.io.sheets import comparison_sheet

    size = result.high.shape[1:]
    bilinear = F.interpolate(result.low[None], size=size, mode="bilinear", align_corners=False)[0]
    soft = {} if result.seen.shape == result.low.shape else {f"its detail, {result.seen.shape[-1]} px": [result.seen]}
    return comparison_sheet(
        {"input": [result.low], "bilinear": [bilinear], **soft, str(result.record["method"]): [result.high]}
    )


class StepSheets:
    """Keeps previews of each face's first sample at chosen steps, and draws a strip of them for each face."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.strips: dict[int, dict[int, Any]] = {}  # by face and step

    def tell(self, rows: Sequence[int], step: Any) -> None:
        """Keep previews at steps 1, 2, 5, 10, 20, 50, ... and the last; `rows`: as `Upscaler.upscale` tells them."""
        if not shown_step(step):
            return
        for row, face in zip(rows, step.preview().cpu(), strict=True):
            if row % self.samples == 0:
                self.strips.setdefault(row // self.samples, {})[step.number] = face

    def strip(self, index: int) -> Any:
        """Return one face's strip, a Pillow image."""
        from latentface.io.sheets import comparison_sheet

        return comparison_sheet({f"step {number}": [face] for number, face in self.strips.get(index, {}).items()})


class PhotoSteps:
    """Keeps small previews of a window's faces at chosen steps, and draws a row of them for each face."""

    def __init__(self) -> None:
        self.seen: dict[int, dict[Job, Image.Image]] = {}  # by step, of the first sample

    def tell(self, jobs: Sequence[Job], step: Any) -> None:
        """Keep previews at steps 1, 2, 5, 10, 20, 50, ... and the last."""
        from latentface.io.pictures import to_pillow

        if not shown_step(step):
            return
        kept = self.seen.setdefault(step.number, {})
        first = {job: row for row, job in reversed(list(enumerate(jobs)))}
        for job, face in zip(first, step.preview()[list(first.values())], strict=True):
            if job not in kept:  # a batch may begin with a job's later samples
                kept[job] = to_pillow(face)
                kept[job].thumbnail((STEP_SIDE, STEP_SIDE))

    def sheet(self, jobs: Sequence[Job]) -> Image.Image | None:
        """Return the faces of a photograph, a row each, the largest first; None without faces or steps."""
        from PIL import Image

        from latentface.io.sheets import comparison_sheet
        from latentface.restore.photoresult import SHEET_FACES

        if not jobs or not self.seen:
            return None
        nothing = Image.new("RGB", (1, 1), "white")  # a search in batches of other lengths has other steps
        return comparison_sheet(
            {
                f"step {n}": [kept.get(job, nothing) for job in jobs[:SHEET_FACES]]
                for n, kept in sorted(self.seen.items())
            }
        )


def shown_step(step: Any) -> bool:
    """Say whether a strip of steps shows this one."""
    return step.number == step.total or str(step.number).rstrip("0") in ("1", "2", "5")
