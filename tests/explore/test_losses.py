"""Every loss against a straight-line second computation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_faces, tiny_prior

from latentface.degradation import Downscale
from latentface.errors import InputError, UnknownNameError
from latentface.explore import losses
from latentface.explore.losses import DiscriminatorSemantic, LaplacianPyramid

DOUBLE = torch.float64


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def test_pixel():
    a, b = tiny_faces(2, dtype=DOUBLE), tiny_faces(2, seed=2, dtype=DOUBLE)
    for i in range(2):
        differences = [float(x - y) for x, y in zip(a[i].flatten(), b[i].flatten(), strict=True)]
        assert float(losses.pixel(a, b)[i]) == pytest.approx(sum(d * d for d in differences) / 48)
        assert float(losses.pixel(a, b, "l1")[i]) == pytest.approx(sum(abs(d) for d in differences) / 48)


@pytest.mark.parametrize("norm", losses.NORMS)
@pytest.mark.parametrize("layers", [None, (0,), (1, 0)])
def test_semantic(norm, layers):
    prior, down = tiny_prior(16, dtype=DOUBLE), Downscale(4, 16)
    x, y = tiny_faces(2, dtype=DOUBLE), tiny_faces(2, seed=2, dtype=DOUBLE)
    got = DiscriminatorSemantic(prior.judge, x, down, layers=layers, norm=norm)(y)

    def features(low):  # through the bare discriminator, in [-1, 1]
        large = F.interpolate(low, size=(16, 16), mode="bilinear", align_corners=False)
        out = prior.judge.network.features(2 * large - 1)
        return [out[k] for k in (range(len(out)) if layers is None else layers)]

    for i in range(2):
        wanted = 0.0
        for a, b in zip(features(x[i : i + 1]), features(y[i : i + 1]), strict=True):
            if norm == "cosine":
                wanted += float(1 - (a * b).sum() / (a.norm() * b.norm()))
            else:
                wanted += float((a - b).abs().mean() if norm == "l1" else ((a - b) ** 2).mean())
        assert float(got[i]) == pytest.approx(wanted, rel=1e-9)
    assert DiscriminatorSemantic(prior.judge, x, down, norm=norm)(x).abs().max() < 1e-12


def test_semantic_reaches_by_the_pseudo_inverse():
    prior, down = tiny_prior(16, dtype=DOUBLE), Downscale(4, 16)
    x, y = tiny_faces(1, dtype=DOUBLE), tiny_faces(1, seed=2, dtype=DOUBLE)
    got = DiscriminatorSemantic(prior.judge, x, down, reach="pinv")(y)
    pairs = zip(prior.judge.features(down.pinv(x)), prior.judge.features(down.pinv(y)), strict=True)
    torch.testing.assert_close(got, sum((a - b).abs().mean() for a, b in pairs)[None])


def test_semantic_on_the_face_and_its_projection():
    prior, down = tiny_prior(16, dtype=DOUBLE), Downscale(4, 16)
    x, high = tiny_faces(1, dtype=DOUBLE), tiny_faces(1, 16, seed=2, dtype=DOUBLE).requires_grad_(True)
    loss = DiscriminatorSemantic(prior.judge, x, down, reach="projected")
    got = loss(down.forward(high), high)
    fitting = (high + down.pinv(x) - down.pinv(down.forward(high))).detach()  # the nearest that shrinks to x
    pairs = list(zip(prior.judge.features(high), prior.judge.features(fitting), strict=True))
    torch.testing.assert_close(got, sum((a - b).abs().mean() for a, b in pairs)[None])
    (gradient,) = torch.autograd.grad(got.sum(), high)
    (wanted,) = torch.autograd.grad(sum((a - b.detach()).abs().mean() for a, b in pairs), high)
    torch.testing.assert_close(gradient, wanted)  # the target moves, but nothing flows through it
    assert float(loss(down.forward(fitting), fitting)) < 1e-12
    with pytest.raises(InputError, match="large face"):
        loss(x)


def test_semantic_refuses_unknown_names():
    prior, x = tiny_prior(8), tiny_faces(1)
    with pytest.raises(UnknownNameError, match="norm"):
        DiscriminatorSemantic(prior.judge, x, Downscale(4, 8), norm="l3")
    with pytest.raises(UnknownNameError, match="way to D's size"):
        DiscriminatorSemantic(prior.judge, x, Downscale(4, 8), reach="bicubic")


def test_pyramid_levels_sum_to_the_picture():
    x = tiny_faces(1, 8, dtype=DOUBLE)
    fine, middle, coarse = LaplacianPyramid._levels(x)
    up = F.interpolate(coarse, size=(4, 4), mode="bilinear", align_corners=False) + middle
    torch.testing.assert_close(F.interpolate(up, size=(8, 8), mode="bilinear", align_corners=False) + fine, x)
    y = x + 0.1  # a constant is in the coarsest level only
    assert float(LaplacianPyramid(x)(y)) == pytest.approx(0.1)


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
