"""Optimisers against PyTorch's, and the schedules."""

from __future__ import annotations

import pytest
import torch

from latentface.explore.optim import Adam, Descent, constant_schedule, cosine_schedule, pulse_schedule


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


def agrees(ours, reference, theirs):
    for step in range(8):
        rate = 0.1 / (1 + step)
        for group in reference.param_groups:
            group["lr"] = rate
        reference.zero_grad()
        (theirs**2 + theirs.sin()).sum().backward()
        ours(theirs.grad.clone(), rate)
        reference.step()
        yield theirs.detach()


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.999)])
def test_adam_is_pytorchs(betas):
    x = {"a": torch.tensor([1.0, -2.0, 3.0])}
    theirs, adam = x["a"].clone().requires_grad_(True), Adam(x, betas)
    reference = torch.optim.Adam([theirs], betas=betas)
    for wanted in agrees(lambda g, rate: adam.step(x, {"a": g}, {"a": rate}), reference, theirs):
        torch.testing.assert_close(x["a"], wanted)


def test_descent_is_pytorchs():
    x = {"a": torch.tensor([1.0, -2.0, 3.0])}
    theirs, descent = x["a"].clone().requires_grad_(True), Descent(x)
    reference = torch.optim.SGD([theirs], lr=0.1)
    for wanted in agrees(lambda g, rate: descent.step(x, {"a": g}, {"a": rate}), reference, theirs):
        torch.testing.assert_close(x["a"], wanted)


def test_each_variable_moves_by_its_own_rate():
    x = {"a": torch.zeros(2), "b": torch.zeros(2)}
    Adam(x).step(x, {"a": torch.ones(2), "b": torch.ones(2)}, {"a": 0.1, "b": 0.0})
    torch.testing.assert_close(x["a"], torch.full((2,), -0.1))
    assert torch.equal(x["b"], torch.zeros(2))
