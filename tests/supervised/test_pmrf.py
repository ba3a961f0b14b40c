"""PMRF: its loss and its Euler steps against straight-line code, its seeds, its file and its training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_faces

from latentface.degradation import Downscale
from latentface.errors import InputError, MissingDataError
from latentface.explore.engine import explore
from latentface.explore.registry import with_steps
from latentface.io.pictures import write_picture
from latentface.supervised.formats import load_baseline, write_baseline
from latentface.supervised.losses import pixel_loss
from latentface.supervised.methods import PmrfSettings
from latentface.supervised.pmrf import PmrfNet, PmrfShape
from latentface.supervised.registry import make_network, pmrf_shape
from latentface.supervised.vdsr import VdsrShape
from latentface.train.settings import SupervisedSettings
from latentface.train.supervised import train_supervised

MEAN = VdsrShape(factor=4, depth=2, width=8)
SHAPE = PmrfShape(factor=4, mean_kind="vdsr", mean=asdict(MEAN), widths=(8, 16), fold=2, sigma=0.1)
DOWN = Downscale(8, 32)


@pytest.fixture
def net() -> PmrfNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = make_network("pmrf", SHAPE)
    assert isinstance(made, PmrfNet)
    return made


@pytest.fixture
def weights(net: PmrfNet, tmp_path: Path) -> str:
    write_baseline(tmp_path / "p.safetensors", "pmrf", SHAPE, net.state_dict(), {"resolution": 32, "stage": "flow"})
    return str(tmp_path / "p.safetensors")


def test_the_loss_is_the_papers(net: PmrfNet) -> None:
    low, high = tiny_faces(3, 8), tiny_faces(3, 32)
    loss, guess = pixel_loss(net, low, high, None, torch.Generator().manual_seed(5))
    random = torch.Generator().manual_seed(5)
    noise, t = torch.randn(3, 3, 32, 32, generator=random), torch.rand(3, generator=random)
    with torch.no_grad():
        mean = net.mean(low).clamp(0, 1)
        x0 = mean + 0.1 * noise
        total = 0.0
        for i in range(3):
            x = (1 - t[i]) * x0[i] + t[i] * high[i]
            velocity = net.flow(x[None], mean[i : i + 1], t[i : i + 1])[0]
            total += float((velocity - (high[i] - x0[i])).square().mean()) / 3
            torch.testing.assert_close(guess[i], x + (1 - t[i]) * velocity, atol=1e-5, rtol=0)
    assert float(loss.detach()) == pytest.approx(total, rel=1e-4)
    loss.backward()
    assert all(p.grad is None for p in net.mean.parameters())
    assert all(p.grad is not None for p in net.flow.parameters())


@torch.no_grad()
def test_a_velocity_that_is_known_leads_to_its_end(net: PmrfNet) -> None:
    low, noise, end = tiny_faces(2, 8), torch.randn(2, 3, 32, 32), tiny_faces(2, 32)
    times = []

    def straight(
        x: torch.Tensor, mean: torch.Tensor, t: torch.Tensor
    ) -> torch.Tensor:  # toward `end`, from wherever it is
        times.append(float(t[0]))
        return (end - x) / (1 - t[:, None, None, None])

    net.flow.forward = straight  # type: ignore[method-assign]
    torch.testing.assert_close(net(low, noise, 4), end)
    assert times == [0.0, 0.25, 0.5, 0.75]
    net.flow.forward = lambda x, mean, t: torch.zeros_like(x)  # type: ignore[method-assign]
    torch.testing.assert_close(net(low, noise, 4), net.mean(low).clamp(0, 1) + 0.1 * noise)


@torch.no_grad()
def test_grain_needs_no_learning(net: PmrfNet) -> None:
    """The flow carries N(0, sigma^2) to N(0, grain^2): of a face's noise grain / sigma is left."""
    torch.nn.init.zeros_(net.flow.last[2].weight)
    torch.nn.init.zeros_(net.flow.last[2].bias)
    low, noise = tiny_faces(1, 8), torch.randn(1, 3, 32, 32)
    mean = net.answer(low)
    found = net(low, noise, 500) - mean
    torch.testing.assert_close(found, SHAPE.grain * noise, atol=2e-3, rtol=0.02)


