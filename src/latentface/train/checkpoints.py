"""What every training run that resumes does alike: its budget, its checkpoint, and what hardware it ran on."""

from __future__ import annotations

import io
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from latentface.errors import InputError, TrainingError
from latentface.io.atomic import write_bytes


def check_run(target: Path, steps: int | None, minutes: float | None, resume: bool) -> Path:
    """Return where the checkpoint of a run that writes `target` is: `target`.train/checkpoint.pt.

    Raises:
        InputError: no budget, or one of nothing. TrainingError: a checkpoint and no `resume`, or no checkpoint and `resume`.
    """
    if steps is None and minutes is None:
        raise InputError("say how long to train: --minutes or --steps")
    if (steps is not None and steps < 1) or (minutes is not None and not minutes > 0):
        raise InputError(f"the budget is {steps} steps, {minutes} minutes; expected more than nothing")
    checkpoint = target.with_name(target.name + ".train") / "checkpoint.pt"
    if resume and not checkpoint.exists():
        raise TrainingError(f"{checkpoint}: there is no checkpoint to resume; start without --resume")
    if not resume and (checkpoint.exists() or target.exists()):
        raise TrainingError(f"{target}: a training run is already there; go on with --resume or choose another -o")
    return checkpoint


def spent(steps_done: int, seconds: float, steps: int | None, minutes: float | None) -> float:
    """Return which share of a budget is spent, 0 to 1."""
    return min(1.0, max(steps_done / steps if steps else 0.0, seconds / 60 / minutes if minutes else 0.0))


def read_checkpoint(path: Path, what: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return a checkpoint of `what` ("an encoder"), a dictionary with these keys. Raises TrainingError."""
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises OSError, RuntimeError, IndexError and more on broken files
        raise TrainingError(
            f"{path}: the checkpoint cannot be read ({type(error).__name__}); start anew under another name with -o"
        ) from None
    if not isinstance(saved, dict) or any(key not in saved for key in keys):
        raise TrainingError(f"{path}: this is no checkpoint of {what}")
    return saved


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically. Raises OutputError."""
    data = io.BytesIO()  # torch.save's own files hide a full disk behind a RuntimeError
    torch.save(state, data)
    write_bytes(path, data.getvalue())


def hardware_of(device: torch.device) -> str:
    """Name a device for a card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads ({platform.machine()})"
