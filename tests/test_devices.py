"""What a device is told and asked."""

from __future__ import annotations

import ctypes
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from latentface import devices
from latentface.errors import InputError


@pytest.fixture
def told(monkeypatch):
    """What `mallopt` is told, by a C library that only listens."""
    calls = []

    class Library:
        def __init__(self, name):
            assert name == "libc.so.6"

        @staticmethod
        def mallopt(option, value):
            calls.append((option, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("LATENTFACE_MALLOC", raising=False)
    devices.reuse_memory.cache_clear()
    yield calls
    devices.reuse_memory.cache_clear()


def test_freed_memory_is_kept_and_said_once(told):
    devices.reuse_memory()
    devices.reuse_memory()
    assert dict(told) == {-4: 0, -1: 2**31 - 1, -2: 64 << 20}  # no mmap, no trimming, 64 MiB at a time
    assert len(told) == 3


def test_other_systems_and_wishes_are_left_alone(told, monkeypatch):
    monkeypatch.setenv("LATENTFACE_MALLOC", "system")
    devices.reuse_memory()
    monkeypatch.delenv("LATENTFACE_MALLOC")
    devices.reuse_memory.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    devices.reuse_memory()
    assert told == []


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_another_c_library_is_no_error(told, monkeypatch, error):
    def absent(name):
        raise error(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    devices.reuse_memory()
    assert told == []


def test_half_precision_where_the_device_multiplies_it(monkeypatch):
    cpu = torch.device("cpu")
    for answer, wanted in ((lambda: True, torch.bfloat16), (lambda: False, None)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", answer, raising=False)
        assert devices.fast_dtype(cpu) is wanted
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert devices.fast_dtype(cpu) is None
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **asked: asked == {"including_emulation": False})
    assert devices.fast_dtype(torch.device("cuda")) is torch.bfloat16
    assert devices.fast_dtype(torch.device("mps")) is None


@pytest.mark.parametrize("name", ["toaster", "meta", "cuda:99"])
def test_devices_that_are_not_here(name):
    with pytest.raises(InputError, match="try auto or cpu"):
        devices.pick_device(name)


@pytest.mark.parametrize(
    ("cuda", "mps", "computing", "chosen"),
    [
        (False, True, {"mps"}, "mps"),
        (False, True, set(), "cpu"),
        (True, True, {"mps"}, "mps"),
        (True, False, {"cuda"}, "cuda"),
        (False, False, {"cuda", "mps"}, "cpu"),
    ],
)
def test_auto_takes_the_first_device_that_computes_what_is_needed(monkeypatch, cuda, mps, computing, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(devices, "computes", lambda name: name in computing)
    assert devices.pick_device("auto").type == chosen


def test_a_device_without_sparse_products_or_gradients_computes_too_little(monkeypatch):
    devices.computes.cache_clear()
    assert devices.computes("cpu")
    for module, name in ((torch, "sparse_csr_tensor"), (torch.nn.functional, "conv2d")):

        def missing(*arguments, **named):
            raise NotImplementedError("not on this device")

        devices.computes.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(module, name, missing)
            assert not devices.computes("cpu")
            assert not devices.computes("cpu")
    devices.computes.cache_clear()


def test_a_thread_seeds_when_the_other_has_drawn():
    with devices.seeded(1):
        alone = torch.rand(5)
    before = torch.get_rng_state()
    entered, drew = threading.Event(), threading.Event()

    def other():
        with devices.seeded(2):
            entered.set()
            drew.wait(timeout=5)

    with ThreadPoolExecutor(1) as pool:
        with devices.seeded(1):
            pool.submit(other)
            assert not entered.wait(timeout=0.3)
            assert torch.equal(torch.rand(5), alone)
            drew.set()
        assert entered.wait(timeout=5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_chosen_named_and_computes():
    assert devices.computes("cuda")
    assert devices.pick_device("auto").type == "cuda"
    assert devices.fast_dtype(torch.device("cuda")) in (torch.bfloat16, None)
    with pytest.raises(InputError, match="try auto or cpu"):
        devices.pick_device(f"cuda:{torch.cuda.device_count()}")


def test_free_memory_is_some_of_the_machine_s():
    from latentface.devices import free_memory

    found = free_memory()
    assert found is None or 1 << 20 < found < 1 << 50
