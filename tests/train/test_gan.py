"""A training step against a second computation; averages, resuming, divergence, and a training that learns."""

from __future__ import annotations

import copy
import io
import math
import os
import socket
import subprocess
import sys

import pytest
import torch
from small_training import ARCH, CPU, coloured, same, settings, trainer

from latentface.errors import InputError, TrainingError
from latentface.prior.architecture import Architecture
from latentface.train.gan import GanSettings, GanTrainer, new_state, settings_from


def parts(training):
    """Return copies of the state as it stands, and the pictures that the next step sees."""
    g, d = copy.deepcopy(training.state.generator), copy.deepcopy(training.state.discriminator)
    random = training.generator_of()
    real = training.real(random)
    fakes = training.fakes(len(real), random)
    return g, d, real, fakes


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


# -- one step ----------------------------------------------------------------------------------------------------------


def test_a_step_descends_the_published_losses(monkeypatch):
    training = trainer(gamma=2.0, augment_target=0.0, noise=True)
    _, d, real, fakes = parts(training)
    taken = []

    def keep(self, module, optimiser):  # what an optimiser would be given; nothing is updated
        taken.append(gradients(module))
        module.zero_grad()

    monkeypatch.setattr(GanTrainer, "update", keep)
    shown = training.step()

    def softplus(x):
        return (1 + x.exp()).log()

    d_loss = softplus(d(fakes.detach())).mean() + softplus(-d(real)).mean()
    d_loss.backward()
    torch.testing.assert_close(taken[0], gradients(d))
    d.zero_grad()

    x = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
    r1 = sum(one.pow(2).sum() for one in slope) / len(real)
    (3 * 2.0 / 2 * r1).backward()  # every third step, so three times as strongly
    used = {k: v for k, v in gradients(d).items() if k != "b4.out.bias"}
    torch.testing.assert_close({k: taken[1][k] for k in used}, used)

    g_loss = softplus(-d(fakes)).mean()
    names, values = zip(*training.state.generator.named_parameters(), strict=True)
    mine = dict(zip(names, torch.autograd.grad(g_loss, values), strict=True))
    torch.testing.assert_close(taken[2], mine)

    assert shown.d_loss == pytest.approx(d_loss.item(), rel=1e-5)
    assert shown.g_loss == pytest.approx(g_loss.item(), rel=1e-5)
    assert shown.r1 == pytest.approx(r1.item(), rel=1e-4)
    assert shown.real_sign == d(real).sign().mean().item()
    assert (shown.step, shown.pictures) == (1, 4)


def test_r1_is_lazy_and_its_optimiser_corrected():
    training = trainer(r1_every=3, d_rate=0.01)
    assert [training.step().r1 is not None for _ in range(7)] == [True, False, False, True, False, False, True]
    group = training.state.d_optimiser.param_groups[0]
    assert group["lr"] == pytest.approx(0.01 * 3 / 4)
    assert group["betas"] == (0.0, pytest.approx(0.99**0.75))
    assert trainer(gamma=0.0).step().r1 is None


def test_real_pictures_are_the_data_flipped_by_chance():
    data = coloured(4)
    signed = data.float() / 127.5 - 1
    plain = trainer(data, flips=False)
    real = plain.real(plain.generator_of())
    assert torch.equal(real, signed[plain.order.indices(0, 4)])
    training, flipped = trainer(data), []
    for _ in range(50):
        real = training.real(training.generator_of())
        source = signed[training.order.indices(training.state.pictures, 4)]
        flipped += [torch.equal(a, b.flip(2)) for a, b in zip(real, source, strict=True)]
        assert all(torch.equal(a, b) or torch.equal(a, b.flip(2)) for a, b in zip(real, source, strict=True))
        training.state.step += 1
        training.state.pictures += 4
    assert 0.35 < sum(flipped) / 200 < 0.65


@pytest.mark.parametrize("mixing", [0.0, 0.6, 1.0])
def test_mixing_takes_rows_from_two_latents(mixing):
    training = trainer(mixing=mixing)
    ws = torch.cat([training.styles(50, torch.Generator().manual_seed(i)) for i in range(6)])
    assert ws.shape == (300, ARCH.num_ws, 8)
    changes = (ws[:, 1:] != ws[:, :-1]).any(2).sum(1)  # how often a face passes from one latent to the other
    assert set(changes.tolist()) <= {0, 1}
    assert (changes == 1).float().mean() == pytest.approx(mixing, abs=0.09)


