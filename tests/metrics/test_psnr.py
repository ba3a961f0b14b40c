import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from latentface.errors import InputError
from latentface.metrics.psnr import psnr, psnr_y


def rows(pictures: Tensor) -> np.ndarray:
    return pictures.double().permute(0, 2, 3, 1).numpy()


def test_rgb_is_scikit_images(pairs: tuple[Tensor, Tensor]) -> None:
    expected = [peak_signal_noise_ratio(t, r, data_range=1) for r, t in zip(*map(rows, pairs), strict=True)]
    np.testing.assert_allclose(psnr(*pairs).numpy(), expected, atol=1e-4)


def test_luma_is_scikit_images(pairs: tuple[Tensor, Tensor]) -> None:
    expected = [
        peak_signal_noise_ratio(rgb2ycbcr(t)[..., 0], rgb2ycbcr(r)[..., 0], data_range=255)
        for r, t in zip(*map(rows, pairs), strict=True)
    ]
    np.testing.assert_allclose(psnr_y(*pairs).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("shift", [0.5, 0.1, 0.001])
def test_a_constant_error_has_its_closed_form(shift: float) -> None:
    black = torch.zeros(1, 3, 4, 4)
    expected = -20 * np.log10(shift)
    assert psnr(black + shift, black).item() == pytest.approx(expected, abs=1e-3)
    assert psnr_y(black + shift, black).item() == pytest.approx(expected + 20 * np.log10(255 / 219), abs=1e-3)


def test_equal_pictures_have_a_finite_best() -> None:
    picture = torch.rand(2, 3, 5, 6)
    assert psnr(picture, picture).tolist() == [150, 150]


def test_other_sizes_are_both_named() -> None:
    with pytest.raises(InputError, match=r"\(1, 3, 4, 4\).*\(1, 3, 8, 8\)"):
        psnr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 8, 8))
