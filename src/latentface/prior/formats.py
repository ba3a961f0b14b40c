"""The prior's file: safetensors with `g.*` (averaged generator), `d.*` (discriminator), `w.*` (latent statistics).

The metadata key `latentface` holds the card as JSON: architecture, alignment, data, pictures shown, figures, licence,
date. Numbers are float16 on disk and float32 in use. Nothing in the file is ever executed.

The card's `figures` are what was measured of the prior afterwards. They are no part of what it is: `identity` leaves
them out, so results, encoders and caches that name a prior stay its own when its figures are written into the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from latentface.errors import WeightsError
from latentface.io.atomic import sha256, write_bytes
from latentface.prior.architecture import Architecture
from latentface.prior.family import AnyArchitecture, AnyGenerator, architecture_from, generator_of
from latentface.prior.stylegan2 import Discriminator

FORMAT = 1
KEY = "latentface"
FIGURES = "figures"  # the card's part that may be rewritten
ALIGNMENTS = ("ffhq", "celeba")
PARTS = ("g", "d", "w")


def write_prior(
    path: str | Path,
    generator: AnyGenerator,
    discriminator: Discriminator | None,
    statistics: Mapping[str, Tensor],
    card: Mapping[str, Any],
) -> None:
    """Write a prior atomically, with or without a discriminator; `card` is completed by format and architecture.

    Raises:
        OutputError: it cannot be written.
        WeightsError: a number is not finite in half precision.
    """
    tensors: dict[str, Tensor] = {}
    parts = {"g": generator.state_dict(), "d": discriminator.state_dict() if discriminator else {}, "w": statistics}
    for prefix, values in parts.items():
        for name, value in values.items():
            # The covariance is inverted by its reader: half precision would leave its small directions off by factors.
            kept = torch.float32 if f"{prefix}.{name}" == "w.gauss_cov" else torch.float16
            half = value.detach().cpu().to(kept).contiguous()
            if not bool(torch.isfinite(half).all()):
                raise WeightsError(
                    f"{path}: {prefix}.{name} does not fit float16; the weights are broken, or a training has diverged"
                )
            tensors[f"{prefix}.{name}"] = half
    full = {**card, "format": FORMAT, "architecture": generator.arch.to_json()}
    write_bytes(path, save(tensors, {KEY: json.dumps(full, ensure_ascii=False)}))


def read_card(path: str | Path) -> dict[str, Any]:
    """Return a prior's card without reading its tensors.

    Raises:
        WeightsError: it is no prior, or a broken one.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: the file is broken or is no safetensors file ({error}); fetch it again") from None
    try:
        card = json.loads(metadata[KEY])
        if not isinstance(card, dict) or card.get("format") != FORMAT:
            raise ValueError(
                f"its format is {card.get('format') if isinstance(card, dict) else card!r}, this version reads {FORMAT}"
            )
    except KeyError:
        raise WeightsError(f"{path}: a safetensors file, but no latentface prior (it has no card)") from None
    except ValueError as error:
        raise WeightsError(f"{path}: the card cannot be read ({error})") from None
    return card


def identity(path: str | Path) -> str:
    """Return the sha256 that names a prior: of its file as it is without the card's figures.

    A file that has no figures yet (every one that `write_prior` writes) has the sha256 of its bytes.

    Raises:
        WeightsError: it is no prior, or a broken one.
    """
    return sha256(_refigured(path, None))


def write_figures(path: str | Path, figures: Mapping[str, Any]) -> None:
    """Replace the figures in a prior's card, atomically; every tensor keeps its bytes, and the prior its `identity`.

    Args:
        figures: plain JSON values; see `latentface.bench.prior.card` for those that `bench prior` writes.

    Raises:
        WeightsError: it is no prior, or a broken one. OutputError: it cannot be written.
    """
    write_bytes(Path(path).resolve(), _refigured(path, figures))  # a link stays one


