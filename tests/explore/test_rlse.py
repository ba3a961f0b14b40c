"""RLSE: it approaches the input, its settings all run, and a face depends on nothing but itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale, faces_of, project
from latentface.errors import InputError, UnknownNameError, WeightsError
from latentface.explore import losses
from latentface.explore.engine import explore
from latentface.explore.rlse import RlseSettings, best_draw, moving_together
from latentface.explore.space import Space
from latentface.faces import Similarity, Warp

DOWN = Downscale(4, 16)
FULL = RlseSettings(steps=100)


def run(prior, low, seeds, settings=FULL, **rest):
    return explore("rlse", prior, low, degradation=DOWN, settings=settings, seeds=seeds, **rest)


# -- determinism, as the design defines it, at 100 steps ----------------------------------------------------------------


@pytest.fixture(scope="module")
def five(prior):
    return run(prior, tiny_faces(5), [0, 1, 2, 3, 4])


def test_neighbours_and_order_change_nothing_bit_for_bit(prior, five):
    low = tiny_faces(6)
    # Faces 4, 2 and 1 again, at other places and beside strangers with other seeds.
    again = run(prior, torch.stack([low[4], 1 - low[0], low[2], low[5], low[1]]), [4, 77, 2, 78, 1])
    for old, new in ((4, 0), (2, 2), (1, 4)):
        assert torch.equal(five.high[old], again.high[new])
        assert torch.equal(five.latent["w_plus"][old], again.latent["w_plus"][new])
        assert five.best_step[old] == again.best_step[new]
        assert torch.equal(five.history["pixel"][:, old], again.history["pixel"][:, new])


def test_in_float64_no_batch_size_changes_anything():
    prior, low = tiny_prior(16, dtype=torch.float64), tiny_faces(3, dtype=torch.float64)
    together, alone = run(prior, low, [0, 1, 2]), run(prior, low[1:2], [1])
    torch.testing.assert_close(together.high[1:2], alone.high, atol=1e-9, rtol=0)


def test_in_float32_alone_against_in_a_batch_moves_less_than_a_tenth_of_a_decibel(prior, five):
    alone = run(prior, tiny_faces(5)[3:4], [3])
    assert abs(five.consistency_db[3] - alone.consistency_db[0]) < 0.1


def test_seeds_decide_and_nothing_else(prior):
    low, short = tiny_faces(1).expand(3, -1, -1, -1), RlseSettings(steps=3)
    torch.manual_seed(1)
    one = run(prior, low, [5, 5, 6], short)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = run(prior, low, [5, 5, 6], short)
    assert torch.equal(one.high, again.high)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one.high[0], one.high[1])
    assert not torch.equal(one.high[0], one.high[2])


def test_photographs_faces_keep_their_own_operators():
    prior = tiny_prior(16, dtype=torch.float64)
    warp = Warp([Similarity(4, 0, 3, 3), Similarity(7, 0, 20, 4)], 16, (40, 40))
    low = warp.cut(tiny_faces(1, 40, dtype=torch.float64)[0])
    found = explore("rlse", prior, low, degradation=warp, settings=RlseSettings(steps=12), seeds=[0, 1])
    for i in range(2):
        own, operator = faces_of(low, warp, [i])
        alone = explore("rlse", prior, own, degradation=operator, settings=RlseSettings(steps=12), seeds=[i])
        torch.testing.assert_close(found.high[i], alone.high[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(
            found.history["consistency_db"][:, i], alone.history["consistency_db"][:, 0], atol=1e-4, rtol=0
        )


# -- the method --------------------------------------------------------------------------------------------------------


def test_agrees_with_a_transcription():
    prior, low = tiny_prior(16, dtype=torch.float64), tiny_faces(1, dtype=torch.float64)
    settings = RlseSettings(
        steps=6,
        rate=0.4,
        schedule="constant",
        together=0.5,
        candidates=1,
        pixel_weight=100.0,
        semantic_weight=20.0,
    )
    found = run(prior, low, [8], settings)
    v = torch.randn(10_000, generator=torch.Generator().manual_seed(8))[:10].double()
    latent = v.expand(1, 6, 10).clone().requires_grad_(True)
    radius = v.norm()
    adam = torch.optim.Adam([latent], lr=0.4)

    def features(small):
        large = torch.nn.functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)
        return prior.judge.network.features(2 * large - 1)

    totals = []
    for step in range(6):
        high = (prior.generator.synthesis(prior.degaussianise(latent))[1] + 1) / 2
        small = DOWN.forward(high)
        semantic = sum((a - b).abs().mean() for a, b in zip(features(small), features(low), strict=True))
        loss = 100 * (small - low).square().mean() + 20 * semantic
        totals.append(loss.item())
        adam.zero_grad()
        loss.backward()
        if step < 3:
            latent.grad.copy_(latent.grad.mean(1, keepdim=True).expand_as(latent))
        adam.step()
        with torch.no_grad():
            latent.mul_(radius / latent.norm(dim=-1, keepdim=True))
    got = (found.history["pixel"] + found.history["semantic"])[:, 0]
    torch.testing.assert_close(got, torch.tensor(totals).double(), rtol=1e-6, atol=0)


def test_consistency_improves_and_the_best_is_returned(prior):
    low = tiny_faces(2)
    found = run(prior, low, [0, 1], RlseSettings(steps=40))
    assert (found.consistency_db > found.history["consistency_db"][0] + 2).all()
    totals = sum(found.history[k] for k in ("pixel", "semantic"))
    assert torch.equal(found.best_step, totals.argmin(0) + 1)
    torch.testing.assert_close(found.low_again, DOWN.forward(found.high))
    assert found.high.min() >= 0
    assert found.high.max() <= 1
    assert found.passes == 40 + 16 / 3  # 16 draws, each a pass without its two thirds of gradients
    assert (found.method, found.seeds) == ("rlse", (0, 1))
    again = prior.synthesis(found.latent["w_plus"]).clamp(0, 1)
    torch.testing.assert_close(again, found.high, atol=1e-5, rtol=0)


def test_projection_ends_exactly_at_the_input(prior):
    low = tiny_faces(2)
    found = run(prior, low, [0, 1], RlseSettings(steps=3, project=True))
    assert (found.consistency_db > 60).all()
    plain = run(prior, low, [0, 1], RlseSettings(steps=3))
    assert torch.equal(project(DOWN, plain.high, low), found.high)


def test_rows_stay_on_their_spheres(prior):
    found = run(prior, tiny_faces(2), [0, 1], RlseSettings(steps=10, candidates=1))
    start = Space(prior, tied=True).draw([0, 1])["latent"]
    torch.testing.assert_close(found.latent["latent"].norm(dim=-1), start.norm(dim=-1))


def test_it_starts_from_a_given_w(prior):
    w = prior.mapping(torch.full((1, 12), 0.5))
    wanted = prior.synthesis(w).clamp(0, 1)
    for start in (w[:, 0], w):
        found = run(prior, tiny_faces(1), [0], RlseSettings(steps=1), start=start)
        torch.testing.assert_close(found.high, wanted, atol=1e-4, rtol=0)
        assert found.passes == 1  # nothing is drawn


def test_from_a_given_w_plus_rows_are_free_and_memory_is_short(prior):
    low, w_plus = tiny_faces(1), prior.mapping(torch.full((1, 12), 0.5))
    plain = RlseSettings(steps=8)
    assert plain.from_start() == RlseSettings(steps=8, together=0.0, betas=(0.8, 0.99))
    warm = run(prior, low, [0], plain, start=w_plus)
    assert torch.equal(warm.high, run(prior, low, [0], plain.from_start(), start=w_plus).high)
    cold = run(prior, low, [0], plain, start=w_plus[:, 0])  # from a w nothing changes
    longer = run(prior, low, [0], replace(plain, together=0.0), start=w_plus[:, 0])
    shorter = run(prior, low, [0], plain.from_start(), start=w_plus[:, 0])
    assert not torch.equal(cold.high, warm.high)
    assert not torch.equal(longer.high, warm.high)
    assert torch.equal(shorter.high, warm.high)


def test_candidates_choose_the_best_draw(prior):
    low, space = tiny_faces(2), Space(prior, tied=True)

    def distance(latent):
        return losses.pixel(DOWN.forward(prior.synthesis(space.w_plus(latent))), low)

    def chosen(low, seeds, count):
        return best_draw(space, low, DOWN, seeds, count)["latent"]

    first, best = distance(chosen(low, [0, 1], 1)), distance(chosen(low, [0, 1], 8))
    assert torch.equal(chosen(low, [0, 1], 1), space.draw([0, 1])["latent"])
    assert (best <= first).all()
    assert (best < first).any()
    assert (distance(chosen(low, [0, 1], 16)) <= best).all()
    torch.testing.assert_close(chosen(low, [0, 1], 8)[1], chosen(low[1:], [1], 8)[0])
    assert run(prior, low, [0, 1], RlseSettings(steps=2, candidates=4)).passes == pytest.approx(2 + 4 / 3)


def test_rows_that_move_together_are_a_search_of_w(prior):
    low, w_plus = tiny_faces(2), prior.mapping(torch.randn(2, prior.z_dim, generator=torch.Generator().manual_seed(0)))

    def found(start=w_plus[:, 0], **settings):
        return run(prior, low, [0, 1], RlseSettings(steps=12, **settings), start=start)

    rows = found(together=1.0).latent["w_plus"]
    torch.testing.assert_close(rows, rows[:, :1].expand_as(rows), atol=1e-5, rtol=0)
    free = found(together=0.5).latent["latent"]
    assert (free - free[:, :1]).abs().amax() > 1e-2
    given = found(w_plus, together=1.0)  # a given w_plus has been searched as w already
    assert torch.equal(given.high, found(w_plus, together=0.0).high)


def test_rows_that_move_together_keep_their_values_and_share_their_gradient():
    v = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    weight = torch.arange(24.0).view(2, 4, 3)
    assert torch.equal(moving_together(v, True), v)
    (gradient,) = torch.autograd.grad((weight * moving_together(v, True)).sum(), v)
    torch.testing.assert_close(gradient, weight.mean(1, keepdim=True).expand_as(v))
    assert moving_together(v, False) is v


def test_a_search_that_has_stalled_ends_early(prior):
    low = tiny_faces(2)
    plain, short = (run(prior, low, [0, 1], RlseSettings(steps=100, stop=stop)) for stop in (None, 0.3))
    made = len(short.history["pixel"])
    assert made < 60
    assert short.passes == made + 16 / 3
    landing = made - 10  # ten steps of its schedule's last tenth
    for name in ("pixel", "semantic"):
        assert torch.equal(short.history[name][:landing], plain.history[name][:landing])
    total = short.history["pixel"] + short.history["semantic"]
    assert torch.equal(short.best_step, total.argmin(0) + 1)
    assert (short.best_step > landing).all()
    never = run(prior, low, [0, 1], RlseSettings(steps=100, stop=1e-12))
    assert torch.equal(never.high, plain.high)


# -- its settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "cosine"},
        {"betas": (0.5, 0.9)},
        {"schedule": "constant"},
        {"rate": 0.1},
        {"together": 0.0},
        {"candidates": 2},
        {"pixel_weight": 10.0},
        {"semantic_layers": (0,)},
        {"semantic_weight": 0.0},
    ],
    ids=str,
)
def test_every_setting_runs_and_matters(prior, changes):
    low = tiny_faces(1)
    base, other = (run(prior, low, [0], RlseSettings(steps=4, **c)) for c in ({}, changes))
    assert torch.isfinite(other.high).all()
    assert not torch.equal(base.high, other.high)
    assert ("semantic" in other.history) == (changes.get("semantic_weight") != 0)


@pytest.mark.parametrize("name", ["schedule", "pixel_norm"])
def test_wrong_names(name):
    with pytest.raises(UnknownNameError, match="there are"):
        RlseSettings(**{name: "wrong"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"candidates": 0},
        {"rate": 0},
        {"pixel_weight": -1},
        {"semantic_weight": -1},
        {"betas": (1.0, 0.9)},
        {"rate": float("nan")},
        {"together": 1.5},
        {"stop": 0.0},
        {"stop": 1.0},
        {"stop": -1},
        {"stop": float("nan")},
    ],
    ids=str,
)
def test_wrong_numbers(wrong):
    with pytest.raises(InputError):
        RlseSettings(**wrong)


def test_a_prior_without_discriminator_is_told():
    prior = tiny_prior(8)
    prior.judge = None
    with pytest.raises(WeightsError, match="no judge"):
        explore("rlse", prior, tiny_faces(1))
    found = explore("rlse", prior, tiny_faces(1), settings=RlseSettings(steps=1, semantic_weight=0.0))
    assert found.high.shape[-1] == 8
