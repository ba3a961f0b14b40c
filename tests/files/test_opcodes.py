"""Hostile pickles and checkpoints: each ends in one clear line, quickly, and leaves nothing behind."""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import time
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from latentface.errors import LatentfaceError, UnsafeFileError, WeightsError
from latentface.io.opcodes import read_pickle
from latentface.io.pickled_arrays import read_arrays
from latentface.io.torch_files import MAGIC, Tensors, read_checkpoint
from latentface.prior.foreign.unpickle import read_networks

P4, STOP = b"\x80\x04", b"."
MARK = "mark-of-a-hostile-file"


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def raw(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def name(module: str, attribute: str) -> bytes:
    return word(module) + word(attribute) + b"\x93"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def storage(count=4, data=None, kind=b"ctorch\nFloatStorage\n", key="0", told=None, magic=MAGIC, tail=b""):
    """Return the old format's bytes of one storage."""
    data = bytes(4 * count) if data is None else data
    persistent = b"(" + word("storage") + kind + word(key) + word("cpu") + number(count) + b"NtQ."
    system = pickle.dumps({"little_endian": True}, 2)
    head = pickle.dumps(magic, 2) + pickle.dumps(1001, 2) + system + b"\x80\x02" + persistent
    return head + pickle.dumps([key], 2) + struct.pack("<q", count if told is None else told) + data + tail


def loaded(data: bytes) -> bytes:
    return call(name("torch.storage", "_load_from_bytes"), raw(data))


def tensor(size=(4,), stride=(1,), offset=0, of=None) -> bytes:
    axes = [b"(" + b"".join(map(number, n)) + b"t" for n in (size, stride)]
    return call(
        name("torch._utils", "_rebuild_tensor_v2"), of or loaded(storage()), number(offset), *axes, b"\x89", b"N"
    )


def array(dtype=b"", shape=(2,), data=bytes(8), order="<", version=1) -> bytes:
    dtype = dtype or call(name("numpy", "dtype"), word("f4"), b"\x89", b"\x88")
    dtype += b"(K\x03" + word(order) + b"NNN" + number(-1) + number(-1) + b"K\x00tb"
    empty = call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), b"K\x00\x85", raw(b"b"))
    return (
        empty
        + b"("
        + number(version)
        + b"("
        + b"".join(map(number, shape))
        + b"t"
        + dtype
        + b"\x89"
        + raw(data)
        + b"tb"
    )


def meta(*items: bytes) -> bytes:
    return call(name("torch_utils.persistence", "_reconstruct_persistent_obj"), b"}(" + b"".join(items) + b"u")


def persistent(kind="Generator", state=b"}", source="x") -> bytes:
    return meta(
        word("type"),
        word("class"),
        word("class_name"),
        word(kind),
        word("module_src"),
        word(source),
        word("state"),
        state,
    )


def snapshot(g: bytes) -> bytes:
    return P4 + b"}" + word("G_ema") + g + b"s."


def deep(opcode: bytes, count: int) -> bytes:
    return P4 + b"]" + opcode * count + STOP


