"""What every training does alike: its budget, its loop, its checkpoint, its log, and how it is stopped."""

import csv
import datetime
import io
import platform
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch

from latentface.devices import reuse_memory
from latentface.errors import InputError, TrainingError
from latentface.io.atomic import write_bytes, write_text
from latentface.train.fit import Fit


@dataclass(frozen=True, slots=True)
class Tick:
    """A report during training.

    Attributes:
        step, loss: of the last step; speed: pictures a second in this call.
        done: share of the budget that is spent, 0 to 1; seconds_left: by that share.
        figures: what was measured last; checked, saved: whether it was measured, and everything saved, just now.
    """

    step: int
    loss: float
    speed: float
    done: float
    seconds_left: float
    figures: Mapping[str, Any]
    checked: bool
    saved: bool


OnTick = Callable[[Tick], None]


def check_run(target: Path, budget: int | None, minutes: float | None, resume: bool, unit: str = "steps") -> Path:
    """Return where the checkpoint of a run that writes `target` is: `target`.train/checkpoint.pt.

    Raises:
        InputError: no budget, or one of nothing. TrainingError: a checkpoint and no `resume`, or no checkpoint and `resume`.
    """
    if budget is None and minutes is None:
        raise InputError(f"say how long to train: --minutes or --{unit}")
    if (budget is not None and budget < 1) or (minutes is not None and not minutes > 0):
        raise InputError(f"the budget is {budget} {unit}, {minutes} minutes; expected more than nothing")
    checkpoint = checkpoint_path(target)
    if resume and not checkpoint.exists():
        raise TrainingError(f"{checkpoint}: there is no checkpoint to resume; start without --resume")
    if not resume and (checkpoint.exists() or target.exists()):
        raise TrainingError(f"{target}: a training run is already there; go on with --resume or choose another -o")
    return checkpoint


def checkpoint_path(target: Path) -> Path:
    """Return where the checkpoint of a run that writes `target` is."""
    return target.with_name(target.name + ".train") / "checkpoint.pt"


def train(
    fit: Fit,
    target: Path,
    *,
    write: Callable[[Path], None],
    batch: int,
    checks: int,
    steps: int | None,
    minutes: float | None,
    save_seconds: float,
    on_tick: OnTick,
    say: Callable[[str], None],
) -> None:
    """Make steps until the budget is spent or the run is stopped, and save everything then.

    Args:
        write: writes `target` and, into the folder that it is given, samples and log, each time after the checkpoint.
        batch: pictures a step; checks: of `fit`, over the budget.
        steps, minutes: the budget in all, of steps or of time spent in them.

    Raises KeyboardInterrupt, SystemExit: see `Signals`. Whatever a step and `write` raise.
    """
    checkpoint = checkpoint_path(target)
    reuse_memory()

    def save() -> None:
        write_checkpoint(checkpoint, fit.state_dict())
        write(checkpoint.parent)

    def done() -> float:
        shares = fit.steps / steps if steps else 0.0, fit.seconds / 60 / minutes if minutes else 0.0
        return min(1.0, max(shares))

    first, start = fit.steps, time.monotonic()
    last_save, checked = start, int(done() * checks)
    with Signals() as signals:
        while (share := done()) < 1 and not signals.caught:
            began = time.monotonic()
            loss = fit.step(share)
            fit.seconds += time.monotonic() - began
            spent = done()
            due = int(spent * checks) > checked
            if due:
                checked = int(spent * checks)
                fit.check(loss)
            now = time.monotonic()
            over = now - last_save > save_seconds or spent >= 1 or bool(signals.caught)
            if over:
                save()
                last_save = now
            speed = (fit.steps - first) * batch / max(now - start, 1e-9)
            left = fit.seconds * (1 - spent) / max(spent, 1e-9)
            try:
                on_tick(Tick(fit.steps, loss, speed, spent, left, fit.figures(), due, over))
            except KeyboardInterrupt:
                signals.caught = signal.SIGINT
                save()
    signals.obey(f"step {fit.steps}", say)
    if not target.exists():  # a run that had spent its budget before this call
        save()


class Signals:
    """Hold SIGINT and SIGTERM back while a run goes on, so that it ends between two steps and not within one.

    Only the main thread can do this; elsewhere nothing is held back. Handlers that were there come back afterwards. A
    process that was started in the background ignores SIGINT: not during the run.

    Attributes:
        caught: the number of the first that came; 0 while none has.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = self.caught or number

    def obey(self, place: str, say: Callable[[str], None]) -> None:
        """Do what the one that came asked for: raise KeyboardInterrupt or SystemExit, once everything is saved."""
        told = f"stopped at {place}; the same command with --resume goes on from there"
        if self.caught == signal.SIGINT:
            raise KeyboardInterrupt(told)
        if self.caught:
            say(told)
            raise SystemExit(128 + self.caught)


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


def resume_from(checkpoint: Path, fit: Fit) -> None:
    """Continue from a checkpoint. Raises TrainingError where it cannot be read or is of another run."""
    fit.load_state_dict(read_checkpoint(checkpoint, fit.WHAT, (fit.KEY, "optimiser", *fit.COUNTED)))


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically. Raises OutputError."""
    data = io.BytesIO()  # torch.save's own files hide a full disk behind a RuntimeError
    torch.save(state, data)
    write_bytes(path, data.getvalue())


def write_history(
    folder: Path,
    columns: Sequence[str],
    history: Sequence[Mapping[str, float]],
    curves: Sequence[Mapping[str, str]] = (),
) -> None:
    """Write log.csv with these columns of a history and, where matplotlib is installed, curves.png.

    Args:
        curves: a panel each: column -> label. The first of `columns` lies below them.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(history)
    write_text(folder / "log.csv", text.getvalue())
    if not curves:
        return
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return  # the extra `plot`; the numbers stand in log.csv
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, lines in zip(figure.subplots(1, len(curves)), curves, strict=True):
        for name, label in lines.items():
            axes.plot([row[columns[0]] for row in history], [row[name] for row in history], label=label)
        axes.set_xlabel(columns[0])
        axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    write_bytes(folder / "curves.png", picture.getvalue())


def hardware_of(device: torch.device) -> str:
    """Name a device for a card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads ({platform.machine()})"


def run_facts(fit: Fit, device: torch.device) -> dict[str, Any]:
    """Return what a card says of its run: on what, until when, and how long."""
    return {
        "hardware": hardware_of(device),
        "date": datetime.date.today().isoformat(),
        "steps": fit.steps,
        "minutes": round(fit.seconds / 60, 2),
    }
