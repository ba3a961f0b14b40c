"""What a long run tells while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; `message` is a line for people, `seconds_left` None while nothing is known.

    `done` and `total` count faces times methods, finished ones of an earlier run included.
    """

    message: str
    done: int = 0
    total: int = 0
    seconds_left: float | None = None


OnProgress = Callable[[Progress], None]


def quiet(progress: Progress) -> None:
    """Tell nobody."""
