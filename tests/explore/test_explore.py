"""`explore`: what it takes and refuses, methods of one's own, stages, parts of a batch, inference mode."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale, project
from latentface.errors import InputError, UnknownNameError
from latentface.explore.dgp import DgpSettings
from latentface.explore.engine import Iterate, Problem, explore
from latentface.explore.optim import Descent
from latentface.explore.registry import METHODS
from latentface.explore.result import MethodSettings, psnr_each
from latentface.explore.rlse import RlseSettings
from latentface.explore.space import drawn
from latentface.faces import Similarity, Warp
from latentface.metrics.psnr import psnr

SHORT = RlseSettings(steps=4, candidates=2)
DOWN = Downscale(4, 16)

# -- methods of one's own: faces of one grey, which is what they search -------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class GreySettings(MethodSettings):
    """`stages`: how many steps each makes; `nan_from`: the progress from which the first face's loss is NaN."""

    stages: tuple[int, ...] = (8,)
    nan_from: float = 1.0
    enough: float | None = None
    faces: int | None = None

    def at_once(self, prior):
        return self.faces


def grey(prior, low, *, degradation, settings, seeds, start):
    """Search the grey of a face, from its seed's random number or the start's first."""
    first = drawn(seeds, 1) if start is None else start.flatten(1)[:, :1]
    return _stage(low, degradation, settings, 0, {"grey": first.to(low)})


def _stage(low, degradation, settings, k, variables):
    def losses(now, t):
        wild = torch.tensor([math.nan if i == 0 and t >= settings.nan_from else 1.0 for i in range(len(low))])
        high = (now["grey"] * wild[:, None])[..., None, None].expand(-1, 3, *degradation.high_size)
        again = degradation.forward(high)
        terms = {"pixel": (again - low).square().mean((1, 2, 3))}
        return Iterate(high, again, terms | ({"late": (now["grey"][:, 0] - 0.5).abs()} if k else {}))

    more = settings.stages[k + 1 :]
    return Problem(
        variables=variables,
        losses=losses,
        steps=settings.stages[k],
        rates={"grey": 0.2 if k == 0 else 0.01},
        optimiser=Descent,
        done=None if settings.enough is None else lambda now: now.losses["pixel"] < settings.enough,
        latent=lambda found: {**found, "stage": torch.full((len(low),), k)},
        then=(lambda found: _stage(low, degradation, settings, k + 1, found)) if more else None,
        remaining=sum(more),
        cost=2.0,
        draws=3,
    )


GREY = replace(
    METHODS["rlse"], name="grey", module=__name__, settings_class="GreySettings", presets={"paper": {}, "equal": {}}
)


def test_a_method_of_ones_own(prior):
    low = tiny_faces(2)
    found = explore(GREY, prior, low, settings=GreySettings(stages=(60,)), seeds=[3, 4])
    mean = low.mean((1, 2, 3))
    torch.testing.assert_close(found.latent["grey"][:, 0], mean, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.high, mean.view(-1, 1, 1, 1).expand(2, 3, 16, 16), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.history["pixel"][0], (drawn([3, 4], 1) - low.flatten(1)).square().mean(1))
    assert (found.method, found.seeds, found.latent["stage"].tolist()) == ("grey", (3, 4), [0, 0])
    assert found.passes == 2 * 60 + 1  # a draw is a third of a pass
    assert found.seconds > 0
    assert explore(GREY, prior, low).settings == GreySettings()  # the preset "paper"


def test_it_starts_where_it_is_told(prior):
    start = torch.full((2, prior.w_dim), 0.25)
    found = explore(GREY, prior, tiny_faces(2), settings=GreySettings(stages=(1,)), start=start)
    assert found.latent["grey"].tolist() == [[0.25], [0.25]]


def test_a_face_that_diverges_keeps_its_best(prior):
    low = tiny_faces(2)
    found = explore(GREY, prior, low, settings=GreySettings(nan_from=0.5), seeds=[3, 4])
    alone = explore(GREY, prior, low[1:], seeds=[4])
    assert found.best_step.tolist() == [4, 8]
    assert found.history["pixel"][:, 0].isnan().tolist() == [False] * 4 + [True] * 4
    assert torch.isfinite(found.high).all()
    assert torch.isfinite(found.consistency_db).all()
    assert torch.equal(found.high[1:], alone.high)


