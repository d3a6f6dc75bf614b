"""Signals as PythonQt has them: connected by signature or by attribute, to any callable.

A function gets as many of the signal's arguments as it takes. What it raises is printed, not
propagated, and also kept in ``ERRORS`` for tests to look at.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import shiboken6
from PySide6 import QtCore

# The tracebacks of everything that was raised where Qt or VTK would only print it.
ERRORS: list[str] = []

_raw_connect = QtCore.QObject.connect
_raw_disconnect = QtCore.QObject.disconnect


class Connection(NamedTuple):
    signal: str
    function: Callable[..., Any]
    slot: Callable[..., None]


_connections: dict[int, list[Connection]] = {}


def argument_limit(function: Callable[..., Any]) -> int | None:
    """Count the positional arguments that a function takes; None if there is no limit."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters)


def record_error(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """Print and keep an exception; also Python's excepthook, where VTK and Qt hand theirs in."""
    text = "".join(traceback.format_exception(kind, error, at))
    ERRORS.append(text)
    sys.stderr.write(text)


def guarded(function: Callable[..., Any]) -> Callable[..., None]:
    """Turn a Python function into a slot."""
    limit = argument_limit(function)

    def slot(*arguments: Any) -> None:
        try:
            function(*arguments[:limit])
        except Exception as error:
            record_error(type(error), error, error.__traceback__)

    return slot


class BoundSignal:
    """One signal of one object: call it to emit, ``connect`` and ``disconnect`` take callables."""

    def __init__(self, owner: Any, signature: str, emitter: Callable[..., None]) -> None:
        self._owner = owner
        self._signature = signature
        self._emitter = emitter

    def __call__(self, *arguments: Any) -> None:
        self._emitter(*arguments)

    def connect(self, function: Callable[..., Any]) -> bool:
        if not callable(function):
            raise ValueError(f"{self._signature}: {function!r} is not callable")
        slot = guarded(function)
        if not _raw_connect(self._owner, QtCore.SIGNAL(self._signature), slot):
            return False
        connections_of(self._owner).append(Connection(self._signature, function, slot))
        return True

    def disconnect(self, function: Callable[..., Any] | None = None) -> bool:
        connections = connections_of(self._owner)
        gone = [
            connection
            for connection in connections
            if connection.signal == self._signature
            and (function is None or connection.function == function)
        ]
        for connection in gone:
            _raw_disconnect(self._owner, QtCore.SIGNAL(self._signature), connection.slot)
            connections.remove(connection)
        return bool(gone)


def connections_of(owner: Any) -> list[Connection]:
    """Return the object's connections to Python functions, forgotten when Qt deletes it."""
    address = shiboken6.getCppPointer(owner)[0]
    if address not in _connections:
        _connections[address] = []
        signal = QtCore.SIGNAL("destroyed()")
        _raw_connect(owner, signal, lambda: _connections.pop(address, None))
    return _connections[address]


class QtSignal:
    """A Qt signal as an attribute."""

    def __init__(self, signature: str, raw: Any) -> None:
        self._signature = signature
        self._raw = raw

    def __get__(self, owner: Any, cls: type | None = None) -> Any:
        if owner is None:
            return self._raw
        return BoundSignal(owner, self._signature, self._raw.__get__(owner, cls).emit)


def class_name(owner: Any) -> str:
    return str(QtCore.QObject.metaObject(owner).className())


def find_signal(owner: Any, signature: str) -> BoundSignal:
    """Find a signal by its C++ signature, as connect() is given it."""
    normalized = signature.replace("const ", "").replace("&", "").replace(" ", "")
    for base in type(owner).__mro__:
        table = vars(base).get("_host_signals", {})
        if normalized in table:
            return BoundSignal(owner, table[normalized], lambda *_: None)
    meta = QtCore.QObject.metaObject(owner)
    if meta.indexOfSignal(normalized) < 0:
        raise ValueError(f"{meta.className()} has no signal '{signature}'")
    return BoundSignal(owner, normalized, lambda *_: None)


def connect(owner: Any, signature: str, *target: Any) -> bool:
    """PythonQt's connect: (signal, function) or (signal, receiver, "slot()")."""
    return find_signal(owner, signature).connect(resolved(target))


def disconnect(owner: Any, signature: str, *target: Any) -> bool:
    return find_signal(owner, signature).disconnect(resolved(target) if target else None)


def resolved(target: tuple[Any, ...]) -> Callable[..., Any]:
    if len(target) == 2 and isinstance(target[1], str):
        return getattr(target[0], target[1].split("(")[0])
    (function,) = target
    return function
