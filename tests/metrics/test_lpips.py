"""LPIPS's arithmetic against straight-line code on the same tensors, and the two figures known for SqueezeNet."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from latentface.errors import InputError, UnknownNameError, WeightsError
from latentface.io.pictures import read_picture
from latentface.metrics.lpips import DISTANCES, FeatureDistance, load_distance, read_heads
from latentface.metrics.registry import METRICS
from latentface.metrics.weights import FILES, read_file, read_state

State = dict[str, Tensor]
Arrays = dict[str, np.ndarray]


def conv(state: Arrays, key: str, x: np.ndarray, *, stride: int = 1, padding: int = 0) -> np.ndarray:
    """Correlate (B, C, H, W) with a layer's kernels, in NumPy."""
    kernel, bias = state[f"features.{key}.weight"], state[f"features.{key}.bias"]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    return np.moveaxis(np.tensordot(windows, kernel, ((1, 4, 5), (1, 2, 3))) + bias, 3, 1)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def pool(x: np.ndarray, size: int, *, ceil: bool = False) -> np.ndarray:
    """Return the maxima of windows two apart; `ceil` counts a last window that reaches over the edge."""
    if ceil:
        over = [(size - side) % 2 if side > size else 0 for side in x.shape[2:]]
        x = np.pad(x, ((0, 0), (0, 0), (0, over[0]), (0, over[1])), constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))[:, :, ::2, ::2].max((4, 5))


def alex(s: Arrays, x: np.ndarray) -> list[np.ndarray]:
    a = relu(conv(s, "0", x, stride=4, padding=2))
    b = relu(conv(s, "3", pool(a, 3), padding=2))
    c = relu(conv(s, "6", pool(b, 3), padding=1))
    d = relu(conv(s, "8", c, padding=1))
    return [a, b, c, d, relu(conv(s, "10", d, padding=1))]


def vgg(s: Arrays, x: np.ndarray) -> list[np.ndarray]:
    outputs: list[np.ndarray] = []
    for block in (("0", "2"), ("5", "7"), ("10", "12", "14"), ("17", "19", "21"), ("24", "26", "28")):
        if outputs:
            x = pool(x, 2)
        for key in block:
            x = relu(conv(s, key, x, padding=1))
        outputs.append(x)
    return outputs


def squeeze(s: Arrays, x: np.ndarray) -> list[np.ndarray]:
    def fire(key: str, x: np.ndarray) -> np.ndarray:
        x = relu(conv(s, f"{key}.squeeze", x))
        return relu(np.concatenate([conv(s, f"{key}.expand1x1", x), conv(s, f"{key}.expand3x3", x, padding=1)], 1))

    a = relu(conv(s, "0", x, stride=2))
    b = fire("4", fire("3", pool(a, 3, ceil=True)))
    c = fire("7", fire("6", pool(b, 3, ceil=True)))
    d = fire("9", pool(c, 3, ceil=True))
    e = fire("10", d)
    f = fire("11", e)
    return [a, b, c, d, e, f, fire("12", f)]


REFERENCES: dict[str, Callable[[Arrays, np.ndarray], list[np.ndarray]]] = {"alex": alex, "squeeze": squeeze, "vgg": vgg}


