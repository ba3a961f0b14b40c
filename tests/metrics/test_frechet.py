import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from latentface.errors import InputError
from latentface.metrics.frechet import FrechetAccumulator, frechet_distance


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
    zero, eye = torch.zeros(3), torch.eye(3)
    assert frechet_distance(zero, eye, zero, 4 * eye) == pytest.approx(3)
    assert frechet_distance(zero, eye, zero + 2, eye) == pytest.approx(12)
    assert frechet_distance(zero, 0 * eye, zero, eye) == pytest.approx(3)  # singular


def test_merging_and_a_set_against_itself() -> None:
    features = torch.rand(40, 5, generator=torch.Generator().manual_seed(1))
    left, right = gathered(features[:15], (15,)), gathered(features[15:], (25,))
    left.merge(right)
    left.merge(FrechetAccumulator(5))
    whole = gathered(features, (40,))
    assert left.count == 40
    torch.testing.assert_close(left.covariance, whole.covariance)
    assert left.distance(whole) == pytest.approx(0, abs=1e-9)


def test_wrong_features_are_refused() -> None:
    accumulator = FrechetAccumulator(4)
    with pytest.raises(InputError, match=r"\(B, 4\)"):
        accumulator.update(torch.zeros(2, 3))
    with pytest.raises(InputError, match="at least two"):
        accumulator.distance(accumulator)
    with pytest.raises(InputError, match="width 3"):
        accumulator.merge(FrechetAccumulator(3))
