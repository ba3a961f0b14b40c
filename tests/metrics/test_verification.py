import numpy as np
import pytest
import torch

from latentface.errors import InputError
from latentface.metrics.verification import verification


def test_it_counts_pairs() -> None:
    generator = torch.Generator().manual_seed(2)
    same = (torch.randn(40, generator=generator) + 1).mul(10).round() / 10  # rounded: there are ties
    other = torch.randn(40, 25, generator=generator).mul(10).round() / 10
    got = verification(same, other)
    a, b = same.double().numpy()[:, None], other.double().numpy().ravel()[None]
    assert got.auc == pytest.approx(np.mean((a > b) + 0.5 * (a == b)), abs=1e-12)
    assert np.mean(b > got.threshold) <= 0.01
    accepted = [np.mean(a > t) for t in np.unique(b) if np.mean(b > t) <= 0.01]
    assert got.true_accepts == pytest.approx(max(accepted))
    assert got.rank1 == pytest.approx(np.mean(same.numpy() > other.numpy().max(1)))


def test_ends_of_the_range() -> None:
    best = verification(torch.ones(3), torch.zeros(3, 2))
    assert (best.auc, best.true_accepts, best.rank1) == (1, 1, 1)
    chance = verification(torch.zeros(3), torch.zeros(6))
    assert (chance.auc, chance.true_accepts, chance.rank1) == (0.5, 0, None)


def test_scores_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InputError, match="none of them empty"):
        verification(torch.zeros(0), torch.zeros(3))
    with pytest.raises(InputError, match="as many rows"):
        verification(torch.zeros(2), torch.zeros(3, 2))
    with pytest.raises(InputError, match="NaN"):
        verification(torch.tensor([float("nan")]), torch.zeros(3))
