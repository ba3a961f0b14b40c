"""Detail is believed where the found face agrees with the photograph, and there only."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from latentface.degradation import Degradation, Downscale, project
from latentface.faces import Similarity, Warp
from latentface.faces.trust import LEAST_DOUBT, SHARE, trusted

R = 32
WARP = Warp([Similarity.square((20.4, 19.7), 14.0, 12)], R, (40, 48))


def smooth(seed: int = 0, cells: int = 12) -> torch.Tensor:
    coarse = torch.rand(1, 3, cells, cells, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, R, mode="bicubic").clamp(0.2, 0.8)


@pytest.mark.parametrize("degradation", [WARP, Downscale(8, R)])
def test_a_face_that_agrees_stays(degradation: Degradation) -> None:
    face = smooth()
    assert torch.allclose(trusted(degradation, face, degradation.forward(face)), face, atol=1e-4)


def test_a_face_that_is_wholly_wrong_gives_way_to_the_photograph() -> None:
    low = WARP.forward(smooth())
    out = trusted(WARP, 1 - smooth(1), low)
    assert (out - WARP.fit(low)).abs().mean() < 0.1 * (1 - smooth(1) - WARP.fit(low)).abs().mean()


@pytest.mark.parametrize("side", [2, 8, 20])
@pytest.mark.parametrize("error", [LEAST_DOUBT / 2, 1.2 * LEAST_DOUBT, 2 * LEAST_DOUBT, 4 * LEAST_DOUBT])
def test_an_error_is_measured_by_the_faces_own_within_limits(error: float, side: int) -> None:
    """The limits: 8 grey levels, and 8, 32/3, 64/3 for an enlargement of 1.6, 4 and 16 times."""
    most = {20: 8, 8: 32 / 3, 2: 64 / 3}[side] / 255
    doubt = max(8 / 255, min(SHARE * error, most))
    weight = doubt**2 / (doubt**2 + error**2)
    face, degradation = 0.5 + 0.2 * smooth(), Downscale(side, R)
    low = degradation.forward(face) + error
    mixed = weight * face + (1 - weight) * degradation.fit(low)
    torch.testing.assert_close(trusted(degradation, face, low), mixed, atol=2e-4, rtol=0)
    noisy = Downscale(side, R, sigma=error)
    torch.testing.assert_close(trusted(noisy, face, low), face, atol=1e-3, rtol=0)  # noise explains it


def test_a_misplaced_edge_no_longer_rings() -> None:
    """A face whose hair ends two pixels off: what is projected lies nearer to the truth, and most so beside the edge."""
    truth, found = torch.full((1, 3, R, R), 0.8), torch.full((1, 3, R, R), 0.8)
    truth[..., :10], found[..., :12] = 0.2, 0.2
    low = WARP.forward(truth)
    error = [
        (project(WARP, start, low) - truth)[..., 4:-4, 4:-4].square().mean()
        for start in (found, trusted(WARP, found, low))
    ]
    assert error[1] < 0.8 * error[0]


def test_faces_do_not_know_their_neighbours() -> None:
    places = [Similarity.square((20.3, 18.8), 8.0, 0), Similarity.square((22.0, 21.5), 13.7, 25)]
    both = Warp(places, R, (40, 48))
    faces = torch.cat([smooth(2), smooth(3)])
    low = both.forward(torch.cat([smooth(4), smooth(5)]))
    together = trusted(both, faces, low)
    for i, place in enumerate(places):
        alone = Warp([place], R, (40, 48))
        h, w = alone.low_size
        torch.testing.assert_close(
            trusted(alone, faces[i : i + 1], low[i : i + 1, :, :h, :w])[0], together[i], atol=1e-6, rtol=0
        )


@pytest.mark.parametrize(
    ("high", "factor", "wider"), [(256, 32, 1), (512, 8, 1), (512, 16, 2.5), (512, 32, 4), (512, 64, 4)]
)
@pytest.mark.parametrize("error", [8 / 255, 40 / 255, 100 / 255])
def test_large_faces_have_wider_limits_the_more_they_are_enlarged(
    high: int, factor: int, wider: float, error: float
) -> None:
    degradation = Downscale(high // factor, high)
    doubt = max(LEAST_DOUBT, wider * min(SHARE * error, math.log2(factor) * 16 / 3 / 255))
    weight = doubt**2 / (doubt**2 + error**2)
    face = torch.full((1, 3, high, high), 0.3)
    low = degradation.forward(face) + error
    torch.testing.assert_close(trusted(degradation, face, low), face + (1 - weight) * error, atol=2e-4, rtol=0)
