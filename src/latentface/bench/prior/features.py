"""Features that sets of faces are compared in, each named: a Frechet distance means nothing without its features."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentface.degradation import resize
from latentface.errors import LatentfaceError
from latentface.io.weights import unfilled
from latentface.metrics.identity import IdentityNet
from latentface.metrics.lpips import read_keras
from latentface.metrics.trunks import SqueezeNet
from latentface.metrics.weights import locate

SQUEEZE_SIDE = 128  # px that every picture is brought to
INCEPTION_MISSING = (
    "Inception's weights are not part of this package's table of weights; the figures beside it are on other features"
)
# keras-squeezenet was trained on BGR less these means (Caffe's); the package's metrics feed it as LPIPS does, so here too.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


@dataclass(frozen=True, slots=True)
class Features:
    """A name for tables, a line that defines it, and pictures (B, 3, S, S) in [0, 1] -> (B, D) on the CPU."""

    name: str
    description: str
    embed: Callable[[Tensor], Tensor]


def squeezenet_features(device: torch.device, *, fetch: bool = True) -> Features:
    """Load the mean over pixels of keras-squeezenet's last Fire module, 512 numbers. Raises as `locate`."""
    with unfilled():
        trunk = SqueezeNet()
    path = locate("squeezenet-keras", fetch=fetch)
    trunk.load_published(read_keras(path), path.name)
    trunk.to(device).eval().requires_grad_(False)
    shift, scale = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (_SHIFT, _SCALE))

    @torch.no_grad()
    def embed(pictures: Tensor) -> Tensor:
        large = resize(pictures.to(device, torch.float32), SQUEEZE_SIDE).clamp(0, 1)
        features: list[Tensor] = trunk(((2 * large - 1) - shift) / scale)
        return features[-1].mean((2, 3)).cpu()

    text = f"the mean over pixels of keras-squeezenet's last Fire module (512 numbers), pictures brought bicubically to {SQUEEZE_SIDE} px"
    return Features("squeezenet", text, embed)


def open_features(device: torch.device, *, fetch: bool = True) -> tuple[dict[str, Features], dict[str, str]]:
    """Return the features that are at hand by name, and why the others are not."""
    found: dict[str, Features] = {}
    missing = {"inception": INCEPTION_MISSING}
    try:
        found["squeezenet"] = squeezenet_features(device, fetch=fetch)
    except LatentfaceError as error:
        missing["squeezenet"] = str(error)
    try:
        net, text = IdentityNet.load(fetch=fetch), "MobileFaceNet's embeddings of length 1 (128 numbers)"
        found["identity"] = Features("identity", text, lambda pictures: net.embed(pictures).cpu())
    except LatentfaceError as error:
        missing["identity"] = str(error)
    return found, missing


def gather(batches: Iterable[Tensor], features: Iterable[Features]) -> dict[str, Tensor]:
    """Return name -> (N, D), over batches of pictures (B, 3, S, S)."""
    kinds = list(features)
    rows: dict[str, list[Tensor]] = {kind.name: [] for kind in kinds}
    for batch in batches:
        for kind in kinds:
            rows[kind.name].append(kind.embed(batch))
    return {name: torch.cat(parts) for name, parts in rows.items() if parts}
