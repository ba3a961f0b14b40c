"""PULSE against a straight-line transcription of its update rule, and its mended faults."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale
from latentface.errors import InputError
from latentface.explore.engine import explore
from latentface.explore.pulse import PulseSettings

STEPS = 12


def transcription(prior, low, seed, eps):
    """One face, step by step, with PyTorch's own Adam; returns the best pictures and the losses of all steps."""
    rows, width = prior.num_ws, prior.w_dim
    shapes = prior.noise_shapes[: min(5, rows - 2)]
    flat = torch.randn(rows * width + sum(h * w for h, w in shapes), generator=torch.Generator().manual_seed(seed))
    flat = flat.double()
    latent = flat[: rows * width].view(1, rows, width).clone().requires_grad_(True)
    noise, at = [], rows * width
    for h, w in shapes:
        noise.append(flat[at : at + h * w].view(1, 1, h, w).clone().requires_grad_(True))
        at += h * w
    maps = [*noise, *([None] * (rows - 1 - len(noise)))]
    maps[-1] = torch.zeros(1, 1, *prior.noise_shapes[-1]).double()
    variables = [latent, *noise]
    radii = [v.detach().square().sum(tuple(range(2, v.ndim)), keepdim=True).sqrt() for v in variables]
    adam = torch.optim.Adam(variables, lr=0.4)
    down = Downscale(low.shape[-1], prior.resolution)
    best, best_total, totals = None, math.inf, []
    for j in range(STEPS):
        w = F.leaky_relu(latent * prior.statistics["gauss_std"] + prior.statistics["gauss_mean"], 0.2)
        picture = (prior.generator.synthesis(w, maps)[1] + 1) / 2
        l2 = (down.forward(picture) - low).square().mean().clamp(min=eps)
        angles = torch.stack(
            [
                2 * torch.atan2((w[0, a] - w[0, b]).norm(), (w[0, a] + w[0, b]).norm())
                for a in range(rows)
                for b in range(rows)
                if a != b
            ]
        )
        geocross = angles.square().sum() * width / rows**2 / 8
        loss = 100 * l2 + 0.05 * geocross
        totals.append(loss.item())
        if loss < best_total:
            best, best_total = picture.detach(), loss.item()
        peak = 0.9 * STEPS / 2
        if j < 0.9 * STEPS:
            factor = 0.1 + 0.9 * (1 - abs(j - peak) / peak)
        else:
            factor = 0.1 + (j - 0.9 * STEPS) / (0.1 * STEPS) * (0.001 - 0.1)
        adam.param_groups[0]["lr"] = 0.4 * factor
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            for v, r in zip(variables, radii, strict=True):
                v.mul_(r / v.square().sum(tuple(range(2, v.ndim)), keepdim=True).sqrt())
    return best, totals


@pytest.mark.parametrize("eps", [0.0, 2e-3])
def test_agrees_with_a_transcription(eps):
    prior, low = tiny_prior(16, dtype=torch.float64), tiny_faces(2, dtype=torch.float64)
    found = explore(
        "pulse", prior, low, degradation=Downscale(4, 16), settings=PulseSettings(steps=STEPS, eps=eps), seeds=[0, 7]
    )
    for i, seed in enumerate([0, 7]):
        best, totals = transcription(prior, low[i : i + 1], seed, eps)
        torch.testing.assert_close(found.high[i], best[0].clamp(0, 1), atol=1e-7, rtol=0)
        steps = found.history["pixel"][:, i] + found.history["geocross"][:, i]
        torch.testing.assert_close(steps, torch.tensor(totals).double(), atol=1e-6, rtol=1e-7)


def test_order_in_a_batch_changes_nothing():
    prior, low = tiny_prior(16), tiny_faces(3)
    settings, down = PulseSettings(steps=8), Downscale(4, 16)
    one = explore("pulse", prior, low, degradation=down, settings=settings, seeds=[0, 1, 2])
    other = explore("pulse", prior, low.flip(0), degradation=down, settings=settings, seeds=[2, 1, 0])
    assert torch.equal(one.high, other.high.flip(0))
    assert torch.equal(one.best_step, other.best_step.flip(0))


def test_seed_zero_is_a_seed_and_seeds_differ():
    prior, low = tiny_prior(8), tiny_faces(1).expand(2, -1, -1, -1)
    settings, down = PulseSettings(steps=2), Downscale(4, 8)
    one = explore("pulse", prior, low, degradation=down, settings=settings, seeds=[0, 1])
    again = explore("pulse", prior, low, degradation=down, settings=settings, seeds=[0, 0])
    assert torch.equal(one.high[0], again.high[0])
    assert torch.equal(again.high[0], again.high[1])
    assert not torch.equal(one.high[0], one.high[1])


def test_returns_the_best_iterate_and_never_refuses():
    prior, low = tiny_prior(16), tiny_faces(2, 5)  # 5 px does not divide 16
    found = explore(
        "pulse", prior, low, degradation=Downscale(5, 16), settings=PulseSettings(steps=10, rate=3.0), seeds=[1, 2]
    )
    totals = found.history["pixel"] + found.history["geocross"]
    assert torch.equal(found.best_step, totals.argmin(0) + 1)
    assert found.high.shape == (2, 3, 16, 16)
    assert torch.isfinite(found.consistency_db).all()


def test_stopping_at_eps_ends_each_face_alone():
    prior = tiny_prior(16, dtype=torch.float64)
    easy = Downscale(4, 16).forward(prior.synthesis(prior.mapping(torch.zeros(1, 12).double() + 0.3)))
    low = torch.cat([easy.clamp(0, 1), tiny_faces(1, dtype=torch.float64)])
    settings = PulseSettings(steps=30, eps=0.08, stop_at_eps=True)
    both = explore("pulse", prior, low, degradation=Downscale(4, 16), settings=settings, seeds=[3, 4])
    for i in range(2):
        alone = explore("pulse", prior, low[i : i + 1], degradation=Downscale(4, 16), settings=settings, seeds=[3 + i])
        torch.testing.assert_close(both.high[i], alone.high[0], atol=1e-9, rtol=0)
        assert both.best_step[i] == alone.best_step[0]
        within = both.history["pixel"][:, i] <= 100 * 0.08 * (1 + 1e-9)
        if within.any():  # the first iterate within eps is the answer, though an earlier one may have a smaller sum
            assert both.best_step[i] == within.double().argmax() + 1
            error = (Downscale(4, 16).forward(both.high[i : i + 1]) - low[i : i + 1]).square().mean()
            assert error <= 0.08
    assert (both.history["pixel"] <= 100 * 0.08 * (1 + 1e-9)).any()


def test_settings_are_checked():
    with pytest.raises(InputError, match="eps"):
        PulseSettings(stop_at_eps=True, eps=0)
    with pytest.raises(InputError, match="steps is 0; expected at least 1"):
        PulseSettings(steps=0)
