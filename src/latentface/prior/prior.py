"""The pretrained GAN as the searches see it: pictures in [0, 1], frozen weights, one descriptor."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.devices import fast_dtype
from latentface.errors import InputError, WeightsError
from latentface.io.atomic import sha256
from latentface.io.weights import read_card
from latentface.prior.blocks import Entry
from latentface.prior.exits import ExitLayer, beside, read_exits, whole_rows
from latentface.prior.family import AnyGenerator
from latentface.prior.formats import ALIGNMENTS, identity, read_prior
from latentface.prior.judge import Judge
from latentface.prior.mobilestylegan import MobileGenerator
from latentface.prior.statistics import latent_statistics
from latentface.prior.stylegan2 import Discriminator
from latentface.prior.subspace import read_subspace

T = TypeVar("T")
BUNDLED = Path(str(resources.files("latentface.prior") / "bundled"))


class Prior:
    """A generator, a judge, latent statistics and the card.

    Attributes:
        resolution: side R of its pictures; z_dim, w_dim; num_ws: style rows L.
        alignment: "ffhq" or "celeba", how its faces stand in the picture; licence: what the weights may be used for.
        sha256: of the file without its card's figures (`formats.identity`), path: of the file, if there is one.
        name: for messages and results; card: everything the file says about itself.
        judge: the discriminator that the semantic loss asks; None where there is none.
    """

    def __init__(
        self,
        generator: AnyGenerator,
        judge: Judge | Discriminator | None = None,
        statistics: Mapping[str, Tensor] | None = None,
        card: Mapping[str, Any] | None = None,
        *,
        name: str = "unnamed",
        sha256: str = "",
        path: Path | None = None,
    ) -> None:
        network: Any = generator
        self.generator: AnyGenerator = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.card: dict[str, Any] = dict(card or {})
        self.name, self.sha256, self.path = name, sha256, path
        arch = generator.arch
        self.resolution, self.z_dim, self.w_dim, self.num_ws = arch.resolution, arch.z_dim, arch.w_dim, arch.num_ws
        self.alignment = str(self.card.get("alignment", "ffhq"))
        if self.alignment not in ALIGNMENTS:
            raise WeightsError(f"{name}: its alignment is {self.alignment!r}, expected one of {', '.join(ALIGNMENTS)}")
        if isinstance(judge, Discriminator):
            judge = Judge(judge, name=name, sha256=sha256, alignment=self.alignment)
        self.judge = judge
        self.licence = str(self.card.get("licence", "unknown"))
        self.statistics = dict(statistics) if statistics else latent_statistics(generator.mapping, arch.z_dim, 100_000)
        self._factors: dict[str, Tensor] = {}

    @classmethod
    @torch.inference_mode(False)  # else what is read inside one could not be searched with
    def read(cls, path: str | Path, *, name: str | None = None) -> Self:
        """Read a prior's file. Raises WeightsError."""
        generator, discriminator, statistics, card = read_prior(path)
        name = name or Path(path).stem
        return cls(generator, discriminator, statistics, card, name=name, sha256=identity(path), path=Path(path))

    @property
    def exits_path(self) -> Path | None:
        """The file of the prior's exits, beside its own or in the package; None where there is none."""
        return self._companion("exits")

    def _companion(self, what: str) -> Path | None:
        own = [] if self.path is None else [beside(self.path, what)]
        return next((p for p in (*own, BUNDLED / f"{self.name}.{what}.safetensors") if p.is_file()), None)

    def companion(self, what: str, read: Callable[[Path], T]) -> T | None:
        """Return what `read` makes of a file that belongs to the prior, beside its own or in the package; None: there is none.

        `what` is "exits", "judge", "encoder" or "subspace".

        Raises as `read`, but not of the package's files: a file of the user's may have the name of a published prior.
        """
        path = self._companion(what)
        if path is None:
            return None
        try:
            return read(path)
        except WeightsError:
            if path.parent != BUNDLED:
                raise
            return None

    @cached_property
    def exits(self) -> dict[int, ExitLayer]:
        """The heads of the prior's exits by resolution, from `NAME.exits.safetensors`; none where there is no such file.

        Raises WeightsError: the file is broken, or another prior's.
        """
        generator = self.generator
        if not isinstance(generator, MobileGenerator):
            return {}
        heads = self.companion("exits", lambda path: read_exits(path, generator, self.sha256)) or {}
        return {r: head.to(self.device, self.dtype, memory_format=torch.channels_last) for r, head in heads.items()}  # type: ignore[call-overload]

    @cached_property
    def exits_sha256(self) -> str:
        """Of the file of the prior's exits; empty where it has none."""
        path = self.exits_path if self.exits else None
        return sha256(path.read_bytes()) if path is not None else ""

    @cached_property
    def subspace(self) -> Tensor | None:
        """Orthonormal directions of each style row, (L, D, K), from `NAME.subspace.safetensors`; None without such a file.

        Raises WeightsError: the file is broken, or another prior's.
        """
        found = self.companion(
            "subspace", lambda path: read_subspace(path, self.sha256, rows=self.num_ws, width=self.w_dim)
        )
        if found is None:
            return None
        whole = whole_rows(found.flatten(1)[None], self.num_ws)[0]  # above the exit where it was measured, its last
        return whole.view(self.num_ws, *found.shape[1:]).to(self.device, self.dtype)

    @cached_property
    def subspace_sha256(self) -> str:
        """Of the file of the prior's active subspace; empty where it has none."""
        path = self._companion("subspace") if self.subspace is not None else None
        return sha256(path.read_bytes()) if path is not None else ""

    def at(self, resolution: int) -> Self:
        """Return the prior as its exit of a resolution makes faces: fewer layers and style rows, the same latent space.

        Raises InputError: there is no such exit.
        """
        if resolution == self.resolution:
            return self
        if resolution not in self.exits:
            known = ", ".join(f"{r} px" for r in self.exits) or "none"
            raise InputError(f"there is no exit of {resolution} px (there are: {known})")
        other = copy.copy(self)
        assert isinstance(self.generator, MobileGenerator)  # no other family has exits
        other.generator = self.generator.exit(resolution, self.exits[resolution])
        other.resolution, other.num_ws = resolution, other.generator.arch.num_ws
        other.sha256 = f"{self.sha256}-{resolution}" if self.sha256 else ""
        other.__dict__["exits"] = {}
        other.__dict__["subspace"] = None if self.subspace is None else self.subspace[: other.num_ws]
        return other

    def trained_judge(self) -> Judge | None:
        """Return the judge in `NAME.judge.safetensors`, beside the prior's file or in the package; None without such a file.

        Raises WeightsError: the file is broken, or another prior's.
        """
        return self.companion("judge", self._own_judge)

    def _own_judge(self, path: Path) -> Judge:
        if read_card(path, "judge").get("prior_sha256") != self.sha256:
            raise WeightsError(
                f"{path}: this judge is another prior's; name it with --judge to take it all the same, or train one "
                "with: latentface train judge"
            )
        return Judge.read(path)

    def needed_judge(self) -> Judge:
        """Return the judge. Raises WeightsError where there is none."""
        if self.judge is None:
            raise WeightsError(
                f"the prior {self.name} has no judge (no discriminator in its file, or --judge none), which this loss needs; "
                "name a prior that has one with --judge, or take a method without it (--method pulse)"
            )
        return self.judge

    def with_judge(self, judge: Judge | None) -> Self:
        """Return the prior with another judge, or with none.

        Raises InputError: the judge knows faces of another alignment.
        """
        if judge is not None and judge.alignment != self.alignment:
            raise InputError(
                f"the judge {judge.name} knows faces in the alignment {judge.alignment}, and the prior {self.name} "
                f"makes them in {self.alignment}; take another judge, or none"
            )
        other = copy.copy(self)
        other.judge = None if judge is None else judge.to(self.device, self.dtype)
        return other

    @torch.inference_mode(False)
    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """Return a copy on another device or in another floating type; the original stays as it is."""
        other = copy.copy(self)
        network: Any = copy.deepcopy(self.generator)
        other.generator = network.to(target)
        other.judge = self.judge.to(target) if self.judge is not None else None
        other.statistics = {k: v.to(target) for k, v in self.statistics.items()}
        other._factors = {}
        if "exits" in self.__dict__:
            other.__dict__["exits"] = {r: copy.deepcopy(head).to(target) for r, head in self.exits.items()}
        if isinstance(directions := self.__dict__.get("subspace"), Tensor):
            other.__dict__["subspace"] = directions.to(target)
        return other

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.w_mean.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating type in which it computes."""
        return self.w_mean.dtype

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

    def mapping(self, z: Tensor) -> Tensor:
        """z (B, z_dim) -> w_plus (B, L, D), all rows alike."""
        return self.generator.style(z)

    @property
    def fast_dtype(self) -> torch.dtype | None:
        """The floating type in which `synthesis` may be faster than in its own, by family and device; None for none."""
        return fast_dtype(self.device) if self.generator.halves and self.dtype == torch.float32 else None

    def synthesis(self, w_plus: Tensor, noise: Sequence[Tensor | None] | None = None, *, fast: bool = False) -> Tensor:
        """w_plus (B, L, D) -> pictures (B, 3, R, R), scaled to [0, 1] and not clamped.

        Args:
            noise: L - 1 maps (B or 1, 1, r, r); None stands for the file's constant maps.
            fast: features in `fast_dtype`, for the steps of a search: pictures are off by half a grey level, their
                slopes in w_plus by 1 to 5 % (docs/performance.md). The picture's own type stays.
        """
        if w_plus.ndim != 3 or tuple(w_plus.shape[1:]) != (self.num_ws, self.w_dim):
            raise InputError(f"w_plus is {tuple(w_plus.shape)}, expected (B, {self.num_ws}, {self.w_dim})")
        picture = self.generator.synthesis(w_plus, noise, dtype=self.fast_dtype if fast else None)[1]
        assert picture is not None
        return self.to_unit(picture.to(self.dtype))

    def enter(self, w_plus: Tensor, entry: Entry, noise: Sequence[Tensor | None] | None = None) -> Tensor:
        """Finish a picture from where `leave` left it: (side r, features (B, C, r, r), RGB skip in [-1, 1] or None)."""
        picture = self.generator.synthesis(w_plus, noise, enter=entry)[1]
        assert picture is not None
        return self.to_unit(picture)

    def leave(
        self, w_plus: Tensor, side: int, noise: Sequence[Tensor | None] | None = None, *, enter: Entry | None = None
    ) -> Entry:
        """Return where synthesis stands after the block of a side, from the start or from an earlier entry."""
        return side, *self.generator.synthesis(w_plus, noise, enter=enter, leave=side)

    def repaint(self, w_plus: Tensor, side: int, features: Tensor) -> Entry:
        """Return an entry at other features than the generator's own: a RGB skip, where there is one, starts anew from them."""
        return side, features, self.generator.synthesis.repaint(features, w_plus, side)

    def share_below(self, side: int) -> float:
        """Return which part of a pass's multiplications in convolutions is done up to the block of a side."""
        work = self.generator.synthesis.work()
        return sum(v for r, v in work.items() if r <= side) / sum(work.values())

    @staticmethod
    def to_unit(pictures: Tensor) -> Tensor:
        """[-1, 1] -> [0, 1]; only this package's `prior` knows [-1, 1]."""
        return torch.add(0.5, pictures, alpha=0.5)

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
                factor = vectors @ torch.diag(values**power) @ vectors.t()
                self._factors[key] = factor.to(self.statistics["gauss_mean"])
        return self._factors[name]
