"""How a search comes nearer to the truth, step by step."""

import math

from torch import Tensor

from latentface.explore.result import Step, psnr_each

PARTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # of a search, at which its curve is measured


class Curve:
    """An `on_step` callback: the PSNR of the best pictures so far against the truth, (B, 3, R, R) in [0, 1]."""

    def __init__(self, truth: Tensor) -> None:
        self.truth = truth
        self.figures: dict[int, Tensor] = {}

    def __call__(self, step: Step) -> None:
        wanted = {max(1, round(part * step.total)) for part in PARTS}
        if step.number in wanted:
            values = self.truth.new_full((len(self.truth),), math.nan)  # of faces that are not in work
            values[step.faces] = psnr_each(step.preview().cpu().float(), self.truth[step.faces])
            self.figures[step.number] = values

    def of(self, row: int) -> dict[str, float]:
        """Return one face's figures: `psnr@STEP` -> dB."""
        return {
            f"psnr@{number}": float(values[row]) for number, values in self.figures.items() if not values[row].isnan()
        }
