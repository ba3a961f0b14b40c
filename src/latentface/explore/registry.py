"""The methods by name: where each is, its presets, and one line about it. Nothing is imported until it is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from latentface.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from latentface.explore.result import Exploration


@dataclass(frozen=True, slots=True)
class Method:
    """A method that `upscale` and `bench` can call.

    Attributes:
        name, summary, source: what people read; module, function, settings_class: where the code is.
        presets: "paper" (published settings) and "equal" (as many generator passes as RLSE's 100 steps).
        searches: whether it needs a prior and seeds.
    """

    name: str
    summary: str
    source: str
    module: str
    settings_class: str
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"paper": {}, "equal": {}})
    searches: bool = True

    @property
    def function(self) -> Callable[..., Exploration]:
        """The method itself."""
        function: Callable[..., Exploration] = getattr(importlib.import_module(self.module), self.name)
        return function

    def settings(self, preset: str = "equal", **changes: Any) -> Any:
        """Return its settings: a preset, with changes.

        Raises:
            UnknownNameError: no such preset. InputError: a change that the settings do not have.
        """
        if preset not in self.presets:
            raise UnknownNameError(f"preset of {self.name}", preset, self.presets)
        made = getattr(importlib.import_module(self.module), self.settings_class)
        try:
            return made(**{**self.presets[preset], **changes})
        except TypeError as error:
            raise InputError(f"{self.name}: {error}") from None


def _interpolation(name: str) -> Method:
    return Method(
        name=name,
        summary=f"{name} interpolation",
        source="the field's floor",
        module="latentface.explore.interpolate",
        settings_class="InterpolationSettings",
        searches=False,
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
            module="latentface.explore.rlse",
            settings_class="RlseSettings",
        ),
    )
}


def find_method(name: str) -> Method:
    """Return a method by its name. Raises UnknownNameError."""
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    return METHODS[name]
