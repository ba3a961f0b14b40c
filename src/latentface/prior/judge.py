"""The judge: a discriminator that looks at faces of its own size, whichever prior made them.

It comes out of a prior's file, or out of a file of its own (`io.weights`), which `latentface.train.judge` writes for one
prior; the card names that prior's sha256.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from latentface.devices import seeded
from latentface.errors import InputError, WeightsError
from latentface.io.atomic import sha256 as sha256_of
from latentface.io.weights import filled, read_card, read_tensors, weights_kind, write_weights
from latentface.prior.architecture import discriminator_facts, discriminator_from
from latentface.prior.formats import identity, read_discriminator
from latentface.prior.stylegan2 import Discriminator


def signed(pictures: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1], as a discriminator takes pictures (B, 3, r, r); channels last."""
    return torch.sub(pictures * 2, 1).contiguous(memory_format=torch.channels_last)


class Judge:
    """A frozen discriminator.

    Attributes:
        resolution: side of its pictures; blocks: how many features they have; alignment: how faces stand in them.
        name, sha256: of the file that holds it, a prior's or its own.
    """

    def __init__(
        self, network: Discriminator, *, name: str = "unnamed", sha256: str = "", alignment: str = "ffhq"
    ) -> None:
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.resolution, self.blocks = network.arch.resolution, len(network.resolutions)
        self.name, self.sha256, self.alignment = name, sha256, alignment

    @classmethod
    @torch.inference_mode(False)  # else what is read inside one could not be searched with
    def read(cls, path: str | Path, *, name: str | None = None) -> Self:
        """Read a judge's file, or the discriminator of a prior's. Raises WeightsError."""
        network: Discriminator | None
        if weights_kind(path) == "judge":
            (network, card), sha256 = _read(path), sha256_of(Path(path).read_bytes())
        else:
            (network, card), sha256 = read_discriminator(path), identity(path)
        if network is None:
            raise WeightsError(f"{path}: there is no discriminator in it; name another prior as the judge")
        own = name or Path(path).stem
        return cls(network, name=own, sha256=sha256, alignment=str(card.get("alignment", "ffhq")))

    def to(self, *target: torch.device | str | torch.dtype) -> Self:
        """Return a copy on another device, in another floating type, or both."""
        other = copy.copy(self)
        other.network = copy.deepcopy(self.network).to(*target)
        return other

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Return the features of pictures (B, 3, r, r) in [0, 1] after each residual block, from r/2 px to 4 px.

        They come before the minibatch deviation, so nothing couples the batch.
        """
        features: list[Tensor] = self.network.features(self._to_signed(pictures))
        return features

    def logits(self, pictures: Tensor) -> Tensor:
        """Return the logits (B,) of pictures (B, 3, r, r) in [0, 1], high for photographs; each picture is judged alone."""
        return torch.cat([self.network(one) for one in self._to_signed(pictures).split(1)])

    def _to_signed(self, pictures: Tensor) -> Tensor:
        r = self.resolution
        if pictures.ndim != 4 or tuple(pictures.shape[1:]) != (3, r, r):
            raise InputError(f"pictures are {tuple(pictures.shape)}; the judge {self.name} takes (B, 3, {r}, {r})")
        return signed(pictures)

    def untrained(self) -> "Judge":
        """Return a judge of the same shape that has never seen a face: a control."""
        with seeded(0):
            network = Discriminator(self.network.arch)
        like: Any = next(self.network.parameters())
        return Judge(network.to(like), name=f"{self.name}, untrained", alignment=self.alignment)


def write_judge(path: str | Path, network: Discriminator, prior_sha256: str, card: Mapping[str, Any]) -> None:
    """Write a judge's file atomically; the card is completed by its architecture.

    Raises OutputError: it cannot be written. WeightsError: a number does not fit float16.
    """
    facts = {"architecture": discriminator_facts(network.arch), "prior_sha256": prior_sha256}
    write_weights(path, "judge", network.state_dict(), card, facts)


def _read(path: str | Path) -> tuple[Discriminator, dict[str, Any]]:
    card = read_card(path, "judge")
    try:
        arch = discriminator_from(card["architecture"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: the card's architecture cannot be used ({error})") from None
    return filled(lambda: Discriminator(arch), read_tensors(path), f"{path}: "), card
