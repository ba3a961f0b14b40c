"""What a perceptual loss looks through: the prior's own discriminator, or VGG16 where its weights are at hand."""

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import Degradation
from latentface.errors import UnknownNameError
from latentface.explore.losses import Trunk, discriminator
from latentface.prior.prior import Prior

TRUNKS = ("discriminator", "vgg16")
VGG_SIDE = 256  # the side at which mGANprior's code shows pictures to VGG16


def make_trunk(name: str, prior: Prior, degradation: Degradation) -> Trunk:
    """Return a trunk by its name.

    "discriminator": D's residual blocks. "vgg16": torchvision's after relu1_2, 2_2, 3_3, 4_3 and 5_3, pictures enlarged to
    256 px by repeating pixels.

    Raises:
        UnknownNameError: no such trunk. WeightsError: the prior has no judge.
        MissingDataError: VGG16's weights are not at hand.
    """
    if name == "discriminator":
        return discriminator(prior, degradation)
    if name != "vgg16":
        raise UnknownNameError("trunk", name, TRUNKS)
    from latentface.metrics.trunks import Vgg16
    from latentface.metrics.weights import locate, read_file

    path = locate("vgg16")
    vgg = Vgg16().eval().requires_grad_(False)
    vgg.load_published(read_file(path), path.name)
    vgg = vgg.to(prior.device, prior.dtype)
    mean, std = (v.to(prior.device, prior.dtype).view(1, 3, 1, 1) for v in _imagenet())

    def look(x: Tensor) -> list[Tensor]:
        upright = x if degradation.mask is None else degradation.fit(x)  # a photograph's face is turned first
        features: list[Tensor] = vgg(F.interpolate((upright - mean) / std, size=(VGG_SIDE, VGG_SIDE), mode="nearest"))
        return features

    return look


def _imagenet() -> tuple[Tensor, Tensor]:
    return torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
