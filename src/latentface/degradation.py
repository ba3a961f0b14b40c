"""How a large face becomes a small one: the linear operator that every method inverts.

`Downscale` is separable, x = R Y R^T with one small matrix R (low, high), so its adjoint, its pseudo-inverse and the
projection onto the pictures that shrink exactly to x are closed forms. `Degradation` is the protocol; the warp of a
face in a photograph (`latentface.faces`) keeps it too.
"""

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.errors import InputError, UnknownNameError

KERNELS = ("bicubic", "bilinear", "box", "lanczos")
# How far a pixel of a face from a search is off at so many px a side, where sigma > 0 weighs it against the input
PRIOR_SIGMA, PRIOR_SIZE = 0.1, 128


@runtime_checkable
class Degradation(Protocol):
    """A linear operator A from high pictures (B, 3, H, W) to low ones (B, 3, h, w).

    `sigma` >= 0 is the standard deviation of the input's noise: how hard a method may trust x.
    """

    sigma: float

    @property
    def low_size(self) -> tuple[int, int]:
        """(h, w)."""

    @property
    def high_size(self) -> tuple[int, int]:
        """(H, W)."""

    @property
    def factors(self) -> tuple[float, ...]:
        """High pixels to a low one, one number for all faces or one a face."""

    @property
    def kind(self) -> Hashable:
        """Operators of one kind may share a batch."""

    @property
    def mask(self) -> Tensor | None:
        """Which low pixels count, (B or 1, 1, h, w) bool; the others are 0 in `forward`. None: all of them."""

    def forward(self, high: Tensor) -> Tensor:
        """Return A Y; differentiable."""

    def adjoint(self, low: Tensor) -> Tensor:
        """Return A^T x."""

    def pinv(self, low: Tensor) -> Tensor:
        """Return A+ x, the smallest picture whose A is x; differentiable."""

    def correct(self, residual: Tensor) -> Tensor:
        """Return the change of Y that answers x - A Y: A+ r at sigma 0, less where noise must be expected."""

    def at(self, high: int) -> "Degradation":
        """Return the same operator from pictures of another high side."""

    def select(self, faces: Sequence[int]) -> "Degradation":
        """Return the operator of these faces of a batch."""

    def join(self, parts: Sequence[Any]) -> "Degradation":
        """Return the operator of a batch of faces, out of operators of this kind."""

    def fit(self, pictures: Tensor, size: int | None = None) -> Tensor:
        """Return low pictures brought upright and bilinearly to `size` px, for networks that want such a face; differentiable.

        None: the high side. Where that is fewer pixels than the face has, they are shrunk without aliasing.
        """


def checked_side(size: int | None, high: int) -> int:
    """Return the side that `fit` is asked for: `size`, or `high` for None. Raises InputError for less than 1 px."""
    if size is None:
        return high
    if size < 1:
        raise InputError(f"fit: the size is {size} px; expected at least 1 px, or None for the high side of {high} px")
    return size


def noise_damping(sigma: float, high: int) -> float:
    """Return what noise adds to A A^T where a residual is answered, with high pictures of `high` px.

    A search's errors are smooth: from `PRIOR_SIZE` up, more pixels show the same error, and as each counts for less in
    A A^T, they must weigh more.
    """
    return (sigma / PRIOR_SIGMA) ** 2 * min(1.0, (PRIOR_SIZE / high) ** 2)


def counted_share(degradation: Degradation) -> Tensor | float:
    """Return which share of the low pixels counts, (B,) or (1,): a mean over all of them is divided by it."""
    return 1.0 if degradation.mask is None else degradation.mask.double().mean((1, 2, 3))


def enlargements(degradation: Degradation, count: int) -> tuple[float, ...]:
    """Return how many times as wide as in the input each of `count` high faces is."""
    own = degradation.factors
    return own if len(own) == count else own * count


def faces_of(low: Tensor, degradation: Degradation, faces: Sequence[int]) -> tuple[Tensor, Degradation]:
    """Return some faces of a batch, with their part of a degradation that has a transform a face (a photograph's)."""
    if degradation.mask is None or len(degradation.mask) == 1:
        return low[list(faces)], degradation
    part = degradation.select(faces)
    h, w = part.low_size  # the others' may have been larger
    return low[list(faces), :, :h, :w], part


