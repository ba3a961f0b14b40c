"""The noise of a photograph's region: white noise, JPEG by its tables and by its blocks, and nothing where there is nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from latentface.errors import InputError
from latentface.faces.noise import LEAST, blockiness, estimate_sigma, jpeg_sigma

BOX = (100.0, 100.0, 150.0, 160.0)


@pytest.fixture(scope="module")
def clean() -> torch.Tensor:
    """A photograph of smooth shades and edges, (3, 256, 256), that fall on no grid of 8 px."""
    coarse = torch.rand(1, 3, 19, 19, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(0.2 + 0.6 * coarse, size=(256, 256), mode="bicubic")[0].clamp(0, 1)


def squeezed(photo: torch.Tensor, quality: int) -> tuple[torch.Tensor, Image.Image]:
    file = io.BytesIO()
    Image.fromarray((photo * 255).round().byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    picture = Image.open(file)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255, picture


def test_a_clean_photograph_has_no_noise(clean: torch.Tensor) -> None:
    assert estimate_sigma(clean, BOX) == 0.0
    assert estimate_sigma(torch.full((3, 5, 4), 0.5), (0, 0, 4, 4)) == 0.0


@pytest.mark.parametrize("sigma", [0.01, 0.03, 0.08])
def test_white_noise_is_told(clean: torch.Tensor, sigma: float) -> None:
    grey = torch.randn(1, 256, 256, generator=torch.Generator().manual_seed(1)).expand(3, -1, -1)
    assert estimate_sigma((clean + sigma * grey).clamp(0, 1), BOX) == pytest.approx(sigma, rel=0.25)


def test_jpeg_is_told_by_its_tables_and_by_its_blocks(clean: torch.Tensor) -> None:
    before = 0.0
    for quality in (95, 75, 40, 15):
        tables = squeezed(clean, quality)[1].quantization  # type: ignore[attr-defined]
        assert jpeg_sigma([tables[0]]) > max(before, LEAST)
        before = jpeg_sigma([tables[0]])
    texture = 0.02 * torch.randn(1, 256, 256, generator=torch.Generator().manual_seed(2))
    rough = (clean + texture).clamp(0, 1)
    assert blockiness(rough[0]) == 0.0
    assert blockiness(squeezed(rough, 15)[0].mean(0)) > 0.0
    moved = squeezed(rough, 15)[0][:, 3:, 5:]  # cut, so that the grid starts elsewhere
    assert blockiness(moved.mean(0)) > 0.0


def test_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="expected a picture"):
        estimate_sigma(torch.zeros(4, 4), BOX)