def second_computation(net: str, state: State, heads: list[np.ndarray], a: Tensor, b: Tensor) -> np.ndarray:
    """Return LPIPS by NumPy alone, in float64."""
    mean, deviation = (np.array(v).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    wide = {key: value.double().numpy() for key, value in state.items()}
    features = [REFERENCES[net](wide, (x.double().numpy() - mean) / deviation) for x in (a, b)]  # scaled on [0, 1]
    total = np.zeros(len(a))
    for f, g, head in zip(*features, heads, strict=True):
        f, g = (v / (np.linalg.norm(v, axis=1, keepdims=True) + 1e-10) for v in (f, g))
        total += np.einsum("c,nchw->n", head.ravel(), (f - g) ** 2) / (f.shape[2] * f.shape[3])
    return total


@pytest.mark.parametrize("net", ["alex", "squeeze", "vgg"])
def test_the_arithmetic_on_small_random_weights(net: str, pairs: tuple[Tensor, Tensor]) -> None:
    pairs = (pairs[0][:2, :, :40], pairs[1][:2, :, :40])
    with torch.device("meta"):  # no time is spent on a start that is replaced
        trunk = DISTANCES[f"lpips-{net}"][0]()
    generator = torch.Generator().manual_seed(1)
    state = {}
    for key, like in trunk.state_dict().items():  # He's rule: the features keep their size through the depth
        width = (2 / like[0].numel()) ** 0.5 if like.ndim > 1 else 0.05
        state[key] = width * torch.randn(like.shape, generator=generator)
    heads = [torch.rand(channels, generator=generator) for channels in trunk.channels]
    # A file as torchvision publishes it: a classifier beside the features, which is left out.
    trunk.load_published({**state, "classifier.1.weight": torch.zeros(3)}, "a test")
    metric = FeatureDistance(trunk, heads)
    expected = second_computation(net, state, [h.numpy() for h in heads], *pairs)
    assert expected.min() > 0.001
    np.testing.assert_allclose(metric(*pairs).numpy(), expected, rtol=1e-4)
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


@pytest.mark.parametrize(("net", "trunk"), [("alex", "alexnet"), ("vgg", "vgg16")])
def test_true_lpips(net: str, trunk: str, weights_folder: Path, pairs: tuple[Tensor, Tensor]) -> None:
    if not METRICS[f"lpips-{net}"].at_hand():
        pytest.skip(METRICS[f"lpips-{net}"].how())
    got = load_distance(f"lpips-{net}", fetch=False)(*pairs)
    heads = [h.numpy() for h in read_heads(read_state(f"lpips-{net}", fetch=False))]
    expected = second_computation(net, _trunk(read_state(trunk, fetch=False)), heads, *pairs)
    assert expected.min() > 0.01
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4)


def _trunk(state: State) -> State:
    return {key: value for key, value in state.items() if key.startswith("features")}


@pytest.mark.parametrize("name", ["alexnet", "lpips-alex", "vgg16", "lpips-vgg"])
def test_all_files_of_a_network_hold_the_same_tensors(name: str, weights_folder: Path) -> None:
    there = [choice for choice in FILES[name].choices if (weights_folder / choice.file).is_file()]
    if len(there) < 2:
        pytest.skip(f"of {', '.join(choice.file for choice in FILES[name].choices)} fewer than two are there")
    first, *others = (read_file(weights_folder / choice.file) for choice in there)
    kind = "lin" if name.startswith("lpips") else "features"
    for other in others:
        shared = {key for key in first.keys() & other.keys() if key.startswith(kind)}
        assert len(shared) >= 5
        assert all(torch.equal(first[key], other[key]) for key in shared)


def test_the_package_lpips_gives_the_same_figures_on_noise(weights_folder: Path) -> None:
    if not METRICS["lpips-vgg"].at_hand():
        pytest.skip(METRICS["lpips-vgg"].how())
    random = np.random.RandomState(123)
    a, b = (torch.tensor(random.rand(10, 3, 100, 100)).float() for _ in range(2))
    # Published with the package's version 0.1.4, net="vgg", normalize=True, for the first four of ten pairs.
    got = load_distance("lpips-vgg", fetch=False)(a[:4], b[:4]).tolist()
    assert got == pytest.approx([0.3497, 0.3494, 0.3473, 0.3558], abs=1e-4)


@pytest.mark.parametrize(("net", "published"), [("alex", [0.722, 0.138]), ("vgg", [0.569, 0.422])])
def test_the_published_pair_has_the_published_distances(net: str, published: list[float], weights_folder: Path) -> None:
    folder = os.environ.get("LATENTFACE_LPIPS_PAIR")
    if not folder:
        pytest.skip(
            "LATENTFACE_LPIPS_PAIR names no folder with PerceptualSimilarity's imgs/ex_ref.png, ex_p0.png, ex_p1.png"
        )
    if not METRICS[f"lpips-{net}"].at_hand():
        pytest.skip(METRICS[f"lpips-{net}"].how())
    reference, *others = (read_picture(Path(folder) / f"ex_{name}.png")[None] for name in ("ref", "p0", "p1"))
    metric = load_distance(f"lpips-{net}", fetch=False)
    assert [float(metric(other, reference)) for other in others] == pytest.approx(published, abs=1e-3)


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
