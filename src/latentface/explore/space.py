"""Where a search moves: z, w, or w_plus, gaussianised as in PULSE, on a sphere or in a ball.

A space turns seeds into start variables, variables into w_plus, and puts variables back where they may be. Random
numbers are drawn as one flat vector a face: the latent first, then the noise maps.

Shape legend: B faces, L style rows, D width of w.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentface.errors import InputError, UnknownNameError
from latentface.prior.prior import Prior

Variables = dict[str, Tensor]  # leaf tensors with a row a face

SPACES = ("z", "w", "w_plus")
CONSTRAINTS = ("sphere", "ball", "none")
NOISES = ("constant", "drawn", "searched")


@dataclass(frozen=True, slots=True)
class Space:
    """A latent space of one prior.

    Attributes:
        kind: "z"; "w" (one row for all layers); "w_plus" (a free row a layer). The last two are gaussianised.
        tied: w_plus starts with all rows alike, as a mapped z has them.
        constraint: "sphere" rescales every row to its norm at the start, "ball" only when it is longer.
        noise: the file's "constant" maps, "drawn" from the seed and fixed, or the first `noise_maps` "searched"
            (PULSE: 5, all others constant but the last, which is zero).
    """

    prior: Prior
    kind: str = "w_plus"
    tied: bool = False
    constraint: str = "sphere"
    noise: str = "constant"
    noise_maps: int = 5

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.kind, SPACES, "latent space"),
            (self.constraint, CONSTRAINTS, "constraint"),
            (self.noise, NOISES, "noise rule"),
        ):
            if value not in known:
                raise UnknownNameError(what, value, known)
        if self.noise_maps < 0:
            raise InputError(f"noise_maps is {self.noise_maps}; expected 0 or more")

    @property
    def rows(self) -> int:
        """Rows of the variable: L for w_plus, else 1."""
        return self.prior.num_ws if self.kind == "w_plus" else 1

    @property
    def width(self) -> int:
        """Width of the variable."""
        return self.prior.z_dim if self.kind == "z" else self.prior.w_dim

    def draw(self, seeds: Sequence[int]) -> Variables:
        """Return start variables: `latent` (B, rows, width) and, where noise is not constant, `noise<i>` (B, 1, r, r)."""
        prior = self.prior
        shapes = prior.noise_shapes if self.noise != "constant" else []
        if self.noise == "searched":
            shapes = shapes[:-1][: self.noise_maps]  # never the last, which is zero
        first = self.rows * self.width
        flat = drawn(seeds, first + sum(h * w for h, w in shapes)).to(prior.device, prior.dtype)
        latent = flat[:, :first].view(-1, self.rows, self.width)
        if self.tied:
            latent = latent[:, :1].repeat(1, self.rows, 1)
        out: Variables = {"latent": latent.contiguous()}
        for i, (h, w) in enumerate(shapes):
            out[f"noise{i}"] = flat[:, first : first + h * w].view(-1, 1, h, w).contiguous()
            first += h * w
        return out

    def searched(self, variables: Variables) -> Variables:
        """Return those of `draw`'s variables that a search moves."""
        return variables if self.noise == "searched" else {"latent": variables["latent"]}

    def w_plus(self, latent: Tensor) -> Tensor:
        """latent (B, rows, width) -> w_plus (B, L, D)."""
        if self.kind == "z":
            return torch.cat([self.prior.mapping(z) for z in latent[:, 0].split(1)])  # rounding knows no neighbours
        w = self.prior.degaussianise(latent)
        return w if self.kind == "w_plus" else w.expand(-1, self.prior.num_ws, -1)

    def latent_of(self, w: Tensor) -> Tensor:
        """w (B, D) or w_plus (B, L, D) -> the latent whose w_plus it is, or is nearest where all rows are one; not for z."""
        if self.kind == "z":
            raise InputError("a w cannot be turned back into a z; use the space w or w_plus")
        rows = w[:, None] if w.ndim == 2 else w
        rows = rows.mean(1, keepdim=True) if self.rows == 1 else rows.expand(-1, self.rows, -1)
        return self.prior.gaussianise(rows).contiguous()

    def noise_maps_of(self, variables: Variables) -> list[Tensor | None]:
        """Return the L - 1 noise maps that synthesis takes; None stands for a constant one."""
        maps: list[Tensor | None] = [variables.get(f"noise{i}") for i in range(self.prior.num_ws - 1)]
        if self.noise == "searched" and self.prior.noise_shapes:  # not every family has noise
            h, w = self.prior.noise_shapes[-1]
            maps[-1] = variables["latent"].new_zeros(1, 1, h, w)  # PULSE leaves the last map out
        return maps

    def with_w_plus(self, variables: Variables) -> Variables:
        """Return variables with the w_plus (B, L, D) of their latent."""
        return {**variables, "w_plus": self.w_plus(variables["latent"])}

    @torch.no_grad()
    def paint(self, variables: Variables) -> Tensor:
        """Return the pictures (B, 3, R, R) of variables in the prior's own floating type, one face at a time."""
        w_plus, noise = self.w_plus(variables["latent"]), self.noise_maps_of(variables)
        rows = range(len(w_plus))
        maps = [[m if m is None or len(m) == 1 else m[i : i + 1] for m in noise] for i in rows]
        return torch.cat([self.prior.synthesis(w_plus[i : i + 1], maps[i]) for i in rows])

    def constraint_on(self, start: Variables) -> Callable[[Variables], None] | None:
        """Return the function that puts variables back, in place, given where they started."""
        if self.constraint == "none":
            return None
        norms = {k: _norm(k, v) for k, v in start.items()}

        @torch.no_grad()
        def constrain(variables: Variables) -> None:
            for name, value in variables.items():
                factor = norms[name] / _norm(name, value).clamp_min(1e-12)
                value.mul_(factor.clamp_max(1.0) if self.constraint == "ball" else factor)

        return constrain


def _norm(name: str, value: Tensor) -> Tensor:
    """Norm per style row of a latent, per map of a noise map, kept for broadcasting."""
    dims = [-1] if name.startswith("latent") else [-2, -1]
    return value.square().sum(dims, keepdim=True).sqrt()


def checked_start(prior: Prior, start: Tensor, faces: int) -> Tensor:
    """Return a start, w (B, D) or w_plus (B, L, D), where the prior computes. Raises InputError for another shape."""
    rows, width = prior.num_ws, prior.w_dim
    if tuple(start.shape) not in ((faces, width), (faces, rows, width)):
        raise InputError(
            f"start is {tuple(start.shape)}; expected w ({faces}, {width}) or w_plus ({faces}, {rows}, {width})"
        )
    return start.detach().to(prior.device, prior.dtype).clone()


def drawn(seeds: Sequence[int], length: int) -> Tensor:
    """Return standard normal numbers (B, length) in float32, one CPU generator a face: a face's draw is its seed's."""
    return torch.stack([torch.randn(length, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
