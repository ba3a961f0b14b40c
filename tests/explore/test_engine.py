"""The loop: the best iterate, what it tells, who rests, when it stops, numbers that are not finite; the best of starts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from latentface.degradation import Downscale
from latentface.errors import InputError
from latentface.explore.engine import Iterate, Problem, best_of, draws_of, solve
from latentface.explore.optim import Descent, pulse_schedule

SAME = Downscale(2, 2)
NAN = math.nan


def picture(x):
    return x.view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def seen(x, loss):
    return Iterate(picture(x), picture(x), {"loss": loss})


def parabola(now, t):
    return seen(now["x"], (now["x"] - 3).square())


@torch.no_grad()  # as explore calls it
def solved(start, losses=parabola, on_step=None, **problem):
    x = torch.tensor(start)
    given = {"steps": 20, "rates": {"x": 0.1}, **problem}
    low = torch.zeros(len(x), 3, 2, 2, dtype=x.dtype)
    return solve(Problem(variables={"x": x}, losses=losses, **given), low, SAME, on_step)


def test_it_finds_the_minimum_and_keeps_the_start_unchanged():
    x = torch.tensor([0.0, 10.0])
    problem = Problem(variables={"x": x}, losses=parabola, steps=300, rates={"x": 0.3}, schedule=pulse_schedule)
    found = solve(problem, torch.zeros(2, 3, 2, 2), SAME)
    torch.testing.assert_close(found.variables["x"], torch.tensor([3.0, 3.0]), atol=1e-2, rtol=0)
    assert torch.equal(x, torch.tensor([0.0, 10.0]))
    assert not x.requires_grad
    assert found.history["loss"].shape == found.history["consistency_db"].shape == (300, 2)
    assert (found.steps, found.stopped) == (300, False)


def test_the_best_iterate_of_each_face_is_returned():
    visited = []

    def losses(now, t):
        visited.append(now["x"].detach().clone())
        return parabola(now, t)

    # Each step of plain descent overshoots the minimum and lands farther off: the first iterate is the best.
    found = solved([2.5, 2.0], losses, steps=6, rates={"x": 1.1}, optimiser=Descent)
    assert found.best_step.tolist() == [1, 1]
    assert found.variables["x"].tolist() == [2.5, 2.0]
    assert visited[5][0] != 2.5
    # And with a good rate the last is; it was evaluated, not merely reached.
    found = solved([2.5, 2.0], steps=6, optimiser=Descent)
    assert found.best_step.tolist() == [6, 6]
    torch.testing.assert_close(found.variables["x"], 3 + torch.tensor([-0.5, -1.0]) * 0.8**5)
    torch.testing.assert_close(found.high, picture(found.variables["x"]))
    assert torch.equal(found.best_step - 1, found.history["loss"].argmin(0))


def test_several_losses_are_summed():
    def losses(now, t):
        x = now["x"]
        return Iterate(picture(x), picture(x), {"left": (x - 1).square(), "right": 3 * (x - 5).square()})

    found = solved([0.0, 9.0], losses, steps=300, rates={"x": 0.3}, schedule=pulse_schedule)
    torch.testing.assert_close(found.variables["x"], torch.tensor([4.0, 4.0]), atol=1e-2, rtol=0)
    total = found.history["left"] + found.history["right"]
    assert torch.equal(found.best_step - 1, total.argmin(0))


def test_on_step_is_told_and_may_stop():
    told = []

    def on_step(step):
        told.append((step.number, step.total, sorted(step.losses)))
        assert step.preview().shape == (2, 3, 2, 2)
        assert step.preview().max() <= 1
        return step.number == 4

    found = solved([0.0, 1.0], steps=50, on_step=on_step)
    assert told == [(n, 50, ["loss"]) for n in (1, 2, 3, 4)]
    assert (found.steps, found.stopped) == (4, True)
    assert len(found.history["loss"]) == 4


def test_faces_that_are_done_rest():
    def done(iterate):
        return iterate.losses["loss"] < 1.0

    found = solved([2.5, 0.0], steps=50, optimiser=Descent, done=done)
    assert found.best_step[0] == 1
    assert 1 < found.steps < 50
    assert found.best_step[1] == found.steps


def test_a_face_that_is_done_keeps_that_iterate_though_an_earlier_was_lower():
    values = torch.tensor([1.0, 5.0, 3.0, 2.0])
    counted = itertools.count()

    def losses(now, t):
        return seen(now["x"], 0 * now["x"] + values[next(counted)])

    found = solved([0.0], losses, steps=4, done=lambda iterate: iterate.losses["loss"] == 3)
    assert (found.best_step.tolist(), found.steps) == ([3], 3)


def test_a_face_that_diverges_keeps_its_best_and_harms_no_other():
    def losses(now, t):
        x = now["x"] * torch.tensor([NAN if t >= 0.5 else 1.0, 1.0])
        return seen(x, (x - 3).square())

    found = solved([0.0, 1.0], losses)
    alone = solved([1.0])
    assert found.best_step[0] == 10
    assert torch.isfinite(found.high).all()
    assert found.variables["x"][1] == alone.variables["x"][0]
    assert found.history["loss"][10:, 0].isnan().all()


def test_constraints_are_kept():
    def constrain(variables):
        variables["x"].clamp_(max=2.0)

    found = solved([0.0, 1.0], steps=60, rates={"x": 0.2}, constrain=constrain)
    assert found.variables["x"].tolist() == [2.0, 2.0]


def test_rates_may_depend_on_the_step():
    rates = {"rates": lambda number: {"x": 0.1 if number > 3 else 0.0}}
    found = solved([0.0, 0.0], steps=5, optimiser=Descent, **rates)
    assert found.history["loss"][:, 0].tolist()[:4] == [9.0] * 4
    assert found.history["loss"][4, 0] < 9


def test_a_search_needs_a_step():
    with pytest.raises(InputError, match="at least 1"):
        solved([0.0], steps=0)


# -- the end of a search that has stalled ------------------------------------------------------------------------------


def valley(stuck=(), wild=(), floor=0.01):
    """|x - 3| + floor, in which some faces cannot move and some are NaN; `course` is where in the schedule it was asked."""
    course: list[float] = []

    def losses(now, t):
        course.append(t)
        x = now["x"]
        moves = torch.tensor([0.0 if i in stuck else 1.0 for i in range(len(x))])
        sane = torch.tensor([NAN if i in wild else 1.0 for i in range(len(x))])
        return seen(x, sane * (moves * (x - 3)).abs() + floor)

    return losses, course


def test_a_stalled_search_goes_to_the_last_tenth_of_its_schedule():
    losses, course = valley(stuck=(0, 1))
    told = []
    found = solved([0.0, 1.0], losses, steps=100, stop=0.02, on_step=lambda s: told.append((s.number, s.total)))
    wanted = [k / 100 for k in range(11)] + [0.9 + k / 100 for k in range(10)]
    assert course == pytest.approx(wanted)  # ten steps without gain, and the one that shows it
    assert found.steps == len(found.history["loss"]) == 21
    assert told[0] == (1, 100)
    assert told[-1] == (100, 100)
    assert found.best_step.tolist() == [1, 1]
    assert not found.stopped


def test_the_small_rates_settle_a_search_that_swings():
    losses, course = valley()
    found = solved(
        [2.9, 3.2], losses, steps=200, rates={"x": 0.5}, optimiser=Descent, schedule=pulse_schedule, stop=0.02
    )
    assert found.steps < 100
    landing = next(k for k, t in enumerate(course) if t >= 0.9)
    assert course[landing:] == pytest.approx([0.9 + k / 200 for k in range(20)])
    loss = found.history["loss"]
    assert (found.best_step > landing).all()
    assert (loss.min(0).values < loss[:landing].min(0).values).all()
    assert torch.equal(found.best_step - 1, loss.argmin(0))


def test_a_search_that_improves_is_not_cut():
    losses, course = valley()
    started = [-9.0, -8.0]
    found = solved(started, losses, steps=60, rates={"x": 0.15}, optimiser=Descent, stop=0.02)
    assert course == pytest.approx([k / 60 for k in range(60)])
    plain = solved(started, valley()[0], steps=60, rates={"x": 0.15}, optimiser=Descent)
    assert torch.equal(found.high, plain.high)
    assert torch.equal(found.history["loss"], plain.history["loss"])


def test_a_batch_goes_on_while_one_of_its_faces_improves():
    settings = {"steps": 60, "rates": {"x": 0.15}, "optimiser": Descent, "stop": 0.02}
    alone = solved([0.0], valley(stuck=(0,))[0], **settings)
    beside = solved([0.0, -9.0], valley(stuck=(0,))[0], **settings)
    assert alone.steps < 20
    assert beside.steps == 60


@pytest.mark.parametrize("what", [{"wild": (0,)}, {"stuck": (0,), "floor": 0.0}])
def test_a_face_without_a_gain_to_make_does_not_keep_its_batch(what):
    """Its loss is NaN from the start, or 0."""
    found = solved([0.0, 3.0], valley(**{"stuck": (1,), **what})[0], steps=100, stop=0.02)
    assert found.steps == 21


# -- the best of several starts ----------------------------------------------------------------------------------------


def best(*losses):
    """Choose among starts that are numbered from 0, of the losses (B,) given, and return the numbers."""
    given = [torch.tensor(loss) for loss in losses]
    starts = ({"number": torch.full((len(loss), 1), float(k))} for k, loss in enumerate(given))
    return best_of(starts, lambda start: start["number"], lambda number: given[int(number[0, 0])])["number"][
        :, 0
    ].tolist()


def test_starts_are_compared_per_face():
    assert best([3.0, 1.0, 2.0], [2.0, 5.0, 2.0], [1.0, 4.0, 9.0]) == [2, 0, 0]


def test_a_start_without_a_number_loses_and_blocks_none():
    assert best([NAN, 1.0], [2.0, NAN], [1.0, 0.5]) == [2, 2]
    assert best([1.0, 2.0], [NAN, NAN], [NAN, 1.0]) == [0, 2]
    assert best([math.inf, NAN], [1e30, 1e30]) == [1, 1]


def test_where_no_start_has_a_number_it_is_the_first():
    assert best([NAN, NAN], [NAN, 1.0], [NAN, NAN]) == [0, 1]


def test_the_whole_start_is_taken():
    starts = [{"a": torch.full((2, 3), k), "b": torch.full((2, 1, 4, 4), -k)} for k in (1.0, 2.0)]
    losses = iter([torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])])
    found = best_of(iter(starts), lambda start: start["b"], lambda pictures: next(losses))
    assert found["a"].tolist() == [[1.0] * 3, [2.0] * 3]
    assert found["b"][:, 0, 0, 0].tolist() == [-1.0, -2.0]


def test_draws_are_a_faces_own():
    both, alone = list(draws_of([3, -4], 5)), list(draws_of([-4], 5))
    assert both[0] == [3, -4]
    assert [seeds[1] for seeds in both] == [seeds[0] for seeds in alone]
    assert len({seed for seeds in both for seed in seeds}) == 10
    assert list(draws_of([3, -4], 2)) == both[:2]
