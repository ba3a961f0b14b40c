"""Other people's generators as priors of ours: which kind a file is, what is inside, and our file of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentface.errors import InputError, WeightsError, WrongFileError
from latentface.io.kinds import kind_of
from latentface.io.opcodes import mapping as plain_mapping
from latentface.io.opcodes import one_line
from latentface.io.torch_files import floats, read_checkpoint
from latentface.prior.family import AnyGenerator
from latentface.prior.foreign import mobile, nvidia, pulse, rosinality, tensorflow
from latentface.prior.foreign.unpickle import Module, TfNetwork, read_networks
from latentface.prior.formats import ALIGNMENTS, write_prior
from latentface.prior.statistics import latent_statistics
from latentface.prior.stylegan2 import Discriminator

DRAWS = 100_000  # of the latent statistics
MOST_WIDE, MOST_DEEP = 4096, 64  # of the latent spaces and of the mapping network
UNKNOWN = (
    "unknown: whoever trained the file sets the terms (NVIDIA's own weights: research and non-commercial use only)"
)
OLD_CHECKPOINT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the first pickle of PyTorch's old format
# Names that checkpoints of trainers have beside tensors; what they stand for becomes plain data, or a word.
TRAINERS = {
    "argparse.Namespace": plain_mapping,
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint": None,
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping": None,
    "pytorch_lightning.utilities.parsing.AttributeDict": plain_mapping,
}
ORIGINS = {
    "nvidia": "a pickle of NVIDIA's PyTorch release",
    "tensorflow": "a pickle of NVIDIA's TensorFlow release",
    "rosinality": "a checkpoint of rosinality's stylegan2-pytorch",
    "pulse": "PULSE's synthesis and mapping files",
    "mobile": "a checkpoint of MobileStyleGAN's trainer",
}


@dataclass(frozen=True, slots=True)
class Content:
    """What a foreign file holds, before a network is built: its kind (of ORIGINS), and networks or tensors by part."""

    kind: str
    networks: Mapping[str, Module | TfNetwork]
    tensors: Mapping[str, Mapping[str, Tensor]]


def is_foreign(path: str | Path) -> bool:
    """Say whether a file begins as a pickle or as a checkpoint of PyTorch. Raises WeightsError: it cannot be read."""
    try:
        found = kind_of(path) or ""
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file") from None
    except OSError as error:
        raise WeightsError(f"{path}: it cannot be read ({error.strerror})") from None
    return "pickle" in found or "checkpoint" in found


def read_content(path: str | Path) -> Content:
    """Read a foreign file as data. Raises WeightsError, UnsafeFileError: see `read_networks` and `read_checkpoint`."""
    if not is_foreign(path):
        raise WrongFileError(f"{path}: this is {kind_of(path) or 'no file that is known'}; {EXPECTED}")
    with open(path, "rb") as file:
        head = file.read(len(OLD_CHECKPOINT))
    if head[:1] == b"\x80" and head != OLD_CHECKPOINT:
        networks = read_networks(path)
        kind = "nvidia" if all(isinstance(net, Module) for net in networks.values()) else "tensorflow"
        return Content(kind, networks, {})
    content = read_checkpoint(path, TRAINERS)
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: it holds a {type(content).__name__}; {EXPECTED}")
    parts = {name: _tensors(content.get(name), path) for name in ("g_ema", "g", "d", "state_dict")}
    if parts["g_ema"] or parts["g"]:
        parts["g_ema"] = parts["g_ema"] or parts["g"]
        mean = content.get("latent_avg")
        parts["mean"] = {"w": mean} if isinstance(mean, Tensor) else {}
        return Content("rosinality", {}, parts)
    if any(name.startswith("student.") for name in parts["state_dict"]):
        return Content("mobile", {}, {"student": parts["state_dict"]})
    plain = _tensors(content, path)
    if "input.input" in plain and "style.1.weight" in plain:
        return Content("rosinality", {}, {"g_ema": plain, "d": {}, "mean": {}})
    part = {"torgb.weight": "synthesis", "dense0.weight": "mapping"}
    found = next((name for key, name in part.items() if key in plain), None)
    if found is None:
        names = ", ".join(list(plain)[:3]) or ", ".join(str(key)[:40] for key in list(content)[:3])
        raise WeightsError(f"{path}: no generator that is known ({one_line(names)}, ...); {EXPECTED}")
    return Content("pulse", {}, {found: plain})


EXPECTED = "expected StyleGAN2 or StyleGAN3 as NVIDIA's pickle, rosinality's checkpoint, PULSE's files, or MobileStyleGAN's .ckpt"


def _tensors(found: Any, path: str | Path) -> dict[str, Tensor]:
    items = found.items() if isinstance(found, dict) else ()
    try:
        return floats((k.removeprefix("module.") if isinstance(k, str) else k, v) for k, v in items)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from None


def networks_of(
    path: str | Path, mapping: str | Path | None = None
) -> tuple[AnyGenerator, Discriminator | None, dict[str, Any]]:
    """Return a foreign file's averaged generator, its discriminator if there is one, and lines for a card.

    `mapping` is PULSE's second file. Raises WeightsError: broken, or built otherwise than the families that are known.
    UnsafeFileError: it asks for more than data; nothing of it was run.
    """
    label, content = str(path), read_content(path)
    nets, parts = content.networks, content.tensors
    generator: AnyGenerator
    judge: Discriminator | None = None
    if content.kind in ("nvidia", "tensorflow"):
        best, d = nets.get("G_ema", nets.get("G")), nets.get("D")
        if isinstance(best, Module):
            generator = nvidia.generator_of(best, label)
            judge = nvidia.discriminator_of(d, label) if isinstance(d, Module) else None
        elif isinstance(best, TfNetwork):
            generator = tensorflow.generator_of(best, label)
            judge = tensorflow.discriminator_of(d, label) if isinstance(d, TfNetwork) else None
        else:
            raise WeightsError(f"{path}: there is no generator in it")
    elif content.kind == "rosinality":
        generator = rosinality.generator_of(parts["g_ema"], label, parts["mean"].get("w"))
        judge = rosinality.discriminator_of(parts["d"], label) if parts["d"] else None
    elif content.kind == "mobile":
        generator = mobile.generator_of(parts["student"], label)
    else:
        generator = pulse.generator_of(*_pulse_pair(path, content, mapping), label)
    return generator, judge, {"origin": ORIGINS[content.kind]}


def _pulse_pair(
    path: str | Path, content: Content, mapping: str | Path | None
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    if mapping is None:
        raise InputError(f"{path}: this is one of PULSE's two files; give the synthesis file, and --mapping MAPPING.pt")
    parts = {**content.tensors, **read_content(mapping).tensors}
    if set(parts) != {"synthesis", "mapping"}:
        raise WeightsError(f"{path}, {mapping}: expected PULSE's synthesis and its mapping network")
    return parts["synthesis"], parts["mapping"]


@torch.no_grad()
def convert(
    path: str | Path,
    output: str | Path,
    *,
    mapping: str | Path | None = None,
    alignment: str = "ffhq",
    licence: str = UNKNOWN,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a prior's file of a foreign one; numbers keep float32. Return the file.

    Args:
        mapping: PULSE's second file.
        alignment: how the faces stand that it was trained on, "ffhq" or "celeba"; licence, facts: lines for the card.

    Raises WeightsError, UnsafeFileError: see `networks_of`. OutputError: it cannot be written.
    """
    if alignment not in ALIGNMENTS:
        raise InputError(f"alignment is {alignment!r}, expected one of {', '.join(ALIGNMENTS)}")
    generator, judge, found = networks_of(path, mapping)
    arch = generator.arch
    if max(arch.z_dim, arch.w_dim) > MOST_WIDE or arch.mapping_layers > MOST_DEEP:
        raise WeightsError(
            f"{path}: z of {arch.z_dim}, w of {arch.w_dim} numbers, {arch.mapping_layers} layers between; no such network is known"
        )
    for name, value in generator.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{path}: {name} holds NaN or infinite values")
    generator.eval().requires_grad_(False)
    statistics = latent_statistics(generator.mapping, arch.z_dim, DRAWS)
    average = getattr(generator.mapping, "w_avg", None)
    if isinstance(average, Tensor) and not average.any():
        average.copy_(statistics["mean"])
    with open(path, "rb") as file:
        source = hashlib.file_digest(file, "sha256").hexdigest()
    card = {"alignment": alignment, "licence": licence, **found, **(facts or {}), "source_sha256": source}
    write_prior(output, generator, judge, statistics, card, exact=True)
    return Path(output)


def describe(path: str | Path) -> dict[str, Any]:
    """Return what is inside a foreign file, without building it: its kind, and each network's class, sizes, numbers."""
    content = read_content(path)
    networks: dict[str, Any] = {}
    for name, net in content.networks.items():
        try:
            tensors = net.tensors()
        except ValueError as error:
            raise WeightsError(f"{path}: {name}: {error}") from None
        facts = net.state if isinstance(net, Module) else net.arguments
        kept = {
            k: v for k, v in facts.items() if isinstance(k, str) and k.isidentifier() and isinstance(v, int | float)
        }
        kind = net.kind if isinstance(net, Module) else "a network of TensorFlow"
        networks[name] = {"class": kind, **kept, **_counted(tensors)}
    networks |= {name: _counted(tensors) for name, tensors in content.tensors.items() if tensors}
    file = Path(path)
    return {
        "name": file.stem,
        "path": str(path),
        "bytes": file.stat().st_size,
        "kind": ORIGINS[content.kind],
        "networks": networks,
        "licence": UNKNOWN,
        "convert": f"latentface models convert {file.name} -o {file.stem}.safetensors",
    }


def _counted(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    return {"tensors": len(tensors), "numbers": sum(value.numel() for value in tensors.values())}
