"""NIQE against the published figure where its picture is at hand, and against a second, straight-line computation."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from skimage.color import rgb2ycbcr
from torch import Tensor

from latentface.errors import InputError
from latentface.io.pictures import read_picture
from latentface.metrics.niqe import Niqe


@pytest.fixture
def niqe(need: Callable[[str], Path]) -> Niqe:
    need("niqe_pris_params.npz")
    return Niqe.load(fetch=False)


def textured(count: int, height: int, width: int, seed: int = 3) -> Tensor:
    """Noise of several scales, (count, 3, height, width) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.full((count, 3, height, width), 0.5)
    for scale in (2, 4, 8, 32):
        small = torch.randn(count, 3, height // scale + 2, width // scale + 2, generator=generator)
        total += 0.06 * torch.nn.functional.interpolate(small, (height, width), mode="bicubic")
    return total.clamp(0, 1)


def imresize_matrix(size: int) -> np.ndarray:
    """MATLAB's imresize(., 0.5) of one axis as a matrix (size / 2, size), edges mirrored."""

    def cubic(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    matrix = np.zeros((size // 2, size))
    for i in range(size // 2):
        centre = (i + 0.5) * 2 - 0.5
        taps = {k: 0.5 * cubic(0.5 * (centre - k)) for k in range(math.floor(centre) - 4, math.floor(centre) + 6)}
        for k, weight in taps.items():
            mirrored = -1 - k if k < 0 else 2 * size - 1 - k if k >= size else k
            matrix[i, mirrored] += weight / sum(taps.values())
    return matrix


def aggd(values: np.ndarray, table: dict[str, np.ndarray]) -> tuple[float, float, float]:
    values = values.ravel()
    left = math.sqrt((values[values < 0] ** 2).mean())
    right = math.sqrt((values[values > 0] ** 2).mean())
    g = left / right
    target = np.abs(values).mean() ** 2 / (values**2).mean() * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    shape = float(table["shape"][np.abs(table["ratio"] - target).argmin()])
    spread = math.exp((math.lgamma(1 / shape) - math.lgamma(3 / shape)) / 2)
    return shape, left * spread, right * spread


def second_computation(pictures: Tensor, model: Path, cut: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The statistics (N, 36) of all blocks, by loops and padded windows."""
    window = np.load(model)["gaussian_window"]
    shape = np.linspace(0.2, 10, 9801)
    ratio = np.exp(2 * gammaln(2 / shape) - gammaln(1 / shape) - gammaln(3 / shape))
    table = {"shape": shape, "ratio": ratio}
    rows = []
    for picture in pictures:
        y = np.round(rgb2ycbcr(picture.double().permute(1, 2, 0).numpy())[..., 0])[cut[0] :, cut[1] :]
        down, across = y.shape[0] // 96, y.shape[1] // 96
        y = y[: 96 * down, : 96 * across]
        both = []
        for side in (96, 48):
            views = np.lib.stride_tricks.sliding_window_view(np.pad(y, 3, mode="edge"), (7, 7))
            mean = (views * window).sum((2, 3))
            deviation = np.sqrt(np.abs((views**2 * window).sum((2, 3)) - mean**2))
            normal = (y - mean) / (deviation + 1)
            features = []
            for i in range(down):
                for j in range(across):
                    block = normal[side * i : side * (i + 1), side * j : side * (j + 1)]
                    a, left, right = aggd(block, table)
                    row = [a, (left + right) / 2]
                    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
                        shifted = np.roll(np.roll(block, dy, 0), dx, 1)
                        a, left, right = aggd(block * shifted, table)
                        row += [a, (right - left) * math.gamma(2 / a) / math.gamma(1 / a), left, right]
                    features.append(row)
            both.append(np.array(features))
            y = imresize_matrix(y.shape[0]) @ y @ imresize_matrix(y.shape[1]).T
        rows.append(np.concatenate(both, 1))
    return np.concatenate(rows)


def distance(features: np.ndarray, model: Path) -> float:
    file = np.load(model)
    step = file["mu_pris_param"][0] - features.mean(0)
    return float(np.sqrt(step @ np.linalg.inv((file["cov_pris_param"] + np.cov(features.T)) / 2) @ step))


def test_it_agrees_with_a_second_computation(niqe: Niqe, weights_folder: Path) -> None:
    model = weights_folder / "niqe_pris_params.npz"
    pictures = textured(2, 250, 200)
    expected = [distance(second_computation(p[None], model), model) for p in pictures]
    np.testing.assert_allclose(niqe.score(pictures, side=None).numpy(), expected, atol=1e-4)
    assert niqe.pooled(textured(4, 130, 100)) == pytest.approx(
        distance(second_computation(textured(4, 130, 100), model, cut=(17, 2)), model), abs=1e-4
    )


def test_the_published_figure(niqe: Niqe) -> None:
    path = os.environ.get("LATENTFACE_BABOON")
    if not path:
        pytest.skip("BasicSR's baboon.png is not at hand: name it in LATENTFACE_BABOON")
    assert niqe.score(read_picture(path)[None], side=None).item() == pytest.approx(5.7296, abs=1e-3)


def test_every_size_is_scored_at_256_px(niqe: Niqe) -> None:
    at_256 = textured(1, 256, 256)
    assert torch.equal(niqe.score(at_256), niqe.score(at_256, side=None))
    small = torch.nn.functional.interpolate(at_256, (64, 64), mode="bicubic", antialias=True)
    assert niqe.score(small).item() > niqe.score(at_256).item()  # blur is seen


def test_noise_and_neighbours_change_nothing_else(niqe: Niqe) -> None:
    pictures = textured(3, 128, 128)
    together = niqe.score(pictures)
    assert torch.equal(together[1:2], niqe.score(pictures[1:2]))
    assert niqe.pooled(pictures.flip(0)) == pytest.approx(niqe.pooled(pictures))


def test_a_flat_picture_has_no_score(niqe: Niqe) -> None:
    assert math.isnan(niqe.score(torch.full((1, 3, 128, 128), 0.5)).item())


def test_too_few_blocks_are_refused(niqe: Niqe) -> None:
    with pytest.raises(InputError, match="two 96 px blocks"):
        niqe.score(textured(1, 128, 128), side=None)
    with pytest.raises(InputError, match="at least 96 px"):
        niqe.pooled(textured(2, 64, 64))
    with pytest.raises(InputError, match="two blocks"):
        niqe.pooled(textured(1, 128, 128))
