"""Statistics of W against numpy on the same draws."""

from __future__ import annotations

import numpy as np
import torch
from tiny import small_arch, small_networks

from latentface.prior.statistics import latent_statistics


def mapping(dtype=torch.float32):
    return small_networks(small_arch(), dtype=dtype)[0].mapping


def test_they_are_numpys():
    network = mapping()
    mine = latent_statistics(network, 9, 1_000, seed=3)
    z = torch.randn(1_000, 9, generator=torch.Generator().manual_seed(3))
    w = network(z).detach().double().numpy()
    v = np.where(w < 0, 5 * w, w)
    theirs = {
        "mean": w.mean(0),
        "std": w.std(0),
        "gauss_mean": v.mean(0),
        "gauss_std": v.std(0),
        "gauss_cov": np.cov(v.T, bias=True),
    }
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(mine[name].numpy(), value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_batches_change_nothing():
    one, many = (latent_statistics(mapping(), 9, 960, batch=batch) for batch in (960, 320))
    for name in one:
        torch.testing.assert_close(one[name], many[name], rtol=1e-4, atol=1e-5)


def test_the_seed_decides():
    first, again, other = (latent_statistics(mapping(), 9, 500, seed=seed)["mean"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_they_have_the_networks_type():
    statistics = latent_statistics(mapping(torch.float64), 9, 100)
    assert {v.dtype for v in statistics.values()} == {torch.float64}