def test_a_search_ends_when_all_faces_are_done(prior):
    low = tiny_faces(2)
    plain = explore(GREY, prior, low, seeds=[3, 4], settings=GreySettings(stages=(60,)))
    enough = float(plain.history["pixel"][-1].max()) + 1e-4
    found = explore(GREY, prior, low, seeds=[3, 4], settings=GreySettings(stages=(60,), enough=enough))
    first = (plain.history["pixel"] < enough).double().argmax(0) + 1
    assert torch.equal(found.best_step, first)
    assert len(found.history["pixel"]) == int(first.max()) < 60


# -- stages ------------------------------------------------------------------------------------------------------------


def test_stages_follow_each_other(prior):
    low, told = tiny_faces(2), []
    settings = GreySettings(stages=(6, 3, 2))
    found = explore(GREY, prior, low, settings=settings, seeds=[3, 4], on_step=lambda step: bool(told.append(step)))
    assert [(s.number, s.total) for s in told] == [(n, 11) for n in range(1, 12)]
    assert [sorted(s.losses) for s in told] == [["pixel"]] * 6 + [["late", "pixel"]] * 5
    for name in ("pixel", "late", "consistency_db"):
        assert found.history[name].shape == (11, 2)
    assert not found.history["late"][:6].any()  # a loss that a stage lacks is 0 there
    assert found.history["late"][6:].all()
    assert found.latent["stage"].tolist() == [2, 2]
    assert (found.best_step > 9).all()
    pixel = found.history["pixel"]
    torch.testing.assert_close(pixel[6], pixel[:6].min(0).values)  # each stage starts at the best of the last
    first = explore(GREY, prior, low, settings=GreySettings(stages=(6,)), seeds=[3, 4])
    assert torch.equal(pixel[:6], first.history["pixel"])


def test_a_stop_leaves_the_later_stages_out(prior):
    settings = GreySettings(stages=(6, 3))
    found = explore(GREY, prior, tiny_faces(2), settings=settings, on_step=lambda step: step.number == 6)
    assert len(found.history["pixel"]) == 6
    assert found.latent["stage"].tolist() == [0, 0]


# -- the parts of a batch ----------------------------------------------------------------------------------------------


