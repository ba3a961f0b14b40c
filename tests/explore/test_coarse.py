"""Coarse to fine: most steps at an exit, the last at full size, told as one search."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from tiny import prior_with_exits, tiny_faces, tiny_prior, written_prior

from latentface.bench.core.variants import make_variant
from latentface.bench.tables.ablated import ABLATED, AblatedSettings
from latentface.degradation import Downscale
from latentface.devices import seeded
from latentface.errors import InputError, WeightsError
from latentface.explore import coarse, engine, rlse
from latentface.explore.coarse import coarse_facts, coarse_steps, explore_coarse, race_steps, racers_seeds, stages_of
from latentface.explore.engine import draws_of
from latentface.explore.registry import find_method
from latentface.explore.rlse import RlseSettings
from latentface.explore.start.bank import load_bank
from latentface.explore.start.encoder import EncoderNetwork, EncoderShape, write_encoder
from latentface.faces import Similarity, Warp
from latentface.prior.exits import beside, exit_for
from latentface.prior.metric import metric_for
from latentface.restore.aligned import AlignedFace
from latentface.restore.engine import Engine
from latentface.restore.job import Job
from latentface.restore.settings import UpscaleSettings

R = 64
METHOD = find_method("rlse")
SETTINGS = RlseSettings(steps=10, semantic_weight=0, candidates=2)
DOWN = Downscale(4, R)


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """A prior of 64 px with exits of 16 and 32 px, and a judge."""
    return prior_with_exits(tmp_path_factory.mktemp("prior")).with_judge(tiny_prior(16).judge)


@pytest.fixture(autouse=True)
def near(monkeypatch):
    """Random priors are far from any input; a test says otherwise where it is about that."""
    monkeypatch.setattr(coarse, "ENOUGH", -math.inf)


def explore(prior, count=2, steps=8, settings=SETTINGS, degradation=DOWN, **more):
    low = more.pop("low", None)
    low = tiny_faces(count, degradation.low_size[0]) if low is None else low
    seeds = more.pop("seeds", list(range(count)))
    more = {"racers": 1} | more
    return explore_coarse(
        METHOD, prior, low, steps=steps, degradation=degradation, settings=settings, seeds=seeds, **more
    )


def plain(prior, count=2, degradation=DOWN, settings=SETTINGS, low=None):
    low = tiny_faces(count, degradation.low_size[0]) if low is None else low
    return engine.explore("rlse", prior, low, degradation=degradation, settings=settings)


@pytest.fixture
def calls(monkeypatch):
    """What `rlse` is called with: (resolution, steps, settings, start). A race of three has one thread, of four may have two."""
    made, own = [], rlse.rlse

    def told(prior, low, *, settings, start, **more):
        made.append((prior.resolution, settings.steps, settings, start))
        return own(prior, low, settings=settings, start=start, **more)

    monkeypatch.setattr(rlse, "rlse", told)
    return made


# -- which steps and which exit ----------------------------------------------------------------------------------------


def test_how_many_steps_are_coarse(mobile, tmp_path):
    for steps, full, preset, wanted in (
        (100, None, "default", 80),
        (100, None, "equal", 80),
        (100, None, "paper", 0),
        (100, 30, "paper", 70),
        (100, 100, "default", 0),
        (100, 300, "default", 0),
        (1, None, "default", 0),
        (2, None, "default", 1),
        (50, None, "default", 40),
        (49, None, "default", 37),  # of few steps half, twelve at most, are at full size
        (25, None, "default", 13),
        (19, None, "default", 10),
        (25, 2, "default", 23),
    ):
        assert coarse_steps(METHOD, mobile, RlseSettings(steps=steps), preset, full) == wanted
    assert coarse_steps(METHOD, prior_with_exits(tmp_path, sizes=(16,)), RlseSettings()) == 60
    assert coarse_steps(ABLATED, mobile, AblatedSettings(space="z")) == 0  # style rows are no start there
    assert coarse_steps(METHOD, tiny_prior(16), RlseSettings()) == 0
    for name in ("pulse", "dgp", "bicubic"):
        method = find_method(name)
        assert coarse_steps(method, mobile, method.settings("equal"), "equal") == 0


def test_the_published_search_does_not_read_the_exits(tmp_path):
    prior = prior_with_exits(tmp_path)
    beside(prior.path).write_bytes(b"broken")
    assert coarse_steps(METHOD, prior, RlseSettings(), "paper") == 0


@pytest.mark.parametrize(("side", "exit_side"), [(2, 16), (8, 16), (9, 32), (16, 32), (17, None), (64, None)])
def test_the_exit_follows_the_inputs_size(mobile, side, exit_side):
    assert exit_for(mobile.exits, Downscale(side, R), 3) == exit_side
    if 3 < side < R / 1.02:
        warp = Warp([Similarity.square((40.0, 40.0), float(side), 10.0)], R, (80, 80))
        assert exit_for(mobile.exits, warp, 1) == exit_for(mobile.exits, warp, 3) == exit_side


def test_the_largest_face_of_a_photograph_decides(mobile):
    places = [Similarity.square((20.0, 20.0), side) for side in (4.0, 12.0)]
    assert exit_for(mobile.exits, Warp(places, R, (40, 40)), 2) == 32


def sides(prior, total, coarse, side=4, **more):
    stages = stages_of(prior, Downscale(side, R), 1, total, coarse, **more)
    return [(s.prior.resolution, s.steps) for s in stages]


def test_which_stages_a_search_has(mobile):
    assert sides(mobile, 100, 80) == [(16, 40), (32, 40), (64, 20)]
    assert sides(mobile, 100, 61) == [(16, 31), (32, 30), (64, 39)]
    assert sides(mobile, 100, 90, side=12) == [(32, 90), (64, 10)]
    assert sides(mobile, 100, 90, side=20) == sides(mobile, 100, 0) == []
    assert sides(mobile, 100, 99, size=32) == [(16, 49), (32, 51)]
    assert sides(mobile, 100, 99, size=16) == [(16, 99)]
    assert sides(mobile, 2, 1) == [(16, 1), (64, 1)]
    with_another = SimpleNamespace(
        exits=dict.fromkeys((8, 16, 32)), resolution=R, at=lambda side: SimpleNamespace(resolution=side)
    )
    assert sides(with_another, 100, 80) == [(8, 26), (16, 27), (32, 27), (64, 20)]
    large = SimpleNamespace(exits=dict.fromkeys((8, 16, 32)), resolution=128, at=with_another.at)
    assert sides(large, 100, 80) == [(8, 16), (16, 32), (32, 32), (128, 20)]  # 8 px are too soft
    assert sides(large, 100, 80, size=32) == [(8, 16), (16, 32), (32, 52)]
    assert sides(large, 100, 80, size=8) == sides(large, 100, 80, size=16) == [(8, 27), (16, 73)]
    # Few steps: one exit, the smallest that a search may end at.
    assert sides(with_another, 50, 40) == [(8, 14), (16, 13), (32, 13), (64, 10)]
    assert sides(with_another, 49, 37) == [(8, 37), (64, 12)]
    assert sides(large, 25, 13) == [(16, 13), (128, 12)]
    assert sides(large, 25, 24, size=16) == [(16, 24)]
    assert sides(large, 25, 24, size=32) == [(16, 24), (32, 1)]
    assert sides(large, 25, 13, side=12) == [(32, 13), (128, 12)]
    assert [s.steps for s in stages_of(large, DOWN, 1, 25, 13, racers=4)] == [3, 10, 12]
    assert sides(with_another, 3, 2) == [(8, 2), (64, 1)]
    race, *rest = stages_of(mobile, DOWN, 1, 100, 80, racers=4)
    assert (race.steps, race.racers, [s.steps for s in rest]) == (18, 4, [22, 40, 20])
    assert [s.steps for s in stages_of(large, DOWN, 1, 100, 80, racers=4)] == [16, 32, 32, 20]


@pytest.mark.parametrize(
    ("steps", "coarse_of", "side", "started", "rate"),
    [
        (50, 40, 4, True, 0.5),
        (50, 40, 4, False, 0.8),  # it begins at random
        (49, 37, 4, True, 0.8),  # of few steps
        (50, 40, 20, True, 0.8),  # no exit suits the input
        (50, 0, 4, True, 0.8),
    ],
)
def test_a_search_at_exits_from_a_start_has_a_lower_rate(mobile, calls, steps, coarse_of, side, started, rate):
    start = mobile.mapping(torch.randn(1, mobile.z_dim, generator=torch.Generator().manual_seed(3)))
    start = start.unsqueeze(1).expand(-1, mobile.num_ws, -1) if start.ndim == 2 else start
    settings = replace(SETTINGS, steps=steps, rate=0.8)
    explore(mobile, 1, coarse_of, settings, Downscale(side, R), start=start if started else None)
    assert calls[0][2].rate == pytest.approx(rate)
    facts = coarse_facts(mobile, settings, coarse_of, raced=not started)
    assert facts.get("at_exits", {}) == ({"rate": 0.5} if steps == 50 and coarse_of and started else {}) | (
        {"subspace": True} if steps == 49 else {}
    )


# -- the search --------------------------------------------------------------------------------------------------------


def test_two_stages_are_told_as_one(mobile, calls):
    told = []
    found = explore(mobile, on_step=lambda step: bool(told.append((step, step.preview().shape))))
    assert [(r, n) for r, n, *_ in calls] == [(16, 8), (64, 2)]
    assert [s.number for s, _ in told] == list(range(1, 11))
    assert {s.total for s, _ in told} == {10}
    assert {shape for _, shape in told} == {(2, 3, R, R)}
    assert sum(s.part for s, _ in told) == pytest.approx(1)
    assert told[0][0].part == pytest.approx(told[-1][0].part / 4)  # 16 px to 64
    assert found.high.shape == (2, 3, R, R)
    assert found.latent["w_plus"].shape == (2, mobile.num_ws, mobile.w_dim)
    assert found.settings == replace(SETTINGS, subspace=True)  # those that it used
    assert {len(v) for v in found.history.values()} == {10}
    assert bool((found.best_step > 8).all())
    assert found.passes == pytest.approx((8 + 2 / 3) / 4 + 2)
    torch.testing.assert_close(found.low_again, DOWN.forward(found.high))


def test_an_exit_stands_between(mobile, calls, monkeypatch):
    monkeypatch.setattr(coarse, "FEW", 2)
    told = []
    found = explore(mobile, on_step=lambda step: bool(told.append(step)))
    assert [(r, n) for r, n, *_ in calls] == [(16, 4), (32, 4), (64, 2)]
    assert [s.number for s in told] == list(range(1, 11))
    assert sum(s.part for s in told) == pytest.approx(1)
    assert [told[i].part for i in (4, 8)] == pytest.approx([2 * told[0].part, 4 * told[0].part])
    assert bool((found.best_step > 8).all())
    assert [s.rate for _, _, s, _ in calls] == pytest.approx([0.4, 0.4 * 4 / 25, 0.4 * 2 / 25])
    first, then, last = (start for *_, start in calls)
    assert first is None
    assert torch.equal(then[:, 4:], then[:, 3:4].expand_as(then[:, 4:]))  # rows above an exit are its last one
    assert torch.equal(last[:, then.shape[1] :], last[:, then.shape[1] - 1 : then.shape[1]].expand(-1, 2, -1))


def test_of_several_searches_the_best_goes_on(mobile, calls):
    told = []
    found = explore(mobile, racers=3, on_step=lambda step: bool(told.append((step, step.preview().shape))))
    assert [(r, n) for r, n, *_ in calls] == [(16, 2), (16, 6), (64, 2)]
    assert calls[0][3] is None
    rows, seeds = [0, 0, 0, 1, 1, 1], racers_seeds([0, 1], 3)
    assert (seeds[0], seeds[3], len(set(seeds))) == (0, 1, 6)
    assert not set(seeds[1:3]) & {s for draw in draws_of([0], 16) for s in draw}  # no start comes twice
    race = engine.explore(
        "rlse",
        mobile.at(16),
        tiny_faces(2, 4)[rows],
        degradation=DOWN.at(16),
        settings=replace(SETTINGS, steps=2),
        seeds=seeds,
    )
    least = race.history["pixel"].amin(0).view(2, 3)
    assert len(set(least.flatten().tolist())) == 6
    best = least.argmin(1) + torch.tensor([0, 3])
    torch.testing.assert_close(calls[1][3], race.latent["w_plus"][best])
    torch.testing.assert_close(found.history["pixel"][:2], race.history["pixel"][:, best])
    assert [s.number for s, _ in told] == list(range(1, 11))
    assert {shape for _, shape in told} == {(2, 3, R, R)}
    assert {len(s.consistency_db) for s, _ in told} == {2}
    assert sum(s.part for s, _ in told) == pytest.approx(1)
    assert told[0][0].part == pytest.approx(3 * told[2][0].part)
    assert bool((found.best_step > 8).all())
    assert found.passes == pytest.approx((3 * (2 + 2 / 3) + 6) / 4 + 2)


@pytest.fixture
def own_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("own_threads")
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_racers_in_threads_of_their_own(mobile, threads):
    one, several = [], []
    torch.set_num_threads(1)
    alone = explore(mobile, racers=4, on_step=lambda step: bool(one.append(step)))
    torch.set_num_threads(threads)
    found = explore(mobile, racers=4, on_step=lambda step: bool(several.append(step)))
    assert torch.get_num_threads() == threads
    assert [s.number for s in several] == [s.number for s in one] == list(range(1, 11))
    race = slice(race_steps(8))
    for name in ("pixel", "consistency_db"):  # the same racer has won
        torch.testing.assert_close(found.history[name][race], alone.history[name][race], rtol=1e-3, atol=1e-3)
    for mine, theirs in zip(several[race], one[race], strict=True):  # and the same was told
        torch.testing.assert_close(mine.losses["pixel"], theirs.losses["pixel"], rtol=1e-3, atol=1e-3)
        assert mine.preview().shape == theirs.preview().shape
    assert found.passes == alone.passes


@pytest.mark.usefixtures("own_threads")
def test_an_error_ends_a_race_in_all_threads(mobile):
    def fail(step):
        if step.number == 2:
            raise MemoryError("no more")

    torch.set_num_threads(2)
    with pytest.raises(MemoryError, match="no more"):
        explore(mobile, racers=4, steps=90_000, settings=replace(SETTINGS, steps=100_000), on_step=fail)
    assert torch.get_num_threads() == 2


def test_a_face_that_is_far_from_its_input_is_searched_on(mobile, calls, monkeypatch):
    before, calls[:] = explore(mobile), []
    first, second = before.history["consistency_db"][-1].tolist()  # before the projection
    monkeypatch.setattr(coarse, "ENOUGH", (first + second) / 2)
    told = []
    monkeypatch.setattr(coarse, "FURTHER_SHARE", 3)
    found = explore(mobile, on_step=lambda step: bool(told.append(step)))
    assert [(r, n, s.rate) for r, n, s, _ in calls] == [(16, 8, 0.4), (64, 2, pytest.approx(0.032)), (64, 30, 0.4)]
    torch.testing.assert_close(calls[-1][3], before.latent["w_plus"], rtol=0, atol=0)
    far, near = (0, 1) if first < second else (1, 0)
    assert found.consistency_db[far] > before.consistency_db[far] + 1
    assert found.best_step[far] > 10 >= found.best_step[near]
    for name in ("high", "low_again", "consistency_db"):
        torch.testing.assert_close(getattr(found, name)[near], getattr(before, name)[near], rtol=0, atol=0)
    torch.testing.assert_close(found.low_again, DOWN.forward(found.high))
    torch.testing.assert_close(mobile.synthesis(found.latent["w_plus"]).clamp(0, 1), found.high, rtol=1e-4, atol=1e-4)
    assert [s.number for s in told] == [*range(1, 11), *[10] * 30]
    assert sum(s.part for s in told) == pytest.approx(1)
    assert {len(v) for v in found.history.values()} == {10}
    assert found.passes == pytest.approx(before.passes + 30)


def test_which_a_stop_ends_too(mobile, calls, monkeypatch):
    monkeypatch.setattr(coarse, "ENOUGH", math.inf)
    explore(mobile, on_step=lambda step: step.number == 9)
    assert [(r, n) for r, n, *_ in calls] == [(16, 8), (64, 2)]
    told, calls[:] = [], []
    explore(mobile, on_step=lambda step: bool(told.append(step)) or len(told) == 12)
    assert len(told) == 12
    assert [(r, n, s.rate) for r, n, s, _ in calls[2:]] == [(64, 3, pytest.approx(0.4 * 3 / 25))]  # short, as others


def test_faces_that_end_at_the_first_exit_are_not_searched_on(mobile, calls, monkeypatch):
    monkeypatch.setattr(coarse, "ENOUGH", math.inf)
    explore(mobile, size=16)
    assert [(r, n) for r, n, *_ in calls] == [(16, 8)]


def test_a_race_that_is_stopped_ends_with_one_step_at_full_size(mobile, calls):
    found = explore(mobile, racers=3, on_step=lambda step: step.number == 2)
    assert [(r, n) for r, n, *_ in calls] == [(16, 2), (64, 1)]
    assert {len(v) for v in found.history.values()} == {3}


def test_a_start_that_is_given_is_raced_against_none(mobile, calls):
    start = mobile.mapping(torch.randn(2, mobile.z_dim, generator=torch.Generator().manual_seed(3)))
    explore(mobile, racers=3, start=start)
    assert [(r, n) for r, n, *_ in calls] == [(16, 8), (64, 2)]


@pytest.mark.parametrize(
    ("size", "stages"), [(8, [(16, 8)]), (16, [(16, 8)]), (17, [(16, 8), (32, 2)]), (64, [(16, 8), (64, 2)])]
)
def test_a_search_ends_where_there_are_pixels_enough(mobile, calls, size, stages):
    told = []
    found = explore(mobile, size=size, on_step=lambda step: bool(told.append((step, step.preview().shape))))
    assert [(r, n) for r, n, *_ in calls] == stages
    steps, side = sum(n for _, n in stages), stages[-1][0]
    assert found.high.shape == (2, 3, side, side)
    assert [s.number for s, _ in told] == list(range(1, steps + 1))
    assert {s.total for s, _ in told} == {steps}
    assert {shape for _, shape in told} == {(2, 3, side, side)}
    assert sum(s.part for s, _ in told) == pytest.approx(1)
    torch.testing.assert_close(found.low_again, DOWN.at(side).forward(found.high))
    projected = explore(mobile, size=size, settings=replace(SETTINGS, project=True))
    assert float(projected.consistency_db.min()) > 60


def test_one_that_is_stopped_ends_there_too(mobile, calls):
    found = explore(mobile, racers=3, size=16, on_step=lambda step: step.number == 2)
    assert [(r, n) for r, n, *_ in calls] == [(16, 2), (16, 1)]
    assert found.high.shape == (2, 3, 16, 16)


def test_without_full_steps_a_small_face_ends_at_an_exit(mobile, calls):
    warp = Warp([Similarity.square((24.0, 24.0), 8.0)], R, (48, 48))
    for full_steps, sides in ((0, {16}), (1, {16, 64})):
        calls.clear()
        one = Engine(mobile, UpscaleSettings(steps=5, full_steps=full_steps))
        (answer,) = one.explore([Job(warp.cut(tiny_faces(1, 48)[0]), warp, 16)])
        assert {r for r, *_ in calls} == sides
        assert answer.high.shape == (3, 16, 16)
        assert answer.consistency_db > 40


def test_too_few_steps_are_no_race(mobile, calls):
    explore(mobile, racers=3, steps=1)
    assert [(r, n) for r, n, *_ in calls] == [(16, 1), (64, 9)]
    assert [race_steps(n) for n in (1, 2, 3, 90)] == [0, 1, 1, 20]


def test_the_second_stage_begins_at_the_first_ones_best_with_tied_rows(mobile, calls):
    explore(mobile)
    first = plain(mobile.at(16), degradation=DOWN.at(16), settings=replace(SETTINGS, steps=8))
    start = calls[1][3]
    torch.testing.assert_close(start[:, :4], first.latent["w_plus"])
    assert torch.equal(start[:, 4:], start[:, 3:4].expand(-1, 4, -1))


def test_a_face_does_not_know_its_neighbours(mobile):
    together = explore(mobile, 3)
    for i in range(3):
        alone = explore(mobile, 1, low=tiny_faces(3)[i : i + 1], seeds=[i])
        torch.testing.assert_close(alone.high[0], together.high[i], atol=2e-3, rtol=1e-3)
        assert alone.best_step[0] == together.best_step[i]


@pytest.mark.parametrize("start", ["w", "w_plus"])
def test_a_given_start_is_used_by_the_first_stage(mobile, calls, start):
    w = mobile.mapping(torch.randn(2, mobile.z_dim, generator=torch.Generator().manual_seed(3)))
    explore(mobile, start=w[:, 0] if start == "w" else w)
    given = calls[0][3]
    assert given.shape == ((2, 7) if start == "w" else (2, 4, 7))
    assert torch.equal(given.reshape(-1, 7)[0], w[0, 0])


def test_only_the_answer_is_projected(mobile, calls):
    found = explore(mobile, settings=replace(SETTINGS, project=True))
    assert [s.project for _, _, s, _ in calls] == [False, True]
    assert found.settings.project
    assert float(found.consistency_db.min()) > 40


@pytest.mark.parametrize("at", [1, 5, 8])
def test_a_stop_in_the_first_stage_leaves_one_evaluation(mobile, calls, at):
    told = []

    def stop(step):
        told.append(step.number)
        return step.number == at

    found = explore(mobile, on_step=stop)
    assert [(r, n) for r, n, *_ in calls] == [(16, 8), (64, 1)]
    assert told == list(range(1, at + 1))
    assert {len(v) for v in found.history.values()} == {at + 1}
    assert found.best_step.tolist() == [at + 1] * 2
    assert found.high.shape == (2, 3, R, R)


def test_a_stop_in_the_second_stage(mobile):
    told = []

    def stop(step):
        told.append(step.number)
        return step.number == 9

    found = explore(mobile, on_step=stop)
    assert told == list(range(1, 10))
    assert len(found.history["pixel"]) == 9


def test_without_an_exit_that_suits_it_is_the_plain_search(mobile, calls):
    down = Downscale(20, R)
    found = explore(mobile, 1, degradation=down)
    assert [(r, n) for r, n, *_ in calls] == [(64, 10)]
    assert torch.equal(found.high, plain(mobile, 1, down).high)
    assert torch.equal(explore(mobile, steps=0).high, plain(mobile).high)


@dataclass(frozen=True, kw_only=True, slots=True)
class InParts(RlseSettings):
    """RLSE's settings, with so many faces at once."""

    faces: int

    def at_once(self, prior):
        return self.faces


