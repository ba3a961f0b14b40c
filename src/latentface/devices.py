"""Where to compute: devices, batches that fit their memory, threads, and random numbers."""

import contextlib
import ctypes
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch

from latentface.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # glibc's malloc.h
MADV_HUGEPAGE, LARGE = 14, 2 << 20  # Linux's mman.h; bytes of a large page
RESERVED = 8 << 30  # bytes of addresses, not of memory, that are to have large pages


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" is the first of CUDA, Apple's MPS and the CPU that computes what is needed.

    Raises InputError: there is no such device here.
    """
    if name == "auto":
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return torch.device(next((kind for kind in there if there[kind] and computes(kind)), "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"there is no device {name!r}; try auto or cpu") from None
    try:
        torch.zeros(1, device=device).cpu()  # "meta" has no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"the device {name!r} cannot be used here ({_why_not(device, error)}); try auto or cpu"
        ) from None
    return device


def _why_not(device: torch.device, error: Exception) -> str:
    """Return why a device cannot be used. PyTorch's own words may fill a page: of them the first sentence is taken."""
    if device.type == "mps" and not torch.backends.mps.is_available():
        return "this is no Mac with an Apple GPU, or a PyTorch without MPS"
    if device.type == "cuda" and not torch.cuda.is_available():
        return "PyTorch is built without CUDA" if torch.version.cuda is None else "no NVIDIA GPU and driver are found"
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        return f"the last one is cuda:{torch.cuda.device_count() - 1}"
    return str(error).splitlines()[0].split(". ")[0].removesuffix(".")


@lru_cache
def computes(name: str) -> bool:
    """Say whether a device computes a convolution's gradient and a sparse product, which photographs need; tried once."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            picture = torch.ones(1, 1, 4, 4, device=name, requires_grad=True)
            torch.nn.functional.conv2d(picture, torch.ones(1, 1, 3, 3, device=name)).sum().backward()
        rows = torch.tensor([0, 1], dtype=torch.int32)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            matrix = torch.sparse_csr_tensor(rows, rows[:1], torch.ones(1), (1, 1), check_invariants=False).to(name)
        return bool((matrix @ torch.ones(1, 1, device=name)).cpu())
    except (RuntimeError, AssertionError, NotImplementedError):
        return False


@lru_cache(maxsize=1)
def reuse_memory() -> None:
    """Let this process keep freed memory for its next allocation, in pages of 2 MB, instead of giving it back each time.

    A search's step allocates hundreds of megabytes of which every page is cleared by the kernel at first touch: at 1024 px
    that takes more time than the arithmetic. So does looking up the addresses of small pages, in a virtual machine at least
    (docs/performance.md). Only glibc on Linux is told; LATENTFACE_MALLOC=system leaves it.
    """
    libc = _glibc()
    if libc is None or os.environ.get("LATENTFACE_MALLOC") == "system":
        return
    # One heap for all threads: large pages are asked for there.
    for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 64 << 20), (M_ARENA_MAX, 1)):
        libc.mallopt(option, value)
    _ask_for_large_pages(libc)


@contextlib.contextmanager
def single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Give `count` threads each of which computes with no other, and wait for them at the end."""
    own = torch.get_num_threads()
    reuse_memory()  # before the threads are there: a thread's heap of its own would not be told
    pool = ThreadPoolExecutor(count)
    begun = threading.Barrier(count)  # so each thread comes here once

    def alone(_: int) -> None:
        torch.get_num_threads()  # else the thread takes the process's number later
        torch.set_num_threads(1)
        begun.wait()

    try:
        list(pool.map(alone, range(count)))
        torch.set_num_threads(own)  # PyTorch has noted 1 as the process's
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def return_memory() -> None:
    """Give freed memory back to the system, of all threads, where `reuse_memory` has kept it."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)
        if reuse_memory.cache_info().currsize and os.environ.get("LATENTFACE_MALLOC") != "system":
            _ask_for_large_pages(libc)  # the heap's end went, and what it said of pages with it


def _glibc() -> ctypes.CDLL | None:
    """Return the C library where it is glibc on Linux, else None."""
    if sys.platform != "linux":
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
        libc.free.argtypes, libc.madvise.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        return libc if libc.mallopt and libc.malloc_trim else None
    except (OSError, AttributeError):  # another C library
        return None


def _ask_for_large_pages(libc: ctypes.CDLL) -> None:
    """Let the heap grow by `RESERVED` addresses with large pages; memory is taken when they are first used."""
    if block := libc.malloc(RESERVED):
        start = -(-block // LARGE) * LARGE
        libc.madvise(start, (block + RESERVED - start) // LARGE * LARGE, MADV_HUGEPAGE)
        libc.free(block)


def fast_dtype(device: torch.device) -> torch.dtype | None:
    """Return bfloat16 where this device multiplies it several times as fast as float32, else None."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return torch.bfloat16 if device.type == "cpu" and amx is not None and amx() else None


def free_memory() -> int | None:
    """Return how many bytes of the host's memory can still be used, as Linux says; None where it is not known."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = next((line.split()[1] for line in file if line.startswith("MemAvailable:")), None)
        return None if found is None else int(found) * 1024
    except (OSError, ValueError):
        return None


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on a device or on the host.

    The CPU's allocator and some of the devices' have no error of their own, only words.
    """
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in text or "allocate memory" in text
    )


@dataclass(slots=True)
class Batches:
    """Work on items in batches, halved when memory runs out.

    Attributes:
        size: items at a time; it stays halved for later calls.
        say: told in words when it was halved.
    """

    size: int
    device: torch.device
    say: Callable[[str], None] = lambda message: None

    def run(self, items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
        """Return the results of `work` for all items, in order.

        Raises InputError: one item alone does not fit the memory.
        """
        done: list[R] = []
        while len(done) < len(items):
            part = items[len(done) : len(done) + self.size]
            try:
                done += work(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            # Outside the except block, whose traceback holds the tensors that filled the memory.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            elif self.device.type == "mps":
                torch.mps.empty_cache()
            if len(part) == 1:
                raise InputError("one face does not fit this device's memory; use --device cpu or a smaller prior")
            self.size = len(part) // 2
            self.say(f"a batch of {len(part)} does not fit the device's memory; going on with {self.size}")
        return done


_seeding = threading.RLock()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch's own generators inside the block, and restore them after it: the CPU's and those of GPUs in use.

    The generators are the process's: of several threads, one is in such a block at a time.
    """
    with _seeding:
        generators = [torch.default_generator]
        if torch.cuda.is_initialized():
            generators += torch.cuda.default_generators
        states = [generator.get_state() for generator in generators]
        mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        try:
            for generator in generators:
                generator.manual_seed(seed)
            if mps is not None:
                torch.mps.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
            if mps is not None:
                torch.mps.set_rng_state(mps)
