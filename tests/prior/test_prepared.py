"""What layers keep of frozen weights: it follows the weights, and belongs to one layer alone."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny import normal, small_arch, small_networks
from torch import nn
from torch.func import functional_call

from latentface.prior.layers import Layer


def frozen():
    generator, discriminator = small_networks(small_arch(8))
    return generator.eval().requires_grad_(False), discriminator.eval().requires_grad_(False)


def picture(generator, z):
    return generator(z.to(generator.mapping.fc0.weight.dtype))


def fresh(network):
    """The same network with nothing prepared, its weights elsewhere in memory."""
    return copy.deepcopy(network)


def lerp(network):
    torch._foreach_lerp_(list(network.parameters()), [p + 1 for p in network.parameters()], 0.25)  # the EMA's way


def load(network):
    network.load_state_dict({k: v * 1.5 for k, v in network.state_dict().items()})


def replace_storage(network):
    for parameter in network.parameters():
        parameter.data = parameter.data * 0.5


def there_and_back(network):
    network.to(torch.bfloat16).to(torch.float64)  # the memory that was freed may be the same, its numbers are not


CHANGES = [lerp, load, replace_storage, nn.Module.float, there_and_back]


@pytest.mark.parametrize("change", CHANGES)
def test_prepared_weights_follow_a_change(change):
    generator, discriminator = frozen()
    z = normal(2, 9)
    before = picture(generator, z)
    logits = discriminator(before)
    for network in (generator, discriminator):
        change(network)
    after = picture(generator, z)
    assert not torch.equal(after.double(), before)
    assert torch.equal(after, picture(fresh(generator), z))
    seen = before.to(after.dtype)
    assert not torch.equal(discriminator(seen).double(), logits)
    assert torch.equal(discriminator(seen), fresh(discriminator)(seen))


def test_a_change_under_inference_mode_is_followed_and_its_results_serve_gradients_later():
    generator, _ = frozen()
    w = normal(2, generator.arch.num_ws, 10)
    with torch.inference_mode():
        generator.synthesis(w)
        lerp(generator)
        inferred = generator.synthesis(w)[1]
    moved = w.clone().requires_grad_(True)
    out = generator.synthesis(moved)[1]
    (slope,) = torch.autograd.grad(out.sum(), moved)
    assert slope.abs().sum() > 0
    assert torch.equal(out, inferred)
    assert torch.equal(out, fresh(generator).synthesis(w)[1])


def test_weights_put_in_a_parameters_place_are_used_and_get_gradients():
    generator, _ = frozen()
    network, w = generator.synthesis, normal(2, generator.arch.num_ws, 10)
    own = network(w)[1]
    others = {k: (v.detach() * 2 + 1).requires_grad_(True) for k, v in network.named_parameters()}
    theirs = functional_call(network, others, (w,))[1]
    slopes = torch.autograd.grad(theirs.square().sum(), list(others.values()))
    assert all(slope.abs().sum() > 0 for slope in slopes)
    other = fresh(network)
    other.load_state_dict(others, strict=False)
    expected = other(w)[1]
    torch.testing.assert_close(theirs, expected)  # trained weights multiply the whole batch
    given = {k: v.detach() for k, v in others.items()}
    assert torch.equal(functional_call(network, given, (w,))[1], expected)
    assert torch.equal(network(w)[1], own)


@pytest.mark.parametrize("mode", [True, False])
def test_training_between_two_frozen_passes_is_followed(mode):
    _, discriminator = frozen()
    x = normal(2, 3, 8, 8)
    discriminator.train(mode)
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=0.1, fused=True)  # moves without counting versions
    for _ in range(2):
        frozen_logits = discriminator.requires_grad_(False)(x)
        loss = discriminator.requires_grad_(True)(x).sum()
        if mode:  # in training mode nothing is kept, whatever the order
            discriminator.requires_grad_(False)(x)
            discriminator.requires_grad_(True)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        after = discriminator.requires_grad_(False)(x)
        assert torch.equal(after, fresh(discriminator)(x))
        assert not torch.equal(after, frozen_logits)


def test_only_frozen_parameters_are_kept():
    layer, made = Layer().eval(), []

    def make(source):
        made.append(source)
        return source * 2

    parameter = nn.Parameter(torch.ones(3), requires_grad=False)
    first = layer.prepared("twice", parameter, make)
    assert layer.prepared("twice", parameter, make) is first
    assert len(made) == 1
    for source in (torch.ones(3), nn.Parameter(torch.ones(3))):
        layer.prepared("twice", source, make)
        layer.prepared("twice", source, make)
    assert len(made) == 5
    assert layer.prepared("twice", parameter.requires_grad_(True), make).requires_grad


def test_what_is_kept_is_in_no_state_and_no_copy():
    generator, _ = frozen()
    names, size = list(generator.state_dict()), len(pickle.dumps(generator))
    z = normal(2, 9)
    before = picture(generator, z)
    assert list(generator.state_dict()) == names
    assert len(pickle.dumps(generator)) == size
    for other in (copy.deepcopy(generator), pickle.loads(pickle.dumps(generator))):
        lerp(other)
        assert not torch.equal(picture(other, z), before)
    assert torch.equal(picture(generator, z), before)


def test_threads_share_a_network():
    generator, _ = frozen()
    z = normal(2, 9)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            lerp(generator)
            expected = picture(fresh(generator), z)
            assert all(torch.equal(out, expected) for out in pool.map(lambda _: picture(generator, z), range(16)))
