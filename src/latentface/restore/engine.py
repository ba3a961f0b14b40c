"""A picture in, a picture out: what the command line, the page and the cluster call.

An aligned face goes `low -> degradation -> explore(prior) -> projection -> high`. Whole photographs add finding,
aligning and pasting (`latentface.faces`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentface.degradation import Degradation, Downscale, project, resize
from latentface.devices import out_of_memory, pick_device, usual_batch
from latentface.errors import InputError
from latentface.explore.coarse import coarse_steps, exit_for, explore_coarse
from latentface.explore.metric import metric_is_kept
from latentface.explore.registry import find_method
from latentface.explore.result import Exploration, OnStep, psnr_each
from latentface.explore.rlse import RlseSettings, from_w_plus
from latentface.explore.start.bank import WarmStart
from latentface.faces.detail import detail_side
from latentface.faces.trust import trusted
from latentface.io.pictures import LUMA, check_batch, to_tensor
from latentface.prior.prior import Prior
from latentface.prior.published import EMBEDDED
from latentface.prior.registry import load_prior
from latentface.restore.faceresult import Upscaled
from latentface.restore.settings import UpscaleSettings

if TYPE_CHECKING:
    from latentface.explore.result import Step

NOTICE = (
    "One plausible face among many, invented where the input says nothing. "
    "It is not evidence of who a person is and must not be used to identify anyone."
)
CHANNELS_TO_LUMA = math.hypot(*LUMA)  # of the deviation of noise that is each channel's own


class Upscaler:
    """Enlarges aligned faces with one prior and one set of settings, many at a time.

    Args:
        prior: on the device to compute on.
        batch: rows (faces times samples) computed together; None: what suits prior and device (`usual_batch`). Halved when
            the device's memory is too small.
        say: told in words when a batch was halved.
    """

    def __init__(
        self,
        prior: Prior,
        settings: UpscaleSettings | None = None,
        *,
        batch: int | None = None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        if batch is not None and batch < 1:
            raise InputError(f"the batch is {batch}; expected at least 1")
        self.prior, self.settings, self.say = prior, settings or UpscaleSettings(), say
        self.batch = usual_batch(prior.resolution, prior.device) if batch is None else batch
        self.method = find_method(self.settings.method)
        self.method_settings = self.settings.method_settings()
        self.start = WarmStart(prior, self.settings.start)
        if self.start.kind != "random" and isinstance(self.method_settings, RlseSettings):
            self.method_settings = from_w_plus(self.method_settings)  # as it does itself: the record must say so
        self.coarse_steps = coarse_steps(
            self.method, prior, self.method_settings, self.settings.preset, self.settings.full_steps
        )
        self._degradations: dict[tuple[int, int, float], Downscale] = {}

    def plan(self, height: int, width: int) -> tuple[int, int]:
        """Return the sides (low, high) for an aligned face of that size.

        Raises:
            InputError: not square, larger than the prior's faces, or a factor that leads beyond them.
        """
        most = self.prior.resolution
        if height != width:
            raise InputError(f"the face is {width} x {height} px; an aligned face is square: cut it out first")
        if height < 2:
            raise InputError(f"the face is {width} x {height} px; at least 2 x 2 are needed")
        if height >= most:
            raise InputError(
                f"the face is {width} x {height} px, and the prior {self.prior.name} makes faces of {most} px: there is nothing to enlarge; shrink it first or use a larger prior (-p)"
            )
        factor = self.settings.factor
        high = most if factor is None else round(height * factor)
        if high > most:
            raise InputError(
                f"{height} px times {factor:g} is {high} px, and the prior {self.prior.name} makes faces of {most} px; the largest factor here is {most / height:g}"
            )
        return height, max(high, height)

    def request(self, low: int, high: int) -> dict[str, Any]:
        """Return what decides a result besides the input, as plain JSON types, with the notice and the licence."""
        return {
            "method": self.settings.method,
            "settings": {**asdict(self.settings), "method_settings": asdict(self.method_settings)},
            "prior": self.prior.name,
            "prior_sha256": self.prior.sha256,
            "prior_licence": self.prior.licence,
            "judge": self.prior.judge and self.prior.judge.name,
            "judge_sha256": self.prior.judge and self.prior.judge.sha256,
            "seed": self.settings.seed,
            "start": self.start.kind,
            **(
                {"coarse_steps": self.coarse_steps, "exits_sha256": self.prior.exits_sha256}
                if self.coarse_steps
                else {}
            ),
            **({"wander": list(self.start.wander)} if any(self.start.wander) else {}),
            **({"encoder_sha256": self.start.sha256} if self.start.sha256 else {}),
            "low_size": [low, low],
            "high_size": [high, high],
            "generated": True,
            "notice": NOTICE,
        }

    def exit_side(self, degradation: Degradation) -> int | None:
        """Return the side of the exit at which faces of this degradation are searched first, None for none."""
        faces = 1 if degradation.mask is None else len(degradation.mask)
        return exit_for(self.prior, degradation, faces) if self.coarse_steps else None

    def _degradation(self, low: int, high: int, sigma: float) -> Downscale:
        key = low, high, sigma
        if key not in self._degradations:
            self._degradations[key] = Downscale(low, high, self.settings.kernel, sigma)
        return self._degradations[key]

    def searched_side(self, face: Tensor, sigma: float, side: int | None = None) -> int:
        """Return the side in pixels with which a face is searched: its own, or where it is soft a smaller one.

        Arguments as `detail_side`. Networks that were trained on faces of one size take every face as it is.
        """
        own, detail = side or face.shape[-1], self.settings.detail
        if detail == "full" or not self.method.searches:
            return own
        return detail_side(face, sigma, side) if isinstance(detail, str) else min(detail, own)

    def aligned_searched_side(self, low: Tensor) -> int:
        """Return the side in pixels with which an aligned face (3, h, w) is searched."""
        return self.searched_side(low, self.settings.sigma * CHANNELS_TO_LUMA)

    def upscale(
        self, low: Tensor, on_step: Callable[[Sequence[int], Step], bool | None] | None = None
    ) -> list[Upscaled]:
        """Enlarge faces of one size, (B, 3, h, w) in [0, 1].

        Args:
            on_step: told (rows in work, step) at each step of a search; True stops the search at its best so far. Sample k
                of face i is row i * samples + k.

        Raises:
            InputError: see `plan`.
        """
        check_batch(low, "low")
        low = low.detach().float().cpu()  # searches take it to the prior's device; what follows them is done here
        _, target = self.plan(*low.shape[-2:])
        sides = [self.aligned_searched_side(face) for face in low]
        results: dict[int, Upscaled] = {}
        for side in sorted(set(sides)):
            members = [i for i, own in enumerate(sides) if own == side]
            seen = own = low[members]
            if side != low.shape[-1]:
                seen = resize(own, side).clamp(0, 1)
            made = self._upscale(seen, own, target, self._told(members, on_step))
            results.update(zip(members, made, strict=True))
        return [results[i] for i in range(len(low))]

    def _told(
        self, members: Sequence[int], on_step: Callable[[Sequence[int], Step], bool | None] | None
    ) -> Callable[[range, Step], bool | None]:
        """Return the callback for some of the faces: their rows go by the places that they have among all."""
        count = self.settings.samples

        def tell(rows: range, step: Step) -> bool | None:
            return (
                on_step(tuple(members[row // count] * count + row % count for row in rows), step) if on_step else None
            )

        return tell

    def _upscale(
        self, seen: Tensor, low: Tensor, target: int, on_step: Callable[[range, Step], bool | None]
    ) -> list[Upscaled]:
        """Enlarge faces (B, 3, s, s) of the detail that they have, each of which stands for an input `low` (B, 3, h, w)."""
        count = self.settings.samples
        sigma = self.settings.sigma * seen.shape[-1] / low.shape[-1]  # a mean of several pixels has less noise
        seeds = [self.settings.seed + k for _ in range(len(seen)) for k in range(count)]
        rows = seen.repeat_interleave(count, 0)  # (B N, 3, s, s)
        parts: list[tuple[Tensor, Tensor, float]] = []
        start = 0
        while start < len(rows):
            size = self.at_once(len(rows) - start)
            together = min(size, self.batch)
            try:
                parts.append(self._search(rows, seeds, range(start, start + size), target, sigma, on_step))
                start += size
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if together == 1:
                    raise InputError(
                        "one face does not fit this device's memory; use --device cpu or a smaller prior"
                    ) from None
                self.batch = together // 2
                if self.prior.device.type == "cuda":
                    torch.cuda.empty_cache()
                self.say(f"a batch of {together} does not fit the device's memory; going on with {self.batch}")
        high = torch.cat([p[0] for p in parts]).view(len(seen), count, 3, target, target)
        steps = torch.cat([p[1] for p in parts]).view(len(seen), count)
        seconds = sum(p[2] for p in parts) / len(seen)
        pairs = [(face, face) for face in low] if seen is low else list(zip(low, seen, strict=True))
        return [
            self._result(*pair, samples, sigma, int(step[0]), seconds)
            for pair, samples, step in zip(pairs, high, steps, strict=True)
        ]

    def at_once(self, rows: int) -> int:
        """Return how many of so many rows one search takes: a batch, or all where one that stops makes room for the next."""
        return rows if self._queues else min(self.batch, rows)

    @property
    def _queues(self) -> bool:
        return getattr(self.method_settings, "stop", None) is not None

    def explore(
        self, low: Tensor, degradation: Degradation, seeds: Sequence[int], on_step: OnStep | None = None
    ) -> Exploration:
        """Search for faces, rows of low pictures (B, 3, h, w), by the settings' method from the settings' start."""
        low = low.to(self.prior.device)
        if getattr(self.method_settings, "pixel_norm", "") == "prior" and not metric_is_kept(self.prior, degradation):
            self.say(f"measuring how the prior's faces vary at {low.shape[-1]} px, once: about half a minute on a CPU")
        options: dict[str, Any] = {"places": self.batch} if self._queues else {}
        start = self.start(low, degradation, seeds)
        if start is not None:
            options["start"] = start
        return explore_coarse(
            self.method,
            self.prior,
            low,
            steps=self.coarse_steps,
            degradation=degradation,
            settings=self.method_settings,
            seeds=seeds,
            on_step=on_step,
            **options,
        )

    def _search(
        self,
        low: Tensor,
        seeds: Sequence[int],
        rows: range,
        target: int,
        sigma: float,
        on_step: Callable[[range, Step], bool | None],
    ) -> tuple[Tensor, Tensor, float]:
        began = time.perf_counter()
        low, seeds = low[rows.start : rows.stop], seeds[rows.start : rows.stop]
        side, most = low.shape[-1], self.prior.resolution
        found = self.explore(low, self._degradation(side, most, sigma), seeds, lambda step: on_step(rows, step))
        high = found.high.float().cpu()
        if target != most:
            high = resize(high, target).clamp(0, 1)
        if self.settings.projection:
            degradation = self._degradation(side, target, sigma)
            high = project(degradation, trusted(degradation, high, low), low)
        return high, found.best_step.cpu(), time.perf_counter() - began

    def _result(
        self, low: Tensor, seen: Tensor, samples: Tensor, sigma: float, best_step: int, seconds: float
    ) -> Upscaled:
        side, target = seen.shape[-1], samples.shape[-1]
        degradation = self._degradation(side, target, sigma)
        high = samples[0]
        if self.settings.answer == "mean":
            high = samples.mean(0)
            if self.settings.projection:
                high = project(degradation, high[None], seen[None])[0]
        consistency = float(psnr_each(degradation.forward(high[None]), seen[None])[0])
        record = {
            **self.request(low.shape[-1], target),
            "detail_size": [side, side],
            **(
                {"exit_side": self.exit_side(self._degradation(side, self.prior.resolution, sigma))}
                if self.coarse_steps
                else {}
            ),
            "consistency_db": round(consistency, 2),
            "best_step": best_step,
            "seconds": round(seconds, 3),
            "device": str(self.prior.device),
            "steps_dtype": str(self.prior.fast_dtype or self.prior.dtype).removeprefix("torch."),
        }
        return Upscaled(high, low, seen, samples, consistency, best_step, record)


def prior_named(prior: str | Path | None, method: str) -> str | Path | None:
    """Return which prior to load: the one named, else None for the default, or the embedded one for a method without a search.

    The baselines were trained for its size, and nothing needs to be fetched for an interpolation.
    """
    return EMBEDDED if prior is None and not find_method(method).searches else prior


def upscale(
    picture: str | Path | bytes | Image.Image | np.ndarray[Any, Any] | Tensor,
    factor: float | None = None,
    *,
    prior: Prior | str | Path | None = None,
    device: str = "auto",
    **settings: Any,
) -> Upscaled:
    """Enlarge one aligned face.

    Args:
        picture: a path, bytes, a Pillow image, an array (H, W, 3) or a tensor (3, H, W) in [0, 1]; square.
        factor: enlargement of the side; None: as large as the prior's faces are.
        prior: a loaded prior, a name or a file; None: as `load_prior` chooses.
        settings: any attribute of `UpscaleSettings`, such as method="rlse", seed=1 or samples=4.

    Raises:
        InputError: a picture or a setting that cannot be used. WeightsError: a prior that cannot.
    """
    try:
        chosen = UpscaleSettings(factor=factor, **settings)
    except TypeError as error:
        raise InputError(f"{error}; the settings are {', '.join(UpscaleSettings.__dataclass_fields__)}") from None
    low = to_tensor(picture)
    loaded = prior if isinstance(prior, Prior) else load_prior(prior_named(prior, chosen.method), pick_device(device))
    return Upscaler(loaded, chosen).upscale(low[None])[0]
