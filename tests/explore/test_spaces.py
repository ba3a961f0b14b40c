"""Where a search moves: draws, constraints, inverses and noise rules."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_prior

from latentface.errors import InputError, UnknownNameError
from latentface.explore.space import Space, drawn

SEEDS = (4, 9)


@pytest.fixture(scope="module")
def double():
    return tiny_prior(16, dtype=torch.float64)


def test_the_first_numbers_are_the_latent_then_the_noise(double):
    space = Space(double, "w_plus", noise="drawn")
    variables = space.draw(SEEDS)
    for i, seed in enumerate(SEEDS):
        parts = [variables["latent"][i].flatten(), *(variables[f"noise{k}"][i].flatten() for k in range(5))]
        mine = torch.cat(parts)
        assert torch.equal(mine, torch.randn(len(mine), generator=torch.Generator().manual_seed(seed)).double())
    assert [tuple(variables[f"noise{k}"].shape[1:]) for k in range(5)] == [(1, h, w) for h, w in double.noise_shapes]


@pytest.mark.parametrize(("kind", "shape"), [("z", (2, 1, 12)), ("w", (2, 1, 10)), ("w_plus", (2, 6, 10))])
def test_shapes(double, kind, shape):
    space = Space(double, kind)
    latent = space.draw(SEEDS)["latent"]
    assert latent.shape == shape
    w_plus = space.w_plus(latent)
    assert w_plus.shape == (2, 6, 10)
    if kind != "w_plus":
        assert torch.equal(w_plus, w_plus[:, :1].expand_as(w_plus))


def test_tied_rows_start_alike(double):
    latent = Space(double, "w_plus", tied=True).draw(SEEDS)["latent"]
    assert torch.equal(latent, latent[:, :1].expand_as(latent))
    assert latent.is_contiguous()


@pytest.mark.parametrize("kind", ["w", "w_plus"])
def test_latent_of_is_the_inverse(double, kind):
    space = Space(double, kind)
    latent = space.draw(SEEDS)["latent"]
    torch.testing.assert_close(space.latent_of(space.w_plus(latent)), latent, atol=1e-6, rtol=1e-6)
    w = double.mapping(torch.ones(2, 12).double())[:, 0]
    torch.testing.assert_close(space.w_plus(space.latent_of(w)), w[:, None].expand(-1, 6, -1), atol=1e-6, rtol=1e-6)


def test_z_cannot_be_turned_back(double):
    with pytest.raises(InputError, match="space w or w_plus"):
        Space(double, "z").latent_of(torch.zeros(1, 10).double())


def test_z_is_mapped(double):
    latent = Space(double, "z").draw(SEEDS)["latent"]
    torch.testing.assert_close(Space(double, "z").w_plus(latent), double.mapping(latent[:, 0]))


def moved(space: Space):
    before = space.draw(SEEDS)
    moving = space.searched(before)
    after = {k: v * 1.7 + 0.3 for k, v in moving.items()}
    after["latent"][0] *= 0.01  # one face far inside
    constrain = space.constraint_on(moving)
    if constrain is not None:
        constrain(after)
    return before, after


def test_the_sphere_keeps_every_rows_norm(double):
    before, after = moved(Space(double, constraint="sphere", noise="searched"))
    torch.testing.assert_close(after["latent"].norm(dim=-1), before["latent"].norm(dim=-1))
    assert len(after) == 5  # the latent and every noise map but the last, which stays zero
    for k in range(4):
        torch.testing.assert_close(
            after[f"noise{k}"].flatten(1).norm(dim=1), before[f"noise{k}"].flatten(1).norm(dim=1)
        )


def test_the_ball_lets_a_row_inside(double):
    before, after = moved(Space(double, constraint="ball"))
    assert (after["latent"].norm(dim=-1) <= before["latent"].norm(dim=-1) * (1 + 1e-9)).all()
    assert (after["latent"][0].norm(dim=-1) < 0.5 * before["latent"][0].norm(dim=-1)).all()


def test_no_constraint(double):
    assert Space(double, constraint="none").constraint_on({}) is None


def test_noise_rules(double):
    constant, fixed, free = (Space(double, noise=n, noise_maps=3) for n in ("constant", "drawn", "searched"))
    variables = {space.noise: space.draw(SEEDS) for space in (constant, fixed, free)}
    assert set(variables["constant"]) == set(fixed.searched(variables["drawn"])) == {"latent"}
    assert constant.noise_maps_of(variables["constant"]) == [None] * 5
    assert all(m is not None for m in fixed.noise_maps_of(variables["drawn"]))
    assert set(free.searched(variables["searched"])) == {"latent", "noise0", "noise1", "noise2"}
    maps = free.noise_maps_of(variables["searched"])
    assert maps[3] is None
    assert maps[4].abs().max() == 0  # PULSE leaves the last map out
    assert maps[4].shape[-2:] == (16, 16)


@pytest.mark.parametrize("wrong", [{"kind": "s"}, {"constraint": "cube"}, {"noise": "loud"}])
def test_wrong_names(double, wrong):
    with pytest.raises(UnknownNameError, match="there are"):
        Space(double, **wrong)


def test_wrong_counts(double):
    with pytest.raises(InputError, match="noise_maps"):
        Space(double, noise_maps=-1)


def test_draws_are_each_seeds_own():
    both = drawn([3, -4], 6)
    assert torch.equal(both[1], drawn([-4], 6)[0])
    assert torch.equal(both[0], torch.randn(6, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(both[0], both[1])


def test_painting_a_face_knows_no_neighbours(double):
    space = Space(double, noise="searched", noise_maps=2)
    variables = space.draw(SEEDS)
    painted = space.paint(variables)
    for i in range(2):
        alone = {k: v[i : i + 1] for k, v in variables.items()}
        assert torch.equal(painted[i], space.paint(alone)[0])
        wanted = double.synthesis(space.w_plus(alone["latent"]), space.noise_maps_of(alone))
        torch.testing.assert_close(painted[i], wanted[0])
