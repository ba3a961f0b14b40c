"""The floor of every table: interpolation in the methods' signature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_faces

from latentface.degradation import Downscale
from latentface.explore.engine import explore
from latentface.explore.interpolate import bicubic, bilinear
from latentface.explore.result import MethodSettings
from latentface.faces import Similarity, Warp


@pytest.mark.parametrize(
    ("name", "filter"), [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)]
)
def test_equals_pillow(prior, name, filter):
    low = tiny_faces(2)
    found = explore(name, prior, low, degradation=Downscale(4, 16), seeds=[0, 1])
    for i in range(2):
        for c in range(3):
            theirs = np.asarray(Image.fromarray(low[i, c].numpy()).resize((16, 16), filter)).clip(0, 1)
            assert np.abs(found.high[i, c].numpy() - theirs).max() < 1e-5
    assert found.best_step.tolist() == [0, 0]
    assert (found.method, found.passes, dict(found.history), dict(found.latent)) == (name, 0, {}, {})


def test_projection_makes_it_exact(prior):
    low = tiny_faces(2)
    plain = explore("bicubic", prior, low)
    exact = explore("bicubic", prior, low, settings=MethodSettings(project=True))
    assert (exact.consistency_db > 60).all()
    assert (plain.consistency_db < exact.consistency_db).all()


@pytest.mark.parametrize("method", [bilinear, bicubic])
def test_a_photographs_face_is_turned_upright(method):
    warp = Warp([Similarity(7, 0.4, 8, 3)], 16, (32, 32))
    low = warp.cut(tiny_faces(1, 32)[0])
    assert torch.equal(method(low, degradation=warp, settings=MethodSettings()), warp.fit(low))