SYSTEM = f"touch {MARK}"
UNSAFE = {
    "os.system by reduce": P4 + call(name("os", "system"), word(SYSTEM)) + STOP,
    "os.system, protocol 0": f"cos\nsystem\n(S'{SYSTEM}'\ntR.".encode(),
    "posix.system": P4 + call(name("posix", "system"), word(SYSTEM)) + STOP,
    "builtins.eval": P4 + call(name("builtins", "eval"), word(f"open({MARK!r}, 'w')")) + STOP,
    "builtins.exec": P4 + call(name("builtins", "exec"), word(f"open({MARK!r}, 'w')")) + STOP,
    "builtins.open": P4 + call(name("builtins", "open"), word(MARK), word("w")) + STOP,
    "builtins.getattr": P4 + call(name("builtins", "getattr"), name("os", "system")) + STOP,
    "builtins.__import__": P4 + call(name("builtins", "__import__"), word("antigravity")) + STOP,
    "subprocess.Popen by newobj": P4 + name("subprocess", "Popen") + word(SYSTEM) + b"\x85\x81.",
    "subprocess by inst": f"(S'{SYSTEM}'\nisubprocess\nPopen\n.".encode(),
    "os.system by obj": b"(cos\nsystem\n" + word(SYSTEM) + b"o.",
    "newobj with keywords": P4 + name("collections", "OrderedDict") + b")}" + word("a") + b"K\x01s\x92.",
    "a name in a name": P4 + name("numpy", "f2py.os.system") + STOP,
    "torch.load": P4 + call(name("torch.serialization", "load"), word(MARK)) + STOP,
    "torch.jit": P4 + name("torch.jit", "load") + STOP,
    "numpy.load": P4 + call(name("numpy", "load"), word(MARK)) + STOP,
    "pickle.loads": P4 + call(name("pickle", "loads"), raw(b"N.")) + STOP,
    "marshal": P4 + name("marshal", "loads") + STOP,
    "types.CodeType": P4 + name("types", "CodeType") + STOP,
    "functools.partial": P4 + call(name("functools", "partial"), name("os", "system")) + STOP,
    "a real class of ours": P4 + call(name("pathlib", "Path"), word(MARK)) + STOP,
    "numpy.core's exec": P4 + name("numpy.testing._private.utils", "runstring") + STOP,
    "a persistent id": P4 + word("x") + b"Q.",
    "a persistent id, protocol 0": b"P1\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "an out-of-band buffer": b"\x80\x05\x97.",
    "state of a list": P4 + b"]" + b"}b.",
    "state of a name": P4 + name("numpy", "ndarray") + b"}b.",
    "calls what may only be named": P4 + call(name("numpy", "ndarray"), b"K\x01\x85") + STOP,
    "calls a storage's class": P4 + call(name("torch", "FloatStorage"), number(9)) + STOP,
    "an object array": P4 + array(call(name("numpy", "dtype"), word("O8"), b"\x89", b"\x88")) + STOP,
    "an array of records": P4 + array(call(name("numpy", "dtype"), word("V8"), b"\x89", b"\x88")) + STOP,
    "an array of text": P4 + array(call(name("numpy", "dtype"), word("U8"), b"\x89", b"\x88")) + STOP,
    "an array of dates": P4 + array(call(name("numpy", "dtype"), word("M8"), b"\x89", b"\x88")) + STOP,
    "an array subclass": P4
    + call(name("numpy.core.multiarray", "_reconstruct"), name("numpy", "dtype"), b"K\x00\x85", raw(b"b"))
    + STOP,
    "bytes in another codec": P4 + call(name("_codecs", "encode"), word("x"), word("hex")) + STOP,
    "a storage that calls": P4 + loaded(pickle.dumps(MAGIC, 2) + b"cos\nsystem\n(S'x'\ntR.") + STOP,
    "a storage in a storage": P4 + loaded(storage(kind=b"ctorch.storage\n_load_from_bytes\n")) + STOP,
    "a storage of another class": P4 + loaded(storage(kind=b"cos\nsystem\n")) + STOP,
    "a hostile extra in a snapshot": snapshot(
        persistent(state=b"}" + word("a") + call(name("os", "system"), word(SYSTEM)) + b"s")
    ),
}
BROKEN = {
    "nothing": b"",
    "no end": P4 + b"N",
    "cut in a string": P4 + b"X\xff\xff\xff\x7fabc",
    "cut in a frame": P4 + b"\x95\xff\xff\xff\xff\xff\xff\xff\xff",
    "eight bytes of length": P4 + b"\x8d" + b"\xff" * 8 + b"abc",
    "bytes of a negative length": P4 + b"T\xff\xff\xff\xff.",
    "an unknown opcode": P4 + b"\xff.",
    "an empty stack": P4 + STOP,
    "pops too often": P4 + b"0000.",
    "a mark that is not there": P4 + b"t.",
    "a memo that is not there": P4 + b"h\x07.",
    "a giant memo index": P4 + b"Nr\xff\xff\xff\xff" + b"j\xfe\xff\xff\xff.",
    "appends to a tuple": P4 + b")Na.",
    "items of a list": P4 + b"]NNs.",
    "an odd dict": P4 + b"}(Nu.",
    "a list as key": P4 + b"}]Ns.",
    "a deep tuple as key": P4 + b"}" + b")" + b"\x85" * 100_000 + b"Ns.",
    "a deep tuple in a set": P4 + b"\x8f()" + b"\x85" * 100_000 + b"\x90.",
    "a deep tuple as key of a call": P4
    + call(name("dnnlib.util", "EasyDict"), b"]()" + b"\x85" * 100_000 + b"N\x86a")
    + STOP,
    "a deep tuple as key of an ordered dict": P4
    + call(name("collections", "OrderedDict"), b"]()" + b"\x85" * 100_000 + b"N\x86a")
    + STOP,
    "calls a string": P4 + word("os.system") + b")R.",
    "calls with a list": P4 + name("numpy", "dtype") + b"]R.",
    "a name of numbers": P4 + b"K\x01K\x02\x93.",
    "marks without end": P4 + b"(" * 100_000 + STOP,
    "a stack without end": P4 + b"N" * 600_000 + STOP,
    "a memo without end": P4 + b"N" + b"\x94" * 600_000 + STOP,
    "opcodes without end": P4 + b"N0" * 1_100_000 + STOP,
    "a giant number": P4 + b"\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000 + STOP,
    "a giant decimal": b"L" + b"9" * 100_000 + b"L\n.",
    "an array longer than its bytes": P4 + array(shape=(1 << 30,)) + STOP,
    "an array of a negative size": P4 + array(shape=(-2,)) + STOP,
    "an array of many axes": P4 + array(shape=(1,) * 9 + (2,)) + STOP,
    "an array of another byte order": P4 + array(order="?") + STOP,
    "an array of zero by much": P4 + array(shape=(0, 1 << 30), data=b"") + STOP,
    "a tensor beyond its storage": P4 + tensor(size=(5,)) + STOP,
    "a tensor behind its storage": P4 + tensor(offset=1) + STOP,
    "a tensor of a negative offset": P4 + tensor(offset=-1) + STOP,
    "a tensor of a negative stride": P4 + tensor(stride=(-1,)) + STOP,
    "a tensor of stride zero": P4 + tensor(size=(1 << 20, 1 << 20), stride=(0, 0)) + STOP,
    "a tensor of wide strides": P4 + tensor(size=(2, 2), stride=(1 << 30, 1)) + STOP,
    "a tensor of many axes": P4 + tensor(size=(1,) * 9, stride=(1,) * 9) + STOP,
    "a tensor of no storage": P4 + tensor(of=b"N") + STOP,
    "a storage that is cut": P4 + loaded(storage(data=bytes(3))) + STOP,
    "a storage with another count": P4 + loaded(storage(told=3)) + STOP,
    "a storage of terabytes": P4 + loaded(storage(count=2**31 - 1, data=b"")) + STOP,
    "a storage of a negative count": P4 + loaded(storage(count=-4, data=b"")) + STOP,
    "a storage with another magic": P4 + loaded(storage(magic=7)) + STOP,
    "a storage that is a zip": P4 + loaded(b"PK\x03\x04" + bytes(100)) + STOP,
    "a storage that is loaded ever again": P4
    + raw(storage(1 << 16))
    + b"q\x000"
    + call(name("torch.storage", "_load_from_bytes"), b"h\x00") * 99
    + STOP,
    "a persistent object that is no class": snapshot(meta(word("type"), word("module"))),
    "a persistent object without state": snapshot(meta(word("type"), word("class"), word("class_name"), word("G"))),
    "a persistent object of numbers": snapshot(
        call(name("torch_utils.persistence", "_reconstruct_persistent_obj"), number(1))
    ),
    "a TensorFlow network without variables": P4 + name("dnnlib.tflib.network", "Network") + b")\x81}b.",
    "a TensorFlow network of numbers": P4 + name("dnnlib.tflib.network", "Network") + b")\x81" + number(1) + b"b.",
    "a module that holds itself": P4
    + b"}q\x00"
    + word("_modules")
    + b"}q\x01sh\x010"
    + persistent(state=b"h\x00")
    + b"q\x020h\x01"
    + word("again")
    + b"h\x02s0}"
    + word("G_ema")
    + b"h\x02s.",
    "a list of nothing": deep(b"]a", 1000),
}


