"""RLSE as the ablation has it: with its defaults it is RLSE, and every setting runs, matters and is what it says."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_faces, tiny_prior

from latentface.bench.tables.ablated import (
    ABLATED,
    AblatedSettings,
    LaplacianPyramid,
    WideSpace,
    balance,
    feature_distance,
    semantic_loss,
)
from latentface.degradation import Downscale
from latentface.errors import InputError, UnknownNameError
from latentface.explore import losses
from latentface.explore.engine import explore
from latentface.explore.rlse import RlseSettings
from latentface.explore.space import Space
from latentface.faces import Similarity, Warp

DOUBLE = torch.float64
DOWN = Downscale(4, 16)


def run(prior, low, seeds, degradation=DOWN, start=None, **settings):
    made = AblatedSettings(**settings)
    return explore(ABLATED, prior, low, degradation=degradation, settings=made, seeds=seeds, start=start)


# -- with its defaults it is RLSE --------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["random", "w", "w_plus"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"semantic_weight": 0.0},
        {"semantic_layers": (-1,)},
        {"schedule": "cosine", "candidates": 1},
        {"stop": 0.3},
        {"project": True},
    ],
    ids=str,
)
def test_the_defaults_are_rlse_to_the_last_bit(prior, changes, start):
    low, seeds, steps = tiny_faces(3), [4, 0, 9], 40 if "stop" in changes else 12
    w = prior.mapping(torch.randn(3, 12, generator=torch.Generator().manual_seed(1)))
    given = {"random": None, "w": w[:, 0], "w_plus": w}[start]
    plain = explore("rlse", prior, low, settings=RlseSettings(steps=steps, **changes), seeds=seeds, start=given)
    found = run(prior, low, seeds, start=given, steps=steps, **changes)
    assert torch.equal(found.high, plain.high)
    assert torch.equal(found.best_step, plain.best_step)
    assert torch.equal(found.latent["w_plus"], plain.latent["w_plus"])
    assert found.history.keys() == plain.history.keys()
    assert all(torch.equal(found.history[k], plain.history[k]) for k in plain.history)
    assert (found.passes, found.method) == (plain.passes, "rlse")


def test_a_photographs_faces_too(prior):
    warp = Warp([Similarity(7, 0.4, 8, 3), Similarity(5, -0.2, 20, 14)], 16, (32, 32))
    low = warp.cut(tiny_faces(1, 32)[0])
    plain = explore("rlse", prior, low, degradation=warp, settings=RlseSettings(steps=6))
    assert torch.equal(run(prior, low, [0, 1], warp, steps=6).high, plain.high)


def test_it_has_rlses_defaults_and_presets():
    for field in fields(RlseSettings):
        assert getattr(AblatedSettings(), field.name) == getattr(RlseSettings(), field.name)
    assert AblatedSettings().from_start() == AblatedSettings(together=0.0, betas=(0.8, 0.99))
    assert type(ABLATED.settings("fast")) is AblatedSettings
    assert (AblatedSettings().in_w, AblatedSettings(space="z").in_w) == (True, False)


# -- every setting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"space": "z"},
        {"space": "w"},
        {"constraint": "none"},
        {"constraint": "ball"},
        {"noise": "drawn"},
        {"noise": "searched"},
        {"whitened": True},
        {"radius": 0.7},
        {"semantic_norm": "l2"},
        {"semantic_norm": "cosine"},
        {"semantic_reach": "pinv"},
        {"semantic_reach": "projected"},
        {"semantic_when": "early"},
        {"semantic_when": "late"},
        {"semantic_model": "random"},
        {"semantic_model": "pyramid"},
        {"semantic_ratio": 0.5},
        {"geocross": 0.05},
        {"latent_weight": 5.0},
        {"pixel_norm": "l1"},
    ],
    ids=str,
)
def test_every_setting_runs_and_matters(prior, changes):
    low = tiny_faces(1)
    # Rows drawn apart: those of one draw are too alike for geocross, and too near their sphere for a ball, in four steps.
    base, other = (run(prior, low, [0], steps=4, **{"tied": False} | c) for c in ({}, changes))
    assert torch.isfinite(other.high).all()
    assert not torch.equal(base.high, other.high)
    for name, setting in (("geocross", "geocross"), ("latent", "latent_weight")):
        assert (name in other.history) == (setting in changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"space": "z"},
        {"space": "w"},
        {"tied": False, "whitened": True},
        {"noise": "searched"},
        {"together": 0.5},
        {"radius": 0.7},
        {"semantic_ratio": 1.0},
        {"semantic_reach": "projected"},
    ],
    ids=str,
)
def test_faces_know_nothing_of_each_other(prior, changes):
    low = tiny_faces(5)
    one = run(prior, low, [0, 1, 2, 3, 4], steps=6, **changes)
    other = run(prior, low.flip(0), [4, 3, 2, 1, 0], steps=6, **changes)
    assert torch.equal(one.high, other.high.flip(0))


@pytest.mark.parametrize(
    "name", ["semantic_when", "semantic_model", "semantic_norm", "semantic_reach", "space", "constraint", "noise"]
)
def test_wrong_names(prior, name):
    with pytest.raises(UnknownNameError, match="there are"):
        run(prior, tiny_faces(1), [0], **{name: "wrong"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"geocross": -1},
        {"latent_weight": -1.0},
        {"semantic_ratio": 0.0},
        {"radius": 0.0},
        {"radius": 0.5, "space": "z"},
    ],
    ids=str,
)
def test_settings_that_cannot_be(prior, wrong):
    with pytest.raises(InputError):
        run(prior, tiny_faces(1), [0], **{"steps": 1, **wrong})


# -- spaces ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["w", "w_plus"])
def test_a_whitened_latent_is_found_back(kind):
    prior = tiny_prior(16, dtype=DOUBLE)
    space = WideSpace(prior, kind, whitened=True)
    latent = space.draw([4, 9])["latent"]
    assert torch.equal(latent, Space(prior, kind).draw([4, 9])["latent"])
    torch.testing.assert_close(space.latent_of(space.w_plus(latent)), latent, atol=1e-6, rtol=1e-6)
    w = prior.mapping(torch.ones(2, 12).double())[:, 0]
    torch.testing.assert_close(space.w_plus(space.latent_of(w)), w[:, None].expand(-1, 6, -1), atol=1e-6, rtol=1e-6)


def test_a_smaller_sphere_is_kept_and_a_pull_shortens(prior):
    low = tiny_faces(2)
    usual, small = (run(prior, low, [0, 1], steps=4, radius=r).latent["latent"].norm(dim=-1) for r in (1.0, 0.5))
    torch.testing.assert_close(small, usual / 2)
    free, pulled = (
        run(prior, low, [0, 1], steps=20, constraint="none", latent_weight=v).latent["latent"].norm()
        for v in (0.0, 5.0)
    )
    assert pulled < 0.95 * free


def test_one_row_moves_as_rows_that_move_together(prior):
    low, w = tiny_faces(2), prior.mapping(torch.randn(2, 12, generator=torch.Generator().manual_seed(0)))[:, 0]
    one, rows = (run(prior, low, [0, 1], start=w, steps=12, **c) for c in ({"space": "w"}, {"together": 1.0}))
    torch.testing.assert_close(rows.high, one.high, atol=2e-2, rtol=0)


def test_one_row_starts_at_the_mean_of_many_and_z_cannot_start(prior):
    w_plus = prior.mapping(torch.randn(12, 12, generator=torch.Generator().manual_seed(3)))[:, 0].view(2, 6, 10)
    found = run(prior, tiny_faces(2), [0, 1], start=w_plus, steps=1, space="w")
    torch.testing.assert_close(found.latent["w_plus"][:, 2], w_plus.mean(1), atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="space w or w_plus"):
        run(prior, tiny_faces(2), [0, 1], start=w_plus, steps=1, space="z")


def test_drawn_noise_stays_as_it_was_drawn(prior):
    found = run(prior, tiny_faces(2), [0, 1], steps=4, noise="drawn")
    drawn = Space(prior, tied=True, noise="drawn").draw([0, 1])
    chosen = [name for name in drawn if name.startswith("noise")]
    assert len(chosen) == 5
    one = run(prior, tiny_faces(2), [0, 1], steps=4, noise="drawn", candidates=1)
    assert all(torch.equal(one.latent[name], drawn[name]) for name in chosen)
    again = prior.synthesis(found.latent["w_plus"], [found.latent[name] for name in chosen]).clamp(0, 1)
    torch.testing.assert_close(again, found.high, atol=1e-5, rtol=0)


# -- the semantic loss and its controls --------------------------------------------------------------------------------


def semantic(prior, low, **settings):
    return semantic_loss(prior, low, DOWN, AblatedSettings(**settings))


@pytest.mark.parametrize("norm", ["l1", "l2", "cosine"])
def test_distances_of_features(norm):
    prior = tiny_prior(16, dtype=DOUBLE)
    x, y = tiny_faces(2, dtype=DOUBLE), tiny_faces(2, seed=2, dtype=DOUBLE)
    got = semantic(prior, x, semantic_norm=norm)(y, DOWN.pinv(y))
    for i in range(2):
        wanted = 0.0
        for a, b in zip(*(prior.judge.features(DOWN.fit(p[i : i + 1])) for p in (x, y)), strict=True):
            if norm == "cosine":
                wanted += float(1 - (a * b).sum() / (a.norm() * b.norm()))
            else:
                wanted += float((a - b).abs().mean() if norm == "l1" else ((a - b) ** 2).mean())
        assert float(got[i]) == pytest.approx(wanted, rel=1e-9)
    assert semantic(prior, x, semantic_norm=norm)(x, DOWN.pinv(x)).abs().max() < 1e-12


def test_the_usual_one_is_rlses(prior):
    x, y = tiny_faces(2), tiny_faces(2, seed=2)
    for layers in (None, (0, -1)):
        usual = losses.semantic(prior, x, DOWN, layers)
        assert torch.equal(semantic(prior, x, semantic_layers=layers)(y, DOWN.pinv(y)), usual(y))


def test_it_reaches_d_by_the_pseudo_inverse():
    prior = tiny_prior(16, dtype=DOUBLE)
    x, y = tiny_faces(1, dtype=DOUBLE), tiny_faces(1, seed=2, dtype=DOUBLE)
    got = semantic(prior, x, semantic_reach="pinv")(y, DOWN.pinv(y))
    pairs = zip(prior.judge.features(DOWN.pinv(x)), prior.judge.features(DOWN.pinv(y)), strict=True)
    torch.testing.assert_close(got, sum((a - b).abs().mean() for a, b in pairs)[None])


def test_it_compares_the_face_with_its_projection():
    prior = tiny_prior(16, dtype=DOUBLE)
    x, high = tiny_faces(1, dtype=DOUBLE), tiny_faces(1, 16, seed=2, dtype=DOUBLE).requires_grad_(True)
    loss = semantic(prior, x, semantic_reach="projected")
    got = loss(DOWN.forward(high), high)
    fitting = (high + DOWN.pinv(x) - DOWN.pinv(DOWN.forward(high))).detach()  # the nearest that shrinks to x
    pairs = list(zip(prior.judge.features(high), prior.judge.features(fitting), strict=True))
    torch.testing.assert_close(got, sum((a - b).abs().mean() for a, b in pairs)[None])
    (gradient,) = torch.autograd.grad(got.sum(), high)
    (wanted,) = torch.autograd.grad(sum((a - b.detach()).abs().mean() for a, b in pairs), high)
    torch.testing.assert_close(gradient, wanted)  # the target moves, but nothing flows through it
    assert float(loss(DOWN.forward(fitting), fitting)) < 1e-12


@pytest.mark.parametrize(("when", "shares"), [("early", (1.0, 0.75, 0.5, 0.25)), ("late", (0.0, 0.25, 0.5, 0.75))])
def test_it_fades_or_grows_with_the_steps(prior, when, shares):
    low, w = tiny_faces(2), prior.w_mean.expand(2, -1)
    still = {"start": w, "steps": 4, "rate": 1e-9}
    always, other = (run(prior, low, [0, 1], **still, semantic_when=w).history["semantic"] for w in ("always", when))
    torch.testing.assert_close(other, always * torch.tensor(shares)[:, None], rtol=1e-4, atol=1e-7)


def test_the_random_judge_is_the_same_each_time_and_leaves_the_global_generator_alone(prior):
    low = tiny_faces(1)
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    one = run(prior, low, [0], steps=2, semantic_model="random")
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(4)
    assert torch.equal(one.high, run(prior, low, [0], steps=2, semantic_model="random").high)


def test_the_pyramid_sees_a_constant_in_its_coarsest_level_only():
    x = tiny_faces(2, 8, dtype=DOUBLE)
    pyramid = LaplacianPyramid(x)
    torch.testing.assert_close(pyramid(x + 0.1), torch.full((2,), 0.1, dtype=DOUBLE))
    assert pyramid(x).abs().max() == 0
    small = F.avg_pool2d(x, 2)
    fine = x - F.interpolate(small, size=(8, 8), mode="bilinear", align_corners=False)
    smallest = F.avg_pool2d(small, 2)
    middle = small - F.interpolate(smallest, size=(4, 4), mode="bilinear", align_corners=False)
    wanted = sum(level.abs().mean((1, 2, 3)) for level in (fine, middle, smallest))
    torch.testing.assert_close(LaplacianPyramid(torch.zeros_like(x))(x), wanted)


def test_the_pyramid_takes_aligned_faces_only(prior):
    warp = Warp([Similarity(4, 0, 3, 3)], 16, (40, 40))
    with pytest.raises(InputError, match="aligned faces only"):
        run(prior, torch.zeros(1, 3, *warp.low_size), [0], warp, semantic_model="pyramid")


def test_wrong_blocks(prior):
    for blocks in ((), (9,), (-9,)):
        with pytest.raises(InputError, match="blocks, 0 to"):
            run(prior, tiny_faces(1), [0], steps=1, semantic_layers=blocks)


# -- the gradient's ratio ----------------------------------------------------------------------------------------------


def test_balance_is_the_ratio_of_the_gradients_lengths():
    x = tiny_faces(2, dtype=DOUBLE).requires_grad_(True)
    first, second = 3 * x.square().sum((1, 2, 3)), x.sum((1, 2, 3))
    torch.testing.assert_close(balance(first, second, x), 6 * x.flatten(1).norm(dim=1).detach() / x[0].numel() ** 0.5)


def test_the_gradient_ratio_is_what_it_says(prior):
    low, settings = tiny_faces(2), {"steps": 3, "semantic_ratio": 1.0}
    both, alone = run(prior, low, [0, 1], **settings), run(prior, low[:1], [0], **settings)
    torch.testing.assert_close(both.history["semantic"][:, :1], alone.history["semantic"], rtol=1e-3, atol=0)
    twice = run(prior, low, [0, 1], steps=1, semantic_ratio=2.0)
    torch.testing.assert_close(twice.history["semantic"][0], 2 * both.history["semantic"][0], rtol=1e-4, atol=0)
    weighted = run(prior, low, [0, 1], **settings, semantic_weight=7.0)  # the weight only switches it on
    assert torch.equal(weighted.high, both.high)


def test_feature_distances_are_a_faces_own():
    a, b = torch.rand(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    for norm in ("l1", "l2", "cosine"):
        both = feature_distance(a, b, norm)
        torch.testing.assert_close(both[1:2], feature_distance(a[1:2], b[1:2], norm))
        changed = torch.cat([a[:1], a[:1], a[2:]])
        assert torch.equal(feature_distance(changed, b, norm)[[0, 2]], both[[0, 2]])
