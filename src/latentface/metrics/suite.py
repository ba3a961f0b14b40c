"""Many metrics at once: what is at hand is loaded and scored, what is not is listed with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentface.errors import InputError, LatentfaceError
from latentface.io.pictures import check_batch
from latentface.metrics.consistency import consistency, null_space_cosine
from latentface.metrics.frechet import FrechetAccumulator
from latentface.metrics.identity import IdentityNet
from latentface.metrics.lpips import DISTANCES, FeatureDistance, load_distance
from latentface.metrics.luma import check_pair
from latentface.metrics.niqe import Niqe
from latentface.metrics.psnr import psnr, psnr_y
from latentface.metrics.registry import METRICS, find_metric
from latentface.metrics.ssim import ssim
from latentface.metrics.verification import Verification, verification

if TYPE_CHECKING:
    from latentface.degradation import Degradation


class Suite:
    """The metrics of some names, loaded.

    Args:
        names: of `METRICS`; without them all. Those measured during a run (`seconds`) are left to the searcher.
        device: where networks in PyTorch run.
        fetch: whether weights that are not at hand may be fetched.

    Attributes:
        missing: name -> why it cannot be computed here; such a metric is absent from every score.

    Raises UnknownNameError: a metric of that name does not exist.
    """

    def __init__(
        self, names: Iterable[str] | None = None, *, device: str | torch.device = "cpu", fetch: bool = True
    ) -> None:
        self.names = tuple(dict.fromkeys(METRICS if names is None else names))
        self.missing: dict[str, str] = {}
        self._device = torch.device(device)
        self._niqe: Niqe | None = None
        self._identities: dict[str, IdentityNet] = {}
        self._distances: dict[str, FeatureDistance] = {}
        for metric in [find_metric(name) for name in self.names]:
            try:
                self._load(metric.name, fetch)
            except LatentfaceError as error:
                self.missing[metric.name] = str(error)

    def _load(self, name: str, fetch: bool) -> None:
        files = METRICS[name].files
        if name in DISTANCES:
            self._distances[name] = load_distance(name, fetch=fetch).to(self._device)
        elif "niqe" in files:
            self._niqe = self._niqe or Niqe.load(fetch=fetch)
        elif (network := METRICS[name].network) and network not in self._identities:
            self._identities[network] = IdentityNet.load(network, fetch=fetch)

    def available(self, scope: str, names: Iterable[str] | None = None, *, side: int | None = None) -> tuple[str, ...]:
        """Return the loaded metrics of a scope ("image" or "set"), of all or of `names`, that faces of `side` px allow.

        Raises UnknownNameError: a name is no metric's.
        """
        wanted = self.names if names is None else tuple(find_metric(name).name for name in names)
        lacking = self.lacking(side)
        return tuple(n for n in self.names if n in wanted and n not in lacking and METRICS[n].scope == scope)

    def lacking(self, side: int | None = None) -> dict[str, str]:
        """Return `missing`, and with it the metrics that faces of `side` px are too small for, each with its reason."""
        small = {
            name: f"{name} needs faces of at least {METRICS[name].least_side} px, got {side}"
            for name in self.names
            if side is not None and side < METRICS[name].least_side
        }
        return small | self.missing

    @torch.no_grad()
    def score(
        self,
        result: Tensor,
        truth: Tensor | None = None,
        low: Tensor | None = None,
        degradation: Degradation | None = None,
        names: Sequence[str] | None = None,
    ) -> dict[str, list[float]]:
        """Score each face of a batch: metric -> B numbers.

        A metric whose truth, input or degradation is not given is left out, as are those that `lacking` names.

        Args:
            result, truth: (B, 3, H, W); low: (B, 3, h, w), all in [0, 1]; names: some of the suite's.

        Raises InputError: sizes do not fit; both are named. UnknownNameError: a name is no metric's.
        """
        check_batch(result, "result")
        if truth is not None:
            check_pair(result, truth)
        if low is not None and len(low) != len(result):
            raise InputError(
                f"result has the size {tuple(result.shape)} and low {tuple(low.shape)}, expected as many faces"
            )
        scores = {}
        for name in self.available("image", names, side=min(result.shape[-2:])):
            values = self._score(name, result, truth, low, degradation)
            if values is not None:
                scores[name] = [float(value) for value in values]
        return scores

    def _score(
        self, name: str, result: Tensor, truth: Tensor | None, low: Tensor | None, degradation: Degradation | None
    ) -> Tensor | None:
        if name == "niqe" and self._niqe is not None:
            return self._niqe.score(result)
        if name == "consistency":
            return None if low is None or degradation is None else consistency(result, low, degradation)
        if truth is None:
            return None
        if name == "null-space":
            return None if degradation is None else null_space_cosine(result, truth, degradation)
        if METRICS[name].network:
            return self._identities[METRICS[name].network].cosine(result, truth)
        if name in self._distances:
            distance: Tensor = self._distances[name](result.to(self._device), truth.to(self._device))
            return distance
        return {"psnr": psnr, "psnr-y": psnr_y, "ssim": ssim}[name](result, truth)

    @torch.no_grad()
    def score_set(
        self,
        results: Tensor,
        truths: Tensor | None = None,
        others: Tensor | None = None,
        names: Sequence[str] | None = None,
    ) -> dict[str, float]:
        """Score a whole set of faces: metric -> one number; left out as in `score`.

        Args:
            results, truths: (N, 3, H, W), N from 2 up; others: (N, 3, S, S), another photograph of each face's person, every
                person once.

        Raises InputError: sizes do not fit. UnknownNameError: a name is no metric's.
        """
        check_batch(results, "results")
        if truths is not None:
            check_pair(results, truths, ("results", "truths"))
        wanted = self.available("set", names, side=min(results.shape[-2:]))
        scores: dict[str, float] = {}
        if "niqe-pooled" in wanted and self._niqe is not None:
            scores["niqe-pooled"] = self._niqe.pooled(results)
        if "frechet" in wanted and truths is not None:
            scores["frechet"] = self._frechet(self._identities[METRICS["frechet"].network], results, truths)
        asked = [name for name in wanted if METRICS[name].reference == "other photo"]
        if others is not None:
            for network in dict.fromkeys(METRICS[name].network for name in asked):
                found = self._verification(self._identities[network], results, others)
                ending = "-sface" if network == "sface" else ""
                rank1 = float("nan") if found.rank1 is None else found.rank1
                for name, value in (("auc", found.auc), ("tar", found.true_accepts), ("rank1", rank1)):
                    if f"verification-{name}{ending}" in asked:
                        scores[f"verification-{name}{ending}"] = value
        return scores

    @staticmethod
    def _verification(net: IdentityNet, results: Tensor, others: Tensor) -> Verification:
        check_batch(others, "others")
        if len(results) != len(others) or len(results) < 2:
            raise InputError(
                f"results has the size {tuple(results.shape)} and others {tuple(others.shape)}, expected as many faces, from 2 up"
            )
        scores = net.embed(results) @ net.embed(others).to(results.device).T  # (N, N)
        apart = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        return verification(scores.diagonal(), scores[apart].view(len(scores), -1))

    @staticmethod
    def _frechet(net: IdentityNet, results: Tensor, truths: Tensor) -> float:
        sets = []
        for pictures in (results, truths):
            features = net.embed(pictures)
            sets.append(FrechetAccumulator(features.shape[1]))
            sets[-1].update(features)
        return sets[0].distance(sets[1])
