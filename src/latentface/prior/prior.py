"""The pretrained GAN as the searches see it: pictures in [0, 1], frozen weights, one descriptor."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.errors import InputError, WeightsError
from latentface.prior.formats import ALIGNMENTS, identity, read_prior
from latentface.prior.statistics import latent_statistics
from latentface.prior.stylegan2 import Discriminator, Generator


class Prior:
    """A generator, its discriminator (where the file has one), latent statistics and the card.

    Attributes:
        resolution: side R of its pictures; z_dim, w_dim; num_ws: style rows L.
        alignment: "ffhq" or "celeba", how its faces stand in the picture; licence: what the weights may be used for.
        sha256: of the file without its card's figures (`formats.identity`), path: of the file, if there is one.
        name: for messages and results; card: everything the file says about itself.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator | None,
        statistics: Mapping[str, Tensor] | None = None,
        card: Mapping[str, Any] | None = None,
        *,
        name: str = "unnamed",
        sha256: str = "",
        path: Path | None = None,
    ) -> None:
        self.generator: Generator = generator.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.discriminator: Discriminator | None = None
        if discriminator is not None:
            self.discriminator = discriminator.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.card: dict[str, Any] = dict(card or {})
        self.name, self.sha256, self.path = name, sha256, path
        arch = generator.arch
        self.resolution, self.z_dim, self.w_dim, self.num_ws = arch.resolution, arch.z_dim, arch.w_dim, arch.num_ws
        self.alignment = str(self.card.get("alignment", "ffhq"))
        if self.alignment not in ALIGNMENTS:
            raise WeightsError(f"{name}: its alignment is {self.alignment!r}, expected one of {', '.join(ALIGNMENTS)}")
        self.licence = str(self.card.get("licence", "unknown"))
        self.statistics = dict(statistics) if statistics else latent_statistics(generator.mapping, arch.z_dim, 100_000)
        self._factors: dict[str, Tensor] = {}

    @classmethod
    def read(cls, path: str | Path, *, name: str | None = None) -> Self:
        """Read a prior's file. Raises WeightsError."""
        generator, discriminator, statistics, card = read_prior(path)
        return cls(
            generator,
            discriminator,
            statistics,
            card,
            name=name or Path(path).stem,
            sha256=identity(path),
            path=Path(path),
        )

    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """Return a copy on another device or in another floating type; the original stays as it is."""
        other = copy.copy(self)
        other.generator = copy.deepcopy(self.generator).to(target)
        other.discriminator = copy.deepcopy(self.discriminator).to(target) if self.discriminator is not None else None
        other.statistics = {k: v.to(target) for k, v in self.statistics.items()}
        other._factors = {}
        return other

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.generator.mapping.w_avg.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating type in which it computes."""
        return self.generator.mapping.w_avg.dtype

    @property
    def w_mean(self) -> Tensor:
        """Mean of w, (D,)."""
        return self.statistics["mean"]

    @property
    def w_std(self) -> Tensor:
        """Standard deviation of w, (D,)."""
        return self.statistics["std"]

    @property
    def layers(self) -> list[int]:
        """The resolutions between which `synthesis` may be left and entered, [4, 8, ..., R]."""
        return list(self.generator.synthesis.resolutions)

    @property
    def noise_shapes(self) -> list[tuple[int, int]]:
        """Sides of the L - 1 noise maps, in the order of the layers."""
        return self.generator.synthesis.noise_shapes

    # -- the generator ------------------------------------------------------------------------------------------------

    def mapping(self, z: Tensor) -> Tensor:
        """z (B, z_dim) -> w_plus (B, L, D), all rows alike."""
        return self.generator.style(z)

    def synthesis(self, w_plus: Tensor, noise: Sequence[Tensor | None] | None = None) -> Tensor:
        """w_plus (B, L, D) -> pictures (B, 3, R, R), scaled to [0, 1] and not clamped.

        `noise` holds L - 1 maps (B or 1, 1, r, r); None stands for the file's constant maps.
        """
        if w_plus.ndim != 3 or tuple(w_plus.shape[1:]) != (self.num_ws, self.w_dim):
            raise InputError(f"w_plus is {tuple(w_plus.shape)}, expected (B, {self.num_ws}, {self.w_dim})")
        return self.to_unit(self.generator.synthesis(w_plus, noise)[1])

    def enter(
        self,
        w_plus: Tensor,
        resolution: int,
        features: Tensor,
        rgb: Tensor | None = None,
        noise: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Finish a picture from the features (B, C, r, r) and RGB skip (in [-1, 1], or None) after block `resolution`."""
        return self.to_unit(self.generator.synthesis(w_plus, noise, enter=(resolution, features, rgb))[1])

    def leave(
        self, w_plus: Tensor, resolution: int, noise: Sequence[Tensor | None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return features (B, C, r, r) and RGB skip (B, 3, r, r), in [-1, 1], after block `resolution`."""
        features, rgb = self.generator.synthesis(w_plus, noise, leave=resolution)
        return features, rgb

    @staticmethod
    def to_unit(pictures: Tensor) -> Tensor:
        """[-1, 1] -> [0, 1]; only this package's `prior` knows [-1, 1]."""
        return torch.add(0.5, pictures, alpha=0.5)

    # -- the discriminator --------------------------------------------------------------------------------------------

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Return D's features of pictures (B, 3, R, R) in [0, 1] after each residual block, from R/2 px to 4 px.

        They come before the minibatch deviation, so nothing couples the batch.
        """
        return self._judge(pictures).features(self._to_signed(pictures))

    def logits(self, pictures: Tensor) -> Tensor:
        """Return D's logits (B,) of pictures (B, 3, R, R) in [0, 1]; each picture is judged alone."""
        d = self._judge(pictures)
        return torch.cat([d(one) for one in self._to_signed(pictures).split(1)])

    def _judge(self, pictures: Tensor) -> Discriminator:
        if self.discriminator is None:
            raise WeightsError(
                f"the prior {self.name} has no discriminator, which the semantic loss needs; use another prior, or a method without it (--method pulse)"
            )
        if pictures.ndim != 4 or tuple(pictures.shape[1:]) != (3, self.resolution, self.resolution):
            raise InputError(
                f"pictures are {tuple(pictures.shape)}, expected (B, 3, {self.resolution}, {self.resolution})"
            )
        return self.discriminator

    @staticmethod
    def _to_signed(pictures: Tensor) -> Tensor:
        return torch.sub(pictures * 2, 1).contiguous(memory_format=torch.channels_last)

    # -- the gaussianised W -------------------------------------------------------------------------------------------

    def degaussianise(self, v: Tensor, *, whitened: bool = False) -> Tensor:
        """Standard normal v (..., D) -> w (..., D): LeakyReLU(0.2)(v * std + mean), PULSE's section 3.2.

        `whitened` uses the full covariance, v C^(1/2) + mean, instead of the standard deviations.
        """
        s = self.statistics
        u = v @ self._factor("root") if whitened else v * s["gauss_std"]
        return F.leaky_relu(u + s["gauss_mean"], 0.2)

    def gaussianise(self, w: Tensor, *, whitened: bool = False) -> Tensor:
        """The inverse of `degaussianise`: w (..., D) -> v (..., D)."""
        s = self.statistics
        u = F.leaky_relu(w, 5.0) - s["gauss_mean"]
        return u @ self._factor("inverse") if whitened else u / s["gauss_std"]

    def _factor(self, name: str) -> Tensor:
        if name not in self._factors:
            cov = self.statistics["gauss_cov"].cpu().double()
            values, vectors = torch.linalg.eigh((cov + cov.t()) / 2)
            values = values.clamp_min(values.max() * 1e-6)  # float16 on disk leaves tiny negative ones
            for key, power in (("root", 0.5), ("inverse", -0.5)):
                self._factors[key] = (vectors @ torch.diag(values**power) @ vectors.t()).to(
                    self.statistics["gauss_mean"]
                )
        return self._factors[name]
