"""A turn, a scale and a shift of the plane: how an aligned square lies in a photograph.

A face's transform maps the aligned square's unit coordinates, (0, 0) its upper left corner and (1, 1) its lower right one,
to the photograph's edge coordinates in pixels (see `latentface.faces`).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentface.errors import InputError


@dataclass(frozen=True, slots=True)
class Similarity:
    """A turn, a scale and a shift: x' = a x - b y + dx, y' = b x + a y + dy; never a reflection.

    Raises InputError: numbers that are not finite, or a scale of zero.
    """

    a: float
    b: float
    dx: float
    dy: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (self.a, self.b, self.dx, self.dy)) or self.scale < 1e-9:
            raise InputError(
                f"{self} is no similarity: expected finite numbers and a scale above 0; check the landmarks"
            )

    @classmethod
    def square(cls, centre: tuple[float, float], side: float, degrees: float = 0.0) -> "Similarity":
        """Return the transform of the unit square onto a square of `side` px about `centre`, turned clockwise on screen."""
        a, b = side * math.cos(math.radians(degrees)), side * math.sin(math.radians(degrees))
        return cls(a, b, centre[0] - (a - b) / 2, centre[1] - (a + b) / 2)

    @property
    def scale(self) -> float:
        """How many times longer lengths become; of a unit square's transform: its side in pixels."""
        return math.hypot(self.a, self.b)

    @property
    def degrees(self) -> float:
        """The turn, clockwise on screen, in (-180, 180]."""
        return math.degrees(math.atan2(self.b, self.a))

    @property
    def centre(self) -> tuple[float, float]:
        """Where the unit square's middle goes."""
        return self.dx + (self.a - self.b) / 2, self.dy + (self.a + self.b) / 2

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The (2, 3) matrix."""
        return np.array([[self.a, -self.b, self.dx], [self.b, self.a, self.dy]])

    @property
    def corners(self) -> NDArray[np.float64]:
        """The unit square's corners (4, 2): upper left, upper right, lower right, lower left."""
        return self.apply([(0, 0), (1, 0), (1, 1), (0, 1)])

    def apply(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map points (..., 2)."""
        p = np.asarray(points, dtype=np.float64)
        return p @ self.matrix[:, :2].T + self.matrix[:, 2]

    def inverse(self) -> "Similarity":
        """Return the transform back."""
        square = self.scale**2
        a, b = self.a / square, -self.b / square
        return Similarity(a, b, -(a * self.dx - b * self.dy), -(b * self.dx + a * self.dy))

    def shifted(self, dx: float, dy: float) -> "Similarity":
        """Return the same transform into a picture whose origin lies elsewhere."""
        return Similarity(self.a, self.b, self.dx + dx, self.dy + dy)

    def scaled(self, factor: float) -> "Similarity":
        """Return the same transform into a picture enlarged by `factor`."""
        return Similarity(self.a * factor, self.b * factor, self.dx * factor, self.dy * factor)

    def pixels(self, size: int) -> "Similarity":
        """Return the transform from edge coordinates of the aligned picture of `size` px, where this is the unit square's."""
        return Similarity(self.a / size, self.b / size, self.dx, self.dy)
