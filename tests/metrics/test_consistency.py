import pytest
import torch

from latentface.degradation import Downscale
from latentface.errors import InputError
from latentface.metrics.consistency import consistency, null_space_cosine
from latentface.metrics.psnr import psnr


class Halves:
    """The mean of 2 x 2 px: a degradation written out by hand."""

    sigma = 0.0
    low_size = (8, 8)
    high_size = (16, 16)

    def forward(self, high: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(high, 2)

    def adjoint(self, low: torch.Tensor) -> torch.Tensor:
        return self.pinv(low) / 4

    def pinv(self, low: torch.Tensor) -> torch.Tensor:
        return low.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def correct(self, residual: torch.Tensor) -> torch.Tensor:
        return self.pinv(residual)


def test_consistency_is_the_psnr_of_the_small_pictures() -> None:
    high, low = torch.rand(3, 3, 16, 16), torch.rand(3, 3, 8, 8)
    assert torch.equal(consistency(high, low, Halves()), psnr(Halves().forward(high), low))
    assert (consistency(high, Halves().forward(high), Halves()) == 150).all()


def test_null_space_cosine_sees_only_what_was_invented() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = 0.25 + 0.5 * torch.rand(2, 3, 16, 16, generator=generator)
    same = Halves().pinv(Halves().forward(truth))
    detail = truth - same
    other_base = Halves().pinv(torch.rand(2, 3, 8, 8, generator=generator)) / 2 + 0.25
    assert null_space_cosine(truth, truth, Halves()).tolist() == pytest.approx([1, 1])
    assert null_space_cosine(other_base + detail, truth, Halves()).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert null_space_cosine(same - 0.5 * detail, truth, Halves()).tolist() == pytest.approx([-1, -1], abs=1e-5)
    assert null_space_cosine(same, truth, Halves()).tolist() == [0, 0]  # nothing invented


def test_the_packages_own_degradation_fits() -> None:
    generator = torch.Generator().manual_seed(1)
    degradation = Downscale(8, 32)
    truth = torch.rand(1, 3, 32, 32, generator=generator)
    plain = degradation.pinv(degradation.forward(truth))
    assert null_space_cosine(plain.clamp(-0.5, 1.5), truth, degradation).abs().item() < 0.5
    assert null_space_cosine(truth, truth, degradation).item() == pytest.approx(1)
    assert consistency(truth, degradation.forward(truth), degradation).item() > 100


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match=r"\(8, 8\).*\(16, 16\)"):
        consistency(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), Halves())
    with pytest.raises(InputError, match=r"\(1, 3, 8, 8\).*\(1, 3, 4, 4\)"):
        consistency(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 4, 4), Halves())
