"""Our files of weights: safetensors with a card, JSON under a metadata key that says what the file holds.

Numbers are float16 on disk, some of 8 bits, and float32 in use. Nothing in a file is ever executed.
"""

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from latentface.errors import WeightsError, WrongFileError
from latentface.io.atomic import write_bytes
from latentface.io.kinds import kind_of

M = TypeVar("M", bound=nn.Module)

FORMAT = 1
NARROW = torch.float8_e4m3fn  # three bits after the leading one: 1/16 of a number at most is lost
KEYS = {
    "prior": "latentface",
    "exits": "latentface-exits",
    "encoder": "latentface-encoder",
    "subspace": "latentface-subspace",
    "baseline": "latentface-baseline",
    "judge": "latentface-judge",
}


def write_weights(
    path: str | Path,
    what: str,
    tensors: Mapping[str, Tensor],
    card: Mapping[str, Any],
    facts: Mapping[str, Any],
    wide: Collection[str] = (),
    narrow: Collection[str] = (),
) -> None:
    """Write a file of `what` (one of KEYS) atomically; the tensors named `wide` keep float32, those named `narrow` 8 bits.

    The card is anything that JSON holds; the format and `facts`, which readers need, complete it. Raises OutputError:
    it cannot be written. WeightsError: a number does not fit half precision.
    """
    stored: dict[str, Tensor] = {}
    for name, value in tensors.items():
        kept = torch.float32 if name in wide else torch.float16 if value.is_floating_point() else value.dtype
        rounded = value.detach().cpu().to(kept)
        if not bool(torch.isfinite(rounded).all()):
            raise WeightsError(
                f"{path}: {name} does not fit float16; the weights are broken, or a training has diverged"
            )
        if name in narrow and float(rounded.abs().max()) <= torch.finfo(NARROW).max:  # else it would be cut off there
            rounded = rounded.to(NARROW)
        stored[name] = rounded.contiguous()
    full = {**card, "format": FORMAT, **facts}
    write_bytes(path, save(stored, {KEYS[what]: json.dumps(full, ensure_ascii=False)}))


def weights_kind(path: str | Path) -> str | None:
    """Return which of KEYS a file holds, None where it has no card of ours. Raises WeightsError: no such file, or broken."""
    return _kind(_metadata(path, "prior"))


def _metadata(path: str | Path, what: str) -> Mapping[str, str]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return file.metadata() or {}
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError, ValueError):
        raise _unreadable(path, what) from None


def _kind(metadata: Mapping[str, str]) -> str | None:
    return next((name for name, key in KEYS.items() if key in metadata), None)


def find_card(path: str | Path, what: str) -> dict[str, Any] | None:
    """Return a file's card without reading its tensors; None where a safetensors file has none of ours.

    Raises WeightsError: no such file, or a broken one. WrongFileError: a file of another kind, or one that holds
    something else of ours than `what`.
    """
    metadata = _metadata(path, what)
    if KEYS[what] not in metadata:
        other = _kind(metadata)
        if other is not None:
            raise WrongFileError(f"{path}: this is a latentface {other}, expected {what}")
        return None
    try:
        card = json.loads(metadata[KEYS[what]])
        found = card.get("format") if isinstance(card, dict) else card
        if not isinstance(card, dict) or found != FORMAT:
            raise ValueError(f"its format is {str(found)[:40]}, this version reads {FORMAT}")
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: the card cannot be read ({error})") from None
    return card


def _unreadable(path: str | Path, what: str) -> WeightsError:
    """Return the error for a file that safetensors cannot open, whose own words name its inner parts."""
    try:
        kind = kind_of(path)
    except OSError as error:
        return WeightsError(f"{path}: it cannot be read ({error.strerror})")
    if kind is None:
        return WeightsError(f"{path}: the file is broken or is no safetensors file; fetch it again")
    more = "" if "latentface" in kind else f"; expected a latentface {what} (.safetensors)"
    return WrongFileError(f"{path}: this is {kind}{more}")


def read_card(path: str | Path, what: str) -> dict[str, Any]:
    """Return a file's card without reading its tensors. Raises as `find_card`; WrongFileError: there is none."""
    card = find_card(path, what)
    if card is None:
        raise WrongFileError(f"{path}: a safetensors file, but no latentface {what} (it has no card)")
    return card


def read_tensors(path: str | Path, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a file whose names begin so, as they are stored, 8 bits as 16, on the CPU. Raises WeightsError."""
    try:
        with safe_open(str(path), framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
        return {name: value.half() if value.dtype == NARROW else value for name, value in stored.items()}
    except (SafetensorError, OSError, ValueError):
        raise WeightsError(f"{path}: the file is broken; fetch it again") from None


def filled(make: Callable[[], M], values: Mapping[str, Tensor], label: str) -> M:
    """Make a module and give it these tensors, in its own floating type.

    Messages have the label before a tensor's name, as "p.safetensors: g.". Raises as `check_tensors`.
    """
    with unfilled():
        module = make()
    wanted = module.state_dict()
    check_tensors(values, {name: tuple(value.shape) for name, value in wanted.items()}, label)
    module.load_state_dict({name: values[name].to(value.dtype) for name, value in wanted.items()}, assign=True)
    return module


@contextlib.contextmanager
def unfilled() -> Iterator[None]:
    """Make the modules inside the block on the meta device: they have shapes, and no numbers until they are given some.

    What fills and scales their weights is skipped. It would make torch import torch._dynamo and sympy, which takes seconds.
    """
    with torch.device("meta"), _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    _SCALED = (Tensor.__truediv__, Tensor.__mul__, Tensor.div, Tensor.mul)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        fills = func in (Tensor.uniform_, Tensor.normal_) or getattr(func, "__module__", "") == nn.init.__name__
        if fills or (func in self._SCALED and isinstance(args[0], Tensor) and not isinstance(args[1], Tensor)):
            return args[0] if args else named["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **named)


def check_tensors(values: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], label: str) -> None:
    """Raise WeightsError unless there are tensors of exactly these names and shapes, all finite."""
    for name, shape in shapes.items():
        if name not in values:
            raise WeightsError(f"{label}{name} is missing; the file does not fit its card")
        if tuple(values[name].shape) != shape:
            raise WeightsError(f"{label}{name} has shape {tuple(values[name].shape)}, expected {shape}")
        if not bool(torch.isfinite(values[name]).all()):
            raise WeightsError(f"{label}{name} holds NaN or infinite values")
    extra = sorted(set(values) - set(shapes))
    if extra:
        raise WeightsError(f"{label}{extra[0]} is not part of the network that the card describes")
