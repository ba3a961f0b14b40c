import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from latentface.errors import InputError
from latentface.metrics.frechet import FrechetAccumulator


def gathered(features: torch.Tensor, sizes: tuple[int, ...]) -> FrechetAccumulator:
    accumulator = FrechetAccumulator(features.shape[1])
    for part in features.split(list(sizes)):
        accumulator.update(part)
    return accumulator


def test_batches_add_up_and_the_distance_is_scipys() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(6, 6, generator=generator)
    a = torch.randn(60, 6, generator=generator) @ mix + 100  # far from 0: the sum of squares would lose digits
    b = torch.randn(50, 6, generator=generator) + 99
    one, two = gathered(a, (1, 29, 30)), gathered(b, (50,))
    np.testing.assert_allclose(one.covariance.numpy(), np.cov(a.double().numpy().T), rtol=1e-9)
    ca, cb = np.cov(a.double().numpy().T), np.cov(b.double().numpy().T)
    step = a.double().mean(0).numpy() - b.double().mean(0).numpy()
    expected = step @ step + np.trace(ca + cb - 2 * np.real(sqrtm(ca @ cb)))
    assert one.distance(two) == pytest.approx(expected, rel=1e-7)
    assert two.distance(one) == pytest.approx(expected, rel=1e-7)


def test_closed_forms() -> None:
    rows = torch.cat([torch.eye(3), -torch.eye(3)]) * 2.5**0.5  # mean 0, covariance 1
    one, zero = gathered(rows, (6,)), gathered(0 * rows, (6,))
    assert one.distance(gathered(2 * rows, (6,))) == pytest.approx(3)
    assert one.distance(gathered(rows + 2, (6,))) == pytest.approx(12)
    assert zero.distance(one) == pytest.approx(3)  # singular


def test_empty_batches_and_a_set_against_itself() -> None:
    features = torch.rand(40, 5, generator=torch.Generator().manual_seed(1))
    left, whole = gathered(features, (0, 15, 0, 25)), gathered(features, (40,))
    assert left.count == 40
    torch.testing.assert_close(left.covariance, whole.covariance)
    assert left.distance(whole) == pytest.approx(0, abs=1e-9)


def test_wrong_features_are_refused() -> None:
    accumulator = FrechetAccumulator(4)
    with pytest.raises(InputError, match=r"\(B, 4\)"):
        accumulator.update(torch.zeros(2, 3))
    with pytest.raises(InputError, match="at least two"):
        accumulator.distance(accumulator)
    with pytest.raises(InputError, match="width 4 and 3"):
        gathered(torch.rand(2, 4), (2,)).distance(gathered(torch.rand(2, 3), (2,)))
