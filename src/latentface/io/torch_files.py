"""PyTorch's files and tensors, read as data: checkpoints (.pt, .pth, .ckpt; new and old format) and tensors in pickles.

A storage is bytes of a plain number type; a tensor is a view that must lie within its storage. Neither `torch.load` nor
its unrestricted relative in pickles of modules, `torch.storage._load_from_bytes`, is called.
"""

import math
import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentface.errors import UnsafeFileError, WeightsError
from latentface.io.opcodes import BROKEN, Builds, Calls, Name, Unsafe, exact, mapping, one_line, read_pickle
from latentface.io.pickled_arrays import MOST_AXES, Arrays

MOST_BYTES = 4 << 30  # of a file; StyleGAN's largest pickles have 0.4 GB, checkpoints with their optimisers 1
MOST_INDEX = 64 << 20  # of the pickle inside a checkpoint
MOST_ENTRIES = 20_000
MOST_TENSORS, MOST_NUMBERS = 20_000, 1 << 29  # of what is taken of a file, which may name the same storage often
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # what a checkpoint of the old format begins with
STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
STORAGE_NAMES: Calls = {f"torch.{name}": None for name in STORAGES}


class Storage:
    """The numbers of a storage, (n,)."""

    def __init__(self, values: Tensor) -> None:
        self.values = values


class Tensors:
    """The names that tensors and what lies around them need in pickles.

    A file's storages may together have no more bytes than twice the file's, of `size`; `label` names it in messages.
    """

    def __init__(self, size: int, label: str) -> None:
        self.left, self.label = 2 * size + 1024, label
        arrays = Arrays(size)
        self.calls: Calls = {
            **arrays.calls,
            **STORAGE_NAMES,
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "torch.storage._load_from_bytes": self.storage_of_bytes,
            "torch.Size": tuple,
            "collections.OrderedDict": mapping,
            "builtins.set": _set,
            "__builtin__.set": _set,
        }
        self.builds: Builds = {**arrays.builds, dict: _ignore}

    def take(self, count: int) -> None:
        """Count bytes of a storage. Raises ValueError: the file cannot have so many."""
        self.left -= count
        if count < 0 or self.left < 0:
            raise ValueError("its storages have more bytes than the file")

    def storage_of_bytes(self, data: Any) -> Storage:
        """Return a storage that a pickle carries as the bytes of an old checkpoint."""
        return exact(self.old_checkpoint(BytesIO(exact(data, bytes)), STORAGE_NAMES, {}), Storage)  # type: ignore[no-any-return]

    def old_checkpoint(self, stream: BytesIO, calls: Calls, builds: Builds) -> Any:
        """Return what an old checkpoint holds: four pickles, a list of keys, then each storage's count and bytes."""
        size, label = len(stream.getbuffer()), self.label
        magic, protocol, system = (read_pickle(stream, {}, label=label) for _ in range(3))
        if (magic, protocol) != (MAGIC, PROTOCOL) or exact(system, dict).get("little_endian") is not True:
            raise ValueError("it is no checkpoint of PyTorch, or one of another byte order")
        storages: dict[str, Storage] = {}

        def persistent(found: Any) -> Storage:
            what, kind, key, _, count, view = exact(found, tuple)
            dtype = dtype_of(kind)
            if exact(what, str) != "storage" or view is not None or exact(count, int) < 0:
                raise ValueError("it refers to something else than a storage")
            if exact(key, str) not in storages:
                if count * dtype.itemsize > size:
                    raise ValueError("a storage has more bytes than the file")
                self.take(count * dtype.itemsize)
                storages[key] = Storage(torch.empty(count, dtype=dtype))
            return storages[key]

        content = read_pickle(stream, calls, builds, persistent=persistent, label=label)
        for key in exact(read_pickle(stream, {}, label=label), list):
            values = storages[exact(key, str)].values
            data = stream.read(8 + values.nbytes)
            if len(data) != 8 + values.nbytes or int.from_bytes(data[:8], "little") != len(values):
                raise ValueError("a storage is cut short")
            if len(values):
                values.copy_(torch.frombuffer(bytearray(data[8:]), dtype=values.dtype))
        return content


def read_checkpoint(path: str | Path, extra: Calls | None = None, builds: Builds | None = None) -> Any:
    """Return what a checkpoint holds: dicts, lists, numbers and strings, with CPU tensors in them.

    Args:
        extra, builds: further names that may stand in it, as `io.opcodes.read_pickle` takes them.

    Raises WeightsError: no such file, a broken or a too large one. UnsafeFileError: it asks for more than data.
    """
    data = read_file(path)
    tensors = Tensors(len(data), str(path))
    calls, states = {**tensors.calls, **(extra or {})}, {**tensors.builds, **(builds or {})}
    try:
        if data[:4] == b"PK\x03\x04":
            return _zipped(data, tensors, calls, states)
        return tensors.old_checkpoint(BytesIO(data), calls, states)
    except Unsafe as error:
        raise UnsafeFileError(f"{path}: {error}; nothing of it was run") from None
    except (*BROKEN, zipfile.BadZipFile, MemoryError) as error:
        raise WeightsError(f"{path}: the checkpoint is broken, or none ({one_line(str(error))})") from None


