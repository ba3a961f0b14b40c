"""The methods by name: where each is, its presets, and one line about it. Nothing is imported until it is used."""

import importlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from latentface.errors import InputError, UnknownNameError

WEIGHTS_ENDINGS = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True, slots=True)
class Method:
    """A method that `upscale` and `bench` can call.

    Attributes:
        name, summary, source: what people read; module, settings_class: where the code is, `explore/NAME.py` by default.
        presets: "paper" (published settings) and "equal" (as many generator passes as RLSE's 100 steps and 16 draws,
            which is 105); PULSE has "eps", its own stopping rule, and ESRGAN "l1", its first stage, too.
        searches: whether it states a problem (`explore.engine.Problem`) in a prior's latent space; the others answer at once.
        seeded: whether another seed gives another face (from a random start); starts: whether it can begin at a w_plus.
        batch_independent: whether a face's numbers are the same in a batch, where the prior's are (PyTorch's atan2, of geocross, are not).
        coarse: whether most of its steps may be made at an exit of the prior (`explore.coarse`), which the published rivals'
            may not; stops: whether it has a setting `stop`; photographs: whether it takes faces that stand in photographs.
        files: the weights that are fetched for it, by their names in `metrics.weights`.
    """

    name: str
    summary: str
    source: str
    module: str = ""
    settings_class: str = ""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"paper": {}, "equal": {}})
    searches: bool = True
    seeded: bool = True
    starts: bool = False
    batch_independent: bool = False
    coarse: bool = False
    stops: bool = False
    photographs: bool = True
    files: tuple[str, ...] = ()

    @property
    def function(self) -> Callable[..., Any]:
        """The method itself: (prior, low, degradation, settings, seeds, start) -> Problem or (low, degradation, settings) -> high.

        One that answers at once and is `seeded` takes the seeds, too.
        """
        function: Callable[..., Any] = self._named(self.name)
        return function

    def _named(self, name: str) -> Any:
        return getattr(importlib.import_module(self.module or f"latentface.explore.{self.name}"), name)

    def settings(self, preset: str = "equal", **changes: Any) -> Any:
        """Return its settings: a preset, with changes; "default" has the settings of "paper".

        Raises:
            UnknownNameError: no such preset. InputError: a change that the settings do not have.
        """
        preset = "paper" if preset == "default" else preset
        if preset not in self.presets:
            raise UnknownNameError(f"preset of {self.name}", preset, ("default", *self.presets))
        try:
            return self._named(self.settings_class or f"{self.name.capitalize()}Settings")(
                **{**self.presets[preset], **changes}
            )
        except TypeError as error:
            raise InputError(f"{self.name}: {error}") from None


def _interpolation(name: str) -> Method:
    return Method(
        name=name,
        summary=f"{name} interpolation",
        source="the field's floor",
        module="latentface.explore.interpolate",
        settings_class="MethodSettings",
        searches=False,
        seeded=False,
    )


def _supervised(name: str, title: str, source: str, **presets: Mapping[str, Any]) -> Method:
    return Method(
        name=name,
        presets={"paper": {}, "equal": {}, **presets},
        summary=f"{title}: trained on pairs of small and large faces; one answer, no search",
        source=source,
        module="latentface.supervised.methods",
        settings_class="SupervisedSettings",
        searches=False,
        seeded=False,
        photographs=False,  # they were trained on squares
    )


