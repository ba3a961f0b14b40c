"""Downscale against PyTorch's and Pillow's resamplers, and the algebra that searches rely on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from latentface.degradation import (
    KERNELS,
    Degradation,
    Downscale,
    counted_share,
    enlargements,
    faces_of,
    project,
    resize,
    shrinking,
)
from latentface.errors import InputError, UnknownNameError
from latentface.faces import Similarity, Warp

SIZES = [(8, 64), (7, 50), (2, 16), (13, 31), (5, 5), (2, 128), (24, 37)]
FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("low", "high"), SIZES)
def test_equals_pillow(kernel, low, high):
    picture = rand(high, high)
    ours = Downscale(low, high, kernel).forward(picture.expand(1, 3, -1, -1))[0, 0]
    grey = Image.fromarray((picture * 255).float().numpy())  # mode F: nothing is rounded to bytes
    theirs = np.asarray(grey.resize((low, low), FILTERS[kernel]))
    assert np.abs(ours.numpy() * 255 - theirs).max() < 2e-4  # grey levels


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("low", "high"), SIZES)
def test_equals_pytorch(kernel, low, high):
    picture = rand(2, 3, high, high)
    theirs = F.interpolate(picture, size=(low, low), mode=kernel, antialias=True, align_corners=False)
    torch.testing.assert_close(Downscale(low, high, kernel).forward(picture), theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("low", "high"), SIZES)
def test_adjoint_and_pseudo_inverse(kernel, low, high):
    down = Downscale(low, high, kernel)
    x, y = rand(2, 3, low, low), rand(2, 3, high, high, seed=1)
    torch.testing.assert_close((down.forward(y) * x).sum(), (y * down.adjoint(x)).sum())
    torch.testing.assert_close(down.forward(down.pinv(x)), x, atol=1e-8, rtol=0)
    # The smallest such picture: it has no part that A does not see.
    unseen = y - down.pinv(down.forward(y))
    assert (unseen * down.pinv(x)).sum().abs() < 1e-6 * y.numel()


def test_derivatives_flow_through_it():
    down = Downscale(3, 8)
    y = rand(1, 3, 8, 8).requires_grad_(True)
    x = rand(1, 3, 3, 3, seed=1).requires_grad_(True)
    assert torch.autograd.gradcheck(down.forward, y)
    assert torch.autograd.gradcheck(down.pinv, x)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kernel", KERNELS)
def test_projection_reaches_the_input_inside_the_cube(seed, kernel):
    low, high = [(8, 64), (5, 16), (2, 32)][seed % 3]
    down = Downscale(low, high, kernel)
    wanted = down.forward(rand(3, 3, high, high, seed=seed)).clamp(0, 1)  # some picture shrinks to it
    start = 3 * rand(3, 3, high, high, seed=seed + 100) - 1
    found = project(down, start, wanted)
    assert found.min() >= 0
    assert found.max() <= 1
    assert (down.forward(found) - wanted).abs().max() < 1e-3  # a quarter of a grey level


def test_an_input_that_no_picture_shrinks_to_still_gives_a_picture():
    down = Downscale(8, 64)
    board = ((torch.arange(8)[:, None] + torch.arange(8)) % 2).double().expand(1, 3, 8, 8)
    start = rand(1, 3, 64, 64)
    found = project(down, start, board)
    assert found.min() >= 0
    assert found.max() <= 1
    assert (down.forward(found) - board).norm() < (down.forward(start) - board).norm()


def test_projection_moves_no_more_than_it_must():
    down = Downscale(8, 32)
    start = 0.3 + 0.4 * rand(1, 3, 32, 32)
    other = 0.3 + 0.4 * rand(1, 3, 32, 32, seed=1)
    wanted = down.forward(other)
    found = project(down, start, wanted)
    assert (found - start).norm() < (other - start).norm()
    assert torch.equal(project(down, found, wanted), found)  # what is consistent stays


def test_projection_is_per_face():
    down = Downscale(4, 16)
    start, wanted = 3 * rand(3, 3, 16, 16) - 1, down.forward(rand(3, 3, 16, 16, seed=1))
    together = project(down, start, wanted)
    for i in range(3):
        torch.testing.assert_close(
            together[i], project(down, start[i : i + 1], wanted[i : i + 1])[0], atol=1e-12, rtol=0
        )


def test_noise_softens_the_correction():
    residual = rand(1, 3, 8, 8) - 0.5
    sizes = [float(Downscale(8, 64, sigma=s).correct(residual).norm()) for s in (0.0, 0.01, 0.1, 1.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.2 * sizes[0]
    down, tiny = Downscale(8, 64), Downscale(8, 64, sigma=1e-9)
    torch.testing.assert_close(tiny.correct(residual), down.pinv(residual), atol=1e-9, rtol=0)


def test_correct_is_the_ridge_regression_that_it_says():
    down = Downscale(3, 6, sigma=0.05)
    a = torch.stack([down.forward(e.view(1, 1, 6, 6)).flatten() for e in torch.eye(36, dtype=torch.float64)], 1)
    r = rand(1, 1, 3, 3)
    ridge = a.t() @ torch.linalg.solve(a @ a.t() + (0.05 / 0.1) ** 2 * torch.eye(9).double(), r.flatten())
    torch.testing.assert_close(down.correct(r).flatten(), ridge)


def test_it_keeps_the_protocol_and_the_dtype():
    down = Downscale(4, 16)
    assert isinstance(down, Degradation)
    assert (down.low_size, down.high_size) == ((4, 4), (16, 16))
    assert down.forward(rand(1, 3, 16, 16, dtype=torch.float32)).dtype == torch.float32
    assert "bicubic" in repr(down)


def test_fit_and_resize_are_pytorchs():
    down, x = Downscale(4, 16), rand(1, 3, 4, 4)
    torch.testing.assert_close(down.fit(x), F.interpolate(x, size=(16, 16), mode="bilinear", align_corners=False))
    larger, smaller = down.fit(x, 24), down.fit(x, 3)
    torch.testing.assert_close(larger, F.interpolate(x, size=(24, 24), mode="bilinear", align_corners=False))
    torch.testing.assert_close(smaller, resize(x, 3, "bilinear"))
    with pytest.raises(InputError, match="size is 0 px; expected at least 1"):
        down.fit(x, 0)
    assert resize(x, 4) is x
    assert resize(x, (8, 6)).shape == (1, 3, 8, 6)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((1, 16), InputError, "at least 2 px"),
        ((17, 16), InputError, "larger than"),
        ((4, 16, "cubic"), UnknownNameError, "did you mean 'bicubic'"),
        ((4, 16, "box", -0.1), InputError, "sigma"),
        ((4, 16, "box", math.nan), InputError, "sigma"),
    ],
)
def test_errors(arguments, error, words):
    with pytest.raises(error, match=words):
        Downscale(*arguments)


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(InputError, match="expected"):
        Downscale(4, 16).forward(rand(1, 3, 15, 15))
    with pytest.raises(InputError, match="expected"):
        Downscale(4, 16).pinv(rand(1, 3, 5, 5))


@pytest.mark.parametrize("kernel", ["bicubic", "box"])
def test_the_same_shrinking_from_another_side(kernel):
    other = Downscale(4, 32, kernel, 0.1).at(16)
    assert (other.low_size, other.high_size, other.kernel, other.sigma) == ((4, 4), (16, 16), kernel, 0.1)
    high = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(other.forward(high), Downscale(4, 16, kernel).forward(high))


# -- batches of faces --------------------------------------------------------------------------------------------------


def test_operators_of_one_kind_share_a_batch():
    down = Downscale(5, 16, "box", 0.1)
    assert down.factors == (16 / 5,)
    assert down.kind == Downscale(5, 16, "box", 0.1).kind
    others = [
        Downscale(*a) for a in ((4, 16, "box", 0.1), (5, 17, "box", 0.1), (5, 16, "bicubic", 0.1), (5, 16, "box"))
    ]
    kinds = {d.kind for d in [down, *others, Warp([Similarity(4, 0, 3, 3)], 16, (40, 40))]}
    assert len(kinds) == 6
    high = rand(3, 3, 16, 16)
    for same in (down.select([2, 0]), down.join([down, Downscale(5, 16, "box", 0.1)])):
        assert torch.equal(same.forward(high), down.forward(high))
        assert (same.kind, same.sigma) == (down.kind, 0.1)


def test_a_photographs_operators_join_and_part():
    places = [Similarity(4, 0, 3, 3), Similarity(7, 0.3, 20, 8)]
    both = Warp(places, 16, (40, 40))
    apart = [Warp([place], 16, (40, 40)) for place in places]
    assert isinstance(both, Degradation)
    assert both.factors == pytest.approx((4.0, 16 / math.hypot(7, 0.3)))
    assert both.kind == apart[0].kind == apart[1].kind
    high = rand(2, 3, 16, 16)
    assert torch.equal(both.join(apart).forward(high), both.forward(high))
    assert torch.equal(both.select([1, 0]).forward(high.flip(0)).flip(0), both.forward(high))


def test_enlargements_are_one_a_face():
    assert enlargements(Downscale(4, 16), 3) == (4.0, 4.0, 4.0)
    warp = Warp([Similarity(4, 0, 3, 3), Similarity(8, 0, 20, 8)], 16, (40, 40))
    assert enlargements(warp, 2) == (4.0, 2.0)
    assert enlargements(warp.select([1]), 3) == (2.0, 2.0, 2.0)  # one transform for all


def test_faces_of_a_batch_take_their_part_of_the_operator():
    low = rand(3, 3, 4, 4)
    down = Downscale(4, 16)
    part, operator = faces_of(low, down, [2, 0])
    assert torch.equal(part, low[[2, 0]])
    assert operator is down
    warp = Warp([Similarity(4, 0, 3, 3), Similarity(9, 0, 20, 8)], 16, (40, 40))
    high = rand(2, 3, 16, 16)
    low = warp.forward(high)
    part, operator = faces_of(low, warp, [0])
    assert part.shape[-2:] == operator.low_size < warp.low_size  # without the padding
    torch.testing.assert_close(operator.forward(high[:1]), part)


def test_counted_share_is_that_of_the_mask():
    assert counted_share(Downscale(4, 16)) == 1
    warp = Warp([Similarity(4, 0, 3, 3), Similarity(9, 0.2, 20, 8)], 16, (40, 40))
    h, w = warp.low_size
    wanted = torch.tensor([int(mask.sum()) / (h * w) for mask in warp.mask]).double()
    torch.testing.assert_close(counted_share(warp), wanted)
    assert wanted.min() < 0.5


def test_a_shrinking_is_made_once():
    one = shrinking(6, 24, "box", 0.05)
    assert shrinking(6, 24, "box", 0.05) is one
    assert shrinking(6, 24, "box") is not one
    assert Downscale(6, 48, "box", 0.05).at(24) is one
    assert (one.low, one.high, one.kernel, one.sigma) == (6, 24, "box", 0.05)
    with pytest.raises(InputError, match="larger than"):
        Downscale(6, 48).at(5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_after_inference_mode_derivatives_still_flow(dtype):
    used = Downscale(4, 16)
    with torch.inference_mode():
        made = Downscale(4, 16)
        for down in (used, made):
            down.forward(rand(1, 3, 16, 16, dtype=dtype))
    for down in (used, made):
        y = rand(1, 3, 16, 16, dtype=dtype).requires_grad_(True)
        down.forward(y).sum().backward()
        torch.testing.assert_close(y.grad, Downscale(4, 16).adjoint(torch.ones(1, 3, 4, 4, dtype=dtype)))
