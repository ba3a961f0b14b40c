import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import structural_similarity
from torch import Tensor

from latentface.errors import InputError
from latentface.metrics.ssim import ssim


def reference(result: Tensor, truth: Tensor) -> float:
    a, b = (rgb2ycbcr(p.double().permute(1, 2, 0).numpy())[..., 0] for p in (result, truth))
    return float(
        structural_similarity(
            a, b, data_range=255, gaussian_weights=True, sigma=1.5, win_size=11, use_sample_covariance=False
        )
    )


def test_it_is_scikit_images(pairs: tuple[Tensor, Tensor]) -> None:
    expected = [reference(r, t) for r, t in zip(*pairs, strict=True)]
    np.testing.assert_allclose(ssim(*pairs).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(11, 11), (12, 30), (33, 16)])
def test_odd_sizes_and_noise(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(height)
    a, b = torch.rand(2, 1, 3, height, width, generator=generator)
    assert ssim(a, b).item() == pytest.approx(reference(a[0], b[0]), abs=1e-5)


def test_equal_pictures_score_one_and_order_does_not_matter(pairs: tuple[Tensor, Tensor]) -> None:
    result, truth = pairs
    assert ssim(result, result).tolist() == pytest.approx([1, 1, 1])
    assert torch.equal(ssim(result, truth), ssim(truth, result))


def test_a_picture_below_the_window_is_refused() -> None:
    with pytest.raises(InputError, match="11 px"):
        ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))
