"""NumPy arrays in pickles: read as bytes of a plain number type, none of NumPy's own unpickling."""

import math
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np

from latentface.io.opcodes import Builds, Calls, Name, Unsafe, exact, mapping, read_pickle

MOST_AXES = 8
NUMBERS = frozenset(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"])
ORDERS = frozenset("<>|=")


class DType:
    """A number type: its code, such as "f4", and its byte order, which is set afterwards."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        if exact(code, str).startswith(("O", "V", "|O", "|V")):
            raise Unsafe(f"it has an array of the type {code[:8]!r}: objects, which could be anything")
        if code not in NUMBERS:
            raise Unsafe(f"it has an array of the type {code[:8]!r}, which is no plain number")
        self.code, self.order = code, "="

    def set(self, state: Any) -> None:
        """Take NumPy's state: version, byte order, then what only records and objects have."""
        version, order, *rest = exact(state, tuple)
        if version not in (3, 4) or exact(order, str) not in ORDERS or rest[:3] != [None] * 3:
            raise Unsafe("it has an array of records")
        self.order = order

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type as NumPy has it."""
        return np.dtype(f"{self.order}{self.code}")


class Arrays:
    """The names that arrays need; together they may have no more bytes than twice the file's.

    A pickle may name the same bytes many times, so that a small file could fill the memory.
    """

    def __init__(self, size: int) -> None:
        self.left = 2 * size + 1024
        core = ("numpy.core.multiarray", "numpy._core.multiarray")
        self.calls: Calls = {
            "numpy.ndarray": None,
            "numpy.dtype": DType,
            "_codecs.encode": _encoded,
            **{f"{module}._reconstruct": _empty for module in core},
            **{f"{module}.scalar": _scalar for module in core},
            "numpy.core.numeric._frombuffer": self.of_buffer,
            "numpy._core.numeric._frombuffer": self.of_buffer,
        }
        self.builds: Builds = {np.ndarray: self.fill, DType: DType.set}

    def fill(self, array: Any, state: Any) -> None:
        """Give an empty array its state: version, shape, type, order of axes, bytes."""
        _, shape, dtype, fortran, data = exact(state, tuple)
        dtype = exact(dtype, DType).numpy
        if isinstance(data, list):
            raise Unsafe("it has an array of objects, which could be anything")
        shape = tuple(exact(n, int) for n in exact(shape, tuple))
        within = len(shape) <= MOST_AXES and all(0 <= n <= len(exact(data, bytes)) for n in shape)
        if array.size or not within or math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f"an array of {len(data)} bytes does not have the shape {shape}")
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("its arrays have more bytes than the file")
        array.__setstate__((1, shape, dtype, bool(fortran), data))

    def of_buffer(self, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray[Any, Any]:
        """Return an array as protocol 5 has it: of bytes in the order "C" or "F"."""
        if exact(order, str) not in ("C", "F"):
            raise ValueError("an array with axes in another order")
        array = np.empty(0, np.uint8)
        self.fill(array, (1, shape, dtype, order == "F", data))
        return array


def _empty(kind: Any, shape: Any, typecode: Any) -> np.ndarray[Any, Any]:
    if kind != Name("numpy.ndarray"):
        raise Unsafe("it has an array of another kind than numpy.ndarray")
    return np.empty(0, np.uint8)


def _scalar(dtype: Any, data: Any) -> Any:
    kind = exact(dtype, DType).numpy
    if len(exact(data, bytes)) != kind.itemsize:
        raise ValueError(f"a number of {kind.itemsize} bytes has {len(data)}")
    return np.frombuffer(data, kind)[0].item()


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Return bytes as Python 2's protocols have them: as a string in latin-1."""
    if encoding not in ("latin1", "latin-1"):
        raise Unsafe("it has bytes in another encoding than latin-1")
    return exact(text, str).encode("latin-1")  # type: ignore[no-any-return]


def read_arrays(data: bytes, label: str = "the pickle") -> Any:
    """Return a pickle of NumPy arrays, numbers and strings in dicts, lists and tuples.

    Object arrays and every name but NumPy's own for arrays are refused. Raises UnsafeFileError, WeightsError.
    """
    arrays = Arrays(len(data))
    calls: Mapping[str, Any] = {**arrays.calls, "collections.OrderedDict": mapping}
    return read_pickle(BytesIO(data), calls, {**arrays.builds, dict: _ignore}, label=label)


def _ignore(value: Any, state: Any) -> None:
    """An OrderedDict's own attributes are not needed."""