def project(
    degradation: Degradation, high: Tensor, low: Tensor, *, rounds: int = 64, tolerance: float = 5e-4
) -> Tensor:
    """Return the picture in [0, 1] near `high` that shrinks to `low`: clamp(Y + A+ (x - A Y)), repeated until it holds.

    The set of consistent pictures and the cube [0, 1] are both convex, so alternating between them converges where
    they meet. A face is left alone once its largest error is below `tolerance`, so its result depends on it alone.

    `high` is (B, 3, H, W), `low` (B, 3, h, w) in [0, 1]. At sigma > 0 there is one round: exactness is not wanted.
    """
    high, low = high.detach(), low.detach().to(high)
    for _ in range(rounds if degradation.sigma == 0 else 1):
        inside = high.clamp(0, 1)
        residual = low - degradation.forward(inside)
        wrong = residual.abs().amax((1, 2, 3)) > tolerance
        if not bool(wrong.any()):
            break
        high = torch.where(wrong[:, None, None, None], inside + degradation.correct(residual), inside)
    return high.clamp(0, 1)


def kernel_value(t: Tensor, kernel: str) -> Tensor:
    """Return the kernel at distances t in output pixels; bicubic is Keys's with a = -0.5."""
    x = t.abs()
    if kernel == "bicubic":
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    if kernel == "bilinear":
        return (1 - x).clamp(min=0)
    if kernel == "box":
        return ((t > -0.5) & (t <= 0.5)).to(t)
    return torch.where(x < 3, torch.sinc(x) * torch.sinc(x / 3), torch.zeros_like(x))


def resampling_matrix(low: int, high: int, kernel: str) -> Tensor:
    """Return R (low, high) in float64, rows summing to 1: the antialiased resampling of `high` pixels to `low`.

    Bicubic (a = -0.5) and bilinear are read off PyTorch's resampler; box and Lanczos (3 lobes) follow Pillow's rule,
    a kernel stretched by the factor, sampled at pixel centres and normalised.
    """
    if kernel in ("bicubic", "bilinear"):
        eye = torch.eye(high, dtype=torch.float64)[None, None]
        resized: Tensor = F.interpolate(eye, size=(low, high), mode=kernel, antialias=True, align_corners=False)[0, 0]
        return resized / resized.sum(1, keepdim=True)
    scale = high / low
    stretch = max(scale, 1.0)
    centres = (torch.arange(low, dtype=torch.float64)[:, None] + 0.5) * scale
    t = (torch.arange(high, dtype=torch.float64)[None] + 0.5 - centres) / stretch
    weights = kernel_value(t, kernel)
    return weights / weights.sum(1, keepdim=True)


