"""mGANprior against a straight-line transcription of its update rule."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_faces, tiny_prior
from torch.utils.flop_counter import FlopCounterMode

from latentface.degradation import Downscale
from latentface.errors import InputError, MissingDataError, UnknownNameError
from latentface.explore.engine import explore
from latentface.explore.mganprior import MganpriorSettings

N, STEPS = 3, 6


def transcription(prior, low, seed, optimiser, rate):
    """One face, code by code, composed at 8 px of a 16 px prior; returns best pictures, totals and variables."""
    net, down = prior.generator.synthesis, Downscale(low.shape[-1], 16)
    z = torch.randn(N * 12, generator=torch.Generator().manual_seed(seed)).double().view(N, 12).requires_grad_(True)
    alpha = torch.full((N, 8), 1 / N, dtype=torch.float64, requires_grad=True)

    def until_8(w):
        x, _ = net.b4(None, None, w[None, None].expand(1, 2, -1), [None])
        x = net.b8.conv0(x, w[None], None)
        return net.b8.conv1(x, w[None], None)[0]

    usual = 0.0
    for k in range(64):
        some = torch.randn(12, generator=torch.Generator().manual_seed(k)).double()
        usual += until_8(prior.generator.mapping(some[None])[0]).square().mean().sqrt().item() / 64

    def d_features(small):
        large = F.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)
        return prior.judge.network.features(2 * large - 1)

    optimiser = optimiser([z, alpha], lr=rate)
    best, best_total, totals = None, float("inf"), []
    for _ in range(STEPS):
        w = [prior.generator.mapping(z[n : n + 1])[0] for n in range(N)]
        mixed = sum(alpha[n][:, None, None] * until_8(w[n]) for n in range(N)) / N  # the code's division, too
        mixed = (mixed / mixed.square().mean().sqrt() * usual)[None]
        mean = (sum(w) / N)[None]
        rgb = net.b8.torgb(mixed, mean)
        x = net.b16.conv1(net.b16.conv0(mixed, mean, None), mean, None)
        signed = net.b16.torgb(x, mean)
        up = torch.nn.functional.conv_transpose2d(
            rgb,
            (torch.outer(k := torch.tensor([1.0, 3, 3, 1]).double(), k) / 16).expand(3, 1, 4, 4),
            stride=2,
            groups=3,
        )[:, :, 1:-1, 1:-1]
        picture = (signed + up + 1) / 2
        small = down.forward(picture)
        # Mean square of pictures in [-1, 1], plus a thousandth of the features' mean absolute differences.
        loss = ((2 * small - 1) - (2 * low - 1)).square().mean()
        loss = loss + 1e-3 * sum((a - b).abs().mean() for a, b in zip(d_features(small), d_features(low), strict=True))
        totals.append(loss.item())
        if loss < best_total:
            best, best_total = picture.detach(), loss.item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return best, totals


@pytest.mark.parametrize(
    ("name", "optimiser", "rate"), [("descent", torch.optim.SGD, 1.0), ("adam", torch.optim.Adam, 0.05)]
)
def test_agrees_with_a_transcription(name, optimiser, rate):
    prior, low = tiny_prior(16, dtype=torch.float64), tiny_faces(2, dtype=torch.float64)
    settings = MganpriorSettings(codes=N, compose=8, steps=STEPS, optimiser=name, rate=rate)
    found = explore("mganprior", prior, low, degradation=Downscale(4, 16), settings=settings, seeds=[5, 0])
    for i, seed in enumerate([5, 0]):
        best, totals = transcription(prior, low[i : i + 1], seed, optimiser, rate)
        torch.testing.assert_close(found.high[i], best[0].clamp(0, 1), atol=1e-7, rtol=0)
        steps = found.history["pixel"][:, i] + found.history["feature"][:, i]
        torch.testing.assert_close(steps, torch.tensor(totals).double(), atol=1e-7, rtol=1e-6)


def test_order_in_a_batch_changes_nothing():
    prior, low = tiny_prior(16), tiny_faces(3)
    settings, down = MganpriorSettings(codes=4, steps=6), Downscale(4, 16)
    one = explore("mganprior", prior, low, degradation=down, settings=settings, seeds=[0, 1, 2])
    other = explore("mganprior", prior, low.flip(0), degradation=down, settings=settings, seeds=[2, 1, 0])
    assert torch.equal(one.high, other.high.flip(0))
    assert torch.equal(one.latent["codes"], other.latent["codes"].flip(0))


def multiplied(prior, side):
    """The share of a pass's multiplications up to the layer of that side, counted by PyTorch."""
    w_plus = prior.mapping(torch.zeros(1, prior.z_dim))
    counts = []
    for last in (side, prior.resolution):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            prior.leave(w_plus, last) if last < prior.resolution else prior.synthesis(w_plus)
        counts.append(counter.get_total_flops())
    return counts[0] / counts[1]


def test_passes_count_the_codes():
    prior = tiny_prior(16)
    share = prior.share_below(8)
    assert share == pytest.approx(multiplied(prior, 8), rel=0.1)  # the blurs and RGB layers are left out of it
    found = explore(
        "mganprior",
        prior,
        tiny_faces(1),
        degradation=Downscale(4, 16),
        settings=MganpriorSettings(codes=4, steps=2),
        seeds=[0],
    )
    assert found.passes == pytest.approx(2 * (4 * share + 1 - share))


def test_a_small_prior_is_composed_at_half_its_side():
    prior = tiny_prior(8)
    settings = MganpriorSettings(codes=2, steps=2, feature_weight=0)
    found = explore("mganprior", prior, tiny_faces(1), degradation=Downscale(4, 8), settings=settings, seeds=[0])
    assert found.high.shape == (1, 3, 8, 8)
    assert "feature" not in found.history


def test_vgg_is_asked_for_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("LATENTFACE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("LATENTFACE_CACHE", str(tmp_path))

    def absent(name):
        raise MissingDataError(f"{name} is not at hand")

    monkeypatch.setattr("latentface.metrics.weights.locate", absent)
    settings = MganpriorSettings(codes=2, steps=1, trunk="vgg16")
    with pytest.raises(MissingDataError, match="vgg16"):
        explore("mganprior", tiny_prior(8), tiny_faces(1), degradation=Downscale(4, 8), settings=settings, seeds=[0])


def test_vgg_looks_at_relu3_3(monkeypatch, tmp_path):
    from latentface.explore.trunks import make_trunk
    from latentface.metrics.trunks import Vgg16

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vgg = Vgg16()
    torch.save(vgg.state_dict(), tmp_path / "vgg.pth")
    monkeypatch.setattr("latentface.metrics.weights.locate", lambda name: tmp_path / "vgg.pth")
    monkeypatch.setattr("latentface.explore.trunks.VGG_SIDE", 32)  # 256 is slow
    with torch.no_grad():
        small = tiny_faces(1, 8)
        third = make_trunk("vgg16", tiny_prior(16), Downscale(8, 16))(small)[2]
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
        wanted = vgg.features[:16]((large - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
    assert third.shape == (1, 256, 8, 8)
    torch.testing.assert_close(third, wanted)


def test_settings_are_checked():
    with pytest.raises(UnknownNameError, match="optimiser"):
        MganpriorSettings(optimiser="lbfgs")
    with pytest.raises(UnknownNameError, match="trunk"):
        MganpriorSettings(trunk="vgg")
    with pytest.raises(InputError, match="compose is 12"):
        explore(
            "mganprior",
            tiny_prior(16),
            tiny_faces(1),
            degradation=Downscale(4, 16),
            settings=MganpriorSettings(compose=12),
            seeds=[0],
        )