def floats(named: Iterable[tuple[Any, Any]]) -> dict[str, Tensor]:
    """Return the tensors among named things, in float32. Raises ValueError: more numbers than any network has."""
    out: dict[str, Tensor] = {}
    numbers = 0
    for name, value in named:
        if isinstance(name, str) and isinstance(value, Tensor) and value.is_floating_point():
            numbers += value.numel()
            if numbers > MOST_NUMBERS or len(out) >= MOST_TENSORS:
                raise ValueError("it has more tensors, or more numbers, than any network")
            out[name] = value.float()
    return out


def read_file(path: str | Path) -> bytes:
    """Return a weights file's bytes. Raises WeightsError: no such file, not readable, or larger than any such file."""
    try:
        size = Path(path).stat().st_size
        if size > MOST_BYTES:
            raise WeightsError(f"{path}: it has {size / 1e9:.1f} GB, more than any file of a known kind")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file") from None
    except OSError as error:
        raise WeightsError(f"{path}: it cannot be read ({error.strerror})") from None


def _zipped(data: bytes, tensors: Tensors, calls: Calls, builds: Builds) -> Any:
    """Return what a checkpoint of the new format holds: a zip of data.pkl and of data/KEY, stored without compression."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        entries = archive.infolist()
        if len(entries) > MOST_ENTRIES or any(e.compress_type != zipfile.ZIP_STORED for e in entries):
            raise ValueError("its entries are too many, or packed, which PyTorch does not do")
        index = next(
            (e.filename for e in entries if e.filename.endswith("/data.pkl") and e.filename.count("/") == 1), ""
        )
        folder = index.removesuffix("data.pkl")
        if not index or archive.getinfo(index).file_size > MOST_INDEX:
            raise ValueError("it is a zip, but has no data.pkl")
        if f"{folder}byteorder" in archive.namelist() and _entry(archive, f"{folder}byteorder", 6) != b"little":
            raise ValueError("it is of another byte order")
        storages: dict[str, Storage] = {}

        def persistent(found: Any) -> Storage:
            what, kind, key, _, count = exact(found, tuple)
            dtype = dtype_of(kind)
            if exact(what, str) != "storage" or not exact(key, str).isalnum() or exact(count, int) < 0:
                raise ValueError("it refers to something else than a storage")
            if key not in storages:
                tensors.take(count * dtype.itemsize)
                raw = _entry(archive, f"{folder}data/{key}", count * dtype.itemsize)
                values = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)
                storages[key] = Storage(values)
            if len(storages[key].values) != count or storages[key].values.dtype != dtype:
                raise ValueError("a storage stands in it with two sizes")
            return storages[key]

        stream = BytesIO(_entry(archive, index, archive.getinfo(index).file_size))
        return read_pickle(stream, calls, builds, persistent=persistent, label=tensors.label)


def _entry(archive: zipfile.ZipFile, name: str, count: int) -> bytes:
    with archive.open(name) as file:
        data = file.read(count + 1)
    if len(data) != count:
        raise ValueError(f"{one_line(name)} has another size than it should")
    return data


def dtype_of(kind: Any) -> torch.dtype:
    """Return the number type of a storage's name."""
    module, _, name = exact(kind, Name).text.rpartition(".")
    if module != "torch" or name not in STORAGES:
        raise ValueError(f"{one_line(kind.text)} is no storage of plain numbers")
    return STORAGES[name]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, grad: Any = False, hooks: Any = None) -> Tensor:
    """Return a view of a storage, which must lie within it and have no more numbers."""
    values = exact(storage, Storage).values
    axes = list(zip(exact(size, tuple), exact(stride, tuple), strict=True))
    if len(axes) > MOST_AXES or any(exact(n, int) < 0 or exact(s, int) < 0 for n, s in axes) or exact(offset, int) < 0:
        raise ValueError("a tensor has negative or too many sizes")
    count = math.prod(n for n, _ in axes)
    last = offset + sum((n - 1) * s for n, s in axes)
    if count and (count > len(values) or last >= len(values)):
        raise ValueError(f"a tensor of {count} numbers does not lie in its storage of {len(values)}")
    if not count:
        return values.new_empty(size)  # type: ignore[no-any-return]
    return values.as_strided(size, stride, offset)  # type: ignore[no-any-return]


def _parameter(data: Any, grad: Any = False, hooks: Any = None) -> Tensor:
    return exact(data, Tensor)  # type: ignore[no-any-return]


def _set(values: Any = ()) -> set[Any]:
    return {exact(value, str, int, float) for value in exact(values, list, tuple)}


def _ignore(value: Any, state: Any) -> None:
    """A dict's own attributes are not needed."""
