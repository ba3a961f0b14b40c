"""Every error that latentface raises on purpose.

    LatentfaceError
    |-- InputError            a picture, a number or an option that cannot be used
    |   |-- PictureError      a file that is no picture, or a broken, empty or giant one
    |   `-- UnknownNameError  a method, prior, metric, kernel or data set that does not exist
    |-- WeightsError          a weights file that is broken or does not fit
    |   |-- WrongFileError    a file of another kind than the weights that are needed
    |   `-- UnsafeFileError   a file that would run code when it is read
    |-- OutputError           a result that cannot be written
    |-- MissingExtraError     an optional package that is not installed
    |-- MissingDataError      a data set or reference weights that are not at hand
    |-- TrainingError         a training run that cannot start, go on or resume
    `-- ClusterError          machines that cannot be reached or used

Each message says what was got, what was expected and what to do next, in one line.
"""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class LatentfaceError(Exception):
    """The base of every error that latentface raises on purpose."""


class InputError(LatentfaceError, ValueError):
    """A picture, a number or an option cannot be used."""


class PictureError(InputError):
    """A file is no picture, or a broken, empty or giant one."""


class UnknownNameError(InputError):
    """A method, prior, metric, kernel or data set of that name does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        super().__init__(f"there is no {kind} {name!r}{hint} (there are: {', '.join(names)})")


class WeightsError(LatentfaceError):
    """A weights file is broken or does not fit."""


class WrongFileError(WeightsError, InputError):
    """A file is of another kind than the weights that are needed."""


class UnsafeFileError(WeightsError):
    """A file would run code when it is read."""


class OutputError(LatentfaceError):
    """A result cannot be written."""


class MissingExtraError(LatentfaceError, ImportError):
    """An optional package is not installed."""


class MissingDataError(LatentfaceError):
    """A data set or reference weights are not at hand."""


class TrainingError(LatentfaceError):
    """A training run cannot start, go on or resume."""


class ClusterError(LatentfaceError):
    """Machines of a cluster cannot be reached or used."""


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or say which extra brings it. Raises MissingExtraError: it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {module.split('.')[0]}, which is not installed ({error}); install it with: pip install 'latentface[{extra}]'"
        ) from error
