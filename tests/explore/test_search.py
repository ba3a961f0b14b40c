"""The loop: the best iterate, schedules, optimisers, stopping, numbers that are not finite."""

from __future__ import annotations

import math

import pytest
import torch

from latentface.errors import InputError
from latentface.explore.engine import (
    Adam,
    GradientDescent,
    Iterate,
    constant_schedule,
    cosine_schedule,
    drawn,
    pulse_schedule,
    search,
)

LOW = torch.zeros(2, 3, 2, 2)


def picture(x):
    return x.view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def parabola(now, t):
    return Iterate(picture(now["x"]), picture(now["x"]), {"square": (now["x"] - 3).square()})


def start(*values: float):
    return {"x": torch.tensor(values)}


@pytest.mark.parametrize(
    ("t", "factor"), [(0, 0.1), (0.225, 0.55), (0.45, 1.0), (0.675, 0.55), (0.9, 0.1), (0.95, 0.0505), (1, 0.001)]
)
def test_knots_of_the_pulse_schedule(t, factor):
    assert pulse_schedule(t) == pytest.approx(factor)


def test_other_schedules():
    assert cosine_schedule(0) == pytest.approx(0.05)
    assert cosine_schedule(0.5) == pytest.approx(0.5)
    assert cosine_schedule(1) == pytest.approx(0)
    assert constant_schedule(0.3) == 1


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.999)])
def test_adam_is_pytorchs(betas):
    ours = {"a": torch.tensor([1.0, -2.0, 3.0])}
    theirs = ours["a"].clone().requires_grad_(True)
    adam, reference = Adam(ours, betas), torch.optim.Adam([theirs], lr=0.1, betas=betas)
    for step in range(8):
        reference.param_groups[0]["lr"] = rate = 0.1 / (1 + step)
        reference.zero_grad()
        (theirs**2 + theirs.sin()).sum().backward()
        adam.step(ours, {"a": theirs.grad.clone()}, {"a": rate})
        reference.step()
        torch.testing.assert_close(ours["a"], theirs.detach())


def test_it_finds_the_minimum_and_keeps_the_start_unchanged():
    variables = start(0.0, 10.0)
    found = search(LOW, variables, parabola, steps=300, rates={"x": 0.3}, schedule=pulse_schedule)
    torch.testing.assert_close(found.variables["x"], torch.tensor([3.0, 3.0]), atol=1e-2, rtol=0)
    assert torch.equal(variables["x"], torch.tensor([0.0, 10.0]))
    assert found.history["square"].shape == found.history["consistency_db"].shape == (300, 2)


def test_the_best_iterate_of_each_face_is_returned():
    seen = []

    def evaluate(now, t):
        seen.append(now["x"].detach().clone())
        return parabola(now, t)

    # Each step of plain descent overshoots the minimum and lands farther off: the first iterate is the best.
    found = search(LOW, start(2.5, 2.0), evaluate, steps=6, rates={"x": 1.1}, optimiser=GradientDescent())
    assert found.best_step.tolist() == [1, 1]
    assert found.variables["x"].tolist() == [2.5, 2.0]
    assert seen[5][0] != 2.5
    # And with a good rate the last is; it was evaluated, not merely reached.
    found = search(LOW, start(2.5, 2.0), parabola, steps=6, rates={"x": 0.1}, optimiser=GradientDescent())
    assert found.best_step.tolist() == [6, 6]
    torch.testing.assert_close(found.variables["x"], 3 + torch.tensor([-0.5, -1.0]) * 0.8**5)
    torch.testing.assert_close(found.high, picture(found.variables["x"]))
    assert torch.equal(found.best_step - 1, found.history["square"].argmin(0))


def test_on_step_is_told_and_may_stop():
    told = []

    def on_step(step):
        told.append((step.number, step.total, sorted(step.losses)))
        assert step.preview().shape == (2, 3, 2, 2)
        assert step.preview().max() <= 1
        return step.number == 4

    found = search(LOW, start(0.0, 1.0), parabola, steps=50, rates={"x": 0.1}, on_step=on_step)
    assert told == [(n, 50, ["square"]) for n in (1, 2, 3, 4)]
    assert found.steps == 4
    assert found.stopped
    assert len(found.history["square"]) == 4


def test_faces_that_are_done_rest():
    def done(iterate):
        return iterate.losses["square"] < 1.0

    found = search(LOW, start(2.5, 0.0), parabola, steps=50, rates={"x": 0.1}, optimiser=GradientDescent(), done=done)
    assert found.best_step[0] == 1
    assert 1 < found.steps < 50
    assert found.best_step[1] == found.steps


def test_a_face_that_diverges_keeps_its_best_and_harms_no_other():
    def evaluate(now, t):
        x = now["x"]
        bad = x * torch.tensor([math.nan if t >= 0.5 else 1.0, 1.0])
        return Iterate(picture(bad), picture(bad), {"square": (bad - 3).square()})

    arguments = {"steps": 20, "rates": {"x": 0.1}, "optimiser": None}
    found = search(LOW, start(0.0, 1.0), evaluate, **arguments)
    alone = search(LOW[:1], start(1.0), parabola, **arguments)
    assert found.best_step[0] == 10
    assert torch.isfinite(found.high).all()
    assert found.variables["x"][1] == alone.variables["x"][0]


def test_constraints_are_kept():
    def constrain(variables):
        variables["x"].clamp_(max=2.0)

    found = search(LOW, start(0.0, 1.0), parabola, steps=60, rates={"x": 0.2}, constrain=constrain)
    assert found.variables["x"].tolist() == [2.0, 2.0]


def test_rates_may_depend_on_the_step():
    found = search(
        LOW,
        start(0.0, 0.0),
        parabola,
        steps=5,
        rates=lambda number: {"x": 0.1 if number > 3 else 0.0},
        optimiser=GradientDescent(),
    )
    assert found.history["square"][:, 0].tolist()[:4] == [9.0] * 4
    assert found.history["square"][4, 0] < 9


def test_a_search_needs_a_step():
    with pytest.raises(InputError, match="at least 1"):
        search(LOW, start(0.0, 0.0), parabola, steps=0, rates={"x": 0.1})


def test_draws_are_each_seeds_own():
    both = drawn([3, -4], 6)
    assert torch.equal(both[1], drawn([-4], 6)[0])
    assert torch.equal(both[0], torch.randn(6, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(both[0], both[1])
