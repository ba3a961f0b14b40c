"""The floor of every table: interpolation in the methods' signature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_faces

from latentface.degradation import Downscale
from latentface.errors import InputError
from latentface.explore.interpolate import InterpolationSettings, bicubic, bilinear


@pytest.mark.parametrize(
    ("method", "filter"), [(bilinear, Image.Resampling.BILINEAR), (bicubic, Image.Resampling.BICUBIC)]
)
def test_equals_pillow(prior, method, filter):
    low = tiny_faces(2)
    found = method(prior, low, degradation=Downscale(4, 16), seeds=[0, 1])
    for i in range(2):
        for c in range(3):
            theirs = np.asarray(Image.fromarray(low[i, c].numpy()).resize((16, 16), filter)).clip(0, 1)
            assert np.abs(found.high[i, c].numpy() - theirs).max() < 1e-5
    assert found.best_step.tolist() == [0, 0]
    assert found.method == method.__name__


def test_projection_makes_it_exact(prior):
    low, down = tiny_faces(2), Downscale(4, 16)
    plain = bicubic(prior, low, degradation=down, seeds=[0, 1])
    exact = bicubic(prior, low, degradation=down, settings=InterpolationSettings(project=True), seeds=[0, 1])
    assert (exact.consistency_db > 60).all()
    assert (plain.consistency_db < exact.consistency_db).all()


def test_what_it_is_given_is_checked(prior):
    with pytest.raises(InputError, match="NaN"):
        bilinear(prior, torch.full((1, 3, 4, 4), torch.nan), degradation=Downscale(4, 16), seeds=[0])
