"""Augmentation: nothing at p = 0, linear in the picture, as often as p says, and p follows D's overfitting."""

from __future__ import annotations

import pytest
import torch

from latentface.train.augment import augment, next_probability


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count, size=16, dtype=torch.float32):
    return torch.rand(count, 3, size, size, generator=random(9), dtype=dtype) * 2 - 1


def test_nothing_at_zero():
    x, generator = pictures(4), random()
    before = generator.get_state()
    assert augment(x, 0.0, generator) is x
    assert torch.equal(generator.get_state(), before)


def test_everything_at_one():
    x = pictures(4)
    out = augment(x, 1.0, random())
    assert out.shape == x.shape
    assert ((out - x).abs().amax((1, 2, 3)) > 0.1).all()
    assert torch.equal(out, augment(x, 1.0, random()))
    assert not torch.equal(out, augment(x, 1.0, random(1)))


def test_each_of_seven_happens_with_probability_p():
    x = pictures(1500, 32)
    untouched = (augment(x, 0.1, random()) - x).abs().amax((1, 2, 3)) < 1e-4
    # Five transformations, and two shifts of which one in eight rounds to nothing.
    assert untouched.float().mean() == pytest.approx(0.9**5 * (1 - 0.1 * 7 / 8) ** 2, abs=0.05)


def test_geometry_moves_and_colour_recolours():
    grey = torch.full((8, 3, 16, 16), 0.25)
    out = augment(grey, 1.0, random())
    level = out[:, :, :1, :1]
    torch.testing.assert_close(out, level.expand_as(out))  # a plain picture stays plain wherever it moves
    torch.testing.assert_close(level[:, 0], level[:, 1])  # and grey stays grey
    assert level.std() > 0.1


def test_it_is_differentiable():
    x = pictures(2, 8, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, 1.0, random()), (x,), fast_mode=True)
    (slope,) = torch.autograd.grad(augment(x, 1.0, random()).square().sum(), x)
    assert (slope.abs().amax((1, 2, 3)) > 0).all()


def test_p_rises_while_d_knows_its_pictures_by_heart_and_falls_else():
    assert next_probability(0.3, 0.9, 5_000) == pytest.approx(0.31)
    assert next_probability(0.3, 0.2, 5_000) == pytest.approx(0.29)
    assert next_probability(0.3, 0.2, 5_000, target=0.1) == pytest.approx(0.31)
    assert next_probability(0.0, -1.0, 5_000) == 0.0
    assert next_probability(0.8, 1.0, 5_000) == 0.8
