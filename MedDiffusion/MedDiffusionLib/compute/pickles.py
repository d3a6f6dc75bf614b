"""Reads the pickle of a PyTorch checkpoint as data: a fixed list of opcodes and names, nothing run.

Python's own unpickler calls what the file names. This one knows the opcodes of protocol 2 that
``torch.save`` writes, and the few names below; it makes dicts, lists, tuples, text and numbers, and
asks its caller for tensors. All else is refused.
"""

from __future__ import annotations

import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from .parsing import MAX_DEPTH, shortened

MOST_BYTES = 2**22
"""Of a pickle; those of the published checkpoints have some 100,000."""
_MOST_STEPS = 250_000
"""Opcodes of a pickle; it bounds the memory of what they make."""
_LONGEST_NAME = 200

STORAGES = {
    "torch.FloatStorage": "float32", "torch.DoubleStorage": "float64",
    "torch.HalfStorage": "float16", "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64", "torch.IntStorage": "int32", "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8", "torch.ByteStorage": "uint8", "torch.BoolStorage": "bool",
}  # fmt: skip
"""Classes of storages, with the name of their type in torch."""
_TENSOR = "torch._utils._rebuild_tensor_v2"
_ORDERED, _DEFAULT = "collections.OrderedDict", "collections.defaultdict"
_RECORDS = {
    "argparse.Namespace", "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
}  # fmt: skip
"""Classes whose objects become records."""
_VALUES = {"__builtin__.dict", "__builtin__.list", "__builtin__.long", "typing.Any"}
"""Names that stand for themselves."""
_KNOWN = {_TENSOR, _ORDERED, _DEFAULT, *STORAGES, *_RECORDS, *_VALUES}


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names; it is never looked up."""

    name: str


@dataclass(eq=False, repr=False)
class Record:
    """An object of a class by its name, with its attributes; they may lead back to it."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


FindStorage = Callable[[Name, str, int], Any]
"""A storage, of a class, a key and a number of elements; raises ValueError with a clause."""
MakeTensor = Callable[[Any, int, tuple[int, ...], tuple[int, ...]], Any]
"""A tensor, of a storage, an offset, sizes and strides; raises ValueError with a clause."""


def unpickle(data: bytes, storage_type: type, find: FindStorage, make: MakeTensor) -> Any:
    """The content of a pickle; raises ValueError with a clause that has the pickle as subject.

    ``find`` gives objects of ``storage_type``; keys of dicts are text, integers, None and tuples of
    them; plain content is neither within itself nor deeper than :data:`.parsing.MAX_DEPTH`.
    """
    content = _Machine(data, storage_type, find, make).run()
    _check_nesting(content)
    return content