@pytest.fixture(autouse=True)
def nothing_happens(tmp_path, monkeypatch):
    """Work in an empty folder; in the end there is nothing new in it, nothing imported, and no time lost."""
    monkeypatch.chdir(tmp_path)
    for danger in ("system", "popen"):
        monkeypatch.setattr(os, danger, lambda *a: pytest.fail("it was called"))
    modules, began = set(sys.modules), time.process_time()
    yield
    assert not {"antigravity", "numpy.f2py"} & (set(sys.modules) - modules)
    assert time.process_time() - began < 20
    assert {path.name for path in tmp_path.iterdir()} <= {"hostile.pkl", "hostile.pt"}


@pytest.mark.parametrize("case", UNSAFE)
def test_what_asks_for_more_than_data_is_refused(tmp_path, case):
    path = tmp_path / "hostile.pkl"
    path.write_bytes(UNSAFE[case])
    with pytest.raises(UnsafeFileError) as error:
        read_networks(path)
    told = str(error.value)
    assert "nothing of it was run" in told
    assert len(told.splitlines()) == 1
    assert len(told) < 400


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_or_without_end_is_refused(tmp_path, case):
    path = tmp_path / "hostile.pkl"
    path.write_bytes(BROKEN[case])
    with pytest.raises((WeightsError, ValueError)) as error:
        list(read_networks(path)["G_ema"].walk())
    told = str(error.value)
    assert len(told.splitlines()) == 1
    assert len(told) < 400


