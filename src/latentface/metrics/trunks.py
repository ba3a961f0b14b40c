"""The trunks under LPIPS as plain modules: AlexNet, VGG16 and SqueezeNet 1.1, up to their last tapped ReLU or Fire.

Their parameters bear torchvision's key names (`features.0.weight`, ...), so its published files load as they are.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from latentface.errors import WeightsError


class Trunk(nn.Module):
    """A chain of layers whose outputs at `taps` are the features.

    Attributes:
        taps: indices into `features`; channels: how many each tap has.
    """

    taps: tuple[int, ...]
    channels: tuple[int, ...]

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of normalised pictures (B, 3, H, W), one (B, C, h, w) a tap."""
        outputs = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                outputs.append(x)
        return outputs

    def load_published(self, state: Mapping[str, Tensor], name: str) -> None:
        """Load torchvision's state dictionary, its classifier and untapped layers left out.

        Raises WeightsError: a tensor is missing or has another shape.
        """
        wanted = self.state_dict()
        for key, value in wanted.items():
            if key not in state or state[key].shape != value.shape:
                got = tuple(state[key].shape) if key in state else "nothing"
                raise WeightsError(f"{name}: {key} is {got}, expected {tuple(value.shape)}; fetch the file again")
        self.load_state_dict({key: state[key] for key in wanted}, assign=True)


class AlexNet(Trunk):
    """torchvision's alexnet (Krizhevsky 2014) after each of its 5 ReLUs."""

    taps = (1, 4, 7, 9, 11)
    channels = (64, 192, 384, 256, 256)

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
        layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
        for width, channels in ((192, 384), (384, 256), (256, 256)):
            layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
        super().__init__(layers)


class Vgg16(Trunk):
    """torchvision's vgg16 (Simonyan and Zisserman 2015) after relu1_2, 2_2, 3_3, 4_3 and 5_3."""

    taps = (3, 8, 15, 22, 29)
    channels = (64, 128, 256, 512, 512)

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        width = 3
        for block, (repeats, channels) in enumerate(zip((2, 2, 3, 3, 3), self.channels, strict=True)):
            if block:
                layers.append(nn.MaxPool2d(2, 2))
            for _ in range(repeats):
                layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
                width = channels
        super().__init__(layers)


class Fire(nn.Module):
    """SqueezeNet's module: a 1x1 squeeze, then 1x1 and 3x3 expansions side by side."""

    def __init__(self, width: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> (B, 2 expand, h, w)."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


class SqueezeNet(Trunk):
    """torchvision's squeezenet1_1 (Iandola 2016) after its first ReLU and Fires 3, 5, 6, 7, 8 and 9."""

    taps = (1, 4, 7, 9, 10, 11, 12)
    channels = (64, 128, 256, 384, 384, 512, 512)
    fires = (3, 4, 6, 7, 9, 10, 11, 12)  # where Fire 2 ... Fire 9 stand in `features`

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
        layers += [Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True)]
        layers += [Fire(128, 32, 128), Fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True)]
        layers += [Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)]
        super().__init__(layers)