def _refigured(path: str | Path, figures: Mapping[str, Any] | None) -> bytes:
    """Return a prior's file with other figures in its card, or with none.

    The file is the header's length (8 bytes), the header (JSON, filled with spaces to a multiple of 8) and the tensors,
    whose places count from the header's end. JSON is written as safetensors and `write_prior` write it, byte for byte.
    """
    read_card(path)  # whether it can be read at all
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    card = json.loads(header["__metadata__"][KEY])
    card.pop(FIGURES, None)
    if figures is not None:
        card[FIGURES] = figures
    header["__metadata__"][KEY] = json.dumps(card, ensure_ascii=False)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def architecture_of(card: Mapping[str, Any], path: str | Path) -> AnyArchitecture:
    """Return the architecture that a card names. Raises WeightsError."""
    try:
        return architecture_from(card["architecture"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: the card's architecture cannot be used ({error})") from None


def read_prior(path: str | Path) -> tuple[AnyGenerator, Discriminator | None, dict[str, Tensor], dict[str, Any]]:
    """Return generator, discriminator (where the file has one), latent statistics and card, in float32 on the CPU.

    Raises:
        WeightsError: it is no prior, broken, or its tensors do not fit its card.
    """
    card = read_card(path)
    arch = architecture_of(card, path)
    groups = _read_tensors(path)
    with torch.device("meta"):  # no time is spent on random numbers that the file replaces
        generator = generator_of(arch)
    _fill(generator, groups["g"], f"{path}: g")
    d = (arch.w_dim,)
    shapes = {"mean": d, "std": d, "gauss_mean": d, "gauss_std": d, "gauss_cov": d * 2}
    _check(groups["w"], shapes, f"{path}: w")
    return generator, _discriminator(groups["d"], arch, path), groups["w"], card


def read_discriminator(path: str | Path) -> tuple[Discriminator | None, dict[str, Any]]:
    """Return a prior's discriminator, None where its file has none, and its card. Raises WeightsError."""
    card = read_card(path)
    return _discriminator(_read_tensors(path, ("d",))["d"], architecture_of(card, path), path), card


def _read_tensors(path: str | Path, wanted: Sequence[str] = PARTS) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    try:
        with safe_open(str(path), framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  (safe_open is no mapping)
                prefix, _, name = key.partition(".")
                if prefix not in groups:
                    raise WeightsError(
                        f"{path}: {key} is no part of a prior's file, whose tensors are g.*, d.* and w.*"
                    )
                if prefix in wanted:
                    groups[prefix][name] = file.get_tensor(key).float()
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: the file is broken ({error}); fetch it again") from None
    return groups


def _discriminator(values: dict[str, Tensor], arch: AnyArchitecture, path: str | Path) -> Discriminator | None:
    if not values:
        return None
    if not isinstance(arch, Architecture):
        raise WeightsError(f"{path}: a discriminator beside a generator whose card names none; fetch the file again")
    with torch.device("meta"):
        discriminator = Discriminator(arch)
    _fill(discriminator, values, f"{path}: d")
    return discriminator


def _fill(module: nn.Module, values: dict[str, Tensor], label: str) -> None:
    _check(values, {name: tuple(value.shape) for name, value in module.state_dict().items()}, label)
    module.load_state_dict(values, assign=True)


def _check(values: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], label: str) -> None:
    for name, shape in shapes.items():
        if name not in values:
            raise WeightsError(f"{label}.{name} is missing; the file does not fit its card")
        if tuple(values[name].shape) != shape:
            raise WeightsError(f"{label}.{name} has shape {tuple(values[name].shape)}, expected {shape}")
        if not bool(torch.isfinite(values[name]).all()):
            raise WeightsError(f"{label}.{name} holds NaN or infinite values")
    extra = sorted(set(values) - set(shapes))
    if extra:
        raise WeightsError(f"{label}.{extra[0]} is not part of the architecture that the card names")