def test_names_of_the_file_are_told_in_one_short_line(tmp_path):
    path = tmp_path / "hostile.pkl"
    path.write_bytes(P4 + name("os\nlatentface: all is well\x1b[2J", "x" * 9999) + STOP)
    with pytest.raises(UnsafeFileError) as error:
        read_networks(path)
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 400


# -- checkpoints -------------------------------------------------------------------------------------------------------


def zipped(path, entries, index=None, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/data.pkl", index if index is not None else b"\x80\x02}.")
        for key, data in entries.items():
            archive.writestr(key, data)


def referring(key="0", count=4, kind="FloatStorage"):
    of = b"(" + word("storage") + f"ctorch\n{kind}\n".encode() + word(key) + word("cpu") + number(count) + b"tQ"
    return b"\x80\x02}" + word("w") + tensor(of=of)[0:] + b"s."


@pytest.mark.parametrize(
    ("entries", "index", "method"),
    [
        ({}, b"\x80\x02cos\nsystem\n(X\x01\x00\x00\x00xtR.", zipfile.ZIP_STORED),
        ({"a/data/0": bytes(16)}, referring("../../etc/passwd"), zipfile.ZIP_STORED),
        ({"a/data/0": bytes(16)}, referring("/0"), zipfile.ZIP_STORED),
        ({}, referring(), zipfile.ZIP_STORED),
        ({"a/data/0": bytes(15)}, referring(), zipfile.ZIP_STORED),
        ({"a/data/0": bytes(17)}, referring(), zipfile.ZIP_STORED),
        ({"a/data/0": bytes(16)}, referring(count=2**31 - 1), zipfile.ZIP_STORED),
        ({"a/data/0": bytes(16)}, referring(kind="UntypedStorage"), zipfile.ZIP_STORED),
        ({"a/data/0": bytes(1 << 20)}, referring(), zipfile.ZIP_DEFLATED),
        ({"a/byteorder": b"big", "a/data/0": bytes(16)}, referring(), zipfile.ZIP_STORED),
        ({"a/data/0": bytes(16)}, b"\x80\x02(" * 5000, zipfile.ZIP_STORED),
        ({}, b"", zipfile.ZIP_STORED),
    ],
)
def test_hostile_checkpoints_are_refused(tmp_path, entries, index, method):
    zipped(tmp_path / "hostile.pt", entries, index, method)
    with pytest.raises(LatentfaceError) as error:
        read_checkpoint(tmp_path / "hostile.pt")
    assert len(str(error.value).splitlines()) == 1


