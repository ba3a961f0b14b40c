"""Downscale against PyTorch's and Pillow's resamplers, and the algebra that searches rely on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from latentface.degradation import KERNELS, Degradation, Downscale, project, resize
from latentface.errors import InputError, UnknownNameError

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
