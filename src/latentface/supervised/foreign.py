"""Other people's ESRGAN files: RRDBNet checkpoints in the layouts that are in use, read without running anything.

    new     body.0.rdb1.conv1.weight, conv_body, conv_up1, conv_hr      (BasicSR, Real-ESRGAN)
    middle  RRDB_trunk.0.RDB1.conv1.weight, trunk_conv, upconv1, HRconv (ESRGAN's later code)
    old     model.1.sub.0.RDB1.conv1.0.weight, model.3, model.6, ...    (ESRGAN's first code, and most community models)

Blocks, features, growth, the number of doublings and the unshuffle of Real-ESRGAN's 2x and 1x files are read off the
tensors. An old-layout file of a 3x network cannot be told from a 2x one; such files are rare.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latentface.errors import UnsafeFileError, WeightsError
from latentface.supervised.esrgan import RrdbShape

WRAPPERS = ("params_ema", "params", "state_dict", "model", "model_state_dict", "generator", "netG")
FAMILIES = (  # a part of a key -> whose it is, for messages
    ("relative_position", "a window transformer such as SwinIR or HAT"),
    ("synthesis", "a StyleGAN generator"),
    ("stylegan_decoder", "GFPGAN"),
    ("quantize", "a codebook network such as CodeFormer or VQGAN"),
    ("attn", "a transformer"),
    ("running_mean", "a network with batch norms"),
)


def is_safetensors(path: str | Path) -> bool:
    """Say whether a file begins like a safetensors file, whatever its name. Raises WeightsError."""
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise WeightsError(f"{path}: it cannot be read ({error.strerror})") from None
    return len(head) == 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 28


def read_foreign(path: str | Path) -> tuple[RrdbShape, dict[str, Tensor], dict[str, Any]]:
    """Return shape, float32 tensors under our names, and a card of what could be seen.

    Raises WeightsError: broken, or another network, which is named. UnsafeFileError: a pickle that asks for more than
    tensors; nothing of it was run.
    """
    tensors, wrapper = _unwrap(_read(path), path)
    layout, ours = _renamed(tensors)
    if not ours:
        raise WeightsError(f"{path}: {_described(tensors)}; expected an ESRGAN (RRDBNet) or a baseline of latentface")
    shape = _shape(ours, path)
    card = {
        "architecture": "RRDBNet",
        "layout": layout,
        "wrapper": wrapper,
        "data": "unknown",
        "licence": "unknown; see where the file came from",
    }
    return shape, {name: value.float() for name, value in ours.items()}, card


def _read(path: str | Path) -> Any:
    if is_safetensors(path):
        try:
            return load_file(str(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"{path}: the file is broken ({error}); fetch it again") from None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        if "Unsupported" in text or "not an allowed" in text or "Trying to" in text or "Can only" in text:
            wants = re.search(r"(?:GLOBAL|global|class|call|instance)s?:? ([\w.]+\.[\w.]+)", text)
            what = f" ({wants[1]})" if wants else ""
            raise UnsafeFileError(
                f"{path}: it asks for more than tensors{what} and would run code when read; nothing was run. Get the weights as .safetensors"
            ) from None
        raise WeightsError(f"{path}: no weights file, or a broken one; expected .pth or .safetensors") from None
    except Exception as error:  # torch's readers raise RuntimeError, EOFError, KeyError and more on broken files
        raise WeightsError(
            f"{path}: no weights file, or a broken one ({type(error).__name__}); expected .pth or .safetensors"
        ) from None


def _unwrap(content: Any, path: str | Path) -> tuple[dict[str, Tensor], str]:
    """Find the dictionary of tensors inside a checkpoint; strip DataParallel's prefix."""
    wrapper = ""
    for _ in range(3):
        if not isinstance(content, Mapping):
            raise WeightsError(f"{path}: it holds a {type(content).__name__}, expected a dictionary of tensors")
        inner = next((name for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content, wrapper = content[inner], inner
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise WeightsError(f"{path}: there are no tensors in it ({len(content)} entries: {_some(content)})")
    return {name.removeprefix("module."): value for name, value in tensors.items()}, wrapper


def _renamed(tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Return the layout's name and the tensors under our names; ("", {}) when it is none of the three."""
    if any(re.match(r"body\.\d+\.rdb1\.conv1\.weight", name) for name in tensors):
        return "new", {re.sub(r"^conv_up(\d+)", _minus_one, name): value for name, value in tensors.items()}
    if any(re.match(r"RRDB_trunk\.\d+\.RDB1\.conv1\.weight", name) for name in tensors):
        swaps = (("RRDB_trunk.", "body."), (".RDB", ".rdb"), ("trunk_conv", "conv_body"), ("HRconv", "conv_hr"))
        result = {}
        for name, value in tensors.items():
            for old, new in swaps:
                name = name.replace(old, new)
            result[re.sub(r"^upconv(\d+)", _minus_one, name)] = value
        return "middle", result
    if any(re.match(r"model\.1\.sub\.\d+\.RDB1\.conv1\.0\.weight", name) for name in tensors):
        return "old", _from_old(tensors)
    return "", {}


def _minus_one(match: re.Match[str]) -> str:
    return f"conv_ups.{int(match[1]) - 1}"


def _from_old(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the old layout, a plain sequence: first, trunk, (enlarge, convolve, activate) ..., two convolutions."""
    trunk = sorted({int(m[1]) for m in (re.match(r"model\.1\.sub\.(\d+)\.(weight|bias)$", n) for n in tensors) if m})
    later = sorted({int(m[1]) for m in (re.match(r"model\.(\d+)\.(weight|bias)$", n) for n in tensors) if m} - {0})
    places = {"model.0": "conv_first", **{f"model.1.sub.{i}": "conv_body" for i in trunk[-1:]}}
    places |= {f"model.{n}": f"conv_ups.{i}" for i, n in enumerate(later[:-2])}
    places |= {f"model.{n}": name for n, name in zip(later[-2:], ("conv_hr", "conv_last"), strict=False)}
    result = {}
    for name, value in tensors.items():
        if match := re.match(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.(weight|bias)$", name):
            name = "body.{}.rdb{}.conv{}.{}".format(*match.groups())
        else:
            stem, _, end = name.rpartition(".")
            name = f"{places.get(stem, stem)}.{end}"
        result[name] = value
    return result


def _shape(ours: Mapping[str, Tensor], path: str | Path) -> RrdbShape:
    """Read the network's numbers off its tensors."""
    try:
        features, channels = ours["conv_first.weight"].shape[:2]
        growth = ours["body.0.rdb1.conv1.weight"].shape[0]
        colours = ours["conv_last.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path}: it begins like an ESRGAN, but {error} cannot be used") from None
    unshuffle = {3: 1, 12: 2, 48: 4}.get(channels)
    if unshuffle is None or colours != 3:
        raise WeightsError(
            f"{path}: an ESRGAN from {channels} to {colours} channels; expected 3 (or 12 or 48 folded) to 3: a network for RGB pictures"
        )
    blocks = 1 + max(int(m[1]) for m in (re.match(r"body\.(\d+)\.", name) for name in ours) if m)
    ups = sorted(int(m[1]) for m in (re.match(r"conv_ups\.(\d+)\.weight", name) for name in ours) if m)
    tail = tuple(ours[f"conv_ups.{i}.weight"].shape[0] for i in ups)
    if blocks > 256 or 2 ** len(tail) < unshuffle or len(tail) > 6:
        raise WeightsError(
            f"{path}: an ESRGAN of {blocks} blocks and {len(tail)} doublings after an unshuffle of {unshuffle}; no such network is known"
        )
    return RrdbShape(blocks=blocks, features=features, growth=growth, tail=tail, unshuffle=unshuffle)


def _described(tensors: Mapping[str, Tensor]) -> str:
    family = next((f"; it looks like {name}" for part, name in FAMILIES if any(part in key for key in tensors)), "")
    return f"{len(tensors)} tensors were seen ({_some(tensors)}){family}"


def _some(content: Mapping[Any, Any]) -> str:
    names = [f"{k} {tuple(v.shape)}" if isinstance(v, Tensor) else str(k) for k, v in list(content.items())[:3]]
    return ", ".join(n[:80] for n in names) + (", ..." if len(content) > 3 else "")
