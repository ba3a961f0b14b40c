"""L-BFGS over a batch: it finds known minima, faster than a gradient can, and couples nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from latentface.bench.prior.lbfgs import descend


def bowls(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return curvatures of five badly scaled quadratics in 12 numbers, and their minima."""
    generator = torch.Generator().manual_seed(seed)
    curvatures = 10 ** (4 * torch.rand(5, 12, generator=generator, dtype=torch.float64))
    return curvatures, torch.randn(5, 12, generator=generator, dtype=torch.float64)


def quadratic(curvatures: Tensor, minima: Tensor):
    return lambda at: ((curvatures * (at.flatten(1) - minima) ** 2).sum(1), at.flatten(1) * 2)


def rosenbrock(at: Tensor) -> tuple[Tensor, Tensor]:
    x, y = at.unbind(1)
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2, at


def test_quadratics_are_solved():
    curvatures, minima = bowls()
    start = torch.zeros(5, 3, 4, dtype=torch.float64)
    at, picture, step = descend(start, quadratic(curvatures, minima), steps=150)
    torch.testing.assert_close(at.flatten(1), minima, atol=1e-6, rtol=0)
    torch.testing.assert_close(picture, 2 * at.flatten(1))
    assert (step > 1).all()
    assert (start == 0).all()


def test_a_curved_valley_is_followed_from_every_start():
    start = torch.tensor([[-1.2, 1.0], [3.0, -4.0], [0.0, 0.0], [-2.0, 9.0]], dtype=torch.float64)
    at, _, _ = descend(start, rosenbrock, steps=150)
    torch.testing.assert_close(at, torch.ones_like(at), atol=1e-5, rtol=0)


def test_no_step_makes_a_face_worse():
    curvatures, minima = bowls(1)
    losses = []
    for steps in (1, 2, 3, 5, 9, 20):
        at, _, _ = descend(torch.zeros(5, 12, dtype=torch.float64), quadratic(curvatures, minima), steps=steps)
        losses.append(quadratic(curvatures, minima)(at)[0])
    for before, after in itertools.pairwise(losses):
        assert (after <= before).all()


@pytest.mark.parametrize("memory", [3, 100])
def test_faces_know_nothing_of_each_other(memory):
    curvatures, minima = bowls(2)
    start = torch.zeros(5, 12, dtype=torch.float64)
    whole = descend(start, quadratic(curvatures, minima), steps=25, memory=memory)
    for i in range(5):
        rows = slice(i, i + 1)
        alone = descend(start[rows], quadratic(curvatures[rows], minima[rows]), steps=25, memory=memory)
        torch.testing.assert_close(alone[0], whole[0][rows])
        assert alone[2] == whole[2][i]


def test_a_step_into_nothing_is_taken_back():
    def cliff(at: Tensor) -> tuple[Tensor, Tensor]:
        x = at[:, 0]
        return torch.where(x < 1.05, (x - 1) ** 2 * 50, torch.full_like(x, torch.nan)), at

    at, _, _ = descend(torch.tensor([[0.0], [-9.0]], dtype=torch.float64), cliff, steps=40)
    torch.testing.assert_close(at, torch.ones_like(at), atol=1e-3, rtol=0)
