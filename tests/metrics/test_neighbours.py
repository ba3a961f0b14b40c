import numpy as np
import pytest
import torch

from latentface.errors import InputError
from latentface.metrics.neighbours import precision_recall


def inside(points: np.ndarray, centres: np.ndarray, k: int) -> float:
    hits = 0
    for point in points:
        for centre in centres:
            radius = np.sort(np.linalg.norm(centres - centre, axis=1))[k]
            if np.linalg.norm(point - centre) <= radius:
                hits += 1
                break
    return hits / len(points)


@pytest.mark.parametrize("k", [1, 3])
def test_it_counts_who_is_inside_whose_ball(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    results, truths = torch.randn(25, 2, generator=generator) * 0.7, torch.randn(30, 2, generator=generator)
    got = precision_recall(results, truths, neighbours=k)
    assert got.precision == pytest.approx(inside(results.double().numpy(), truths.double().numpy(), k))
    assert got.recall == pytest.approx(inside(truths.double().numpy(), results.double().numpy(), k))


def test_one_mode_only_is_precise_but_does_not_recall() -> None:
    generator = torch.Generator().manual_seed(0)
    near, far = torch.randn(40, 3, generator=generator), torch.randn(40, 3, generator=generator) + 50
    got = precision_recall(near[:20] * 0.5, torch.cat([near, far]))
    assert got.precision == 1
    assert got.recall <= 0.5
    same = precision_recall(near, near)
    assert (same.precision, same.recall) == (1, 1)


def test_too_few_faces_are_refused() -> None:
    with pytest.raises(InputError, match="more than 3"):
        precision_recall(torch.zeros(3, 2), torch.zeros(9, 2))
    with pytest.raises(InputError, match=r"\(9, 3\)"):
        precision_recall(torch.zeros(9, 2), torch.zeros(9, 3))
