"""Warp keeps the degradation protocol: equal to Downscale where that applies, exact adjoint, exact projection."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from latentface.degradation import KERNELS, Degradation, Downscale, project
from latentface.errors import InputError, UnknownNameError
from latentface.faces import Similarity, Warp
from latentface.faces.warp import inner_side

R = 32
PLACES = [
    Similarity.square((20.3, 18.8), 8.0, 0),
    Similarity.square((22.0, 21.5), 11.7, 25),
    Similarity.square((3.0, 15.0), 14.2, -160),  # reaches over the photograph's border
    Similarity.square((25.0, 20.0), 20.0, 45),
]
PHOTO = (40, 48)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smooth(batch: int, seed: int = 0) -> torch.Tensor:
    return F.interpolate(random(batch, 3, 6, 6, seed=seed), R, mode="bicubic").clamp(0.05, 0.95)


@pytest.mark.parametrize("kernel", KERNELS)
def test_upright_on_whole_pixels_is_downscale(kernel: str) -> None:
    warp, down = Warp([Similarity(8, 0, 5, 3)], R, PHOTO, kernel=kernel), Downscale(8, R, kernel)
    assert isinstance(warp, Degradation)
    assert bool(warp.mask.all())
    assert (warp.low_size, warp.high_size) == (down.low_size, down.high_size)
    high = random(2, 3, R, R)
    torch.testing.assert_close(warp.forward(high), down.forward(high), atol=1e-6, rtol=0)
    low = down.forward(high)
    torch.testing.assert_close(warp.pinv(low), down.pinv(low), atol=1e-5, rtol=0)
    noisy, reference = Warp(warp.transforms, R, PHOTO, kernel=kernel, sigma=0.05), Downscale(8, R, kernel, 0.05)
    torch.testing.assert_close(noisy.correct(low), reference.correct(low), atol=1e-5, rtol=0)


def test_adjoint_is_the_transpose() -> None:
    warp = Warp(PLACES, R, PHOTO)
    high, low = random(4, 3, R, R), random(4, 3, *warp.low_size, seed=1)
    left, right = (warp.forward(high) * low).sum((1, 2, 3)), (high * warp.adjoint(low)).sum((1, 2, 3))
    torch.testing.assert_close(left, right, rtol=1e-12, atol=0)


def test_gradients_are_exact() -> None:
    warp = Warp([Similarity.square((9.0, 8.0), 5.0, 20)], 8, PHOTO)
    high = random(1, 1, 8, 8).requires_grad_()
    low = random(1, 1, *warp.low_size).requires_grad_()
    assert torch.autograd.gradcheck(warp.forward, high)
    assert torch.autograd.gradcheck(warp.adjoint, low)
    assert torch.autograd.gradcheck(warp.pinv, low, atol=1e-6)
    assert torch.autograd.gradcheck(warp.fit, low)


def test_every_pixel_is_a_weighted_mean_and_masked_ones_are_zero() -> None:
    warp = Warp(PLACES, R, PHOTO)
    flat = warp.forward(torch.full((4, 3, R, R), 0.7, dtype=torch.float64))
    torch.testing.assert_close(flat, 0.7 * warp.mask.expand_as(flat).double())
    assert not bool(warp.mask.all())


def test_a_ramp_arrives_where_it_should() -> None:
    u = ((torch.arange(R, dtype=torch.float64) + 0.5) / R).expand(R, R)
    place = PLACES[1]
    warp = Warp([place], R, PHOTO)
    low = warp.forward(torch.stack([u, u.t(), u])[None])[0]
    left, top, width, height = warp.faces[0].box
    for y in range(height):
        for x in range(width):
            expected = place.inverse().apply((left + x + 0.5, top + y + 0.5))
            if warp.mask[0, 0, y, x] and (abs(expected - 0.5) < 0.5 - 3.5 / place.scale).all():  # away from the border
                assert low[:2, y, x].tolist() == pytest.approx(expected.tolist(), abs=2e-3)


def test_pinv_and_projection_are_exact() -> None:
    warp = Warp(PLACES, R, PHOTO)
    truth, start = smooth(4), smooth(4, seed=5)
    low = warp.forward(truth)
    again = start + warp.pinv(low - warp.forward(start))
    assert (warp.forward(again) - low).abs().max() < 1e-8
    projected = project(warp, start, low)
    error = (warp.forward(projected) - low).square().sum((1, 2, 3)) / (3 * warp.mask.sum((1, 2, 3)))
    assert (-10 * error.log10() > 60).all()
    assert projected.min() >= 0
    assert projected.max() <= 1


@pytest.mark.parametrize("degrees", [0, 11, 30, 44, 45, 90])
def test_a_factor_near_one_stays_sane_at_any_angle(degrees: float) -> None:
    """The photograph's pixels hold finer diagonals than a tilted face can: what cannot be shown is not torn out of it."""
    warp = Warp([Similarity.square((24.3, 20.8), R / 1.03, degrees)], R, PHOTO)
    low = (
        F.interpolate(random(1, 3, 8, 8), warp.low_size, mode="bicubic") + 0.02 * random(1, 3, *warp.low_size)
    ) * warp.mask
    start = warp.fit(low)
    found = project(warp, start, low.clamp(0, 1) * warp.mask, rounds=8)
    error = (warp.forward(found) - low.clamp(0, 1) * warp.mask).square().sum() / (3 * warp.mask.sum())
    assert -10 * error.log10() > (38 if 40 < degrees < 50 else 45)
    assert (found - start).square().mean().sqrt() < 0.1