class Downscale:
    """Shrink square pictures from `high` to `low` pixels a side: x = R Y R^T.

    Any low size from 2 px up works with any high size at least as large; the factor need not be whole. Raises
    InputError: sizes that cannot be used, or a negative sigma. UnknownNameError: a kernel that is not in `KERNELS`.
    """

    mask: Tensor | None = None  # every pixel counts

    def __init__(self, low: int, high: int, kernel: str = "bicubic", sigma: float = 0.0) -> None:
        if kernel not in KERNELS:
            raise UnknownNameError("kernel", kernel, KERNELS)
        if low < 2:
            raise InputError(f"the low picture is {low} px; at least 2 px are needed")
        if low > high:
            raise InputError(f"the low picture is {low} px, larger than the high one of {high} px")
        if not (math.isfinite(sigma) and sigma >= 0):
            raise InputError(f"sigma is {sigma}; expected a number from 0 up (in units of the full grey range)")
        self.low, self.high, self.kernel, self.sigma = low, high, kernel, sigma
        self.low_size, self.high_size, self.factors = (low, low), (high, high), (high / low,)
        self.kind: Hashable = ("downscale", low, high, kernel, sigma)
        r = resampling_matrix(low, high, kernel)
        values, vectors = torch.linalg.eigh(r @ r.t())  # A A^T is the Kronecker product of this with itself
        inverse = r.t() @ vectors @ torch.diag(1 / values) @ vectors.t()  # R+ = R^T (R R^T)^-1
        self._matrices = {"r": r, "inverse": inverse, "lift": r.t() @ vectors, "vectors": vectors, "values": values}
        self._cast: dict[tuple[torch.dtype, torch.device], dict[str, Tensor]] = {}

    def __repr__(self) -> str:
        return f"Downscale(low={self.low}, high={self.high}, kernel={self.kernel!r}, sigma={self.sigma})"

    def select(self, faces: Sequence[int]) -> "Downscale":
        """Return itself."""
        return self

    def join(self, parts: Sequence["Downscale"]) -> "Downscale":
        """Return itself."""
        return self

    def at(self, high: int) -> "Downscale":
        """Return the same shrinking from another high side."""
        return shrinking(self.low, high, self.kernel, self.sigma)

    def _as(self, like: Tensor) -> dict[str, Tensor]:
        key = (like.dtype, like.device)
        if key not in self._cast:
            with torch.inference_mode(False):  # a tensor made in inference mode cannot be differentiated through later
                self._cast[key] = {name: m.to(like, copy=True) for name, m in self._matrices.items()}
        return self._cast[key]

    def _check(self, picture: Tensor, side: int, what: str) -> None:
        if picture.shape[-2:] != (side, side):
            raise InputError(f"the {what} picture is {tuple(picture.shape[-2:])}, expected {(side, side)}")

    def forward(self, high: Tensor) -> Tensor:
        """Return A Y = R Y R^T; (B, 3, high, high) -> (B, 3, low, low)."""
        self._check(high, self.high, "high")
        return _both_sides(self._as(high)["r"], high)

    def adjoint(self, low: Tensor) -> Tensor:
        """Return A^T x = R^T x R; (B, 3, low, low) -> (B, 3, high, high)."""
        self._check(low, self.low, "low")
        return _both_sides(self._as(low)["r"].t(), low)

    def pinv(self, low: Tensor) -> Tensor:
        """Return A+ x = R+ x R+^T; (B, 3, low, low) -> (B, 3, high, high)."""
        self._check(low, self.low, "low")
        return _both_sides(self._as(low)["inverse"], low)

    def correct(self, residual: Tensor) -> Tensor:
        """Return A^T (A A^T + d)^-1 r with d = `noise_damping`; at sigma 0 this is A+ r."""
        if self.sigma == 0:
            return self.pinv(residual)
        m = self._as(residual)
        spectrum = torch.outer(m["values"], m["values"]) + noise_damping(self.sigma, self.high)
        return _both_sides(m["lift"], _both_sides(m["vectors"].t(), residual) / spectrum)

    def fit(self, pictures: Tensor, size: int | None = None) -> Tensor:
        """Return pictures bilinearly enlarged, or shrunk, to `size`; (B, 3, low, low) -> (B, 3, size, size)."""
        self._check(pictures, self.low, "low")
        side = checked_side(size, self.high)
        return F.interpolate(
            pictures, size=(side, side), mode="bilinear", align_corners=False, antialias=side < self.low
        )


@lru_cache(maxsize=64)
def shrinking(low: int, high: int, kernel: str = "bicubic", sigma: float = 0.0) -> Downscale:
    """Return a `Downscale`, the same one when it is asked for again: its matrices are made once a device."""
    return Downscale(low, high, kernel, sigma)


def _both_sides(m: Tensor, x: Tensor) -> Tensor:
    """m x m^T for every picture and channel of x (B, 3, n, n); m (k, n)."""
    return torch.matmul(torch.matmul(m, x), m.t())


def resize(pictures: Tensor, size: int | tuple[int, int], mode: str = "bicubic") -> Tensor:
    """Resize pictures (B, 3, h, w) by PyTorch's antialiased filter, "bicubic" or "bilinear"; not clamped."""
    target = (size, size) if isinstance(size, int) else size
    if tuple(pictures.shape[-2:]) == target:
        return pictures
    return F.interpolate(pictures, size=target, mode=mode, antialias=True, align_corners=False)
