"""Inputs that are not what a method assumes: noise, JPEG, another kernel. The method is told the bicubic shrinking alone."""

import io
import zlib
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from latentface.bench.core.tasks import Task, to_8_bit
from latentface.degradation import Downscale
from latentface.errors import InputError
from latentface.io.pictures import read_picture, to_pillow

KINDS = ("noise0.02", "noise0.05", "jpeg30", "jpeg60", "box")


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """Another kernel, then Gaussian noise (of the grey range; the method is `told` of it or not), then JPEG."""

    name: str
    kernel: str | None = None
    noise: float = 0.0
    jpeg: int | None = None
    told: bool = False

    @classmethod
    def named(cls, name: str) -> Self:
        """Read `noise0.05`, `noise0.05told`, `jpeg30` or a kernel's name. Raises InputError, UnknownNameError."""
        told = name.endswith("told")
        try:
            if name.startswith("noise"):
                return cls(name=name, noise=float(name.removeprefix("noise").removesuffix("told")), told=told)
            if name.startswith("jpeg"):
                return cls(name=name, jpeg=int(name.removeprefix("jpeg")))
        except ValueError:
            raise InputError(
                f"{name!r} is no damage; expected such as noise0.05, noise0.05told, jpeg30 or box"
            ) from None
        Downscale(2, 2, name)
        return cls(name=name, kernel=name)

    def apply(self, low: Tensor, key: str) -> Tensor:
        """Return a low picture (3, h, w) in [0, 1] with noise and JPEG; the noise depends on the face's name alone."""
        if self.noise:
            generator = torch.Generator().manual_seed(zlib.crc32(key.encode(errors="replace")))
            low = (low + self.noise * torch.randn(low.shape, generator=generator)).clamp(0, 1)
        if self.jpeg is not None:
            buffer = io.BytesIO()
            to_pillow(low).save(buffer, format="JPEG", quality=self.jpeg)
            low = read_picture(buffer.getvalue())
        return to_8_bit(low)


@dataclass(frozen=True, kw_only=True, slots=True)
class DamagedTask(Task):
    """A task whose low pictures were damaged on their way."""

    damage: Damage

    @classmethod
    def of(cls, task: Task, damage: Damage) -> Self:
        """Return a task with truth, damaged; its set is called `SET-DAMAGE`."""
        d = task.degradation
        kept = {f.name: getattr(task, f.name) for f in fields(task)}
        kept["dataset"] = f"{task.dataset}-{damage.name}"
        if damage.told:
            kept["degradation"] = Downscale(d.low, d.high, d.kernel, sigma=damage.noise)
        return cls(**kept, damage=damage)

    def load(self, key: str) -> tuple[Tensor | None, Tensor]:
        """Return a face's truth (3, R, R) and its damaged low picture (3, h, w). Raises PictureError."""
        d = self.degradation
        truth = self.faces.read(self.entries[key], d.high)
        low = Downscale(d.low, d.high, self.damage.kernel or d.kernel).forward(truth[None])[0]
        return truth, self.damage.apply(low, key)
