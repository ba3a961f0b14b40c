"""Faces that no longer improve leave, others take their places, and none notices the others."""

from __future__ import annotations

import pytest
import torch
from latentface.explore.queue import LANDING, Stopping, Task, search_queue
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale, faces_of
from latentface.errors import InputError
from latentface.explore.engine import Adam, Iterate, pulse_schedule, search
from latentface.explore.rlse import RlseSettings, rlse
from latentface.faces import Similarity, Warp
from latentface.restore.engine import Upscaler
from latentface.restore.settings import UpscaleSettings

STEPS = 40
DOWN = Downscale(4, 16)


class Bowls:
    """A search without a network: face i goes down to where `low` is, and some faces cannot move at all."""

    def __init__(self, count=6, stuck=(1, 4), wild=()):
        self.low = torch.linspace(0.2, 0.8, count).double().view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous()
        self.variables = {"x": torch.zeros(count, 1, dtype=torch.float64)}
        self.stuck, self.wild = stuck, wild
        self.groups: list[list[int]] = []
        self.progress: dict[int, list[float]] = {i: [] for i in range(count)}

    def iterate(self, x, rows):
        moves = torch.tensor([0.0 if int(i) in self.stuck else 1.0 for i in rows])[:, None, None, None]
        value = (x.view(-1, 1, 1, 1) * moves).expand(-1, 3, 2, 2)
        loss = (value - self.low[rows]).square().mean((1, 2, 3)) + 0.01
        sane = torch.tensor([float("nan") if int(i) in self.wild else 1.0 for i in rows])
        return Iterate(value, value, {"pixel": loss * sane})

    def prepare(self, rows):
        def evaluate(now, t):
            self.groups.append(rows.tolist())
            for i, at in zip(rows.tolist(), t.tolist(), strict=True):
                self.progress[i].append(at)
            return self.iterate(now["x"], rows)

        return Task(self.low[rows], evaluate)

    def search(self, places=3, stop=0.01, patience=5, **more):
        return search_queue(
            self.low,
            self.low.new_zeros(self.low.shape),
            self.variables,
            self.prepare,
            places=places,
            stopping=Stopping(stop=stop, patience=patience),
            steps=STEPS,
            rates={"x": 0.05},
            schedule=pulse_schedule,
            **more,
        )


