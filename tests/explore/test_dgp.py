"""DGP against a straight-line transcription of its update rule, and faces that must not leak into one another."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale
from latentface.errors import InputError, UnknownNameError
from latentface.explore.dgp import DgpSettings
from latentface.explore.engine import explore

# Three blocks, three stages: one block the more in each. Rates large enough to be seen.
SETTINGS = DgpSettings(
    steps=(3, 2, 3),
    latent_rates=(5e-2, 2e-2, 1e-2),
    generator_rates=(1e-2, 5e-3, 2e-3),
    candidates=6,
)


def transcription(prior, low, seed):
    """One face with a deep copy of the generator and PyTorch's Adam; returns best pictures and totals."""
    down = Downscale(low.shape[-1], 16)

    def up(small):
        return F.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False) * 2 - 1

    def d_loss(small, count):
        pairs = list(zip(prior.judge.network.features(up(small)), prior.judge.network.features(up(low)), strict=True))
        return sum((a - b).abs().mean() for a, b in pairs[-count:])

    draws = torch.randn(6 * 12, generator=torch.Generator().manual_seed(seed)).double().view(6, 12)
    with torch.no_grad():
        scores = [d_loss(down.forward((prior.generator(z[None]) + 1) / 2), 3).item() for z in draws]
    z = draws[scores.index(min(scores))][None].clone().requires_grad_(True)
    g = copy.deepcopy(prior.generator).requires_grad_(False)
    blocks = [g.synthesis.b4, g.synthesis.b8, g.synthesis.b16]
    for block in blocks:
        block.requires_grad_(True)
    z_adam = torch.optim.Adam([z], lr=1.0, betas=(0.0, 0.999))
    g_adam = torch.optim.Adam([{"params": list(b.parameters())} for b in blocks], lr=1.0, betas=(0.0, 0.999))
    best, best_total, totals = None, float("inf"), []
    for stage in range(3):
        for _ in range(SETTINGS.steps[stage]):
            z_adam.param_groups[0]["lr"] = SETTINGS.latent_rates[stage]
            for i, group in enumerate(g_adam.param_groups):
                group["lr"] = SETTINGS.generator_rates[stage] if i <= stage else 0.0
            picture = (g(z) + 1) / 2
            small = down.forward(picture)
            loss = d_loss(small, 8) + (up(small) - up(low)).square().mean() + 0.02 * (z.square() / 2).mean()
            totals.append(loss.item())
            if loss < best_total:
                best, best_total = picture.detach(), loss.item()
            z_adam.zero_grad()
            g_adam.zero_grad()
            loss.backward()
            z_adam.step()
            g_adam.step()
    return best, totals


def test_agrees_with_a_transcription():
    prior, low = tiny_prior(16, dtype=torch.float64), tiny_faces(2, dtype=torch.float64)
    before = copy.deepcopy(prior.generator.state_dict())
    found = explore("dgp", prior, low, degradation=Downscale(4, 16), settings=SETTINGS, seeds=[0, 9])
    for i, seed in enumerate([0, 9]):
        best, totals = transcription(prior, low[i : i + 1], seed)
        steps = sum(found.history[k][:, i] for k in ("feature", "pixel", "prior"))
        torch.testing.assert_close(steps, torch.tensor(totals).double(), atol=1e-7, rtol=1e-6)
        torch.testing.assert_close(found.high[i], best[0].clamp(0, 1), atol=1e-6, rtol=0)
    after = prior.generator.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)  # the prior itself never moves


def test_faces_do_not_leak_into_one_another():
    prior, low = tiny_prior(16), tiny_faces(3)
    down = Downscale(4, 16)
    one = explore("dgp", prior, low, degradation=down, settings=SETTINGS, seeds=[0, 1, 2])
    flipped = explore("dgp", prior, low.flip(0), degradation=down, settings=SETTINGS, seeds=[2, 1, 0])
    assert torch.equal(one.high, flipped.high.flip(0))
    other_neighbours = low.clone()
    other_neighbours[1:] = tiny_faces(2, seed=99)
    again = explore("dgp", prior, other_neighbours, degradation=down, settings=SETTINGS, seeds=[0, 5, 6])
    assert torch.equal(one.high[0], again.high[0])
    assert not torch.equal(one.high[1], again.high[1])