def test_time_changes_the_velocity_and_the_mean_stays_in_evaluation(net: PmrfNet) -> None:
    x = tiny_faces(1, 32)
    with torch.no_grad():
        assert (net.flow(x, x, torch.zeros(1)) - net.flow(x, x, torch.ones(1))).abs().max() > 1e-5
        x = torch.rand(1, 3, 20, 28)
        assert net.flow(x, x, torch.zeros(1)).shape == (1, 3, 20, 28)
    net.train()
    assert net.flow.training
    assert not net.mean.training


def test_a_face_follows_from_its_seed_alone(prior: object, weights: str) -> None:
    low = tiny_faces(3, 8)
    settings = PmrfSettings(weights=weights, steps=3)
    found = explore("pmrf", prior, low, degradation=DOWN, settings=settings, seeds=[4, 5, 4])  # type: ignore[arg-type]
    alone = explore("pmrf", prior, low[1:2], degradation=DOWN, settings=settings, seeds=[5])  # type: ignore[arg-type]
    assert torch.equal(found.high[1:2], alone.high)
    other = explore("pmrf", prior, low, degradation=DOWN, settings=settings, seeds=[4, 6, 4])  # type: ignore[arg-type]
    assert torch.equal(found.high[0], other.high[0])
    assert not torch.equal(found.high[1], other.high[1])
    model = load_baseline(weights)
    assert (model.kind, model.stage, model.title) == ("pmrf", "flow", "PMRF")
    assert with_steps(settings, 7).steps == 7


def test_without_weights_it_says_how_to_train_it(prior: object) -> None:
    with pytest.raises(MissingDataError, match=r"latentface train pmrf --factor 4 --resolution 32 --mean FILE"):
        explore("pmrf", prior, tiny_faces(1, 8), degradation=DOWN)  # type: ignore[arg-type]


def test_wrong_shapes_are_said() -> None:
    with pytest.raises(InputError, match="its mean answer is by 'pmrf'"):
        pmrf_shape("pmrf", SHAPE)
    with pytest.raises(InputError, match="enlarges 4 times, and it 8 times"):
        make_network("pmrf", PmrfShape(factor=8, mean_kind="vdsr", mean=asdict(MEAN)))
    with pytest.raises(InputError, match="cannot be used"):
        make_network("pmrf", PmrfShape(factor=4, mean_kind="vdsr", mean={"breadth": 3}))
    with pytest.raises(InputError, match="multiples of 8"):
        PmrfShape(factor=4, mean_kind="vdsr", mean={}, widths=(12,))


def test_it_is_trained_over_a_baseline(tmp_path: Path) -> None:
    for i, face in enumerate(tiny_faces(6, 32)):
        write_picture(tmp_path / "faces" / f"{i}.png", face)
    mean = make_network("vdsr", MEAN)
    write_baseline(tmp_path / "m.safetensors", "vdsr", MEAN, mean.state_dict(), {"resolution": 32, "stage": "pixel"})
    options = {"factor": 4, "resolution": 32, "init": tmp_path / "m.safetensors", "steps": 2}
    settings = SupervisedSettings(batch=2, checks=1)
    with pytest.raises(InputError, match="stands on the mean answer"):
        train_supervised("pmrf", [tmp_path / "faces"], tmp_path / "n", factor=4, resolution=32, steps=2)
    made = train_supervised("pmrf", [tmp_path / "faces"], tmp_path / "p.safetensors", settings=settings, **options)
    model = load_baseline(made)
    assert isinstance(model.network, PmrfNet)
    for name, value in mean.state_dict().items():
        np.testing.assert_array_equal(model.network.mean.state_dict()[name], value.half().float())
    assert model.card["training"]["rate"] == 5e-4
    assert model.card["mean answer"] == "VDSR (m.safetensors)"
    assert (tmp_path / "p.safetensors.train" / "samples.png").exists()
