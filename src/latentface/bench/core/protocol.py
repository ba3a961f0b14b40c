"""What a table's figures depend on: printed under it, and compared before a run goes on in a folder."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from latentface.errors import InputError
from latentface.io.atomic import write_json

OWN_SEEDS = "a seed of its own, SHA-256 of SEED:PICTURE"
SHARED_SEEDS = "the run's seed"  # what a folder of before has that says nothing
CHANNELS = "PSNR over RGB, PSNR-Y and SSIM on Y (BT.601)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """The protocol of the tables of one folder.

    Attributes:
        sets: data set -> its crop; resolution: the high side R in px; kernel: of the shrinking.
        painted: the side in px of the prior's own pictures where it is another.
        prior, prior_sha256; preset: of the methods' settings; seed: of the run, from which `seeds` says how a
            face's own is made.
        batch: faces searched together; device: "cpu" or "cuda"; variants: name -> settings.
    """

    sets: Mapping[str, str]
    resolution: int
    kernel: str
    prior: str
    prior_sha256: str
    preset: str
    seed: int
    batch: int
    device: str
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    painted: int | None = None
    seeds: str = OWN_SEEDS

    def line(self, counts: Mapping[str, int]) -> str:
        """Return the line under a table; `counts` says how many faces of each set took part."""
        sets = ", ".join(f"{name} (n = {counts.get(name, 0)}, crop: {crop})" for name, crop in self.sets.items())
        return (
            f"Protocol: {sets}; truth brought to {self.resolution} px (bicubic), low pictures shrunk from it with the "
            f"{self.kernel} kernel and rounded to 8 bits; {self.searched}{CHANNELS}, on results rounded to 8 bits; "
            f"prior {self.prior} ({self.prior_sha256[:12] or 'unsaved'}); preset {self.preset}; seed {self.seed}, and "
            f"each face searched from {self.seeds}; batches of {self.batch} on {self.device}; intervals: 95 %, paired bootstrap over faces."
        )

    @property
    def searched(self) -> str:
        """The part of the line that says how a prior of another size is searched; "" where there is nothing to say."""
        if self.painted is None:
            return ""
        return (
            f"searches invert the same kernel from the prior's {self.painted} px directly, and their faces are shrunk by area to "
            f"{self.resolution} px before they are kept and compared; "
        )


def resume(path: Path, protocol: Protocol) -> None:
    """Write the protocol beside a new table, or check that a table that is there was made with the same one.

    Methods and sets may be added to a table; what two runs share must agree.

    Raises:
        InputError: the folder holds a table of another protocol; the difference is named.
    """
    now = json.loads(json.dumps(asdict(protocol)))
    if path.exists():
        try:
            before = {"painted": None, "seeds": SHARED_SEEDS, **json.loads(path.read_text(encoding="utf-8"))}
            for key, value in now.items():
                if isinstance(value, dict):
                    for name in set(value) & set(before[key]):
                        _compare(path, f"{key} of {name}", before[key][name], value[name])
                    now[key] = {**before[key], **value}
                else:
                    _compare(path, key, before[key], value)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: it cannot be read ({error}); choose another folder with -o") from None
    write_json(path, now)


def _compare(path: Path, what: str, before: object, now: object) -> None:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in before.keys() | now.keys():
            _compare(path, f"{what}, {name},", before.get(name), now.get(name))
    elif before != now:
        raise InputError(
            f"{path.parent} holds figures made with another protocol: {what} was {before!r} and is now {now!r}; "
            "choose another folder with -o, or remove this one"
        )


def stored_batch(path: Path) -> int | None:
    """Return the batch size of a run that was begun in a folder, or None."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["batch"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, int) and value > 0 else None


def provenance(command: str = "") -> str:
    """Return command, version, commit, hardware and date in one line, for a table that is published."""
    known = origin(command)
    parts = [f"`{command}`"] if command else []
    parts.append(f"latentface {known['version']}" + (f", commit {known['commit']}" if known["commit"] else ""))
    return "Measured: " + "; ".join([*parts, known["hardware"], known["date"]]) + "."


def origin(command: str = "") -> dict[str, str]:
    """Return command, version, commit ("" where there is none), hardware and date of what is measured now."""
    import torch

    try:
        version = metadata.version("latentface")
    except metadata.PackageNotFoundError:
        version = "from source"
    cards = [torch.cuda.get_device_name(0)] if torch.cuda.is_available() else []
    host = f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return {
        "command": command,
        "version": version,
        "commit": _commit(),
        "hardware": "; ".join([*cards, host]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _commit() -> str:
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