def test_micro_batches_change_nothing():
    prior, low = tiny_prior(16, dtype=torch.float64), tiny_faces(3, dtype=torch.float64)
    down, settings = Downscale(4, 16), DgpSettings(**{**_fields(), "keep_generators": True})
    whole = explore("dgp", prior, low, degradation=down, settings=settings, seeds=[0, 1, 2])
    two = DgpSettings(**{**_fields(), "keep_generators": True, "micro_batch": 2})
    told = []
    parts = explore(
        "dgp", prior, low, degradation=down, settings=two, seeds=[0, 1, 2], on_step=lambda step: bool(told.append(step))
    )
    torch.testing.assert_close(whole.high, parts.high, atol=1e-9, rtol=0)
    assert torch.equal(whole.best_step, parts.best_step)
    name = "generator.b8.conv0.weight"
    torch.testing.assert_close(whole.latent[name], parts.latent[name], atol=1e-9, rtol=0)
    assert not torch.equal(whole.latent[name][0], whole.latent[name][1])
    assert whole.history["pixel"].shape == (8, 3)
    assert [s.number for s in told] == list(range(1, 17))
    assert {s.total for s in told} == {16}
    assert [s.faces for s in told] == [slice(0, 2)] * 8 + [slice(2, 3)] * 8
    assert [len(s.consistency_db) for s in told] == [2] * 8 + [1] * 8
    torch.testing.assert_close(told[-1].preview(), parts.high[2:], atol=1e-9, rtol=0)


def test_stopping_leaves_every_face_with_a_result():
    prior, low = tiny_prior(16), tiny_faces(3)
    settings = DgpSettings(**{**_fields(), "micro_batch": 1})
    found = explore(
        "dgp",
        prior,
        low,
        degradation=Downscale(4, 16),
        settings=settings,
        seeds=[0, 1, 2],
        on_step=lambda s: s.number == 3,
    )
    assert found.high.shape == (3, 3, 16, 16)
    assert found.history["pixel"].shape == (3, 3)
    assert found.best_step[1:].tolist() == [1, 1]


@pytest.mark.parametrize("space", ["w", "w_plus"])
def test_other_spaces(space):
    settings = DgpSettings(**{**_fields(), "space": space})
    found = explore("dgp", tiny_prior(8), tiny_faces(1), degradation=Downscale(4, 8), settings=settings, seeds=[0])
    assert found.latent["latent"].shape == (1, 1 if space == "w" else 4, 10)
    assert found.history["pixel"][-1] < found.history["pixel"][0]


def test_settings_are_checked():
    with pytest.raises(InputError, match="stages"):
        DgpSettings(steps=(1, 2))
    with pytest.raises(UnknownNameError, match="space"):
        DgpSettings(space="y")
    with pytest.raises(InputError, match="micro_batch"):
        DgpSettings(micro_batch=0)


def _fields():
    names = ("steps", "latent_rates", "generator_rates", "candidates")
    return {k: getattr(SETTINGS, k) for k in names}


def test_a_photographs_faces_keep_their_own_transforms():
    """Micro-batches take their part of a Warp: one face at a time and all at once are the same search."""
    warp = pytest.importorskip("latentface.faces.warp")
    align = pytest.importorskip("latentface.faces.align")
    turned = [align.Similarity(6.0, 0.5, 3.0, 2.0), align.Similarity(7.0, -0.4, 2.0, 6.0)]
    down = warp.Warp(turned, 16, (20, 20))
    prior = tiny_prior(16, dtype=torch.float64)
    high = prior.synthesis(prior.mapping(torch.randn(2, 12, generator=torch.Generator().manual_seed(3)).double()))
    low = down.forward(high.clamp(0, 1))
    whole = explore("dgp", prior, low, degradation=down, settings=DgpSettings(**_fields()), seeds=[0, 1])
    apart = DgpSettings(**{**_fields(), "micro_batch": 1})
    parts = explore("dgp", prior, low, degradation=down, settings=apart, seeds=[0, 1])
    torch.testing.assert_close(whole.high, parts.high, atol=1e-8, rtol=0)
    torch.testing.assert_close(whole.history["consistency_db"], parts.history["consistency_db"], atol=1e-6, rtol=0)
