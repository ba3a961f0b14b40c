"""The baseline's file: safetensors with the network's tensors, and the card as JSON in the metadata.

The metadata key `latentface-baseline` holds kind, shape, factor, resolution, stage, data, steps, figures, licence and
date. Numbers are float16 on disk and float32 in use. Nothing in the file is ever executed. `load_baseline` reads these
and, through `foreign`, other people's ESRGAN files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from latentface.errors import InputError, WeightsError
from latentface.io.atomic import write_bytes
from latentface.supervised.baseline import Baseline
from latentface.supervised.blocks import channels_last
from latentface.supervised.foreign import is_safetensors, read_foreign
from latentface.supervised.registry import KINDS, Shape, make_network, shape_from_json, shape_to_json

FORMAT = 1
KEY = "latentface-baseline"


def write_baseline(
    path: str | Path,
    kind: str,
    shape: Shape,
    tensors: Mapping[str, Tensor],
    card: Mapping[str, Any],
) -> None:
    """Write a baseline atomically; `card` is completed by format, kind, shape and factor.

    Args:
        tensors: the network's `state_dict()`.
        card: must hold `resolution` (px) and `stage`.

    Raises:
        OutputError: it cannot be written.
        WeightsError: a number is not finite in half precision.
    """
    halves: dict[str, Tensor] = {}
    for name, value in tensors.items():
        half = value.detach().cpu().to(torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        if not bool(torch.isfinite(half).all()):
            raise WeightsError(f"{path}: {name} does not fit float16; the training has diverged")
        halves[name] = half
    full = {**card, "format": FORMAT, "kind": kind, "shape": shape_to_json(shape), "factor": shape.factor}
    write_bytes(path, save(halves, {KEY: json.dumps(full, ensure_ascii=False)}))


def read_baseline_card(path: str | Path) -> dict[str, Any]:
    """Return a baseline's card without reading its tensors.

    Raises:
        WeightsError: it is no baseline of latentface, or a broken one.
    """
    card = _card_or_none(path)
    if card is None:
        raise WeightsError(f"{path}: a safetensors file, but no latentface baseline (it has no card)")
    return card


def load_baseline(path: str | Path, device: str | torch.device = "cpu") -> Baseline:
    """Read a baseline trained here, or somebody else's ESRGAN (.pth, .pt, .safetensors), ready to restore.

    Raises:
        WeightsError: it is broken, does not fit its card, or is another network; the message names what was seen.
        UnsafeFileError: reading it would run code; nothing was run.
    """
    if not Path(path).is_file():
        raise WeightsError(f"{path}: {'this is a folder' if Path(path).is_dir() else 'there is no such file'}")
    card = _card_or_none(path) if is_safetensors(path) else None
    if card is None:
        shape, tensors, seen = read_foreign(path)
        kind, resolution, stage, card = "esrgan", None, "unknown", seen
        network = _filled(kind, shape, tensors, path)
    else:
        kind, stage = card["kind"], str(card["stage"])
        resolution = int(card["resolution"])
        network = _filled(kind, _shape_of(card, path), _tensors(path), path)
    channels_last(network.eval().requires_grad_(False).to(device))
    factor = int(getattr(network, "factor"))  # noqa: B009  (nn.Module's attributes are untyped)
    return Baseline(kind=kind, network=network, factor=factor, resolution=resolution, stage=stage, card=card)


def _card_or_none(path: str | Path) -> dict[str, Any] | None:
    """Return the card, None where a readable safetensors file has none."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: the file is broken or is no safetensors file ({error}); fetch it again") from None
    if "latentface" in metadata:
        raise WeightsError(f"{path}: this is a latentface prior, not a baseline; give it with -p")
    if KEY not in metadata:
        return None
    try:
        card = json.loads(metadata[KEY])
        if not isinstance(card, dict) or card.get("format") != FORMAT:
            raise ValueError(
                f"its format is {card.get('format') if isinstance(card, dict) else card!r}, this version reads {FORMAT}"
            )
        if card.get("kind") not in KINDS:
            raise ValueError(f"its kind is {card.get('kind')!r}, expected one of {', '.join(KINDS)}")
        if not isinstance(card.get("resolution"), int) or not isinstance(card.get("stage"), str):
            raise ValueError("resolution or stage is missing")
    except ValueError as error:
        raise WeightsError(f"{path}: the card cannot be read ({error})") from None
    return card


def _shape_of(card: Mapping[str, Any], path: str | Path) -> Shape:
    try:
        return shape_from_json(card["kind"], card["shape"])
    except (KeyError, TypeError, InputError) as error:
        raise WeightsError(f"{path}: the card's numbers cannot be used ({error})") from None


def _tensors(path: str | Path) -> dict[str, Tensor]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: the file is broken ({error}); fetch it again") from None


def _filled(kind: str, shape: Shape, values: Mapping[str, Tensor], path: str | Path) -> nn.Module:
    with torch.device("meta"):  # no time is spent on random numbers that the file replaces
        network = make_network(kind, shape)
    expected = network.state_dict()
    ready: dict[str, Tensor] = {}
    for name, value in expected.items():
        if name not in values:
            raise WeightsError(f"{path}: {name} is missing; the file does not fit its card")
        if values[name].shape != value.shape:
            raise WeightsError(f"{path}: {name} has shape {tuple(values[name].shape)}, expected {tuple(value.shape)}")
        ready[name] = values[name].to(value.dtype)
        if not bool(torch.isfinite(ready[name]).all()):
            raise WeightsError(f"{path}: {name} holds NaN or infinite values")
    extra = sorted(set(values) - set(expected))
    if extra:
        raise WeightsError(f"{path}: {extra[0]} is not part of the network that the file describes")
    network.load_state_dict(ready, assign=True)
    return network
