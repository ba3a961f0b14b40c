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


def rotation(width, seed=0):
    random = torch.randn(width, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(random)[0]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def path_of(adam, x, gradient, steps=30, rate=0.1):
    for _ in range(steps):
        adam.step(x, {"a": gradient(x["a"])}, {"a": rate})
    return x["a"]


def test_a_whole_basis_is_adam_along_its_axes():
    """With as many directions as numbers it is Adam on the turned variable, turned back."""
    bases = torch.stack([rotation(5, 0), rotation(5, 1)])  # two rows
    target, scale = normal(1, 2, 5, seed=2), torch.tensor([1.0, 4.0, 9.0, 16.0, 25.0], dtype=torch.float64)
    turned = torch.einsum("brd,rdk->brk", target, bases)
    ours = path_of(
        Adam({"a": torch.zeros_like(target)}, bases={"a": bases}),
        {"a": torch.zeros_like(target)},
        lambda v: torch.einsum("brk,rdk->brd", (torch.einsum("brd,rdk->brk", v, bases) - turned) * scale, bases),
    )
    plain = path_of(
        Adam({"a": torch.zeros_like(target)}), {"a": torch.zeros_like(target)}, lambda v: (v - turned) * scale
    )
    torch.testing.assert_close(torch.einsum("brd,rdk->brk", ours, bases), plain)


def test_directions_that_are_axes_change_nothing():
    basis = torch.eye(6, dtype=torch.float64)[None, :, [4, 1]]
    start, target = normal(2, 1, 6), normal(2, 1, 6, seed=1)
    ours = path_of(Adam({"a": start}, bases={"a": basis}), {"a": start.clone()}, lambda v: v - target)
    plain = path_of(Adam({"a": start}), {"a": start.clone()}, lambda v: v - target)
    torch.testing.assert_close(ours, plain)


def test_few_steps_along_the_steep_directions_go_further():
    basis = torch.stack([rotation(40, seed)[:, :3] for seed in range(2)])
    target = normal(4, 2, 40, seed=5)

    def loss(v):
        along = torch.einsum("brd,rdk->brk", v - target, basis)
        return 30 * along.square().sum((1, 2)) + (v - target).square().sum((1, 2))

    def gradient(v):
        along = torch.einsum("brd,rdk->brk", v - target, basis)
        return 60 * torch.einsum("brk,rdk->brd", along, basis) + 2 * (v - target)

    def end(**more):
        start = torch.zeros_like(target)
        return loss(path_of(Adam({"a": start}, (0.8, 0.99), **more), {"a": start.clone()}, gradient, 12, 0.3))

    assert (end(bases={"a": basis}) < 0.9 * end()).all()


def test_a_face_moves_alike_alone_and_among_others():
    bases = torch.stack([rotation(64, seed)[:, :5] for seed in range(3)]).float()
    start, target = normal(7, 3, 64).float(), normal(7, 3, 64, seed=1).float()

    def end(rows):
        own = start[rows].clone()
        return path_of(Adam({"a": own}, bases={"a": bases}), {"a": own}, lambda v: v - target[rows])

    together = end(slice(None))
    for face in range(7):
        assert torch.equal(end(slice(face, face + 1))[0], together[face])
