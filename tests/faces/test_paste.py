"""Pasting: colours and outside kept, no seams, overlaps shared, and composed photographs that agree with Warp."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from latentface.degradation import project
from latentface.errors import InputError
from latentface.faces import Patch, Similarity, Warp, compose, crop, paste_faces


def smooth(size: int, seed: int, cells: int = 6) -> torch.Tensor:
    noise = torch.rand(1, 3, cells, cells, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size, mode="bicubic")[0].clamp(0.1, 0.9)


def test_a_face_cut_out_and_pasted_back_changes_nothing() -> None:
    photo = smooth(96, 0)
    place = Similarity.square((50.0, 44.0), 40.0, 20)
    face, _ = crop(photo, place, 64)
    again = paste_faces(photo, [Patch(face, place)])
    assert (again - photo).abs().max() < 4e-3  # so no seam either


def test_outside_the_square_every_bit_is_kept() -> None:
    photo = torch.rand(3, 60, 60, generator=torch.Generator().manual_seed(0))
    place = Similarity(20, 0, 15, 15)
    out = paste_faces(photo, [Patch(torch.ones(3, 32, 32), place)], 1.0, 0.1)
    outside = torch.ones(60, 60, dtype=torch.bool)
    outside[15:35, 15:35] = False
    assert torch.equal(out[:, outside], photo[:, outside])
    torch.testing.assert_close(out[:, 22:28, 22:28], torch.ones(3, 6, 6))
    assert not torch.equal(paste_faces(photo, [Patch(torch.ones(3, 8, 8), place)], in_place=True), photo * 0)


def test_the_border_fades_without_a_step() -> None:
    out = paste_faces(torch.zeros(3, 100, 100), [Patch(torch.ones(3, 32, 32), Similarity(80, 0, 10, 10))], 1.0, 0.2)
    row = out[0, 50]
    assert row.diff().abs().max() < 0.11
    assert row[50] == 1


def test_the_factor_scales_the_place() -> None:
    background = torch.zeros(3, 150, 120)
    out = paste_faces(background, [Patch(torch.ones(3, 16, 16), Similarity(20, 0, 10, 25))], 3.0, 0.0)
    assert out[0].nonzero().amin(0).tolist() == [75, 30]
    assert out[0].nonzero().amax(0).tolist() == [134, 89]


def test_overlapping_faces_share_and_order_does_not_matter() -> None:
    red, blue = torch.zeros(3, 16, 16), torch.zeros(3, 16, 16)
    red[0], blue[2] = 1, 1
    patches = [
        Patch(red, Similarity(40, 0, 5, 5)),
        Patch(blue, Similarity(40, 0, 30, 10)),
        Patch(torch.ones(3, 16, 16), Similarity(12, 0, 12, 30)),  # a small face in the margin of a large one
    ]
    background = torch.full((3, 60, 80), 0.2)
    one = paste_faces(background, patches)
    torch.testing.assert_close(one, paste_faces(background, patches[::-1]), atol=1e-6, rtol=0)
    assert one[:, 25, 25].tolist() == pytest.approx([1, 0, 0], abs=0.01)
    assert one[:, 30, 50].tolist() == pytest.approx([0, 0, 1], abs=0.01)
    assert one[:, 36, 18].tolist() == pytest.approx([1, 1, 1], abs=0.05)
    assert one.min() >= 0
    assert one.max() <= 1


def test_a_composed_photograph_agrees_with_warp_and_comes_back() -> None:
    places = [
        Similarity.square((30.0, 30.0), 16.0, 0),
        Similarity.square((80.4, 34.7), 21.3, 30),
        Similarity.square((60.2, 88.1), 47.0, -75),
    ]
    faces = torch.stack([smooth(64, seed, 9) for seed in range(3)])
    photo = compose(smooth(120, 9, 4), [Patch(f, p) for f, p in zip(faces, places, strict=True)])
    warp = Warp(places, 64, (120, 120))
    low = warp.cut(photo)
    assert (warp.forward(faces) - low).abs().max() < 1e-5
    found = project(warp, warp.fit(low), low)
    error = (warp.forward(found) - low).square().sum((1, 2, 3)) / (3 * warp.mask.sum((1, 2, 3)))
    assert (-10 * error.log10() > 60).all()
    enlarged = F.interpolate(photo[None], scale_factor=2, mode="bicubic")[0].clamp(0, 1)
    done = paste_faces(enlarged, [Patch(f, p) for f, p in zip(found, places, strict=True)], 2.0)
    shrunk = F.interpolate(done[None], size=(120, 120), mode="bicubic", antialias=True)[0]
    inner = warp.cut(shrunk) - low
    assert -10 * (inner.square().sum() / (3 * warp.mask.sum())).log10() > 30  # all that pasting itself costs


@pytest.mark.parametrize(("size", "side"), [(128, 20), (512, 20), (512, 40), (512, 150)])
@pytest.mark.parametrize("degrees", [0, 12, 45])
def test_a_face_much_larger_than_its_place_is_pasted_without_aliasing(size: int, side: int, degrees: float) -> None:
    place = Similarity.square((100.3, 99.8), side, degrees)
    stripes = ((torch.arange(size) % 2).float()).expand(3, size, size)
    pasted = paste_faces(torch.full((3, 200, 200), 0.5), [Patch(stripes, place)])
    assert (pasted - 0.5).abs().max() < 0.02  # stripes too fine to be shown are grey
    face = F.interpolate(smooth(40, 3)[None], size, mode="bicubic").clamp(0, 1)[0]
    warp = Warp([place], size, (200, 200))
    exact = Warp.of(warp.faces, size, "bicubic", 0.0, size).forward(face[None])
    pasted = compose(torch.full((3, 200, 200), 0.5), [Patch(face, place)])
    assert ((warp.cut(pasted) - exact).abs()[warp.mask.expand_as(exact)]).max() < 2.5 / 255


def test_faces_partly_or_wholly_outside_are_no_trouble() -> None:
    background = torch.zeros(3, 30, 30)
    out = paste_faces(background, [Patch(torch.ones(3, 8, 8), Similarity(20, 0, x, 5)) for x in (-10.0, 25.0, 400.0)])
    assert out[0, 15, 1] == 1
    assert out[0, 15, 29] > 0


def test_errors() -> None:
    with pytest.raises(InputError, match=r"expected a picture \(3, H, W\)"):
        paste_faces(torch.zeros(1, 3, 8, 8), [Patch(torch.zeros(3, 8, 8), Similarity(4, 0, 0, 0))])
    with pytest.raises(InputError, match="feather is"):
        paste_faces(torch.zeros(3, 8, 8), [Patch(torch.zeros(3, 8, 8), Similarity(4, 0, 0, 0))], 1.0, 0.7)
    with pytest.raises(InputError, match="factor is 0"):
        paste_faces(torch.zeros(3, 8, 8), [Patch(torch.zeros(3, 8, 8), Similarity(4, 0, 0, 0))], 0)
