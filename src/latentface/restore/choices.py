"""What a page offers to choose: methods, and priors with what people should know of them; and pictures to try it with."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image

from latentface.degradation import resize
from latentface.devices import pick_device
from latentface.errors import InputError
from latentface.explore.registry import METHODS
from latentface.io.pictures import to_pillow
from latentface.io.sources import is_picture_name
from latentface.prior import registry
from latentface.prior.prior import Prior
from latentface.prior.registry import Say, load_prior, warn
from latentface.restore.settings import UpscaleSettings

Priors = Mapping[str, Prior]  # loaded, by name
FORMATS = ("png", "jpg", "webp", "tiff")  # of results
SEEDS, SIDE = (11, 23, 47), 32  # of the invented faces, and their px
ASTRONAUT = (0, 0, 440, 330)  # px of scikit-image's picture: left, top, right, bottom
TRUNCATION = 0.7  # of the samples: typical faces


def method_lines() -> dict[str, str]:
    """Return the methods' names, the default one first, each with what it is."""
    default = UpscaleSettings().method
    return {name: METHODS[name].summary for name in sorted(METHODS, key=lambda name: name != default)}


def offered_priors(named: str | None = None, device: str = "auto", *, offline: bool = False, say: Say = warn) -> Priors:
    """Load the prior that is named, or the default one, and the embedded one, which is quick; by name.

    Raises what `load_prior` raises, and InputError: no such device.
    """
    where = pick_device(device)
    first = load_prior(named, where, say=say, offline=offline)
    second = first if first.name == registry.EMBEDDED else load_prior(registry.EMBEDDED, where)
    return {prior.name: prior for prior in (first, second)}


@torch.no_grad()
def sample_faces(prior: Prior, seeds: Sequence[int], side: int) -> list[Image.Image]:
    """Draw faces that the prior invents, one a seed, shrunk to so many px a side."""
    z = torch.cat([torch.randn(1, prior.z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    w = prior.mapping(z.to(prior.device))
    faces = prior.synthesis(prior.w_mean + TRUNCATION * (w - prior.w_mean))
    return [to_pillow(face) for face in resize(faces.float(), side).clamp(0, 1).cpu()]


def pictures_to_try(priors: Priors, folder: Path, more: Path | None = None) -> tuple[dict[Path, str], str]:
    """Write pictures that may be shown into `folder`; return them with their names, and in words where others come from.

    NASA's astronaut, where scikit-image is installed, faces that the smallest prior invents, and copies of the pictures in
    `more`, whose CITATION.txt says where they come from. Raises InputError: there is no such folder.
    """
    folder.mkdir(parents=True)
    named: dict[Path, str] = {}
    if find_spec("skimage"):
        astronaut = Image.fromarray(importlib.import_module("skimage.data").astronaut())
        named[folder / "astronaut.png"] = "NASA's astronaut"
        astronaut.crop(ASTRONAUT).resize((176, 132), Image.Resampling.LANCZOS).save(folder / "astronaut.png")
    smallest = min(priors.values(), key=lambda prior: prior.resolution)
    for number, face in enumerate(sample_faces(smallest, SEEDS, SIDE), 1):
        named[folder / f"invented-{number}.png"] = f"invented face {number}"
        face.save(folder / f"invented-{number}.png")
    if more is None:
        return named, ""
    if not more.is_dir():
        raise InputError(f"{more}: there is no such folder of pictures to try")
    for path in sorted(p for p in more.iterdir() if is_picture_name(p.name)):
        named[Path(shutil.copy(path, folder))] = path.stem
    citation = more / "CITATION.txt"
    return named, citation.read_text(encoding="utf-8") if citation.is_file() else ""
