"""What a device is told and asked."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from latentface import devices
from latentface.errors import InputError


@pytest.fixture
def told(monkeypatch):
    """What the C library is told, by one that only listens: mallopt's options, then (first, bytes, advice) of madvise."""
    calls = []

    class Said:
        def __init__(self, answer, kept=False):
            self.answer, self.kept = answer, kept

        def __call__(self, *words):
            if self.kept:
                calls.append(words)
            return self.answer

    class Library:
        def __init__(self, name):
            assert name == "libc.so.6"
            self.mallopt, self.madvise = Said(1, kept=True), Said(0, kept=True)
            self.malloc, self.free, self.malloc_trim = Said(5 << 20), Said(None), Said(1)

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("LATENTFACE_MALLOC", raising=False)
    devices.reuse_memory.cache_clear()
    yield calls
    devices.reuse_memory.cache_clear()


def test_freed_memory_is_kept_and_said_once(told):
    devices.reuse_memory()
    devices.reuse_memory()
    options, (advice,) = told[:4], told[4:]
    assert dict(options) == {-4: 0, -1: -1, -2: 64 << 20, -8: 1}  # no mmap, no trimming, 64 MiB at a time, one heap
    start, size, what = advice
    assert what == 14  # MADV_HUGEPAGE
    assert (start, size % (2 << 20)) == (6 << 20, 0)  # whole pages of 2 MB in a block that begins at 5 MB
    assert start + size <= (5 << 20) + (8 << 30)


def test_after_memory_is_given_back_large_pages_are_asked_for_again(told):
    devices.return_memory()
    assert told == []  # nothing was kept
    devices.reuse_memory()
    devices.return_memory()
    assert [words[2] for words in told if len(words) == 3] == [14, 14]


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists(), reason="needs Linux's large pages"
)
def test_a_tensor_lies_where_large_pages_were_asked_for():
    code = """
        import torch
        from latentface.devices import reuse_memory
        reuse_memory()
        tensor, place, flags = torch.ones(16_000_000), None, {}
        for line in open("/proc/self/smaps"):
            name, _, rest = line.partition(" ")
            if not name.endswith(":"):
                place = tuple(int(number, 16) for number in name.split("-"))
            elif name == "VmFlags:":
                flags[place] = rest.split()
        (found,) = [f for (first, end), f in flags.items() if first <= tensor.data_ptr() + 8_000_000 < end]
        print("hg" in found)
    """
    env = {k: v for k, v in os.environ.items() if k != "LATENTFACE_MALLOC"}
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True)
    assert ended.stdout == "True\n", ended.stderr


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


def test_threads_that_compute_alone_leave_others_as_they_are():
    own, found = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        with devices.single_threads(2) as pool:
            begun = threading.Barrier(2)
            found += pool.map(lambda _: (begun.wait(), torch.get_num_threads())[1], range(2))
            other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
            other.start()
            other.join()
            found.append(torch.get_num_threads())
        assert found == [1, 1, 3, 3]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(own)


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