def test_the_correction_is_the_smallest_one() -> None:
    warp = Warp(PLACES[:2], R, PHOTO)
    high = random(2, 3, R, R)
    least = warp.pinv(warp.forward(high))
    torch.testing.assert_close(
        (least * (high - least)).sum((1, 2, 3)), torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_faces_do_not_know_their_neighbours_or_padding() -> None:
    batch = Warp(PLACES, R, PHOTO)
    high = random(4, 3, R, R, dtype=torch.float32)
    low = batch.forward(high)
    lifted = batch.pinv(low)
    for i, place in enumerate(PLACES):
        alone = Warp([place], R, PHOTO)
        h, w = alone.low_size
        assert torch.equal(alone.forward(high[i : i + 1])[0], low[i, :, :h, :w])
        torch.testing.assert_close(alone.pinv(low[i : i + 1, :, :h, :w])[0], lifted[i], atol=1e-5, rtol=0)
    some = batch.select([2, 0, 2])
    h, w = some.low_size
    assert torch.equal(some.forward(high[[2, 0, 2]]), low[[2, 0, 2], :, :h, :w])


def test_join_takes_faces_of_several_photographs() -> None:
    parts = [Warp(PLACES[:2], R, PHOTO), Warp(PLACES[3:], R, (100, 100))]
    joined = Warp.join(parts)
    high = random(3, 3, R, R)
    _, _, w, h = joined.faces[2].box
    torch.testing.assert_close(joined.forward(high)[2:, :, :h, :w], parts[1].forward(high[2:]))
    assert joined.factors == pytest.approx((4.0, R / 11.7, 1.6))
    with pytest.raises(InputError, match="different"):
        Warp.join([parts[0], Warp(PLACES[3:], R, (100, 100), sigma=0.1)])


def test_fit_brings_the_face_upright() -> None:
    warp = Warp(PLACES, R, PHOTO)
    truth = F.interpolate(random(4, 3, 3, 3), R, mode="bicubic")
    upright = warp.fit(warp.forward(truth))
    assert upright.shape == truth.shape
    inner = slice(R // 4, -R // 4)
    assert (upright - truth)[1:, :, inner, R // 2 : -R // 4].abs().mean() < 0.05
    flat = warp.fit(warp.mask.double().expand(-1, 3, -1, -1) * 0.3)
    torch.testing.assert_close(flat, torch.full_like(flat, 0.3))


def test_fit_takes_another_size() -> None:
    """The same view at twice and at a quarter of R, from the same pixels; one face's does not know its neighbours."""
    warp = Warp(PLACES, R, PHOTO)
    low = warp.forward(smooth(4))
    upright, large, small = warp.fit(low), warp.fit(low, 2 * R), warp.fit(low, R // 4)
    assert torch.equal(warp.fit(low, R), upright)
    assert (large.shape, small.shape) == ((4, 3, 2 * R, 2 * R), (4, 3, R // 4, R // 4))
    inside = [0, 1, 3]  # wholly in the photograph
    assert (F.avg_pool2d(large, 2) - upright)[inside, :, 4:-4, 4:-4].abs().max() < 0.03
    assert (F.avg_pool2d(upright, 4) - small)[inside, :, 1:-1, 1:-1].abs().mean() < 0.02
    alone = warp.select([1])
    h, w = alone.low_size
    torch.testing.assert_close(alone.fit(low[1:2, :, :h, :w], R // 4)[0], small[1])
    stripes = low * 0 + warp.mask * (torch.arange(warp.low_size[1]) % 2)
    assert (warp.fit(stripes, 4)[3] - 0.5).abs().max() < 0.15  # 20 px of stripes are grey at 4 px, not aliased
    with pytest.raises(InputError, match="size is -1 px"):
        warp.fit(low, -1)


def test_errors_say_what_to_do() -> None:
    for side in (31.5, 32.0, 33.0, 64.0):
        with pytest.raises(InputError, match="as large as the 32 px of the prior or larger; leave it"):
            Warp([Similarity.square((40.0, 40.0), side, 0)], R, (80, 80))
    with pytest.raises(InputError, match="outside the photograph of 48 x 40"):
        Warp([Similarity(16, 0, 200, 0)], R, PHOTO)
    with pytest.raises(InputError, match="at least one face"):
        Warp([], R, PHOTO)
    with pytest.raises(InputError, match="sigma is -1"):
        Warp(PLACES, R, PHOTO, sigma=-1)
    with pytest.raises(UnknownNameError, match="bicubic"):
        Warp(PLACES, R, PHOTO, kernel="bicubik")
    with pytest.raises(InputError, match=r"expected \(4, 3, 32, 32\)"):
        Warp(PLACES, R, PHOTO).forward(random(3, 3, R, R))


LARGE = 256  # a prior above `SMALL`
FEW = [Similarity.square((30.3, 24.8), 21.0, 12), Similarity.square((24.0, 21.5), 14.2, -100)]


def large(seed: int = 0, size: int = LARGE, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Pictures with waves of all lengths, as strong as in faces."""
    waves = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    strength = torch.hypot(waves[:, None], waves).clamp(min=1) ** -1.5
    noise = torch.fft.ifft2(torch.fft.fft2(random(2, 3, size, size, seed=seed) - 0.5) * strength).real
    return (0.5 + 0.15 * noise / noise.std((2, 3), keepdim=True)).clamp(0.02, 0.98).to(dtype)


def whole(warp: Warp) -> Warp:
    """The same warp from all high pixels."""
    return Warp.of(warp.faces, warp.size, warp.kernel, warp.sigma, warp.size)


@pytest.mark.parametrize(("side", "size", "inner"), [
    (8, 1024, 128), (42.6, 1024, 128), (43, 1024, 256), (170, 1024, 512), (171, 1024, 1024), (1000, 1024, 1024),
    (120, 128, 128), (8, 32, 32), (30, 256, 128), (80, 256, 256),
])  # fmt: skip
def test_the_inner_side_follows_the_face(side: float, size: int, inner: int) -> None:
    assert inner_side(side, size) == inner


@pytest.mark.parametrize("degrees", [0, 12, 45])
@pytest.mark.parametrize("side", [42, 28, 12])
def test_a_large_priors_warp_is_that_of_all_its_pixels(side: float, degrees: float) -> None:
    warp = Warp([Similarity.square((45.3, 43.8), side, degrees)], 512, (90, 90))
    assert warp.inner == 128
    truth = large(size=512)
    exact = whole(warp)
    off = warp.forward(truth) - exact.forward(truth)
    assert off.abs().max() < 1 / 255
    assert off.square().sum() / (6 * warp.mask.sum()) < 10**-6.5
    start, low = large(1, 512), exact.forward(truth)
    corrected = start + warp.correct(low - warp.forward(start))
    smooth_too = start + exact.correct(low - exact.forward(start))
    assert (corrected - smooth_too).square().mean() < 0.03 * (corrected - start).square().mean()
    steps = (corrected - start).diff(dim=-1).abs().mean((0, 1, 2))  # blocks would show as a period of 4 px
    assert max(steps[100 + k : 400 : 4].mean() for k in range(4)) < 1.1 * steps[100:400].mean()


def test_a_large_prior_keeps_the_protocol() -> None:
    warp = Warp(FEW, LARGE, PHOTO)
    assert warp.inner == 128
    high, low = large(), random(2, 3, *warp.low_size, seed=1)
    left, right = (warp.forward(high) * low).sum((1, 2, 3)), (high * warp.adjoint(low)).sum((1, 2, 3))
    torch.testing.assert_close(left, right, rtol=1e-12, atol=0)
    least = warp.pinv(warp.forward(high))
    torch.testing.assert_close(warp.forward(least), warp.forward(high), atol=1e-8, rtol=0)
    assert ((least * (high - least)).sum((1, 2, 3)).abs() < 1e-6).all()
    high.requires_grad_()
    (warp.forward(high) * low).sum().backward()
    torch.testing.assert_close(high.grad, warp.adjoint(low))


@pytest.mark.parametrize("places", [FEW, [Similarity.square((100.3, 100.8), s, 12) for s in (90, 150)]])
def test_a_large_priors_faces_are_projected_and_do_not_know_their_neighbours(places: list[Similarity]) -> None:
    """Of an inner side below R, and of R itself, where A A^T is not formed."""
    photo = (200, 200)
    batch = Warp(places, LARGE, photo)
    truth, start = large(dtype=torch.float32), large(1, dtype=torch.float32)
    low = batch.forward(truth)
    found = project(batch, start, low, rounds=8, tolerance=0.5 / 255)
    error = (batch.forward(found) - low).square().sum((1, 2, 3)) / (3 * batch.mask.sum((1, 2, 3)))
    assert (-10 * error.log10() > 55).all()
    for i, place in enumerate(places):
        alone = Warp([place], LARGE, photo)
        h, w = alone.low_size
        assert torch.equal(alone.forward(truth[i : i + 1])[0], low[i, :, :h, :w])
        own = project(alone, start[i : i + 1], low[i : i + 1, :, :h, :w], rounds=8, tolerance=0.5 / 255)
        torch.testing.assert_close(own[0], found[i], atol=1e-4, rtol=0)
    two = batch.select([1, 1])
    h, w = two.low_size
    assert torch.equal(two.forward(truth[[1, 1]])[0], low[1, :, :h, :w])
    with pytest.raises(InputError, match="inner side"):
        Warp.join([Warp(FEW, LARGE, photo), Warp([Similarity.square((100.3, 100.8), 120, 12)], LARGE, photo)])


@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("side", [12, 60])
def test_noise_is_answered_alike_whatever_the_priors_size(side: float, sigma: float) -> None:
    place = Similarity.square((60.3, 60.8), side, 12)
    warps = [Warp([place], size, (120, 120), sigma=sigma) for size in (128, 512)]
    truth = large(size=512)
    low = warps[1].forward(truth) - 0.5
    seen = [warp.forward(warp.correct(low)) for warp in warps]
    assert (seen[0] - seen[1]).square().sum() < 0.02 * low.square().sum()
    down = [Downscale(32, size, sigma=max(sigma, 1e-3)) for size in (128, 512)]
    small = down[1].forward(truth) - 0.5
    seen = [d.forward(d.correct(small)) for d in down]
    assert (seen[0] - seen[1]).square().sum() < 0.02 * small.square().sum()


@pytest.mark.parametrize("side", [24, 64, 256])
def test_the_same_places_at_another_high_side(side: int) -> None:
    warp = Warp(PLACES, R, PHOTO, kernel="box", sigma=0.02)
    other, made = warp.at(side), Warp(PLACES, side, PHOTO, kernel="box", sigma=0.02)
    assert (other.size, other.inner, other.sigma, other.low_size) == (side, made.inner, 0.02, warp.low_size)
    assert torch.equal(other.mask, warp.mask)
    high = random(4, 3, side, side)
    torch.testing.assert_close(other.forward(high), made.forward(high))
    torch.testing.assert_close(
        other.at(R).forward(high[:, :, :1, :1].expand(4, 3, R, R)), warp.forward(high[:, :, :1, :1].expand(4, 3, R, R))
    )
    with pytest.raises(InputError, match="a face is 20 px in the photograph, as large as 20 px"):
        warp.at(20)