def test_with_a_rule_that_never_holds_it_is_the_plain_search():
    bowls = Bowls(stuck=())
    queued = bowls.search(places=2, patience=STEPS)
    plain = search(
        bowls.low,
        bowls.variables,
        lambda now, t: bowls.iterate(now["x"], torch.arange(6)),
        steps=STEPS,
        rates={"x": 0.05},
        schedule=pulse_schedule,
        optimiser=Adam(bowls.variables),
    )
    torch.testing.assert_close(queued.history["pixel"], plain.history["pixel"], atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(queued.high, plain.high, atol=1e-12, rtol=1e-9)
    assert torch.equal(queued.best_step, plain.best_step)


def test_rlse_with_a_rule_that_never_holds_is_the_plain_rlse():
    prior, low = tiny_prior(16, dtype=torch.float64), tiny_faces(3, dtype=torch.float64)
    common = {"degradation": DOWN, "seeds": [0, 1, 2]}
    for more in ({}, {"semantic_when": "late", "noise": "drawn"}):
        plain = rlse(prior, low, settings=RlseSettings(steps=12, **more), **common)
        queued = rlse(prior, low, settings=RlseSettings(steps=12, stop=1e-12, **more), places=2, **common)
        torch.testing.assert_close(queued.high, plain.high, atol=1e-8, rtol=0)
        torch.testing.assert_close(queued.history["semantic"], plain.history["semantic"], atol=1e-8, rtol=1e-7)
        assert queued.passes == plain.passes == 12 + 16 / 3  # 16 draws
        assert torch.equal(queued.best_step, plain.best_step)


def test_stuck_faces_leave_and_the_next_take_their_places():
    bowls = Bowls()
    found = bowls.search(places=3)
    assert bowls.groups[0] == [0, 1, 2]
    assert max(len(g) for g in bowls.groups) == 3
    waiting = next(i for i, group in enumerate(bowls.groups) if 5 in group)
    assert waiting > 10
    assert all(len(group) == 3 for group in bowls.groups[: waiting + 1])  # places are filled while faces wait
    made = found.history["pixel"].isfinite().sum(0)
    landing = round((1 - LANDING) * STEPS)
    assert made[[1, 4]].tolist() == [5 + 1 + landing] * 2  # patience, the step that tells, the landing
    assert (made[[0, 2, 3, 5]] > made[1]).all()
    assert sum(len(g) for g in bowls.groups) == int(made.sum()) < 6 * STEPS


def test_a_stalled_face_lands_at_the_schedules_last_tenth():
    bowls = Bowls()
    bowls.search()
    course = bowls.progress[1]
    expected = [k / STEPS for k in range(6)] + [LANDING + k / STEPS for k in range(4)]
    assert course == pytest.approx(expected)
    assert bowls.progress[4] == pytest.approx(expected)  # which began later, with its own counter


def test_a_faces_course_knows_nothing_of_the_others():
    courses = {}
    for places in (1, 2, 6):
        bowls = Bowls()
        found = bowls.search(places=places)
        courses[places] = (found.high, found.best_step, found.history["pixel"].nan_to_num(-1))
    for places in (2, 6):
        for one, other in zip(courses[1], courses[places], strict=True):
            assert torch.equal(one, other)


def test_rlse_faces_know_nothing_of_the_others():
    prior, low = tiny_prior(8, dtype=torch.float64), tiny_faces(5, dtype=torch.float64)
    settings = RlseSettings(steps=25, stop=0.4)
    together = rlse(prior, low, degradation=Downscale(4, 8), settings=settings, seeds=range(5), places=2)
    turned = rlse(prior, low.flip(0), degradation=Downscale(4, 8), settings=settings, seeds=[4, 3, 2, 1, 0], places=3)
    torch.testing.assert_close(turned.high.flip(0), together.high, atol=1e-8, rtol=0)
    assert torch.equal(turned.best_step.flip(0), together.best_step)
    assert together.passes < 24 + 16 / 3
    made = together.history["consistency_db"].isfinite().sum(0)
    assert together.passes == pytest.approx(float(made.double().mean()) + 16 / 3)  # 16 draws
    best = together.history["consistency_db"].gather(0, together.best_step[None] - 1)[0]
    torch.testing.assert_close(best, together.consistency_db, atol=1.0, rtol=0)  # clamped since


def test_a_face_that_diverges_leaves_with_its_start():
    bowls = Bowls(wild=(2,))
    found = bowls.search()
    assert found.best_step[2] == 1
    assert len(bowls.progress[2]) < STEPS / 2
    assert found.best_step[3] > 5


def test_stopping_by_hand_evaluates_who_waits_once():
    bowls = Bowls(stuck=())
    told = []

    def on_step(step):
        told.append(step)
        return step.number == 3

    found = bowls.search(on_step=on_step)
    assert found.stopped
    assert [s.number for s in told] == [1, 2, 3]
    assert [len(c) for c in bowls.progress.values()] == [3, 3, 3, 1, 1, 1]
    assert told[0].total == 2 * STEPS
    assert told[0].losses["pixel"].isnan().tolist() == [False] * 3 + [True] * 3
    assert told[0].consistency_db.isfinite().tolist() == [True] * 3 + [False] * 3
    assert told[0].preview().shape == bowls.low.shape


def test_photographs_faces_keep_their_own_operators():
    prior = tiny_prior(16, dtype=torch.float64)
    warp = Warp([Similarity(4, 0, 3, 3), Similarity(7, 0, 20, 4)], 16, (40, 40))
    low = warp.cut(torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    settings = RlseSettings(steps=12, stop=0.2)
    found = rlse(prior, low, degradation=warp, settings=settings, seeds=[0, 1], places=1)
    for i in range(2):
        own, operator = faces_of(low, warp, [i])
        alone = rlse(prior, own, degradation=operator, settings=settings, seeds=[i])
        torch.testing.assert_close(found.high[i], alone.high[0], atol=1e-6, rtol=0)
        steps = alone.history["consistency_db"].shape[0]
        mine = found.history["consistency_db"][:steps, i]
        torch.testing.assert_close(mine, alone.history["consistency_db"][:, 0], atol=1e-4, rtol=0)


def test_upscaling_keeps_the_places_filled():
    prior = tiny_prior(16)
    one = Upscaler(prior, UpscaleSettings(steps=20, stop=0.3), batch=2)
    told = []
    low = tiny_faces(3)
    faces = one.upscale(
        low, lambda rows, step: told.append((rows, step.total, int(step.consistency_db.isfinite().sum())))
    )
    assert {t[:2] for t in told} == {((0, 1, 2), 40)}  # one search of all three
    assert max(t[2] for t in told) == 2
    assert one.at_once(100) == 100
    assert Upscaler(prior, UpscaleSettings(steps=20), batch=2).at_once(100) == 2
    for face, picture in zip(faces, low, strict=True):
        torch.testing.assert_close(DOWN.forward(face.high[None])[0], picture, atol=2e-3, rtol=0)


def test_bad_rules_are_refused():
    for stop in (0.0, 1.0, -1, float("nan")):
        with pytest.raises(InputError, match="stop"):
            RlseSettings(stop=stop)
    with pytest.raises(InputError, match="patience"):
        Stopping(stop=0.1, patience=0)
    with pytest.raises(InputError, match="places"):
        Bowls().search(places=0)
    assert RlseSettings().stop is None
