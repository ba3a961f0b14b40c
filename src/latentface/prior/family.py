"""The generator families, and which one a card names.

A family's generator has `arch`, `mapping`, `style` and `synthesis`, and says by `halves` whether its features may be
computed in half precision beside float32 weights. Its synthesis network makes pictures of w_plus by blocks named `b4`,
`b8`, ... after their sides, between which it may be entered and left; `noise_shapes`, `repaint` and `work` tell the
searches about them. The families' networks say the rest.
"""

from collections.abc import Callable, Mapping
from typing import Any

from latentface.prior.architecture import Architecture
from latentface.prior.mobilestylegan import MobileArchitecture, MobileGenerator
from latentface.prior.stylegan1 import FirstArchitecture, FirstGenerator
from latentface.prior.stylegan2 import Generator
from latentface.prior.stylegan3 import AliasFreeArchitecture, AliasFreeGenerator

AnyArchitecture = Architecture | MobileArchitecture | AliasFreeArchitecture | FirstArchitecture
AnyGenerator = Generator | MobileGenerator | AliasFreeGenerator | FirstGenerator

ARCHITECTURES: dict[str, Callable[..., AnyArchitecture]] = {
    "stylegan2": Architecture,
    "mobilestylegan": MobileArchitecture,
    "stylegan3": AliasFreeArchitecture,
    "stylegan1": FirstArchitecture,
}


def architecture_from(described: Mapping[str, Any]) -> AnyArchitecture:
    """Return the architecture of a card's entry; TypeError or ValueError where it is none."""
    values = dict(described)
    family = str(values.pop("family", "stylegan2"))
    if family not in ARCHITECTURES:
        raise ValueError(f"its family is {family!r}, this version knows {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[family](**values)


def generator_of(arch: AnyArchitecture) -> AnyGenerator:
    """Build the generator of an architecture, with random weights."""
    match arch:
        case Architecture():
            return Generator(arch)
        case MobileArchitecture():
            return MobileGenerator(arch)
        case AliasFreeArchitecture():
            return AliasFreeGenerator(arch)
        case FirstArchitecture():
            return FirstGenerator(arch)
