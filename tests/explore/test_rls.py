"""RLS against a straight-line transcription of its update rule, and the flow it needs."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale
from latentface.errors import InputError, UnknownNameError
from latentface.explore.engine import explore
from latentface.explore.rls import RlsSettings
from latentface.prior import flow as flows
from latentface.prior.flow import Flow, FlowSettings, flow_path, load_flow, log_prob, train_flow

SMALL = FlowSettings(couplings=2, hidden=16, steps=30, batch=64)
STEPS = 4


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path))


def transcription(prior, low, flow):
    """One face; log p(w) by the flow's Jacobian, row by row; returns best pictures and totals."""
    down, rows, width = Downscale(low.shape[-1], 8), prior.num_ws, prior.w_dim
    w = prior.w_mean[None, None].repeat(1, rows, 1).requires_grad_(True)
    adam = torch.optim.Adam([w], lr=0.5)
    normal = torch.distributions.Normal(0.0, 1.0)
    best, best_total, totals = None, math.inf, []
    for i in range(STEPS):
        signed = prior.generator.synthesis(w)[1]
        loss = 10 * (down.forward(signed) - (2 * low - 1)).abs().mean()
        density = norm = 0.0
        for row in w[0]:
            u = flow(row)[0]
            jacobian = torch.autograd.functional.jacobian(lambda r: flow(r)[0], row, create_graph=True)
            density = density - (normal.log_prob(u).sum() + torch.linalg.slogdet(jacobian)[1]) / rows
            norm = norm + (u.norm() - math.sqrt(width)) ** 2 / rows
        apart = [(w[0, a] - w[0, b]).square().sum().add(1e-12).sqrt() for a in range(rows) for b in range(rows)]
        loss = loss + 0.002 * density + 0.004 * norm + 0.5 * sum(apart) / rows**2
        totals.append(loss.item())
        if loss < best_total:
            best, best_total = (signed.detach() + 1) / 2, loss.item()
        t = i / STEPS
        adam.param_groups[0]["lr"] = 0.5 * min(1, 0.05 + t / 0.05) * 0.5 * (1 + math.cos(math.pi * t))
        adam.zero_grad()
        loss.backward()
        adam.step()
    return best, totals


def test_agrees_with_a_transcription():
    prior, low = tiny_prior(8, dtype=torch.float64), tiny_faces(2, dtype=torch.float64)
    settings = RlsSettings(steps=STEPS, flow=SMALL)
    flow = load_flow(prior, SMALL)
    found = explore("rls", prior, low, degradation=Downscale(4, 8), settings=settings, seeds=[0, 3])
    for i in range(2):
        best, totals = transcription(prior, low[i : i + 1], flow)
        steps = sum(found.history[k][:, i] for k in ("pixel", "density", "norm", "cross"))
        torch.testing.assert_close(steps, torch.tensor(totals).double(), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(found.high[i], best[0].clamp(0, 1), atol=1e-6, rtol=0)


def test_order_in_a_batch_changes_nothing():
    prior, low = tiny_prior(16), tiny_faces(3)
    settings, down = RlsSettings(steps=8, flow=SMALL), Downscale(4, 16)
    one = explore("rls", prior, low, degradation=down, settings=settings, seeds=[0, 1, 2])
    other = explore("rls", prior, low.flip(0), degradation=down, settings=settings, seeds=[0, 1, 2])
    assert torch.equal(one.high, other.high.flip(0))


def test_without_regularizers_no_flow_is_trained(monkeypatch):
    monkeypatch.setattr("latentface.explore.rls.load_flow", lambda *_: pytest.fail("a flow was asked for"))
    settings = RlsSettings(steps=2, density_weight=0, norm_weight=0, cross_weight=0)
    found = explore("rls", tiny_prior(8), tiny_faces(1), degradation=Downscale(4, 8), settings=settings, seeds=[0])
    assert set(found.history) == {"pixel", "consistency_db"}


def test_the_flows_density_is_its_jacobian():
    flow = train_flow(tiny_prior(8), SMALL).double()
    w = torch.randn(3, 10, generator=torch.Generator().manual_seed(1)).double()
    log_det = flow(w)[1]
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda r: flow(r)[0], w[i])
        assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(log_det[i].item(), abs=1e-4)


def test_training_makes_mapped_latents_likelier_than_its_first_layer_alone():
    prior = tiny_prior(8)
    flow = train_flow(prior, FlowSettings(couplings=2, hidden=32, steps=150, batch=128, rate=5e-3))
    gauss = Flow(10, FlowSettings(couplings=1, hidden=4))
    z = torch.randn(20_000, 12, generator=torch.Generator().manual_seed(7))
    w = prior.mapping(z)[:, 0]
    w = w + 0.2 * prior.w_std * torch.randn(w.shape, generator=torch.Generator().manual_seed(8))
    gauss.fit_first_layer(w)
    with torch.no_grad():
        assert log_prob(*flow(w)).mean() > log_prob(*gauss(w)).mean() + 0.05
        u = flow(w)[0]
    assert u.mean(0).abs().max() < 0.2
    assert (u.std(0) - 1).abs().max() < 0.2


def test_the_flow_is_cached_by_the_priors_hash(monkeypatch):
    prior = tiny_prior(8)
    first = load_flow(prior, SMALL)
    path = flow_path(prior, SMALL)
    assert path.is_file()
    assert prior.sha256 in path.name
    monkeypatch.setattr(flows, "train_flow", lambda *_: pytest.fail("it was trained again"))
    again = load_flow(prior.to(torch.float64), SMALL)
    assert again.mean.dtype == torch.float64
    for k, v in first.state_dict().items():
        torch.testing.assert_close(again.state_dict()[k].to(v.dtype), v, atol=0, rtol=0)
    assert flow_path(tiny_prior(8, seed=1), SMALL) != path
    assert flow_path(prior, FlowSettings()) != path


def test_a_broken_cache_is_made_again_and_an_unwritable_one_is_borne(monkeypatch, tmp_path):
    prior = tiny_prior(8)
    path = flow_path(prior, SMALL)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a flow")
    load_flow(prior, SMALL)
    assert path.stat().st_size > 1000
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path / "file"))
    assert isinstance(load_flow(prior, SMALL), Flow)


def test_training_is_repeatable_and_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    one, two = train_flow(tiny_prior(8), SMALL), train_flow(tiny_prior(8), SMALL)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_settings_are_checked():
    with pytest.raises(UnknownNameError, match="schedule"):
        RlsSettings(schedule="stairs")
    with pytest.raises(InputError, match="cross_weight is -1; expected 0 or more"):
        RlsSettings(cross_weight=-1)
    with pytest.raises(InputError, match="batch"):
        FlowSettings(batch=1)
