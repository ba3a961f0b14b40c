"""Pickles read by their opcodes, as data: nothing that a file names is ever imported, looked up or called.

A pickle is a program for a small stack machine. Here the machine makes numbers, strings, bytes, lists, tuples, dicts and
sets. A global name becomes a `Name`. Where the program calls a name, a function of ours takes the arguments, out of
a table that the caller gives; a name that is not in the table ends the reading. Work is bounded: the numbers of
opcodes, of objects on the stack and in the memo, and of open marks; keys are plain, so that nothing deep is ever hashed.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from latentface.errors import UnsafeFileError, WeightsError

MOST_OPCODES = 2_000_000  # official StyleGAN pickles have some 100,000
MOST_OBJECTS = 500_000  # on the stack, and in the memo
MOST_MARKS = 1000
MOST_BITS = 512  # of a whole number
BROKEN = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, RuntimeError, struct.error)
UNREADABLE = {"EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEXT_BUFFER", "READONLY_BUFFER"}


@dataclass(frozen=True, slots=True)
class Name:
    """A global name in a pickle, such as numpy.ndarray: words, not the thing."""

    text: str


KEYS = (str, int, float, bool, bytes, type(None), Name)  # a trainer's checkpoint may have names as keys


class Unsafe(ValueError):
    """What a pickle asks for is not data."""


Calls = Mapping[str, Callable[..., Any] | None]  # name -> our function for it; None: it may be named, not called
Builds = Mapping[type, Callable[[Any, Any], None]]  # type of what our functions made -> takes the state that is set


def read_pickle(
    stream: BytesIO,
    calls: Calls,
    builds: Builds | None = None,
    *,
    persistent: Callable[[Any], Any] | None = None,
    label: str = "the pickle",
) -> Any:
    """Return what the pickle at the stream's place holds; the stream stands behind its end afterwards.

    Args:
        calls: the names that may stand in it, and what a call of each makes. The functions are given what stands in
            the file, of any type, and raise ValueError or TypeError where it is not what they take.
        builds: what sets a state (the opcode BUILD), by the exact type of what a function of `calls` made.
        persistent: what a persistent id stands for; without it there may be none.
        label: the file, for messages.

    Raises UnsafeFileError: it names something else, or asks for more than data. WeightsError: it is broken or too large.
    """
    machine = _Machine(calls, builds or {}, persistent)
    try:
        return machine.run(stream)
    except Unsafe as error:
        raise UnsafeFileError(f"{label}: {error}; nothing of it was run. Get the weights from their authors") from None
    except (*BROKEN, MemoryError) as error:
        words = one_line(str(error)) or type(error).__name__
        raise WeightsError(f"{label}: the pickle is broken, or none ({words}); fetch the file again") from None


def one_line(text: str) -> str:
    """Return a file's own words fit for a message: one line, printable, at most 120 letters."""
    words = "".join(c if c.isprintable() else " " for c in text[:1000])
    return " ".join(words.split())[:120]


