"""The prior's file: safetensors with `g.*` (averaged generator), `d.*` (discriminator), `w.*` (latent statistics).

The metadata key `latentface` holds the card as JSON. Its `figures` are what was measured of the prior afterwards:
`identity` leaves them out, so results, encoders and caches that name a prior stay its own when its figures are written
into the file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from latentface.errors import WeightsError
from latentface.io import weights
from latentface.io.atomic import sha256, write_bytes
from latentface.io.weights import check_tensors, filled, read_tensors, write_weights
from latentface.prior.architecture import Architecture, discriminator_facts, discriminator_from
from latentface.prior.family import AnyArchitecture, AnyGenerator, architecture_from, generator_of
from latentface.prior.stylegan2 import Discriminator

KEY = weights.KEYS["prior"]
FIGURES = "figures"  # the card's part that may be rewritten
ALIGNMENTS = ("ffhq", "celeba")
PARTS = ("g", "d", "w")


def write_prior(
    path: str | Path,
    generator: AnyGenerator,
    discriminator: Discriminator | None,
    statistics: Mapping[str, Tensor],
    card: Mapping[str, Any],
    *,
    exact: bool = False,
) -> None:
    """Write a prior atomically, with or without a discriminator; `card` is completed by format and architecture.

    `exact` keeps every number in float32, so that the file's networks are the given ones to the last bit; else they
    are in half precision. A discriminator that does not follow from the generator's architecture has the card's entry
    `judge`. Raises OutputError: it cannot be written. WeightsError: a number is not finite in half precision.
    """
    parts = {"g": generator.state_dict(), "d": discriminator.state_dict() if discriminator else {}, "w": statistics}
    tensors = {f"{prefix}.{name}": value for prefix, values in parts.items() for name, value in values.items()}
    facts: dict[str, Any] = {"architecture": generator.arch.to_json()}
    judge = discriminator_facts(discriminator.arch) if discriminator else {}
    if any(facts["architecture"].get(name, "none") != value for name, value in judge.items()):
        facts["judge"] = judge
    # The covariance is inverted by its reader: half precision would leave its small directions off by factors.
    write_weights(path, "prior", tensors, card, facts, wide=tensors if exact else ("w.gauss_cov",))


def read_card(path: str | Path) -> dict[str, Any]:
    """Return a prior's card without reading its tensors. Raises WeightsError: it is no prior, or a broken one."""
    return weights.read_card(path, "prior")


def identity(path: str | Path) -> str:
    """Return the sha256 that names a prior: of its file as it is without the card's figures.

    A file that has no figures yet (every one that `write_prior` writes) has the sha256 of its bytes. Raises
    WeightsError: it is no prior, or a broken one.
    """
    return sha256(_refigured(path, None))


def write_figures(path: str | Path, figures: Mapping[str, Any]) -> None:
    """Replace the figures in a prior's card, atomically; every tensor keeps its bytes, and the prior its `identity`.

    Raises WeightsError: it is no prior, or a broken one. OutputError: it cannot be written.
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

    Raises WeightsError: it is no prior, broken, or its tensors do not fit its card.
    """
    card = read_card(path)
    arch = architecture_of(card, path)
    groups: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for key, value in read_tensors(path).items():
        prefix, _, name = key.partition(".")
        if prefix not in groups:
            raise WeightsError(f"{path}: {key} is no part of a prior's file, whose tensors are g.*, d.* and w.*")
        groups[prefix][name] = value
    statistics = {name: value.float() for name, value in groups["w"].items()}
    d = (arch.w_dim,)
    shapes = {"mean": d, "std": d, "gauss_mean": d, "gauss_std": d, "gauss_cov": d * 2}
    generator = filled(lambda: generator_of(arch), groups["g"], f"{path}: g.")
    check_tensors(statistics, shapes, f"{path}: w.")
    return generator, _discriminator(groups["d"], card, path), statistics, card


def read_discriminator(path: str | Path) -> tuple[Discriminator | None, dict[str, Any]]:
    """Return a prior's discriminator, None where its file has none, and its card. Raises WeightsError."""
    card = read_card(path)
    values = {name.removeprefix("d."): value for name, value in read_tensors(path, "d.").items()}
    return _discriminator(values, card, path), card


def _discriminator(values: dict[str, Tensor], card: Mapping[str, Any], path: str | Path) -> Discriminator | None:
    if not values:
        return None
    arch: AnyArchitecture
    try:
        arch = discriminator_from(card["judge"]) if "judge" in card else architecture_of(card, path)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: the card's discriminator cannot be used ({error})") from None
    if not isinstance(arch, Architecture):
        raise WeightsError(f"{path}: a discriminator beside a generator whose card names none; fetch the file again")
    return filled(lambda: Discriminator(arch), values, f"{path}: d.")
