"""What `--save-steps` draws: the faces of a window after some of the steps of their search."""

from collections.abc import Sequence

from PIL import Image

from latentface.explore.result import Step
from latentface.io.pictures import to_pillow
from latentface.io.sheets import comparison_sheet
from latentface.restore.photoresult import SHEET_FACES

STEP_SIDE = 192  # px of a preview of a photograph's face that is kept


class Steps:
    """Keeps small previews of a window's faces at chosen steps, and draws a row of them for each face."""

    def __init__(self) -> None:
        self.seen: dict[int, dict[int, Image.Image]] = {}  # by step and job, of the first sample

    def tell(self, rows: Sequence[tuple[int, int]], step: Step) -> None:
        """Keep previews at steps 1, 2, 5, 10, 20, 50, ... and the last; `rows`: (job, sample) of each face in work."""
        if step.number != step.total and str(step.number).rstrip("0") not in ("1", "2", "5"):
            return
        kept = self.seen.setdefault(step.number, {})
        for (job, sample), face in zip(rows, step.preview(), strict=True):
            if sample == 0:
                kept[job] = to_pillow(face)
                kept[job].thumbnail((STEP_SIDE, STEP_SIDE))

    def sheet(self, jobs: Sequence[int]) -> Image.Image | None:
        """Return the faces of a picture, a row each, the largest first; None without faces or steps."""
        shown = {number: kept for number, kept in sorted(self.seen.items()) if any(job in kept for job in jobs)}
        if not shown:
            return None
        nothing = Image.new("RGB", (1, 1), "white")  # a search that ended early has fewer steps
        return comparison_sheet(
            {f"step {n}": [kept.get(job, nothing) for job in jobs[:SHEET_FACES]] for n, kept in shown.items()}
        )
