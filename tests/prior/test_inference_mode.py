"""A prior that was read or moved inside `torch.inference_mode()` can be searched with afterwards."""

from __future__ import annotations

import torch
from tiny import tiny_faces

from latentface.explore.engine import explore
from latentface.explore.rlse import RlseSettings
from latentface.prior.registry import load_prior


def test_read_and_moved_inside(prior_file):
    with torch.inference_mode():
        prior = load_prior(prior_file).to(torch.float64).to(torch.float32)
    settings = RlseSettings(steps=2, candidates=2)
    inside = explore("rlse", prior, tiny_faces(1), settings=settings)
    outside = explore("rlse", load_prior(prior_file), tiny_faces(1), settings=settings)
    torch.testing.assert_close(inside.high, outside.high)