class _Machine:
    """The stack machine: what lies above the last mark, what lies below each, and the memo."""

    def __init__(self, calls: Calls, builds: Builds, persistent: Callable[[Any], Any] | None) -> None:
        self.calls, self.builds, self.persistent = calls, builds, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.count = 0  # of the objects on all stacks, an upper bound

    def run(self, stream: BytesIO) -> Any:
        for done, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if done > MOST_OPCODES or self.count > MOST_OBJECTS or len(self.memo) > MOST_OBJECTS:
                raise ValueError("it has more opcodes or objects than any weights file")
            if opcode.name == "STOP":
                return self.stack.pop()
            self.step(opcode.name, argument)
        raise ValueError("it does not end")

    def step(self, opcode: str, argument: Any) -> None:
        """Do one opcode."""
        stack = self.stack
        if opcode in UNREADABLE:
            raise Unsafe(f"it has the opcode {opcode}, which weights files do not need")
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                if len(self.below) >= MOST_MARKS:
                    raise ValueError("it is nested too deeply")
                self.below.append(stack)
                self.stack = []
            case "POP":
                if stack:
                    stack.pop()
                    self.count -= 1
                else:
                    self.above_mark()
            case "POP_MARK":
                self.above_mark()
            case "DUP":
                self.push(stack[-1])
            case "NONE":
                self.push(None)
            case "NEWTRUE" | "NEWFALSE":
                self.push(opcode == "NEWTRUE")
            case "GLOBAL":
                self.push(self.name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                last = self.pop()
                self.push(self.name(self.pop(), last))
            case "REDUCE" | "NEWOBJ":
                arguments = self.pop()
                self.push(self.call(self.pop(), arguments))
            case "NEWOBJ_EX":
                if self.pop() != {}:
                    raise Unsafe("it makes an object by keywords")
                arguments = self.pop()
                self.push(self.call(self.pop(), arguments))
            case "BUILD":
                state = self.pop()
                build = self.builds.get(type(stack[-1]))
                if build is None:
                    raise Unsafe(f"it sets the state of a {type(stack[-1]).__name__}")
                build(stack[-1], state)
            case "PERSID" | "BINPERSID":
                if self.persistent is None:
                    raise Unsafe("it refers to something outside itself (a persistent id)")
                self.push(self.persistent(argument if opcode == "PERSID" else self.pop()))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self.push(self.memo[argument])
            case _:
                self.containers(opcode, argument)

    def containers(self, opcode: str, argument: Any) -> None:
        """Do one opcode that makes or fills a container, or pushes a plain value."""
        match opcode:
            case "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_DICT" | "EMPTY_SET":
                self.push({"LIST": [], "TUPLE": (), "DICT": {}, "SET": set()}[opcode.removeprefix("EMPTY_")])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.push(tuple([self.pop() for _ in range(int(opcode[-1]))][::-1]))
            case "TUPLE":
                self.push(tuple(self.above_mark()))
            case "LIST":
                self.push(self.above_mark())
            case "APPEND" | "APPENDS":
                values = self.above_mark() if opcode == "APPENDS" else [self.pop()]
                exact(self.stack[-1], list).extend(values)
            case "DICT" | "SETITEM" | "SETITEMS":
                values = [self.pop(), self.pop()][::-1] if opcode == "SETITEM" else self.above_mark()
                if opcode == "DICT":
                    self.push({})
                target = exact(self.stack[-1], dict)
                for key, value in zip(values[::2], values[1::2], strict=True):
                    target[exact(key, *KEYS)] = value
            case "ADDITEMS":
                values = self.above_mark()
                exact(self.stack[-1], set).update(exact(value, *KEYS) for value in values)
            case "FROZENSET":
                self.push({exact(value, *KEYS) for value in self.above_mark()})
            case _:  # genops knows the rest as plain values: numbers, strings, bytes
                if isinstance(argument, int) and argument.bit_length() > MOST_BITS:
                    raise ValueError(f"it has a whole number of {argument.bit_length()} bits")
                self.push(bytes(argument) if opcode == "BYTEARRAY8" else exact(argument, int, float, str, bytes))

    def push(self, value: Any) -> None:
        self.stack.append(value)
        self.count += 1

    def pop(self) -> Any:
        self.count -= 1
        return self.stack.pop()

    def above_mark(self) -> list[Any]:
        """Return what lies above the last mark, and go back below it."""
        values, self.stack = self.stack, self.below.pop()
        self.count -= len(values)
        return values

    def name(self, module: Any, name: Any) -> Name:
        text = f"{exact(module, str)}.{exact(name, str)}"
        if text not in self.calls:
            raise Unsafe(f"it asks for {one_line(text)}, which no weights file of a known kind needs")
        return Name(text)

    def call(self, function: Any, arguments: Any) -> Any:
        ours = self.calls.get(exact(function, Name).text)
        if ours is None:
            raise Unsafe(f"it calls {one_line(function.text)}")
        return ours(*exact(arguments, tuple))


def exact(value: Any, *types: type) -> Any:
    """Return a value whose type is exactly one of these. Raises TypeError."""
    if type(value) not in types:
        raise TypeError(f"a {type(value).__name__} stands where a {types[0].__name__} is needed")
    return value


def mapping(pairs: Any = ()) -> dict[Any, Any]:
    """Return what a call of a mapping's class makes: an empty dict, or one of pairs, whose keys are plain."""
    return {exact(key, *KEYS): value for key, value in (exact(p, list, tuple) for p in exact(pairs, list, tuple))}
