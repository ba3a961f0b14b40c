"""Every loss against a straight-line second computation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale
from latentface.errors import InputError, WeightsError
from latentface.explore import losses
from latentface.faces import Similarity, Warp

DOUBLE = torch.float64


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def test_pixel():
    a, b = tiny_faces(2, dtype=DOUBLE), tiny_faces(2, seed=2, dtype=DOUBLE)
    for i in range(2):
        differences = [float(x - y) for x, y in zip(a[i].flatten(), b[i].flatten(), strict=True)]
        assert float(losses.pixel(a, b)[i]) == pytest.approx(sum(d * d for d in differences) / 48)
        assert float(losses.pixel(a, b, "l1")[i]) == pytest.approx(sum(abs(d) for d in differences) / 48)


@pytest.mark.parametrize(("norm", "floor"), [("l2", 0.05**2), ("l1", 0.05 * math.sqrt(2 / math.pi))])
def test_what_noise_alone_would_give_is_taken_off(norm, floor):
    a, b = tiny_faces(2, dtype=DOUBLE), tiny_faces(2, seed=2, dtype=DOUBLE)
    told = losses.pixel(a, b, norm, Downscale(4, 16, sigma=0.05))
    torch.testing.assert_close(told, losses.pixel(a, b, norm) - floor)
    assert losses.pixel(a, a, norm, Downscale(4, 16, sigma=0.05)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_only_pixels_that_count_are_in_the_mean(norm):
    warp = Warp([Similarity(7, 0.4, 8, 3), Similarity(5, -0.2, 20, 14)], 16, (32, 32))
    a, b = (warp.cut(tiny_faces(1, 32, seed=seed, dtype=DOUBLE)[0]) for seed in (1, 2))
    got = losses.pixel(a, b, norm, warp)
    for i in range(2):
        apart = (a[i] - b[i])[:, warp.mask[i, 0]]
        assert float(got[i]) == pytest.approx(float((apart**2 if norm == "l2" else apart.abs()).mean()))


@pytest.mark.parametrize("layers", [None, (0,), (1, 0), (-1,)])
def test_semantic(layers):
    prior, down = tiny_prior(16, dtype=DOUBLE), Downscale(4, 16)
    x, y = tiny_faces(2, dtype=DOUBLE), tiny_faces(2, seed=2, dtype=DOUBLE)
    loss = losses.semantic(prior, x, down, layers)
    got = loss(y)

    def features(low):  # through the bare discriminator, in [-1, 1]
        large = F.interpolate(low, size=(16, 16), mode="bilinear", align_corners=False)
        out = prior.judge.network.features(2 * large - 1)
        return [out[k] for k in (range(len(out)) if layers is None else layers)]

    for i in range(2):
        pairs = zip(features(x[i : i + 1]), features(y[i : i + 1]), strict=True)
        assert float(got[i]) == pytest.approx(sum(float((a - b).abs().mean()) for a, b in pairs), rel=1e-9)
    assert loss(x).abs().max() < 1e-12


def test_semantic_needs_a_judge_and_blocks_that_exist():
    prior, x, down = tiny_prior(8), tiny_faces(1), Downscale(4, 8)
    for blocks in ((), (9,), (-9,)):
        with pytest.raises(InputError, match="blocks, 0 to"):
            losses.semantic(prior, x, down, blocks)
    prior.judge = None
    with pytest.raises(WeightsError, match="no judge"):
        losses.semantic(prior, x, down)


def geocross_by_pairs(w: torch.Tensor) -> float:
    count, width = w.shape
    total = 0.0
    for a in w:
        for b in w:
            angle = 2 * math.atan2(float((a - b).norm()), float((a + b).norm()))
            total += angle**2 * width
    return total / count**2 / 8


def test_geocross():
    w = rows(2, 5, 7)
    for i in range(2):
        assert float(losses.geocross(w)[i]) == pytest.approx(geocross_by_pairs(w[i]), rel=1e-6)


def test_geocross_has_a_finite_gradient_where_rows_are_equal():
    w = rows(1, 1, 6).expand(2, 4, 6).clone().requires_grad_(True)
    value = losses.geocross(w)
    assert value.abs().max() < 1e-9
    (gradient,) = torch.autograd.grad(value.sum(), w)
    assert torch.isfinite(gradient).all()


def test_cross():
    w = rows(2, 4, 6)
    pairs = [float((a - b).norm()) for a in w[1] for b in w[1]]
    assert float(losses.cross(w)[1]) == pytest.approx(sum(pairs) / 16, rel=1e-5)


def test_latent_and_norm_prior():
    v = rows(2, 3, 8)
    assert float(losses.latent_prior(v)[0]) == pytest.approx(float((v[0] ** 2).mean()) / 2)
    assert float(losses.norm_prior(v)[1]) == pytest.approx(sum((float(r.norm()) - math.sqrt(8)) ** 2 for r in v[1]) / 3)
    assert losses.norm_prior(F.normalize(v, dim=-1) * math.sqrt(8)).max() < 1e-9
