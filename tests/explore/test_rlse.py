"""RLSE: it approaches the input, its settings all run, and a face depends on nothing but itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale
from latentface.errors import InputError, UnknownNameError, WeightsError
from latentface.explore import losses
from latentface.explore.rlse import RlseSettings, best_of, from_w_plus, rlse
from latentface.explore.space import Space
from latentface.faces import Similarity, Warp

DOWN = Downscale(4, 16)
FULL = RlseSettings(steps=100)


def run(prior, low, seeds, settings=FULL, **rest):
    return rlse(prior, low, degradation=DOWN, settings=settings, seeds=seeds, **rest)


# ---------------------------------------------------------------------------------------------------------------------
# Determinism, as the design defines it, at 100 steps.


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


@pytest.mark.parametrize(
    "changes",
    [
        {"space": "z"},
        {"space": "w"},
        {"tied": False, "whitened": True},
        {"noise": "searched"},
        {"together": 0.5},
        {"radius": 0.7},
    ],
)
def test_other_spaces_keep_faces_apart_too(prior, changes):
    low, settings = tiny_faces(5), RlseSettings(steps=6, **changes)
    one = run(prior, low, [0, 1, 2, 3, 4], settings)
    other = run(prior, low.flip(0), [4, 3, 2, 1, 0], settings)
    assert torch.equal(one.high, other.high.flip(0))


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


# ---------------------------------------------------------------------------------------------------------------------
# The method.


def test_agrees_with_a_transcription():
    prior, low = tiny_prior(16, dtype=torch.float64), tiny_faces(1, dtype=torch.float64)
    settings = RlseSettings(
        steps=6,
        rate=0.4,
        schedule="constant",
        space="w_plus",
        tied=True,
        constraint="sphere",
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
    semantic = losses.DiscriminatorSemantic(prior.judge, low, DOWN)
    totals = []
    for step in range(6):
        high = (prior.generator.synthesis(prior.degaussianise(latent))[1] + 1) / 2
        loss = 100 * (DOWN.forward(high) - low).square().mean() + 20 * semantic(DOWN.forward(high)).sum()
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
    torch.testing.assert_close(plain.projected(low, DOWN).high, found.high)


@pytest.mark.parametrize("space", ["w", "w_plus"])
def test_it_starts_from_a_given_w(prior, space):
    w = prior.mapping(torch.full((1, 12), 0.5))
    wanted = prior.synthesis(w).clamp(0, 1)
    for start in (w[:, 0], w):
        found = run(prior, tiny_faces(1), [0], RlseSettings(steps=1, space=space), start=start)
        torch.testing.assert_close(found.high, wanted, atol=1e-4, rtol=0)


def test_from_a_given_w_plus_rows_are_free_and_memory_is_short(prior):
    low, w_plus = tiny_faces(1), prior.mapping(torch.full((1, 12), 0.5))
    plain = RlseSettings(steps=8)
    assert from_w_plus(plain) == RlseSettings(steps=8, together=0.0, betas=(0.8, 0.99))
    for stop in (None, 1e-9):  # the loop, and the queue that faces leave early
        settings = replace(plain, stop=stop)
        warm = run(prior, low, [0], settings, start=w_plus)
        assert torch.equal(warm.high, run(prior, low, [0], from_w_plus(settings), start=w_plus).high)
        cold = run(prior, low, [0], settings, start=w_plus[:, 0])  # from a w nothing changes
        longer = run(prior, low, [0], replace(settings, together=0.0), start=w_plus[:, 0])
        shorter = run(prior, low, [0], replace(settings, together=0.0, betas=(0.8, 0.99)), start=w_plus[:, 0])
        assert not torch.equal(cold.high, warm.high)
        assert not torch.equal(longer.high, warm.high)
        assert torch.equal(shorter.high, warm.high)


def test_candidates_choose_the_best_draw(prior):
    low, space = tiny_faces(2), Space(prior, tied=True)

    def distance(latent):
        return losses.pixel(DOWN.forward(prior.synthesis(space.w_plus(latent))), low)

    first, best = distance(space.draw([0, 1])["latent"]), distance(best_of(space, low, DOWN, [0, 1], 8)["latent"])
    assert (best <= first).all()
    assert (best < first).any()
    more = distance(best_of(space, low, DOWN, [0, 1], 16)["latent"])
    assert (more <= best).all()
    alone = best_of(space, low[1:], DOWN, [1], 8)["latent"][0]
    torch.testing.assert_close(best_of(space, low, DOWN, [0, 1], 8)["latent"][1], alone)
    assert run(prior, low, [0, 1], RlseSettings(steps=2, candidates=4)).passes == pytest.approx(2 + 4 / 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "cosine"},
        {"betas": (0.5, 0.9)},
        {"schedule": "constant"},
        {"space": "z"},
        {"space": "w"},
        {"constraint": "none"},
        {"constraint": "ball"},
        {"noise": "drawn"},
        {"noise": "searched"},
        {"whitened": True},
        {"pixel_norm": "l1"},
        {"semantic_norm": "l2"},
        {"semantic_layers": (0,)},
        {"semantic_norm": "cosine"},
        {"semantic_reach": "pinv"},
        {"semantic_when": "early"},
        {"semantic_when": "late"},
        {"semantic_model": "random"},
        {"semantic_model": "pyramid"},
        {"geocross": 0.05},
        {"semantic_weight": 0.0},
    ],
    ids=str,
)
def test_every_setting_runs_and_matters(prior, changes):
    low = tiny_faces(1)
    # Rows drawn apart: those of one draw are too alike for geocross, and too near their sphere for a ball, in four steps.
    base, other = (run(prior, low, [0], RlseSettings(steps=4, **{"tied": False} | c)) for c in ({}, changes))
    assert torch.isfinite(other.high).all()
    assert not torch.equal(base.high, other.high)
    assert ("semantic" in other.history) == (changes.get("semantic_weight") != 0)
    assert ("geocross" in other.history) == ("geocross" in changes)


@pytest.mark.parametrize(
    "name",
    [
        "schedule",
        "semantic_when",
        "semantic_model",
        "pixel_norm",
        "space",
        "constraint",
        "noise",
        "semantic_norm",
        "semantic_reach",
    ],
)
def test_wrong_names(prior, name):
    with pytest.raises(UnknownNameError, match="there are"):
        run(prior, tiny_faces(1), [0], RlseSettings(**{name: "wrong"}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"candidates": 0},
        {"rate": 0},
        {"pixel_weight": -1},
        {"semantic_weight": -1},
        {"geocross": -1},
        {"betas": (1.0, 0.9)},
        {"betas": (0.9,)},
        {"rate": float("nan")},
    ],
)
def test_wrong_numbers(wrong):
    with pytest.raises(InputError):
        RlseSettings(**wrong)


def test_wrong_blocks_places_and_controls(prior):
    for blocks in ((), (9,), (-9,)):
        with pytest.raises(InputError, match="blocks, 0 to"):
            run(prior, tiny_faces(1), [0], RlseSettings(steps=1, semantic_layers=blocks))
    for places in (0, -1):
        with pytest.raises(InputError, match="at least 1 face"):
            run(prior, tiny_faces(1), [0], RlseSettings(steps=1, stop=0.1), places=places)
    warp = Warp([Similarity(4, 0, 3, 3)], 16, (40, 40))
    with pytest.raises(InputError, match="aligned faces only"):
        rlse(
            prior,
            torch.zeros(1, 3, *warp.low_size),
            degradation=warp,
            settings=RlseSettings(semantic_model="pyramid"),
            seeds=[0],
        )


@pytest.mark.parametrize(
    ("low", "seeds", "words"),
    [
        (torch.full((1, 3, 4, 4), float("nan")), [0], "NaN"),
        (torch.zeros(1, 3, 5, 5), [0], "the degradation makes"),
        (torch.zeros(2, 3, 4, 4), [0], "1 seeds for 2 faces"),
        (torch.zeros(1, 3, 4, 4), [0.5], "whole numbers"),
        (torch.zeros(1, 3, 4, 4), [2**64], "64 bits"),
    ],
)
def test_what_it_is_given_is_checked(prior, low, seeds, words):
    with pytest.raises(InputError, match=words):
        run(prior, low, seeds)


def test_a_degradation_of_another_prior(prior):
    with pytest.raises(InputError, match="the prior makes 16 px"):
        rlse(prior, tiny_faces(1), degradation=Downscale(4, 32), seeds=[0])


def test_a_prior_without_discriminator_is_told():
    prior = tiny_prior(8)
    prior.judge = None
    with pytest.raises(WeightsError, match="no judge"):
        rlse(prior, tiny_faces(1), degradation=Downscale(4, 8), seeds=[0])
    settings = RlseSettings(steps=1, semantic_weight=0.0)
    assert rlse(prior, tiny_faces(1), degradation=Downscale(4, 8), settings=settings, seeds=[0]).high.shape[-1] == 8


def test_the_random_judge_is_the_same_each_time_and_leaves_the_global_generator_alone(prior):
    settings, low = RlseSettings(steps=2, semantic_model="random"), tiny_faces(1)
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    one = run(prior, low, [0], settings)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(4)
    assert torch.equal(one.high, run(prior, low, [0], settings).high)


def test_rows_that_move_together_are_a_search_of_w(prior):
    low, w_plus = tiny_faces(2), prior.mapping(torch.randn(2, prior.z_dim, generator=torch.Generator().manual_seed(0)))

    def found(start=w_plus[:, 0], **settings):
        return run(prior, low, [0, 1], RlseSettings(steps=12, **settings), start=start)

    one = found(together=1.0)
    rows = one.latent["w_plus"]
    torch.testing.assert_close(rows, rows[:, :1].expand_as(rows), atol=1e-5, rtol=0)
    torch.testing.assert_close(one.high, found(space="w").high, atol=2e-2, rtol=0)
    free = found(together=0.5).latent["latent"]
    assert (free - free[:, :1]).abs().amax() > 1e-2
    given = found(w_plus, together=1.0)  # a given w_plus has been searched as w already
    assert torch.equal(given.high, found(w_plus, together=0.0).high)
    assert given.settings.together == 0


def test_a_smaller_sphere_is_kept_and_a_pull_shortens(prior):
    low = tiny_faces(2)
    usual = run(prior, low, [0, 1], RlseSettings(steps=4, constraint="sphere")).latent["latent"].norm(dim=-1)
    small = (
        run(prior, low, [0, 1], RlseSettings(steps=4, radius=0.5, constraint="sphere")).latent["latent"].norm(dim=-1)
    )
    torch.testing.assert_close(small, usual / 2)
    free, pulled = (
        run(prior, low, [0, 1], RlseSettings(steps=20, constraint="none", latent_weight=v)).latent["latent"].norm()
        for v in (0.0, 5.0)
    )
    assert pulled < 0.95 * free


@pytest.mark.parametrize(
    "wrong", [{"together": 1.5}, {"radius": 0.0}, {"radius": 0.5, "space": "z"}, {"latent_weight": -1.0}]
)
def test_settings_that_cannot_be(prior, wrong):
    with pytest.raises(InputError):
        run(prior, tiny_faces(1), [0], RlseSettings(steps=1, **wrong))