def test_parts_of_a_batch_are_faces_alone(prior):
    low = tiny_faces(3)
    rates = {"latent_rates": (5e-2, 1e-2), "generator_rates": (1e-2, 2e-3)}
    settings = DgpSettings(steps=(3, 2), candidates=4, micro_batch=1, **rates)
    told = []
    found = explore("dgp", prior, low, settings=settings, seeds=[7, 8, 9], on_step=lambda step: bool(told.append(step)))
    for i in range(3):
        alone = explore("dgp", prior, low[i : i + 1], settings=settings, seeds=[7 + i])
        assert torch.equal(found.high[i], alone.high[0])
        assert torch.equal(found.latent["w_plus"][i], alone.latent["w_plus"][0])
        assert found.best_step[i] == alone.best_step[0]
        for name, values in alone.history.items():
            assert torch.equal(found.history[name][:, i], values[:, 0])
        assert found.passes == alone.passes
    assert [(s.number, s.total) for s in told] == [(n, 15) for n in range(1, 16)]
    for n, step in enumerate(told):
        assert list(range(3))[step.faces] == [n // 5]
        for name, values in {**step.losses, "consistency_db": step.consistency_db}.items():
            assert torch.equal(values, found.history[name][n % 5, step.faces])
        assert step.preview().shape == (1, 3, 16, 16)
    for i in range(3):
        assert torch.equal(told[5 * i + 4].preview()[0], found.high[i])


def test_a_whole_batch_is_told_as_such(prior):
    told = []
    explore(GREY, prior, tiny_faces(3), on_step=lambda step: bool(told.append(list(range(3))[step.faces])))
    assert told == [[0, 1, 2]] * 8


def test_a_part_that_ends_early_leaves_nan_in_its_history(prior):
    low = tiny_faces(3)
    together = explore(GREY, prior, low, settings=GreySettings(stages=(60,)), seeds=[3, 4, 5])
    enough = float(together.history["pixel"][-1].max()) + 1e-4
    settings = GreySettings(stages=(60,), enough=enough, faces=1)
    found = explore(GREY, prior, low, settings=settings, seeds=[3, 4, 5])
    made = found.history["pixel"].isfinite().sum(0)
    assert torch.equal(made, (together.history["pixel"] < enough).double().argmax(0) + 1)
    assert torch.equal(found.best_step, made)
    assert len(found.history["pixel"]) == int(made.max())
    assert found.history["pixel"].isnan().any()


def test_a_stop_leaves_the_later_parts_at_their_start(prior):
    low, told = tiny_faces(3), []

    def stop(step):
        told.append(step.number)
        return step.number == 10

    found = explore(GREY, prior, low, settings=GreySettings(faces=1), seeds=[3, 4, 5], on_step=stop)
    assert told == list(range(1, 11))
    assert found.best_step.tolist() == [8, 2, 1]
    assert found.history["pixel"].isfinite().sum(0).tolist() == [8, 2, 1]
    torch.testing.assert_close(found.latent["grey"][2], drawn([5], 1)[0])


# -- what it is given --------------------------------------------------------------------------------------------------


def test_degradation_settings_and_seeds_may_be_left_out(prior):
    low = tiny_faces(2)
    found = explore("bicubic", prior, low)
    assert torch.equal(found.high, explore("bicubic", prior, low, degradation=DOWN, seeds=[5, 6]).high)
    assert found.seeds == (0, 1)
    assert explore("rlse", prior, low, settings=SHORT).seeds == (0, 1)
    torch.testing.assert_close(found.low_again, DOWN.forward(found.high))


@pytest.mark.parametrize("kind", [np.array, torch.tensor, tuple])
def test_whole_numbers_of_any_kind_are_seeds(prior, kind):
    low = tiny_faces(2)
    found = explore("rlse", prior, low, settings=SHORT, seeds=kind([5, -6]))
    assert found.seeds == (5, -6)
    assert all(type(seed) is int for seed in found.seeds)
    assert torch.equal(found.high, explore("rlse", prior, low, settings=SHORT, seeds=[5, -6]).high)


@pytest.mark.parametrize(
    "seeds", [[0.5, 1], [1.0, 2.0], np.array([1.0, 2.0]), "12", ["1", "2"], [None, 1], 5, [2**63, 1], [0], [0, 1, 2]]
)
def test_other_seeds_are_refused(prior, seeds):
    with pytest.raises(InputError, match="seeds"):
        explore("rlse", prior, tiny_faces(2), settings=SHORT, seeds=seeds)


@pytest.mark.parametrize("method", ["rlse", "bicubic"])
@pytest.mark.parametrize(
    ("low", "words"),
    [
        (torch.full((1, 3, 4, 4), math.nan), "NaN"),
        (torch.full((1, 3, 4, 4), 9.0), "divide 8-bit values"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "floating-point"),
        (torch.zeros(3, 4, 4), "expected a tensor"),
        (torch.zeros(0, 3, 4, 4), "expected a tensor"),
        (np.zeros((1, 3, 4, 4)), "got ndarray"),
        ([0.5], "got list"),
        (torch.zeros(1, 3, 4, 5), "the degradation makes"),
        (torch.zeros(1, 3, 17, 17), "larger than"),
    ],
)
def test_other_pictures_are_refused(prior, method, low, words):
    with pytest.raises(InputError, match=words):
        explore(method, prior, low)


def test_a_degradation_of_another_prior_is_refused(prior):
    with pytest.raises(InputError, match="the prior makes 16 px"):
        explore("rlse", prior, tiny_faces(1), degradation=Downscale(4, 32))
    wide = explore("bicubic", prior, tiny_faces(1), degradation=Downscale(4, 32))  # which needs no prior
    assert wide.high.shape == (1, 3, 32, 32)


@pytest.mark.parametrize("method", ["rlse", "pulse"])
@pytest.mark.parametrize("settings", [GreySettings(), {"steps": 4}, "fast"])
def test_settings_of_another_method_are_refused(prior, method, settings):
    with pytest.raises(InputError, match=rf"the method {method} takes \w+Settings"):
        explore(method, prior, tiny_faces(1), settings=settings)


@pytest.mark.parametrize("given", [{}, {"degradation": DOWN}])
def test_the_factor_is_checked(prior, given):
    low = tiny_faces(1)
    for factor in (4, 4.0, 3.9):  # 15.6 px are 16
        assert explore("bicubic", prior, low, factor=factor, **given).high.shape[-1] == 16
    for factor in (8, 3.8, 0, -4, math.nan, math.inf):
        with pytest.raises(InputError, match="is not the 16 px"):
            explore("bicubic", prior, low, factor=factor, **given)


def test_a_start_is_checked(prior):
    low = tiny_faces(2)
    for shape in ((2, 9), (1, 10), (2, 5, 10), (10,)):
        with pytest.raises(InputError, match=r"start is .*; expected w \(2, 10\) or w_plus \(2, 6, 10\)"):
            explore("rlse", prior, low, settings=SHORT, start=torch.zeros(shape))
    for name in ("mganprior", "bicubic", "vdsr"):
        with pytest.raises(InputError, match=f"{name} has no start"):
            explore(name, prior, low, start=torch.zeros(2, 10))


def test_a_name_that_is_no_method(prior):
    with pytest.raises(UnknownNameError, match="did you mean 'rlse'"):
        explore("rlsee", prior, tiny_faces(1))


def test_what_it_is_given_stays_as_it_was(prior):
    low, start = tiny_faces(2), torch.ones(2, 10)
    before = low.clone()
    found = explore("rlse", prior, low.requires_grad_(True), settings=SHORT, start=start)
    assert torch.equal(low.detach(), before)
    assert torch.equal(start, torch.ones(2, 10))
    assert low.grad is None
    assert not found.high.requires_grad


# -- inference mode ----------------------------------------------------------------------------------------------------

QUICK = {
    "rlse": SHORT,
    "bicubic": MethodSettings(project=True),
    "dgp": DgpSettings(steps=(3,), latent_rates=(0.05,), generator_rates=(0.01,), candidates=2),
    "grey": GreySettings(stages=(4, 2)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", QUICK)
def test_inference_mode_changes_nothing(name, dtype):
    method = GREY if name == "grey" else name
    prior, low = tiny_prior(16, dtype=dtype), tiny_faces(2, dtype=dtype)
    with torch.inference_mode():
        inside = explore(method, prior, low, settings=QUICK[name])
        made_inside = explore(method, prior, low + 0, settings=QUICK[name])
    made_before = explore(method, prior, low, settings=QUICK[name])
    for found in (inside, made_inside):
        assert torch.equal(found.high, made_before.high)
        assert torch.equal(found.consistency_db, made_before.consistency_db)
        assert all(torch.equal(v, made_before.history[k]) for k, v in found.history.items())


def test_pictures_and_starts_of_inference_mode_are_taken_outside():
    prior, down = tiny_prior(16), Downscale(4, 16)
    with torch.inference_mode():
        high = prior.synthesis(prior.mapping(torch.ones(2, 12)))
        low, start = down.forward(high).clamp(0, 1), prior.mapping(torch.ones(2, 12))
    found = explore("rlse", prior, low, degradation=down, settings=replace(SHORT, steps=1), start=start)
    torch.testing.assert_close(found.high, high.clamp(0, 1), atol=1e-3, rtol=0)
    assert not found.low_again.is_inference()


# -- faces of photographs ----------------------------------------------------------------------------------------------


def test_consistency_is_measured_over_the_pixels_that_count(prior):
    warp = Warp([Similarity(7, 0.4, 8, 3), Similarity(5, -0.2, 20, 14)], 16, (32, 32))
    low = warp.cut(tiny_faces(1, 32)[0])
    told = []
    settings = replace(SHORT, steps=1)
    found = explore("rlse", prior, low, degradation=warp, settings=settings, on_step=lambda s: bool(told.append(s)))
    first = warp.forward(prior.synthesis(found.latent["w_plus"]))  # as it was searched, not clamped
    assert not warp.mask.all()
    for i in range(2):
        counted = warp.mask[i, 0]

        def rows(pictures, i=i, counted=counted):
            return pictures[i][:, counted][None, :, None]  # (1, 3, 1, N)

        error = (rows(first) - rows(low)).square().mean()
        torch.testing.assert_close(found.history["consistency_db"][0, i], -10 * error.log10(), atol=1e-3, rtol=0)
        assert told[0].consistency_db[i] == found.history["consistency_db"][0, i]
        ended = float(psnr(rows(found.low_again), rows(low))[0])
        assert float(found.consistency_db[i]) == pytest.approx(ended, abs=1e-3)
        assert ended < psnr_each(found.low_again, low)[i] - 0.5  # in which masked pixels, all alike, count too


def test_a_projection_ends_every_method(prior):
    low = tiny_faces(2)
    for name, settings in QUICK.items():
        method = GREY if name == "grey" else name
        plain = explore(method, prior, low, settings=replace(settings, project=False))
        found = explore(method, prior, low, settings=replace(settings, project=True))
        assert torch.equal(found.high, project(DOWN, plain.high, low))
        assert (found.consistency_db > 60).all()