def test_a_checkpoint_cut_anywhere_is_refused_or_read_whole(tmp_path):
    path = tmp_path / "hostile.pt"
    for new in (True, False):
        stream = io.BytesIO()
        torch.save({"w": torch.arange(8.0)}, stream, _use_new_zipfile_serialization=new)
        data = stream.getvalue()
        for end in range(0, len(data), 17):
            path.write_bytes(data[:end])
            with pytest.raises(LatentfaceError):
                read_checkpoint(path)


def test_broken_bytes_never_end_in_another_error(tmp_path):
    random = np.random.default_rng(0)
    stream = io.BytesIO()
    torch.save({"w": torch.arange(8.0), "n": {"a": [1, 2.5, "x", None]}}, stream)
    whole = {
        "hostile.pt": stream.getvalue(),
        "hostile.pkl": snapshot(persistent(state=b"}" + word("a") + array() + b"s")),
    }
    for file, data in whole.items():
        for _ in range(150):
            broken = np.frombuffer(data, np.uint8).copy()
            broken[random.integers(0, len(data), 3)] = random.integers(0, 256, 3)
            (tmp_path / file).write_bytes(broken.tobytes())
            told = ""
            try:
                (read_checkpoint if file.endswith("pt") else read_networks)(tmp_path / file)
            except LatentfaceError as error:
                told = str(error)
            assert len(told.splitlines()) <= 1


# -- what is no attack -------------------------------------------------------------------------------------------------

PLAIN = {
    "numbers": [1, -(2**70), 1.5, True, None, "x", b"yy", (1, (2,)), {"a": {1, 2}}],
    "arrays": [np.arange(6).reshape(2, 3).astype(t) for t in ("f2", "f4", "f8", "i1", "u2", ">i4", "?")],
    "order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "scalar": np.float32(2.5),
    "mapping": OrderedDict(a=1),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_are_read_as_they_were(protocol):
    content = {k: v for k, v in PLAIN.items() if k != "numbers" or protocol > 3}  # older ones call `set`
    found = read_arrays(pickle.dumps(content, protocol=protocol))
    np.testing.assert_array_equal(found["order"], content["order"])
    for one, other in zip(found["arrays"], content["arrays"], strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype.newbyteorder("=")
    assert (found["scalar"], found["mapping"]) == (2.5, {"a": 1})
    assert found.get("numbers") == content.get("numbers")


def test_aliases_stay_aliases():
    one = np.ones(3)
    found = read_arrays(pickle.dumps([one, one]))
    assert found[0] is found[1]


@pytest.mark.parametrize("new", [True, False])
def test_checkpoints_are_read_as_they_were(tmp_path, new):
    layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3, 5, 5)).sum().backward()
    optimiser.step()
    whole = torch.arange(12.0).reshape(3, 4)
    content = {
        "state": layer.state_dict(),
        "optimiser": optimiser.state_dict(),
        "views": [whole, whole.t(), whole[1:, ::2], torch.zeros(0, 3), torch.tensor(7)],
        "kinds": [torch.ones(2, dtype=t) for t in (torch.float16, torch.bfloat16, torch.int64, torch.bool)],
    }
    path = tmp_path / "hostile.pt"
    torch.save(content, path, _use_new_zipfile_serialization=new)

    def same(a, b):
        if isinstance(b, torch.Tensor):
            return a.dtype == b.dtype and torch.equal(a, b)
        if isinstance(b, dict):
            return a.keys() == b.keys() and all(same(a[k], b[k]) for k in b)
        return all(map(same, a, b)) if isinstance(b, (list, tuple)) else a == b

    assert same(read_checkpoint(path), content)


def test_tensors_in_a_pickle_are_read_as_they_were():
    layer = torch.nn.Linear(3, 2)
    data = pickle.dumps({"w": layer.weight, "b": layer.bias.detach()})
    tensors = Tensors(len(data), "it")
    found = read_pickle(io.BytesIO(data), tensors.calls, tensors.builds)
    assert torch.equal(found["w"], layer.weight)
    assert torch.equal(found["b"], layer.bias)
