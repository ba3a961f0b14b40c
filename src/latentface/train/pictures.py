"""Training pictures in memory: decoded once, squared, resized, kept as bytes."""

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentface.datasets.crop import CROPS
from latentface.errors import OutputError, PictureError, TrainingError
from latentface.io.pictures import open_picture
from latentface.io.sources import Entry, Pictures, read_entry

AHEAD = 256  # pictures at a time: the pool would queue every result at once


def decode_square(entry: Entry, resolution: int) -> np.ndarray:
    """Return one picture as uint8 (3, R, R): its central square, resized with the bicubic filter.

    Raises PictureError: it cannot be read.
    """
    picture = open_picture(read_entry(entry), entry.label)
    return CROPS["centre"](picture, resolution, entry.label).transpose(2, 0, 1)


def load_pictures(
    pictures: Pictures,
    resolution: int,
    *,
    scratch: Path | None = None,
    memory: int = 8 << 30,
    warn: Callable[[str], None] = lambda message: None,
) -> tuple[Tensor, Pictures]:
    """Decode all pictures into one uint8 tensor (N, 3, R, R), with those that are in it; broken ones are named through `warn`.

    Sets that would take more than `memory` bytes are kept in a file at `scratch` instead of in memory; its name goes at
    once where the system allows it, so nothing is left behind and processes beside each other do not meet in it.

    Raises TrainingError: not one picture could be read. OutputError: there is no room for that file.
    """
    shape = (len(pictures), 3, resolution, resolution)
    if int(np.prod(shape)) > memory and scratch is not None:
        store = _on_disk(scratch, shape)
    else:
        store = np.empty(shape, np.uint8)

    def one(entry: Entry) -> np.ndarray | str:
        try:
            return decode_square(entry, resolution)
        except PictureError as error:
            return str(error)

    kept: list[Entry] = []
    entries = list(pictures)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(entries), AHEAD):
            part = entries[start : start + AHEAD]
            for entry, result in zip(part, pool.map(one, part), strict=True):
                if isinstance(result, str):
                    warn(f"left out: {result}")
                else:
                    store[len(kept)] = result
                    kept.append(entry)
    if not kept:
        raise TrainingError(f"{pictures.name}: not one of {len(pictures)} pictures could be read")
    return torch.from_numpy(store[: len(kept)]), Pictures(pictures.name, kept)


def _on_disk(scratch: Path, shape: tuple[int, ...]) -> np.ndarray:
    mine = scratch.with_name(f"{scratch.stem}-{os.getpid()}{scratch.suffix}")
    try:
        mine.parent.mkdir(parents=True, exist_ok=True)
        store: np.ndarray = np.lib.format.open_memmap(mine, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):  # a disk that fills up later would kill the process with SIGBUS
            with open(mine, "rb+") as file:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise OutputError(
            f"{mine}: the pictures take {np.prod(shape) / 1e9:.3g} GB and cannot be kept there ({error.strerror}); free some space, or choose another place with -o"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            mine.unlink()
    return store


class Shuffled:
    """Which pictures a step sees: every picture once an epoch, in an order that only the seed decides.

    A run that resumes at any step sees the same pictures as one that was never cut off.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._orders: dict[int, Tensor] = {}

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {k: v for k, v in self._orders.items() if k == epoch - 1}
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._orders[epoch] = torch.randperm(self.count, generator=generator)
        return self._orders[epoch]

    def indices(self, start: int, count: int) -> Tensor:
        """Return the pictures at places [start, start + count) of the endless sequence."""
        places = range(start, start + count)
        return torch.stack([self._order(p // self.count)[p % self.count] for p in places])
