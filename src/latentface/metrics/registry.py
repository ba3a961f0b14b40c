"""The table of metrics: what each is called, means and needs. Reading it loads nothing."""

import importlib.util
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Literal

from latentface.errors import UnknownNameError
from latentface.metrics import weights

Reference = Literal["none", "truth", "input", "other photo"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        direction: which is better; range: least and greatest value; unit: "" for a plain number.
        scope: one number for each "image", one for a whole "set", or measured during the "run" by the searcher.
        reference: what a result is compared with.
        least_side: the smallest faces that it can be computed on, in px.
        description: one line, with the definition and what the figure can be compared with.
        files: names of weights in `latentface.metrics.weights.FILES`; modules: optional packages, of the extra `metrics`.
        network: the recognition network behind it, by its weights' name.
    """

    name: str
    direction: Literal["higher", "lower"]
    range: tuple[float, float]
    description: str
    unit: str = ""
    scope: Literal["image", "set", "run"] = "image"
    reference: Reference = "truth"
    files: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    least_side: int = 1
    network: str = ""

    @property
    def title(self) -> str:
        """What heads a table's row: of a figure that one recognition network gives, that network is named."""
        return f"{self.name.removesuffix('-sface')} ({NETWORKS[self.network]})" if self.network else self.name

    def at_hand(self) -> bool:
        """Say whether it can be computed here and now, with nothing fetched."""
        return not self._lacking_files() and not self._lacking_modules()

    def how(self) -> str:
        """Say in one line how to get what it lacks; "" when it is at hand."""
        install = ["pip install 'latentface[metrics]'"] if self._lacking_modules() else []
        files = [f"{weights.FILES[name].file}: {weights.FILES[name].advice}" for name in self._lacking_files()]
        return "; ".join(install + files)

    def _lacking_files(self) -> list[str]:
        return [name for name in self.files if weights.find(name) is None]

    def _lacking_modules(self) -> list[str]:
        return [name for name in self.modules if importlib.util.find_spec(name) is None]


NETWORKS = {"mobilefacenet": "MobileFaceNet", "sface": "SFace"}
_higher = partial(Metric, direction="higher")
_lower = partial(Metric, direction="lower", range=(0, inf))
_TABLE = (
    _higher(name="psnr", range=(0, 150), unit="dB", description="PSNR over RGB"),
    _higher(name="psnr-y", range=(0, 150), unit="dB", description="PSNR on the luma Y (BT.601, 16 to 235 of 255)"),
    _higher(
        name="ssim",
        range=(-1, 1),
        least_side=11,
        description="SSIM of Wang 2004 on the luma Y: Gaussian 11, sigma 1.5, valid border",
    ),
    *(
        _lower(
            name=f"lpips-{net}",
            files=(f"lpips-{net}", trunk),
            least_side=32,
            description=f"LPIPS v0.1 on {title}; not comparable below 64 px",
        )
        for net, title, trunk in (
            ("alex", "AlexNet", "alexnet"),
            ("vgg", "VGG16", "vgg16"),
            ("squeeze", "SqueezeNet 1.1", "squeezenet"),
        )
    ),
    _lower(
        name="squeezenet-distance",
        files=("lpips-squeeze", "squeezenet-keras"),
        modules=("h5py",),
        least_side=32,
        description="feature distance on keras-squeezenet with LPIPS's heads; it is not LPIPS, nothing published compares",
    ),
    _lower(
        name="niqe",
        reference="none",
        files=("niqe",),
        description="NIQE with everything brought to 256 px bicubically; not comparable with other sizes",
    ),
    _lower(
        name="niqe-pooled",
        scope="set",
        reference="none",
        files=("niqe",),
        least_side=96,
        description="one NIQE from all faces' 96 px blocks at native size; compare sets of about equal count only",
    ),
    *(
        _higher(
            name=f"identity{ending}",
            range=(-1, 1),
            files=(network,),
            network=network,
            description=f"cosine of {NETWORKS[network]} embeddings, result against truth; it identifies nobody",
        )
        for network, ending in (("mobilefacenet", ""), ("sface", "-sface"))
    ),
    *(
        _higher(
            name=f"verification-{name}{ending}",
            range=(0, 1),
            scope="set",
            reference="other photo",
            files=(network,),
            network=network,
            description=f"{what} ({NETWORKS[network]})",
        )
        for network, ending in (("mobilefacenet", ""), ("sface", "-sface"))
        for name, what in (
            ("auc", "chance that another photo of the same person matches better than someone else's"),
            ("tar", "share of people whose other photo is accepted where 1 % of other people's are"),
            (
                "rank1",
                "share of people whose other photo matches better than everybody else's; falls with the set's size",
            ),
        )
    ),
    _higher(
        name="consistency",
        range=(0, 150),
        unit="dB",
        reference="input",
        description="PSNR of the result, shrunk again, against the input",
    ),
    _higher(
        name="null-space",
        range=(-1, 1),
        description="cosine of invented and lost detail, Y - A+ A Y of result and truth",
    ),
    _lower(
        name="frechet",
        range=(0, 4),
        scope="set",
        files=("mobilefacenet",),
        network="mobilefacenet",
        description="Frechet distance of the sets' MobileFaceNet embeddings of length 1; it is not FID",
    ),
    _lower(
        name="seconds", unit="s", scope="run", reference="none", description="time a face, measured by the searcher"
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}


def find_metric(name: str) -> Metric:
    """Return the metric of that name. Raises UnknownNameError."""
    if name not in METRICS:
        raise UnknownNameError("metric", name, METRICS)
    return METRICS[name]
