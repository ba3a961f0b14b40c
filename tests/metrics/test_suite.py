from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latentface.degradation import Downscale
from latentface.errors import InputError, UnknownNameError
from latentface.metrics.psnr import psnr
from latentface.metrics.registry import METRICS
from latentface.metrics.suite import Suite


@pytest.fixture
def faces() -> tuple[Tensor, Tensor]:
    """Results and truths, (2, 3, 128, 128): smooth noise in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 20, 20, generator=generator)
    truth = torch.nn.functional.interpolate(coarse, (128, 128), mode="bicubic").clamp(0, 1)
    return (truth + 0.05 * torch.randn(truth.shape, generator=generator)).clamp(0, 1), truth


def test_without_weights_the_rest_is_scored_and_the_gap_is_named(
    no_weights: Path, faces: tuple[Tensor, Tensor]
) -> None:
    suite = Suite(fetch=False)
    assert set(suite.missing) == {
        *("lpips-alex", "lpips-vgg", "lpips-squeeze", "squeezenet-distance"),
        *("niqe", "niqe-pooled", "identity", "frechet"),
        *("verification-auc", "verification-tar", "verification-rank1", "identity-sface"),
        *("verification-auc-sface", "verification-tar-sface", "verification-rank1-sface"),
    }
    assert "LATENTFACE_WEIGHTS" in suite.missing["lpips-alex"]
    result, truth = faces
    degradation = Downscale(16, 128)
    scores = suite.score(result, truth, degradation.forward(truth), degradation)
    assert set(scores) == {"psnr", "psnr-y", "ssim", "consistency", "null-space"}
    assert scores["psnr"] == psnr(result, truth).tolist()
    assert suite.score_set(result, truth, truth) == {}


def test_what_is_at_hand_is_scored(need: Callable[[str], Path], faces: tuple[Tensor, Tensor]) -> None:
    for file in ("niqe_pris_params.npz", "MobileFaceNet.onnx"):
        need(file)
    matched = ["verification-auc", "verification-tar", "verification-rank1"]
    identities = ["identity"]
    if METRICS["identity-sface"].at_hand():
        matched += [f"{name}-sface" for name in matched]
        identities.append("identity-sface")
    suite = Suite(["niqe", "niqe-pooled", *identities, "frechet", *matched, "seconds"], fetch=False)
    assert suite.missing == {}
    result, truth = faces
    assert set(suite.score(result)) == {"niqe"}
    scores = suite.score(result, truth)
    assert [len(v) for v in scores.values()] == [2, 2, 2][: 1 + len(identities)]
    assert len({str(scores[name]) for name in identities}) == len(identities)  # each by its own network
    whole = suite.score_set(result, truth, truth.flip(3))
    assert set(whole) == {"niqe-pooled", "frechet", *matched}
    assert 0 <= whole["frechet"] <= 4
    assert suite.score_set(truth, truth)["frechet"] == pytest.approx(0, abs=1e-6)
    assert suite.score_set(truth, truth, truth)["verification-rank1"] == 1
    with pytest.raises(InputError, match="as many faces"):
        suite.score_set(result, truth, truth[:1])


def test_the_squeezenet_distance_never_fills_an_lpips_column(
    need: Callable[[str], Path], faces: tuple[Tensor, Tensor]
) -> None:
    pytest.importorskip("h5py", reason="the Keras file needs h5py")
    need("squeezenet_features.h5")
    suite = Suite(["lpips-squeeze", "squeezenet-distance"], fetch=False)
    if not suite.missing:
        pytest.skip("torchvision's SqueezeNet is at hand here")
    assert list(suite.missing) == ["lpips-squeeze"]
    assert set(suite.score(*faces)) == {"squeezenet-distance"}


def test_names_choose(faces: tuple[Tensor, Tensor]) -> None:
    suite = Suite(["ssim", "psnr"])
    assert list(suite.score(*faces, names=["psnr"])) == ["psnr"]
    assert suite.score(faces[0]) == {}  # no truth
    with pytest.raises(UnknownNameError, match="there is no metric 'fid'"):
        Suite(["fid"])
    with pytest.raises(UnknownNameError, match="did you mean 'ssim'"):
        suite.score(*faces, names=["sim"])


def test_faces_too_small_for_a_metric_are_left_out_with_the_reason() -> None:
    suite = Suite(["psnr", "ssim"])
    assert suite.lacking(8) == {"ssim": "ssim needs faces of at least 11 px, got 8"}
    assert list(suite.score(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))) == ["psnr"]


def test_sizes_that_do_not_fit_are_both_named(need: Callable[[str], Path], faces: tuple[Tensor, Tensor]) -> None:
    result, truth = faces
    with pytest.raises(InputError, match=r"\(2, 3, 128, 128\).*\(1, 3, 128, 128\)"):
        Suite(["psnr"]).score(result, truth[:1])
    degradation = Downscale(16, 128)
    with pytest.raises(InputError, match=r"\(2, 3, 128, 128\).*\(1, 3, 16, 16\)"):
        Suite(["consistency"]).score(result, low=torch.zeros(1, 3, 16, 16), degradation=degradation)