def test_the_average_is_exponential_with_a_half_life_in_pictures():
    training = trainer(average_pictures=30.0, average_rampup=0.5)
    state = training.state
    for step in range(1, 20):
        before = [p.clone() for p in state.average.parameters()]
        training.step()
        keep = 0.5 ** (4 / min(30.0, 0.5 * 4 * step))
        for old, mine, new in zip(before, state.average.parameters(), state.generator.parameters(), strict=True):
            torch.testing.assert_close(mine, keep * old + (1 - keep) * new)
    assert torch.equal(state.average.mapping.w_avg, state.generator.mapping.w_avg)
    assert not state.average.training


def test_mean_w_follows_the_mapping():
    training = trainer(g_rate=1e-12)
    for _ in range(200):
        training.styles(64, training.generator_of())
        training.state.step += 1
    w = training.state.generator.mapping(torch.randn(5000, 8, generator=torch.Generator().manual_seed(1)))
    expected = w.mean(0) * (1 - 0.995**200)
    torch.testing.assert_close(training.state.generator.mapping.w_avg, expected.detach(), rtol=0, atol=0.05)


def test_the_augmentation_adapts():
    def after(bias, **changes):
        training = trainer(**changes)
        training.state.augment_p = 0.5
        with torch.no_grad():
            training.state.discriminator.b4.out.bias.fill_(bias)  # so D takes every picture for real, or for false
        return training.step().augment_p - 0.5

    assert after(100.0) == pytest.approx(4 / 500_000)
    assert after(-100.0) == pytest.approx(-4 / 500_000)
    assert after(100.0, augment_target=0.0) == -0.5  # off: nothing is augmented any more


def test_bfloat16_steps_run_and_are_near():
    full, half = (trainer(precision=precision, augment_target=0.0) for precision in ("fp32", "bf16"))
    for _ in range(3):
        a, b = full.step(), half.step()
        assert b.g_loss == pytest.approx(a.g_loss, rel=0.1)
        assert b.d_loss == pytest.approx(a.d_loss, rel=0.1)
    assert all(p.dtype == torch.float32 for p in half.state.generator.parameters())


# -- whole runs --------------------------------------------------------------------------------------------------------


def run(training, steps):
    shown = [training.step() for _ in range(steps)]
    return shown, training.state.state_dict()


def test_a_run_is_decided_by_its_seed():
    first, again, other = run(trainer(), 3), run(trainer(), 3), run(trainer(seed=1), 3)
    assert same(first[1], again[1])
    assert first[0] == again[0]
    assert first[0] != other[0]


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit():
    uninterrupted, first = trainer(), trainer()
    uninterrupted.state.augment_p = first.state.augment_p = 0.3
    whole_steps, whole = run(uninterrupted, 9)
    first_steps, half = run(first, 4)
    file = io.BytesIO()
    torch.save(half, file)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    state = new_state(Architecture(**saved["architecture"]), settings_from(saved["settings"]), CPU)
    state.load_state_dict(saved)
    rest_steps, rest = run(GanTrainer(state, coloured(), CPU), 5)
    assert first_steps + rest_steps == whole_steps
    assert same(rest, whole)


def test_new_rates_count_on_resuming():
    saved = trainer().state.state_dict()
    state = new_state(ARCH, settings(g_rate=0.5, d_rate=0.4), CPU)
    state.load_state_dict(saved)
    assert state.g_optimiser.param_groups[0]["lr"] == 0.5
    assert state.d_optimiser.param_groups[0]["lr"] == pytest.approx(0.4 * 3 / 4)


def test_another_architecture_cannot_resume():
    state = new_state(Architecture(resolution=8, channels={4: 2, 8: 2}, z_dim=4, w_dim=4), settings(), CPU)
    with pytest.raises(TrainingError, match="another architecture"):
        state.load_state_dict(trainer().state.state_dict())


def test_unknown_settings_of_another_version_are_dropped():
    assert settings_from({"batch": 6, "colour": "red"}) == GanSettings(batch=6)


