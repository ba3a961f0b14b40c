"""The baseline's file (`io.weights`): the network's tensors, and a card of kind, shape, factor, resolution and stage.

`load_baseline` reads these and, through `foreign`, other people's ESRGAN files.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentface.errors import InputError, WeightsError
from latentface.io.weights import filled, find_card, read_tensors, write_weights
from latentface.supervised.baseline import Baseline
from latentface.supervised.blocks import channels_last
from latentface.supervised.foreign import is_safetensors, read_foreign
from latentface.supervised.ncnn import read_ncnn
from latentface.supervised.registry import KINDS, Shape, kind_named, make_network


def write_baseline(
    path: str | Path, kind: str, shape: Shape, tensors: Mapping[str, Tensor], card: Mapping[str, Any]
) -> None:
    """Write a baseline atomically; `card` holds `resolution` (px) and `stage`, and gets format, kind, shape and factor.

    Raises OutputError: it cannot be written. WeightsError: a number is not finite in half precision.
    """
    facts = {"kind": kind, "shape": asdict(shape), "factor": shape.factor}
    write_weights(path, "baseline", tensors, card, facts)


def load_baseline(path: str | Path, device: str | torch.device = "cpu") -> Baseline:
    """Read a baseline trained here, or somebody else's ESRGAN (.pth, .pt, .safetensors, or .param with .bin), ready to restore.

    Raises WeightsError: it is broken, does not fit its card, or is another network; the message names what was seen.
    UnsafeFileError: reading it would run code; nothing was run.
    """
    if not Path(path).is_file():
        raise WeightsError(f"{path}: {'this is a folder' if Path(path).is_dir() else 'there is no such file'}")
    card = find_card(path, "baseline") if is_safetensors(path) else None
    shape: Shape
    if card is None:
        if Path(path).suffix == ".param":
            shape, tensors = read_ncnn(path)
            card = {"architecture": "RRDBNet", "layout": "ncnn", "data": "unknown", "licence": "unknown"}
        else:
            shape, tensors, card = read_foreign(path)
        kind, resolution, stage = "esrgan", None, "unknown"
    else:
        card = _checked(card, path)
        kind, resolution, stage = card["kind"], int(card["resolution"]), str(card["stage"])
        try:
            shape = kind_named(kind).shape(**card["shape"])
        except (KeyError, TypeError, InputError) as error:
            raise WeightsError(f"{path}: the card's numbers cannot be used ({error})") from None
        tensors = read_tensors(path)
    network = filled(lambda: make_network(kind, shape), tensors, f"{path}: ")
    channels_last(network.eval().requires_grad_(False).to(device))
    return Baseline(kind=kind, network=network, factor=shape.factor, resolution=resolution, stage=stage, card=card)


def _checked(card: dict[str, Any], path: str | Path) -> dict[str, Any]:
    if str(card.get("kind")) not in KINDS:
        reason = f"its kind is {card.get('kind')!r}, expected one of {', '.join(KINDS)}"
    elif not isinstance(card.get("resolution"), int) or not isinstance(card.get("stage"), str):
        reason = "resolution or stage is missing"
    else:
        return card
    raise WeightsError(f"{path}: the card cannot be read ({reason})")