def _rival(name: str, title: str, source: str, files: int) -> Method:
    return Method(
        name=name,
        summary=f"{title}: made for photographs of anything; fetched at first use; one answer, no search",
        source=source,
        module="latentface.supervised.rivals",
        settings_class="MethodSettings",
        searches=False,
        seeded=False,
        photographs=False,
        files=tuple(f"{name}-{index}" for index in range(files)),
    )


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        _interpolation("bilinear"),
        _interpolation("bicubic"),
        Method(
            name="rlse",
            summary="latent exploration with a pixel and a discriminator semantic loss (the default)",
            source="Shi, Zhang, Li, Ge; ICASSP 2022",
            starts=True,
            batch_independent=True,
            coarse=True,
            stops=True,
            presets={"paper": {}, "equal": {}, "fast": {"pixel_norm": "prior", "semantic_weight": 0.0}},
        ),
        # Each `paper` is the published search; each `equal` was tuned for its budget: docs/methods.md.
        Method(
            name="pulse",
            summary="style rows and noise maps on spheres, with a geodesic distance between the rows",
            source="Menon, Damian, Hu, Ravi, Rudin; CVPR 2020",
            starts=True,
            presets={
                "paper": {},
                "eps": {"stop_at_eps": True},
                "equal": {"steps": 105, "tied": True, "geocross": 0.002, "eps": 0.0},
            },
        ),
        Method(
            name="mganprior",
            summary="several codes, their features mixed by channel weights",
            source="Gu, Shen, Zhou; CVPR 2020",
            presets={
                "paper": {},
                "equal": {"codes": 5, "steps": 42, "optimiser": "adam", "rate": 0.2, "feature_weight": 0.8},
            },
        ),
        Method(
            name="dgp",
            summary="a latent code and the generator's own weights, block by block, by discriminator features",
            source="Pan, Zhan, Dai, Lin, Loy, Luo; ECCV 2020",
            starts=True,
            presets={
                "paper": {},
                "equal": {
                    "steps": (17,) * 5,
                    "space": "w_plus",
                    "candidates": 60,
                    "latent_rates": (0.1, 0.1, 0.05, 0.02, 0.01),
                    "generator_rates": (3e-4,) * 5,
                },
            },
        ),
        Method(
            name="ilo",
            summary="style rows, then features deeper and deeper in the generator",
            source="Daras, Dean, Jalal, Dimakis; ICML 2021",
            starts=True,
            presets={"paper": {}, "equal": {"steps": (90, 5, 5, 5), "tied": True, "rate": 0.4, "geocross": 0.002}},
        ),
        Method(
            name="rls",
            summary="style rows from the mean, held where a normalising flow says that w are likely",
            source="Gheisari, Genovesio; NeurIPS workshop 2022",
            seeded=False,  # as published, it starts from the mean w
            starts=True,
            presets={
                "paper": {},
                "equal": {"steps": 105, "rate": 0.1, "density_weight": 5e-4, "norm_weight": 1e-3, "cross_weight": 0.1},
            },
        ),
        _supervised("vdsr", "VDSR", "Kim, Lee, Lee; CVPR 2016"),
        _supervised("esrgan", "ESRGAN", "Wang et al.; ECCV workshops 2018", l1={"stage": "pixel"}),
        _supervised("fsrnet", "FSRNet (68 landmarks)", "Chen, Tai, Liu, Shen, Yang; CVPR 2018"),
        Method(
            name="pmrf",
            presets={"paper": {}, "equal": {}, "fast": {"steps": 5}},
            summary="posterior-mean rectified flow: a supervised mean answer, carried to a plausible face in 5 to 25 steps",
            source="Ohayon, Michaeli, Elad 2024",
            module="latentface.supervised.methods",
            settings_class="PmrfSettings",
            searches=False,
            photographs=False,
        ),
        _rival("realesrgan", "Real-ESRGAN x4", "Wang, Xie, Dong, Shan; ICCV workshops 2021", 2),
        _rival("rrdn", "RRDN of native 8x", "UpscalerJS, esrgan-thick, after idealo 2018", 9),
    )
}


def with_steps(settings: Any, steps: int) -> Any:
    """Return settings with so many iterations; each of several stages keeps its share, and one at least.

    Raises:
        InputError: fewer iterations than stages.
    """
    stages = settings.steps
    if not isinstance(stages, tuple):
        return replace(settings, steps=steps)
    if steps < len(stages):
        raise InputError(f"steps is {steps}; this method has {len(stages)} stages, each of which needs one at least")
    ends = [0]
    for k in range(1, len(stages) + 1):
        end = round(steps * sum(stages[:k]) / sum(stages))
        ends.append(max(ends[-1] + 1, min(end, steps - (len(stages) - k))))
    return replace(settings, steps=tuple(b - a for a, b in itertools.pairwise(ends)))


def methods() -> dict[str, str]:
    """Return the methods' names, each with one line about it."""
    return {name: method.summary for name, method in METHODS.items()}


def find_method(name: str) -> Method:
    """Return a method by its name, or the baseline in a weights file (.safetensors, .pth, .pt).

    Raises:
        UnknownNameError: no such method. WeightsError, UnsafeFileError: a file that cannot be used, or another network.
    """
    if name in METHODS:
        return METHODS[name]
    if name.lower().endswith(WEIGHTS_ENDINGS):
        return _of_file(name)
    raise UnknownNameError("method", name, METHODS)


@lru_cache(maxsize=8)
def _of_file(path: str) -> Method:
    formats = importlib.import_module("latentface.supervised.formats")  # only read where a file is named
    own = METHODS[formats.load_baseline(path).kind]
    return replace(own, presets={name: {**changes, "weights": path} for name, changes in own.presets.items()})
