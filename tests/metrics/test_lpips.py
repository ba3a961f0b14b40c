"""LPIPS's arithmetic against straight-line code on the same tensors, and the two figures known for SqueezeNet."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from latentface.errors import InputError, UnknownNameError, WeightsError
from latentface.io.pictures import read_picture
from latentface.metrics.lpips import DISTANCES, FeatureDistance, load_distance, read_heads
from latentface.metrics.weights import FILES, read_state

State = dict[str, Tensor]


def conv(state: State, key: str, x: Tensor, **options: int) -> Tensor:
    return F.conv2d(x, state[f"features.{key}.weight"], state[f"features.{key}.bias"], **options)


def alex(s: State, x: Tensor) -> list[Tensor]:
    a = F.relu(conv(s, "0", x, stride=4, padding=2))
    b = F.relu(conv(s, "3", F.max_pool2d(a, 3, 2), padding=2))
    c = F.relu(conv(s, "6", F.max_pool2d(b, 3, 2), padding=1))
    d = F.relu(conv(s, "8", c, padding=1))
    return [a, b, c, d, F.relu(conv(s, "10", d, padding=1))]


def vgg(s: State, x: Tensor) -> list[Tensor]:
    outputs = []
    for block in (("0", "2"), ("5", "7"), ("10", "12", "14"), ("17", "19", "21"), ("24", "26", "28")):
        if outputs:
            x = F.max_pool2d(x, 2)
        for key in block:
            x = F.relu(conv(s, key, x, padding=1))
        outputs.append(x)
    return outputs


def squeeze(s: State, x: Tensor) -> list[Tensor]:
    def fire(key: str, x: Tensor) -> Tensor:
        x = F.relu(conv(s, f"{key}.squeeze", x))
        return F.relu(torch.cat([conv(s, f"{key}.expand1x1", x), conv(s, f"{key}.expand3x3", x, padding=1)], 1))

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    a = F.relu(conv(s, "0", x, stride=2))
    b = fire("4", fire("3", pool(a)))
    c = fire("7", fire("6", pool(b)))
    d = fire("9", pool(c))
    e = fire("10", d)
    f = fire("11", e)
    return [a, b, c, d, e, f, fire("12", f)]


REFERENCES: dict[str, Callable[[State, Tensor], list[Tensor]]] = {"alex": alex, "squeeze": squeeze, "vgg": vgg}


def second_computation(net: str, state: State, heads: list[np.ndarray], a: Tensor, b: Tensor) -> np.ndarray:
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # the same scaling, on [0, 1]
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1).float() for v in (mean, deviation))
    total = np.zeros(len(a))
    features = [[f.numpy().astype(np.float64) for f in REFERENCES[net](state, (x - mean) / deviation)] for x in (a, b)]
    for f, g, head in zip(*features, heads, strict=True):
        f, g = (v / (np.linalg.norm(v, axis=1, keepdims=True) + 1e-10) for v in (f, g))
        total += np.einsum("c,nchw->n", head.ravel(), (f - g) ** 2) / (f.shape[2] * f.shape[3])
    return total


@pytest.mark.parametrize("net", ["alex", "squeeze", "vgg"])
def test_the_arithmetic_on_random_trunks_and_official_heads(
    net: str, need: Callable[[str], Path], pairs: tuple[Tensor, Tensor]
) -> None:
    official = torch.load(need(f"lpips_{net}.pth"), map_location="cpu", weights_only=True)
    pairs = (pairs[0][:2, :, :40], pairs[1][:2, :, :40])
    with torch.device("meta"):  # no time is spent on a start that is replaced
        trunk = DISTANCES[f"lpips-{net}"][0]()
    generator = torch.Generator().manual_seed(1)
    state = {}
    for key, like in trunk.state_dict().items():  # He's rule: the features keep their size through the depth
        width = (2 / like[0].numel()) ** 0.5 if like.ndim > 1 else 0.05
        state[key] = width * torch.randn(like.shape, generator=generator)
    # A file as torchvision publishes it: a classifier beside the features, which is left out.
    trunk.load_published({**state, "classifier.1.weight": torch.zeros(3)}, "a test")
    metric = FeatureDistance(trunk, read_heads(official))
    got = metric(*pairs)
    expected = second_computation(net, state, [h.numpy() for h in official.values()], *pairs)
    assert expected.min() > 0.001
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-4, rtol=1e-4)
    assert metric(pairs[0], pairs[0]).tolist() == [0, 0]


def doctest_pair() -> tuple[Tensor, Tensor]:
    """The two pairs of noise in torchmetrics' LPIPS example, (2, 3, 100, 100) in [0, 1]."""
    generator = torch.Generator().manual_seed(42)
    return torch.rand(2, 3, 100, 100, generator=generator), torch.rand(2, 3, 100, 100, generator=generator)


