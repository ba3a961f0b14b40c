"""How many pixels of detail a face holds: sharp faces are taken at their word, soft ones at less."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import Downscale, resize
from latentface.errors import InputError
from latentface.faces import Similarity, crop
from latentface.faces.detail import LADDER, detail_side, finest_share, ring_power

VAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "celeba128" / "val.zip"


def noise_face(side: int, seed: int = 0) -> Tensor:
    """A picture (3, side, side) whose power falls with frequency as a sharp face's does."""
    from scipy.fft import idctn

    generator = torch.Generator().manual_seed(seed)
    k = torch.arange(side, dtype=torch.float64)
    radius = torch.hypot(k[:, None], k).clamp_min(1)
    waves = torch.randn(side, side, generator=generator, dtype=torch.float64) * radius**-1.5  # rings of k: k ** -2
    waves[0, 0] = 0
    grey = torch.from_numpy(idctn((waves * side).numpy(), norm="ortho"))
    return (0.5 + 0.12 * grey / grey.std()).float().clamp(0, 1).expand(3, -1, -1).contiguous()


def test_a_sharp_face_is_taken_at_its_word() -> None:
    for seed in range(10):
        for side in (9, 16, 31, 64):
            assert detail_side(noise_face(side, seed)) == side


def test_an_enlarged_face_is_known_for_less_than_it_seems() -> None:
    for small, large in ((12, 30), (16, 40), (24, 64), (32, 96)):
        enlarged = [resize(noise_face(small, seed)[None], large)[0].clamp(0, 1) for seed in range(9)]
        found = sorted(detail_side(face) for face in enlarged)
        assert found[0] >= 0.8 * small
        assert found[4] <= 1.7 * small  # the median
        assert found[-1] < large
        assert set(found) <= set(LADDER)


def test_strong_light_is_no_softness() -> None:
    face = noise_face(32)
    k = torch.arange(32)  # what is coarse is strong, so that everything fine is small beside it
    bright = (0.2 * (face - 0.5) + 0.5 + 0.3 * torch.cos(math.pi * 3 * (k + 0.5) / 32)).clamp(0, 1)
    assert finest_share(ring_power(bright), 32) < 0.25 * finest_share(ring_power(face), 32)
    assert detail_side(bright) == 32


def test_noise_is_no_detail() -> None:
    soft = resize(noise_face(12)[None], 48)[0].clamp(0, 1)
    noisy = soft + 0.015 * torch.randn(1, 48, 48, generator=torch.Generator().manual_seed(1))
    assert detail_side(noisy) == 48
    assert detail_side(noisy, 0.015) <= 24


def test_a_cut_between_the_pixels_is_no_softness() -> None:
    """A sharp face in a photograph, noisy or not, half a pixel off and turned: on a finer grid it stays sharp."""
    sharp = 0
    for seed in range(8):
        photo = noise_face(96, seed)
        for noise, degrees in ((0.0, 0.0), (0.0, 20.0), (0.02, 0.0), (0.02, 20.0)):
            noisy = photo + noise * torch.randn(1, 96, 96, generator=torch.Generator().manual_seed(seed))
            view, _ = crop(noisy, Similarity.square((48.5, 48.5), 60.0, degrees), 120)
            sharp += detail_side(view, noise, 60) == 60
    assert sharp >= 29  # of 32


def test_nothing_is_made_of_nothing() -> None:
    assert detail_side(torch.full((3, 20, 20), 0.5)) == 20  # no power at all: nothing says that it is soft
    assert detail_side(torch.rand(3, 5, 5)) == 5
    assert detail_side(torch.rand(3, 1, 1)) == 1
    for bad in (torch.rand(3, 4, 5), torch.rand(1, 4, 4), torch.rand(1, 3, 4, 4)):
        with pytest.raises(InputError, match="square face"):
            detail_side(bad)


@pytest.mark.skipif(not VAL.exists(), reason="needs CelebA's faces")
def test_real_faces() -> None:
    """Of 60 validation faces, sharp or out of focus by a standard deviation of one pixel and a half."""
    from latentface.datasets import open_faces

    faces = open_faces(VAL).limited(60)
    truth = torch.stack([faces.read(entry, 128) for entry in faces])
    low = Downscale(32, 128).forward(truth).clamp(0, 1)
    assert sum(detail_side(face) < 32 for face in low) <= 1
    x = torch.arange(-5.0, 6.0)
    bell = torch.exp(-0.5 * (x / 1.5) ** 2)
    bell = (bell / bell.sum()).view(1, 1, 1, -1).expand(3, 1, 1, -1)
    wide = F.pad(low, (5, 5, 5, 5), mode="reflect")
    blurred = F.conv2d(F.conv2d(wide, bell, groups=3), bell.transpose(2, 3), groups=3)
    found = sorted(detail_side(face) for face in blurred)
    assert 10 <= found[30] <= 17
    assert found[55] < 24
