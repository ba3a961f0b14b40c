"""ILO against a straight-line transcription of its update rule."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale
from latentface.errors import InputError
from latentface.explore.engine import explore
from latentface.explore.ilo import IloSettings
from latentface.explore.space import Space

STEPS = (6, 5)


def geodesic(rows):
    n, width = rows.shape
    pairs = [(rows[a], rows[b]) for a in range(n) for b in range(n) if a != b]
    angles = [2 * torch.atan2((a - b).norm(), (a + b).norm()) for a, b in pairs]
    return sum(t.square() for t in angles) * width / n**2 / 8


def transcription(prior, low, seed):
    """One face through two stages: rows and maps, then features after 4 px beside them. 16 px, 6 rows, 5 maps."""
    net, down = prior.generator.synthesis, Downscale(low.shape[-1], 16)
    sides = [4, 8, 8, 16, 16]
    flat = torch.randn(6 * 10 + sum(s * s for s in sides), generator=torch.Generator().manual_seed(seed)).double()
    v, at, noise = flat[:60].view(6, 10).clone(), 60, []
    for s in sides:
        noise.append(flat[at : at + s * s].view(1, 1, s, s).clone())
        at += s * s
    features = rgb = None
    best, best_total, totals = None, math.inf, []
    for stage, steps in enumerate(STEPS):
        moved_maps = noise if stage == 0 else noise[1:]
        variables = [v, *moved_maps] + ([features] if stage else [])
        for x in variables:
            x.requires_grad_(True)
        radii = [v.detach().norm(dim=1, keepdim=True), *(n.detach().norm() for n in moved_maps)]
        adam = torch.optim.Adam(variables)
        best_of_stage, kept = math.inf, None
        for i in range(steps):
            w = F.leaky_relu(v * prior.statistics["gauss_std"] + prior.statistics["gauss_mean"], 0.2)[None]
            if stage == 0:
                x, skip = net.b4(None, None, w[:, 0:2], noise[0:1])
            else:
                x, skip = features, rgb
            x, skip = net.b8(x, skip, w[:, 1:4], noise[1:3])
            picture = (net.b16(x, skip, w[:, 3:6], noise[3:5])[1] + 1) / 2
            signed_error = (2 * down.forward(picture) - 1) - (2 * low - 1)
            loss = signed_error.square().mean() + 0.01 * geodesic(v if stage == 0 else v[1:])
            totals.append(loss.item())
            if loss < best_of_stage:
                best_of_stage = loss.item()
                kept = [y.detach().clone() for y in (v, *noise, *([features] if stage else []))]
                best, best_total = picture.detach(), best_of_stage
            t = i / steps
            lr = 0.5 - 0.5 * math.cos(min(1, (1 - t) / 0.75) * math.pi)
            adam.param_groups[0]["lr"] = 0.1 * lr * min(1, t / 0.05)
            adam.zero_grad()
            loss.backward()
            adam.step()
            with torch.no_grad():
                v.mul_(radii[0] / v.norm(dim=1, keepdim=True))
                for n, r in zip(moved_maps, radii[1:], strict=True):
                    n.mul_(r / n.norm())
        v, noise = kept[0], kept[1:6]
        w = F.leaky_relu(v * prior.statistics["gauss_std"] + prior.statistics["gauss_mean"], 0.2)[None]
        if stage == 0:
            features, rgb = (y.detach() for y in net.b4(None, None, w[:, 0:2], noise[0:1]))
    return best, best_total, totals


def test_agrees_with_a_transcription():
    prior, low = tiny_prior(16, dtype=torch.float64), tiny_faces(2, dtype=torch.float64)
    found = explore("ilo", prior, low, degradation=Downscale(4, 16), settings=IloSettings(steps=STEPS), seeds=[0, 3])
    assert found.latent["entered"].tolist() == [4, 4]
    for i, seed in enumerate([0, 3]):
        best, best_total, totals = transcription(prior, low[i : i + 1], seed)
        steps = found.history["pixel"][:, i] + found.history["geocross"][:, i]
        torch.testing.assert_close(steps, torch.tensor(totals).double(), atol=1e-7, rtol=1e-6)
        torch.testing.assert_close(found.high[i], best[0].clamp(0, 1), atol=1e-6, rtol=0)
        assert steps[found.best_step[i] - 1].item() == pytest.approx(best_total, abs=1e-7)


def test_order_in_a_batch_changes_nothing():
    prior, low = tiny_prior(16), tiny_faces(3)
    settings, down = IloSettings(steps=(4, 3)), Downscale(4, 16)
    one = explore("ilo", prior, low, degradation=down, settings=settings, seeds=[0, 1, 2])
    other = explore("ilo", prior, low.flip(0), degradation=down, settings=settings, seeds=[2, 1, 0])
    assert torch.equal(one.high, other.high.flip(0))
    assert torch.equal(one.latent["features"], other.latent["features"].flip(0))


def test_each_stage_starts_where_the_last_was_best():
    prior, low = tiny_prior(16, dtype=torch.float64), tiny_faces(2, dtype=torch.float64)
    settings = IloSettings(steps=(8, 4, 4), geocross=0.0, noise="constant")
    found = explore("ilo", prior, low, degradation=Downscale(4, 16), settings=settings, seeds=[0, 1])
    pixel = found.history["pixel"]
    torch.testing.assert_close(pixel[8], pixel[:8].amin(0))
    torch.testing.assert_close(pixel[12], pixel[8:12].amin(0))
    assert found.latent["entered"].tolist() == [8, 8]
    assert (found.best_step > 12).all()
    again = prior.enter(found.latent["w_plus"], (8, found.latent["features"], found.latent["rgb"]))
    torch.testing.assert_close(again.clamp(0, 1), found.high)


def test_a_small_prior_has_fewer_stages_and_steps_are_told_once():
    told = []
    found = explore(
        "ilo",
        tiny_prior(8),
        tiny_faces(1),
        degradation=Downscale(4, 8),
        settings=IloSettings(steps=(3, 2, 2, 2)),
        seeds=[0],
        on_step=told.append,
    )
    assert [s.number for s in told] == [1, 2, 3, 4, 5]
    assert {s.total for s in told} == {5}
    assert len(found.history["pixel"]) == found.passes == 5


def test_stopping_in_the_first_stage():
    found = explore(
        "ilo",
        tiny_prior(16),
        tiny_faces(2),
        degradation=Downscale(4, 16),
        settings=IloSettings(steps=(4, 4)),
        seeds=[0, 1],
        on_step=lambda step: step.number == 2,
    )
    assert len(found.history["pixel"]) == 2
    assert found.latent["entered"].tolist() == [0, 0]
    assert "features" not in found.latent


def test_settings_are_checked():
    with pytest.raises(InputError, match="steps"):
        IloSettings(steps=())
    with pytest.raises(InputError, match="noise"):
        IloSettings(noise="drawn")


def test_the_maps_that_are_searched_grow_with_the_stage():
    prior, low, down = tiny_prior(64), tiny_faces(1), Downscale(4, 64)
    drawn = Space(prior, "w_plus", tied=IloSettings().tied, noise="drawn").draw([0])

    def moved(steps):
        found = explore("ilo", prior, low, degradation=down, settings=IloSettings(steps=steps), seeds=[0])
        return [i for i in range(9) if not torch.equal(found.latent[f"noise{i}"], drawn[f"noise{i}"])]

    assert moved((4,)) == [0, 1, 2, 3, 4]  # the first five of nine
    assert moved((4, 4)) == [0, 1, 2, 3, 4, 5, 6]  # and with the next layer two more