def test_the_keras_squeezenet_is_not_lpips(need: Callable[[str], Path]) -> None:
    pytest.importorskip("h5py", reason="the Keras file needs h5py")
    need("squeezenet_features.h5")
    got = load_distance("squeezenet-distance", fetch=False)(*doctest_pair()).tolist()
    assert got == pytest.approx([0.155, 0.147], abs=5e-4)  # where LPIPS is [0.1024, 0.0938]


def test_true_lpips_on_squeezenet(need: Callable[[str], Path]) -> None:
    need(FILES["squeezenet"].file)
    assert load_distance("lpips-squeeze", fetch=False)(*doctest_pair()).tolist() == pytest.approx(
        [0.1024, 0.0938], abs=1e-4
    )


def test_true_lpips_on_alexnet(need: Callable[[str], Path], pairs: tuple[Tensor, Tensor]) -> None:
    need("alexnet_trunk.safetensors")
    heads = torch.load(need("lpips_alex.pth"), map_location="cpu", weights_only=True)
    got = load_distance("lpips-alex", fetch=False)(*pairs)
    expected = second_computation("alex", read_state("alexnet"), [h.numpy() for h in heads.values()], *pairs)
    assert expected.min() > 0.01
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4)


def test_both_files_of_alexnet_hold_the_same_trunk(need: Callable[[str], Path]) -> None:
    whole, trunk = (need(choice.file) for choice in FILES["alexnet"].choices)
    published = torch.load(whole, map_location="cpu", weights_only=True)
    convolutions = load_file(trunk)
    assert convolutions.keys() == DISTANCES["lpips-alex"][0]().state_dict().keys()
    assert all(torch.equal(value, published[key]) for key, value in convolutions.items())


def test_the_published_pair_has_the_published_distances(need: Callable[[str], Path]) -> None:
    folder = os.environ.get("LATENTFACE_LPIPS_PAIR")
    if not folder:
        pytest.skip(
            "LATENTFACE_LPIPS_PAIR names no folder with PerceptualSimilarity's imgs/ex_ref.png, ex_p0.png, ex_p1.png"
        )
    need("lpips_alex.pth")
    reference, *others = (read_picture(Path(folder) / f"ex_{name}.png")[None] for name in ("ref", "p0", "p1"))
    metric = load_distance("lpips-alex", fetch=False)
    assert [float(metric(other, reference)) for other in others] == pytest.approx([0.722, 0.138], abs=6e-4)


def test_it_has_a_finite_slope_even_on_equal_and_black_pictures(need: Callable[[str], Path]) -> None:
    heads = read_heads(torch.load(need("lpips_squeeze.pth"), map_location="cpu", weights_only=True))
    metric = FeatureDistance(DISTANCES["lpips-squeeze"][0](), heads)
    for picture in (torch.zeros(1, 3, 40, 40), torch.rand(1, 3, 40, 40)):
        result = picture.clone().requires_grad_()
        metric(result, picture).sum().backward()
        assert result.grad is not None
        assert bool(torch.isfinite(result.grad).all())


def test_wrong_use_is_said() -> None:
    trunk = DISTANCES["lpips-squeeze"][0]()
    with pytest.raises(WeightsError, match="another trunk's"):
        FeatureDistance(trunk, [torch.ones(3)])
    with pytest.raises(WeightsError, match=r"features\.0\.weight is nothing"):
        trunk.load_published({}, "empty.pth")
    metric = FeatureDistance(trunk, [torch.ones(c) for c in trunk.channels])
    with pytest.raises(InputError, match="32 px"):
        metric(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
    with pytest.raises(UnknownNameError, match="alex"):
        load_distance("alexnet")