def test_divergence_is_an_error():
    training = trainer(gamma=0.0)
    with torch.no_grad():
        training.state.discriminator.b4.out.bias.fill_(float("inf"))
    with pytest.raises(TrainingError, match=r"diverged at picture 4 .* last checkpoint"):
        training.step()


def test_budgets():
    assert [s.pictures for s in trainer().run(pictures=10)] == [4, 8, 12]
    assert len(list(trainer().run(minutes=0.0))) == 1
    asked = iter([False, False, True])
    assert len(list(trainer().run(pictures=100, stop=lambda: next(asked)))) == 3
    training = trainer()
    assert list(training.run(pictures=4))
    assert list(training.run(pictures=4)) == []
    assert training.state.seconds > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 1}, "batch is 1"),
        ({"r1_every": 0}, "r1_every 0"),
        ({"g_rate": 0.0}, "rates"),
        ({"gamma": -1.0}, "gamma"),
        ({"precision": "fp8"}, "expected one of fp32, tf32, bf16"),
    ],
)
def test_settings_that_cannot_be(changes, words):
    with pytest.raises(InputError, match=words):
        GanSettings(**changes)


def test_pictures_of_another_size_or_type():
    for pictures in (coloured(size=16), coloured().float()):
        with pytest.raises(InputError, match=r"expected uint8 \(N, 3, 8, 8\)"):
            trainer(pictures)


def test_a_small_training_learns_its_pictures():
    colour = torch.tensor([0.8, 0.3, 0.5])
    training = trainer(coloured(200), batch=8, g_rate=0.01, d_rate=0.01, gamma=0.5, augment_target=0.0, seed=2)
    z = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))

    def distance():
        return (training.state.average(z).mean((0, 2, 3)) / 2 + 0.5 - colour).abs().max().item()

    before = distance()
    steps = [training.step() for _ in range(120)]
    after = distance()
    assert before > 0.2
    assert after < 0.08
    assert all(math.isfinite(s.g_loss + s.d_loss) for s in steps)


# -- many processes ----------------------------------------------------------------------------------------------------

WORKER = """
import sys, torch, torch.distributed as dist
sys.path.insert(0, sys.argv[1])
dist.init_process_group("gloo")
from small_training import trainer
t = trainer(batch=4)
shown = [t.step() for _ in range(5)]
numbers = torch.cat([p.detach().flatten() for n in ("generator", "discriminator", "average") for p in getattr(t.state, n).state_dict().values()])
both = [torch.empty_like(numbers) for _ in range(2)]
dist.all_gather(both, numbers)
assert torch.equal(*both), "the processes have parted"
losses = [[s.g_loss, s.d_loss, s.real_sign, s.r1 or 0.0, s.augment_p] for s in shown]
everyone = [None, None]
dist.all_gather_object(everyone, losses)
assert everyone[0] == everyone[1], everyone
seen = torch.cat([t.order.indices(4 * i + 2 * dist.get_rank(), 2) for i in range(5)])
all_seen = [torch.empty_like(seen) for _ in range(2)]
dist.all_gather(all_seen, seen)
assert len(set(torch.cat(all_seen).tolist())) == 20, "a picture was shown twice"
lengths = len(list(t.run(pictures=1000, stop=lambda: dist.get_rank() == 1 and t.state.step == 7)))
assert lengths == 2, lengths
dist.barrier()
dist.destroy_process_group()
print("well")
"""


@pytest.mark.slow
def test_two_processes_stay_one_training():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = os.path.dirname(__file__)
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, here],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        results = [worker.communicate(timeout=120) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [out for out, _ in results] == ["well\n", "well\n"], results


def test_a_batch_must_divide_among_the_processes(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 3)
    with pytest.raises(InputError, match="multiple of the 3 processes"):
        trainer()


def test_silent_noise_stays_silent():
    training = trainer(noise=False)
    for _ in range(3):
        training.step()
    for module in (training.state.generator, training.state.average):
        strengths = [p for n, p in module.named_parameters() if n.endswith("noise_strength")]
        assert strengths
        assert all(p.item() == 0 for p in strengths)
    loud = trainer(noise=True)
    for _ in range(3):
        loud.step()
    assert any(p.item() != 0 for n, p in loud.state.generator.named_parameters() if n.endswith("noise_strength"))
