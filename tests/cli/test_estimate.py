"""The time that a run is told to take."""

import pytest

from latentface.cli import estimate
from latentface.cli.estimate import Estimate


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: now[0])
    return now


def told(clock, preparation: float, steps: list[tuple[float, float]]) -> list[str]:
    """Return what is said of steps that take (seconds, share), after some seconds of preparation."""
    said: list[str] = []
    one = Estimate([], said.append)
    clock[0] += preparation
    for number, (seconds, share) in enumerate(steps, 1):
        clock[0] += seconds
        one.step(share, number == len(steps))
    return said


def test_all_steps_are_foreseen_from_the_first_three(clock):
    (line,) = told(clock, 4.0, [(1.0, 0.02)] * 50)
    assert line.endswith("about 54 s")


def test_dear_steps_count_by_their_share(clock):
    (line,) = told(clock, 0.0, [(0.5, 0.01)] * 10 + [(5.0, 0.1)] * 9)
    assert line.endswith("about 50 s")


@pytest.mark.parametrize("steps", [1, 2])
def test_a_search_of_few_steps_is_told_at_its_last(clock, steps):
    assert len(told(clock, 1.0, [(1.0, 1 / steps)] * steps)) == 1
