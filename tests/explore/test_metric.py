"""The prior's own metric against plain linear algebra, its cache, and RLSE in it."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale
from latentface.errors import InputError
from latentface.explore.engine import explore
from latentface.explore.registry import find_method
from latentface.explore.rlse import RlseSettings
from latentface.faces import Similarity, Warp
from latentface.prior import metric as module
from latentface.prior.metric import (
    PriorMetric,
    measured_answers,
    metric_for,
    metric_is_kept,
    metric_path,
    principal,
)
from latentface.prior.prior import Prior
from latentface.restore.engine import Engine
from latentface.restore.job import Job
from latentface.restore.settings import UpscaleSettings

DOWN = Downscale(4, 16)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "PAIRS", 64)
    module.last_used.clear()
    yield tmp_path / "cache"
    module.last_used.clear()


@pytest.mark.parametrize("pairs", [20, 200])  # fewer and more than the 48 numbers of a picture
def test_it_is_the_mahalanobis_distance(pairs):
    random = torch.Generator().manual_seed(0)
    answers = torch.randn(pairs, 48, generator=random, dtype=torch.float64) * torch.linspace(0.1, 2, 48).double()
    c = answers.T @ answers / pairs
    inverse = torch.linalg.inv(c + 0.03 * torch.eye(48).double())
    inverse *= c.trace() / (inverse @ c).trace()  # a residual like the prior's own variation keeps its mean square
    made = PriorMetric.of(*principal(answers), 0.03)
    x, y = (torch.rand(5, 3, 4, 4, generator=random, dtype=torch.float64) for _ in range(2))
    r = (x - y).flatten(1)
    torch.testing.assert_close(made(x, y), ((r @ inverse) * r).sum(1) / 48, rtol=1e-9, atol=0)
    assert made.mean_weight == pytest.approx(float(inverse.trace()) / 48)
    like = torch.linalg.eigh(c)
    drawn = torch.randn(20000, 48, generator=random, dtype=torch.float64) * like.eigenvalues.clamp_min(0).sqrt()
    own = (drawn @ like.eigenvectors.T).view(-1, 3, 4, 4)
    assert float(made(own, 0 * own).mean() / own.square().mean()) == pytest.approx(1, abs=0.05)


def test_what_noise_alone_would_give_is_taken_off():
    random = torch.Generator().manual_seed(0)
    made = PriorMetric.of(*principal(torch.randn(30, 48, generator=random, dtype=torch.float64)), 0.03)
    noise = 0.05 * torch.randn(4000, 3, 4, 4, generator=random, dtype=torch.float64)
    plain = made(noise, 0 * noise)
    assert float(plain.mean()) == pytest.approx(made.mean_weight * 0.05**2, rel=0.03)
    told = made(noise, 0 * noise, 0.05)
    assert float(told.min()) == 0
    assert float(told.mean()) < 0.4 * float(plain.mean())


def test_answers_are_the_generators_directional_derivatives(monkeypatch):
    monkeypatch.setattr(module, "STEP", 1e-7)
    prior = tiny_prior(16, dtype=torch.float64)
    answers = measured_answers(prior, DOWN)
    assert answers.shape == (64, 48)
    random = torch.Generator().manual_seed(0)
    z, step = torch.randn(32, 12, generator=random).double(), torch.randn(32, 6, 10, generator=random).double()
    v = prior.gaussianise(prior.mapping(z))
    there, back = (DOWN.forward(prior.synthesis(prior.degaussianise(v + h * step))) for h in (1e-7, -1e-7))
    slope = (there - back) / 2e-7
    torch.testing.assert_close(answers[:32], slope.flatten(1), atol=1e-3, rtol=0)
    assert slope.abs().max() > 0.05


def test_it_is_measured_once_and_a_broken_file_again(prior_file, cache, monkeypatch):
    prior, told = Prior.read(prior_file), []
    assert not metric_is_kept(prior, DOWN)
    for _ in range(2):
        engine = Engine(prior, UpscaleSettings(preset="fast", steps=1), say=told.append)
        (answer,) = engine.explore([Job(tiny_faces(1), DOWN, 16)])
        assert answer.best_step == 1
    assert told == ["measuring once how the prior's faces vary at 4 px: about 30 s on a CPU"]
    assert metric_is_kept(prior, DOWN)
    made = metric_for(prior, DOWN)
    path = metric_path(prior, 4, 16, "bicubic")
    assert [p for p in cache.rglob("*") if p.is_file()] == [path]
    again = Prior.read(prior_file)
    module.last_used.clear()
    with monkeypatch.context() as patch:
        patch.setattr(module, "measured_answers", lambda *_: pytest.fail("it was measured again"))
        held = metric_for(again, DOWN)
    assert torch.equal(made.basis, held.basis)
    assert torch.equal(made.damping, held.damping)
    assert (made.scale, made.mean_weight) == (held.scale, held.mean_weight)
    path.write_bytes(b"broken")
    module.last_used.clear()
    assert torch.equal(metric_for(Prior.read(prior_file), DOWN).basis, made.basis)
    other = metric_for(prior, Downscale(4, 16, "box"))
    assert not torch.equal(other.damping, made.damping)


def test_only_the_last_metric_is_held_and_no_prior(prior_file, monkeypatch):
    prior = Prior.read(prior_file)
    made = metric_for(prior, DOWN)
    assert metric_for(Prior.read(prior_file), DOWN) is made  # of the same file
    assert metric_for(prior, Downscale(4, 16, "box")) is not made
    assert len(module.last_used) == 1
    in_memory = [tiny_prior(16), tiny_prior(16, seed=1)]
    for other in in_memory:
        other.sha256 = ""
    first, second = (metric_for(other, DOWN) for other in in_memory)
    assert not torch.equal(first.basis, second.basis)
    assert metric_for(in_memory[1], DOWN) is second
    gone = weakref.ref(in_memory.pop())
    del other
    gc.collect()
    assert gone() is None


def test_a_photographs_face_is_refused(prior):
    warp = Warp([Similarity(4, 0, 3, 3)], 16, (40, 40))
    with pytest.raises(InputError, match="aligned faces only"):
        metric_for(prior, warp)


def test_rlse_searches_in_it(prior):
    low = tiny_faces(4)
    settings = find_method("rlse").settings("fast", steps=25)
    assert (settings.pixel_norm, settings.semantic_weight) == ("prior", 0.0)
    found = explore("rlse", prior, low, degradation=DOWN, settings=settings, seeds=[0, 1, 2, 3])
    assert set(found.history) == {"pixel", "consistency_db"}
    assert (found.consistency_db > found.history["consistency_db"][0] + 2).all()
    turned = explore("rlse", prior, low.flip(0), degradation=DOWN, settings=settings, seeds=[3, 2, 1, 0])
    assert torch.equal(turned.high.flip(0), found.high)  # no face depends on its neighbours
    plain = explore(
        "rlse", prior, low, degradation=DOWN, settings=RlseSettings(steps=25, semantic_weight=0.0), seeds=[0, 1, 2, 3]
    )
    assert not torch.allclose(plain.high, found.high, atol=1e-3)
    metric = metric_for(prior, DOWN)
    first = prior.synthesis(found.latent["w_plus"])
    best = 100 * metric(DOWN.forward(first), low)
    torch.testing.assert_close(found.history["pixel"].min(0).values, best, rtol=1e-3, atol=1e-6)
