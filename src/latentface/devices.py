"""Where to compute, and whether its memory was enough."""

from __future__ import annotations

import torch

from latentface.errors import InputError


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" is CUDA, then Apple's MPS, then the CPU.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # "meta" has no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"the device {name!r} cannot be used here ({str(error).splitlines()[0]}); try auto or cpu"
        ) from None
    return device


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on a device or on the host.

    The CPU's allocator and some of the devices' have no error of their own, only words.
    """
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in text or "allocate memory" in text
    )