@pytest.mark.parametrize("faces", [1, 2, 3])
def test_a_batch_in_parts(mobile, faces):
    """Every face goes through what it would go through alone, and the parts' shares add up to the whole."""
    settings = InParts(steps=10, semantic_weight=0, candidates=2, faces=faces)
    told = []
    found = explore(mobile, 3, settings=settings, on_step=lambda step: bool(told.append(step)))
    rounds = -(-3 // faces)
    assert [s.number for s in told] == list(range(1, 10 * rounds + 1))
    assert {s.total for s in told} == {10 * rounds}
    assert sum(s.part for s in told) == pytest.approx(1)
    assert [s.faces for s in told[::10]] == [
        slice(i, min(i + faces, 3)) if faces < 3 else slice(None) for i in range(0, 3, faces)
    ]
    assert told[0].preview().shape == (faces, 3, R, R)
    alone = explore(mobile, 1, low=tiny_faces(3)[2:], seeds=[2])
    torch.testing.assert_close(found.high[2], alone.high[0], atol=2e-3, rtol=1e-3)


def test_a_stage_that_stalls_counts_its_own_steps(mobile, monkeypatch):
    monkeypatch.setattr(coarse, "FEW", 99)
    settings, told = replace(SETTINGS, steps=60, stop=0.9), []
    found = explore(mobile, settings=settings, steps=40, on_step=lambda step: bool(told.append(step.number)))
    made = len(found.history["pixel"])
    assert made == len(told) < 60
    assert told[:11] == list(range(1, 12))
    assert told[11:15] == [37, 38, 39, 40]  # the last tenth of the first stage
    assert told[15:26] == list(range(41, 52))
    assert told[-1] == 60
    assert torch.equal(found.best_step, 15 + found.history["pixel"][15:].argmin(0) + 1)


def test_photographs_too(mobile):
    places = [Similarity.square((20.3, 18.8), 5.0, 0), Similarity.square((22.0, 21.5), 7.7, 25)]
    warp = Warp(places, R, (40, 48))
    photo = tiny_faces(1, 48)[0, :, :40]
    found = explore(mobile, degradation=warp, low=warp.cut(photo))
    assert found.high.shape == (2, 3, R, R)
    torch.testing.assert_close(found.low_again, warp.forward(found.high))


def test_a_photographs_face_is_searched_at_its_own_exit_whatever_the_others(mobile, calls):
    """Faces of one inner side share a batch only where they share an exit."""
    picture = tiny_faces(1, 48)[0]

    def found(*sides):
        warps = [Warp([Similarity.square((24.0, 24.0), side)], R, (48, 48)) for side in sides]
        jobs = [Job(warp.cut(picture), warp, R) for warp in warps]
        return list(Engine(mobile, UpscaleSettings(steps=5), batch=4).explore(jobs))

    both = found(12.0, 5.0)
    assert {r for r, *_, start in calls if start is None} == {16, 32}
    torch.testing.assert_close(both[1].high, found(5.0)[0].high, atol=2e-3, rtol=0)


def test_double_precision(mobile):
    double = mobile.to(torch.float64)
    found = explore(double, low=tiny_faces(2, dtype=torch.float64))
    assert found.high.dtype == torch.float64


# -- upscale and the tables --------------------------------------------------------------------------------------------


def searching(prior, **settings):
    return Engine(prior, UpscaleSettings(**{"steps": 5, "detail": "full", **settings}))


def upscaled(one, low, on_step=None):
    face = AlignedFace.find(one, low[0])
    return face.result(list(one.explore(face.jobs, on_step)))


def test_upscale_says_what_it_did(mobile):
    shares = []
    result = upscaled(searching(mobile), tiny_faces(1), lambda rows, step: bool(shares.append(step.part)))
    assert (result.record["coarse_steps"], result.record["exit_side"]) == (3, 16)
    assert (result.record["racers"], result.record["exits_sha256"]) == (4, mobile.exits_sha256)
    assert len(result.record["exits_sha256"]) == 64
    json.dumps(result.record)
    assert sum(shares) == pytest.approx(1)
    large = upscaled(searching(mobile), tiny_faces(1, 24)).record
    assert (large["coarse_steps"], large["exit_side"]) == (3, None)


def test_full_steps_and_the_published_search(mobile):
    assert searching(mobile, full_steps=2).coarse_steps == 3
    for settings in ({"preset": "paper"}, {"full_steps": 5}):
        record = upscaled(searching(mobile, **settings), tiny_faces(1)).record
        assert not {"coarse_steps", "exits_sha256", "exit_side"} & record.keys()
    with pytest.raises(InputError, match="full_steps is -1"):
        UpscaleSettings(full_steps=-1)
    with pytest.raises(InputError, match="pulse makes all steps at the prior's full size"):
        searching(mobile, method="pulse", full_steps=3)


def test_samples_their_mean_and_a_bank(mobile):
    low = tiny_faces(1)
    result = upscaled(searching(mobile, samples=3, answer="mean"), low)
    assert result.samples.shape == (3, 3, R, R)
    assert (result.samples[0] - result.samples[1]).abs().max() > 1e-3
    one = upscaled(searching(mobile, seed=1), low)
    torch.testing.assert_close(result.samples[1], one.high, atol=2e-3, rtol=1e-3)
    bank = load_bank(mobile, 4)
    small = mobile.at(16)
    z = torch.randn(4, mobile.z_dim, generator=torch.Generator().manual_seed(0))
    painted = small.synthesis(small.mapping(z)).clamp(0, 1)  # at the exit, whose side is that of a bank's pictures
    torch.testing.assert_close(bank.pictures, painted, atol=1e-3, rtol=0)
    torch.testing.assert_close(bank.w, mobile.mapping(z)[:, 0], atol=1e-2, rtol=1e-2)
    banked = upscaled(searching(mobile, start="bank"), low)
    assert banked.record["start"] == "bank"
    assert (banked.record["coarse_steps"], banked.record["racers"]) == (3, 1)


def test_searches_at_exits_begin_at_the_encoder_where_there_is_one(tmp_path):
    prior = prior_with_exits(tmp_path).with_judge(tiny_prior(16).judge)
    assert searching(prior).start.kind == "random"
    shape = EncoderShape(rows=prior.at(16).num_ws, width=prior.w_dim, parts=4, hidden=8, blocks=1, rank=2)
    with seeded(0):
        write_encoder(beside(prior.path, "encoder"), EncoderNetwork(shape), prior.sha256, {})
    record = upscaled(searching(prior), tiny_faces(1)).record
    assert (record["start"], record["settings"]["start"], record["racers"]) == ("encoder", "encoder", 1)
    assert record["settings"]["method_settings"]["together"] == 0
    for other in ({"preset": "paper"}, {"full_steps": 5}, {"start": "random"}, {"method": "pulse"}):
        assert searching(prior, **other).start.kind == "random"
    table = make_variant("rlse@default", steps=5)
    assert table.described(prior)["encoder_sha256"] == record["encoder_sha256"]
    own = make_variant("rlse", steps=5, start="encoder")
    low = tiny_faces(1)
    assert torch.equal(table(prior, low, DOWN, [0]).high, own(prior, low, DOWN, [0]).high)
    assert "start" not in make_variant("rlse", steps=5).described(prior)
    beside(prior.path, "encoder").write_bytes(b"no encoder")
    with pytest.raises(WeightsError, match="encoder"):
        searching(prior)


def test_tables_search_alike_and_say_so(mobile):
    variant = make_variant("rlse", steps=5)
    found = variant(mobile, tiny_faces(1), DOWN, [0])
    assert len(found.history["pixel"]) == 5
    described = variant.described(mobile)
    assert (described["coarse_steps"], described["exits_sha256"]) == (3, mobile.exits_sha256)
    assert "coarse_steps" not in make_variant("rlse@paper", steps=5).described(mobile)
    assert "coarse_steps" not in make_variant("pulse").described(mobile)


def test_a_prior_without_exits_searches_as_it_did(tmp_path):
    prior = written_prior(tmp_path)
    assert explore(prior, 1, steps=0).high.shape == (1, 3, R, R)
    assert exit_for(prior.exits, DOWN, 1) is None


def test_the_priors_metric_is_measured_at_the_exit(mobile, monkeypatch):
    monkeypatch.setattr("latentface.prior.metric.PAIRS", 8)
    sides = []

    def measured(prior, degradation):
        sides.append((prior.resolution, degradation.high))
        return torch.randn(8, 3 * 4 * 4, generator=torch.Generator().manual_seed(0)).double()

    monkeypatch.setattr("latentface.prior.metric.measured_answers", measured)
    metric_for(mobile, DOWN)
    assert sides == [(16, 16)]