class _Machine:
    """The stack machine that a pickle is a program of."""

    def __init__(
        self, data: bytes, storage_type: type, find: FindStorage, make: MakeTensor
    ) -> None:
        self._data = data
        self._at = 0
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        """The stacks below the marks."""
        self._memo: list[Any] = []
        self._storage_type = storage_type
        self._find = find
        self._make = make

    def run(self) -> Any:
        if self._take(2) != b"\x80\x02":
            raise ValueError("it is no pickle of protocol 2")
        for _ in range(_MOST_STEPS):
            opcode = self._take(1)
            if opcode == b".":
                return self._result()
            action = _ACTIONS.get(opcode)
            if action is None:
                raise ValueError(f"it has {_opcode_name(opcode)}, which no checkpoint needs")
            action(self)
        raise ValueError(f"it has more than {_MOST_STEPS:,} opcodes")

    def _result(self) -> Any:
        content = self._pop()
        if self._stack or self._below or self._at != len(self._data):
            _damaged()
        return content

    # What the actions are made of.

    def _take(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise ValueError("it ends too early")
        return self._data[start : self._at]

    def _unsigned(self, count: int) -> int:
        return int.from_bytes(self._take(count), "little")

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at, self._at + _LONGEST_NAME)
        if end < 0:
            _damaged()
        line = self._take(end - self._at)
        self._at += 1
        return line.decode("ascii", errors="replace")

    def _pop(self) -> Any:
        if not self._stack:
            _damaged()
        return self._stack.pop()

    def _top(self, wanted: type) -> Any:
        if not self._stack or not isinstance(self._stack[-1], wanted):
            _damaged()
        return self._stack[-1]

    def _since_mark(self) -> list[Any]:
        if not self._below:
            _damaged()
        items, self._stack = self._stack, self._below.pop()
        return items

    def push(self, value: Any) -> None:
        self._stack.append(value)

    # The actions, an opcode each (names as in pickletools).

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def tuple_of(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def tuple_since_mark(self) -> None:
        items = self._since_mark()
        self.push(tuple(items))

    def binint(self) -> None:
        self.push(int.from_bytes(self._take(4), "little", signed=True))

    def unsigned(self, count: int) -> None:
        self.push(self._unsigned(count))

    def long1(self) -> None:
        count = self._unsigned(1)
        if count > 8:
            raise ValueError("it has a whole number of more than 64 bits")
        self.push(int.from_bytes(self._take(count), "little", signed=True))

    def binfloat(self) -> None:
        self.push(struct.unpack(">d", self._take(8))[0])

    def binunicode(self) -> None:
        try:
            self.push(self._take(self._unsigned(4)).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError("it has text that is not UTF-8") from error

    def put(self, count: int) -> None:
        index = self._unsigned(count)
        # Picklers number what they keep one by one.
        if index != len(self._memo) or not self._stack:
            _damaged()
        self._memo.append(self._stack[-1])

    def get(self, count: int) -> None:
        index = self._unsigned(count)
        if index >= len(self._memo):
            _damaged()
        self.push(self._memo[index])

    def append(self) -> None:
        item = self._pop()
        self._top(list).append(item)

    def appends(self) -> None:
        items = self._since_mark()
        self._top(list).extend(items)

    def setitem(self) -> None:
        value, key = self._pop(), self._pop()
        self._set(self._top(dict), key, value)

    def setitems(self) -> None:
        items = self._since_mark()
        if len(items) % 2:
            _damaged()
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(target, key, value)

    @staticmethod
    def _set(target: dict[Any, Any], key: Any, value: Any) -> None:
        # A tuple's hash is not kept: that of tuples in tuples, all shared, takes for ever.
        parts = key if isinstance(key, tuple) else (key,)
        if any(part is not None and type(part) not in (str, int) for part in parts):
            raise ValueError("it has a key that is neither text nor a whole number")
        if key in target:
            raise ValueError(f"it has the key {shortened(str(key))} twice")
        target[key] = value

    def global_name(self) -> None:
        name = f"{self._line()}.{self._line()}"
        if name not in _KNOWN:
            raise ValueError(f"it names {shortened(name, 80)}, which no checkpoint needs")
        self.push(Name(name))

    def persistent(self) -> None:
        given = self._pop()
        if not isinstance(given, tuple) or len(given) != 5 or given[0] != "storage":
            raise ValueError("it has a persistent id that is none of a storage")
        _, kind, key, location, count = given
        if (
            not isinstance(kind, Name)
            or kind.name not in STORAGES
            or not isinstance(location, str)
            or type(key) is not str
            or type(count) is not int
        ):
            raise ValueError("it has a persistent id that is none of a storage")
        self.push(self._find(kind, key, count))

    def reduce(self) -> None:
        given, called = self._pop(), self._pop()
        if not isinstance(called, Name) or not isinstance(given, tuple):
            raise ValueError("it calls what is no function")
        if called.name == _ORDERED and not given:
            self.push(OrderedDict())
        elif called.name == _DEFAULT and len(given) == 1 and isinstance(given[0], Name):
            self.push({})
        elif called.name == _TENSOR:
            self.push(self._tensor(given))
        elif called.name in _RECORDS:
            self.push(Record(called.name))
        else:
            raise ValueError(f"it calls {called.name} in an unusual way")

    def _tensor(self, given: tuple[Any, ...]) -> Any:
        if len(given) != 6 or given[5] != {} or type(given[4]) is not bool:
            raise ValueError("it makes a tensor in an unusual way")
        storage, offset, size, stride = given[:4]
        whole = all(
            isinstance(numbers, tuple) and all(type(n) is int for n in numbers)
            for numbers in (size, stride)
        )
        if not isinstance(storage, self._storage_type) or type(offset) is not int or not whole:
            raise ValueError("it makes a tensor in an unusual way")
        return self._make(storage, offset, size, stride)

    def newobj(self) -> None:
        given, called = self._pop(), self._pop()
        if not isinstance(called, Name) or called.name not in _RECORDS or given != ():
            raise ValueError("it makes an object that no checkpoint needs")
        self.push(Record(called.name))

    def build(self) -> None:
        state = self._pop()
        if not self._stack or not isinstance(state, dict):
            raise ValueError("it gives a state that is no dictionary")
        target = self._stack[-1]
        if isinstance(target, Record):
            target.fields = state
        elif not isinstance(target, OrderedDict) or list(state) != ["_metadata"]:
            # What PyTorch notes of a state dictionary: versions of its modules; it is left out.
            raise ValueError("it gives a state to what has none")
        elif not _is_metadata(state["_metadata"]):
            raise ValueError("it has metadata in an unusual form")


_ACTIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"(": _Machine.mark,
    b"}": lambda machine: machine.push({}),
    b"]": lambda machine: machine.push([]),
    b")": lambda machine: machine.push(()),
    b"N": lambda machine: machine.push(None),
    b"\x88": lambda machine: machine.push(True),
    b"\x89": lambda machine: machine.push(False),
    b"t": _Machine.tuple_since_mark,
    b"\x85": lambda machine: machine.tuple_of(1),
    b"\x86": lambda machine: machine.tuple_of(2),
    b"\x87": lambda machine: machine.tuple_of(3),
    b"J": _Machine.binint,
    b"K": lambda machine: machine.unsigned(1),
    b"M": lambda machine: machine.unsigned(2),
    b"\x8a": _Machine.long1,
    b"G": _Machine.binfloat,
    b"X": _Machine.binunicode,
    b"q": lambda machine: machine.put(1),
    b"r": lambda machine: machine.put(4),
    b"h": lambda machine: machine.get(1),
    b"j": lambda machine: machine.get(4),
    b"a": _Machine.append,
    b"e": _Machine.appends,
    b"s": _Machine.setitem,
    b"u": _Machine.setitems,
    b"c": _Machine.global_name,
    b"Q": _Machine.persistent,
    b"R": _Machine.reduce,
    b"\x81": _Machine.newobj,
    b"b": _Machine.build,
}


def _is_metadata(content: Any) -> bool:
    """Whether it is a dict of module paths with ``{"version": NUMBER}``, or nothing, each."""
    if not isinstance(content, dict):
        return False
    return all(
        isinstance(key, str)
        and isinstance(value, dict)
        and all(name == "version" and type(number) is int for name, number in value.items())
        for key, value in content.items()
    )


def _opcode_name(opcode: bytes) -> str:
    names = {known.code: known.name for known in pickletools.opcodes}
    name = names.get(opcode.decode("latin-1"))
    return f"the opcode {name}" if name else f"the byte {opcode[0]:#04x} for an opcode"


def _parts(content: Any) -> list[Any]:
    """The containers within plain content; records have what they have."""
    items = content.values() if isinstance(content, dict) else content
    return [item for item in items if isinstance(item, (dict, list, tuple))]


def _check_nesting(content: Any) -> None:
    """Raise ValueError for content that is within itself or too deep; shared parts count once."""
    levels: dict[int, int] = {}
    entered: set[int] = set()
    waiting = [(content, False)] if isinstance(content, (dict, list, tuple)) else []
    while waiting:
        part, done = waiting.pop()
        if done:
            entered.remove(id(part))
            levels[id(part)] = 1 + max((levels[id(inner)] for inner in _parts(part)), default=0)
            if levels[id(part)] > MAX_DEPTH:
                raise ValueError("it is nested too deeply")
        elif id(part) in entered:
            raise ValueError("it is within itself")
        elif id(part) not in levels:
            entered.add(id(part))
            waiting.append((part, True))
            waiting += [(inner, False) for inner in _parts(part)]


def _damaged() -> NoReturn:
    raise ValueError("it is damaged")
