"""What a device is told and asked."""

from __future__ import annotations

import ctypes
import sys

import pytest
import torch

from latentface import devices


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
