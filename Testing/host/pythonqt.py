"""Makes PySide6's classes behave as PythonQt's do.

``install()`` changes the Qt classes themselves instead of wrapping them, so that objects which Qt
creates on its own (actions of a menu, children of a loaded form) behave in the same way:

- a Qt property is an attribute and hides its getter: ``button.text``, never ``button.text()``;
- assigning to a read-only property or an unknown name raises AttributeError;
- ``connect("clicked(bool)", f)`` and ``button.clicked.connect(f)`` are as in ``host.signals``;
- enumeration values compare and convert as ints; a QStringList reads back as a tuple.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from host.signals import QtSignal, class_name, connect, disconnect, record_error

MODULES = (QtCore, QtGui, QtWidgets)

_loading_form: list[bool] = []


def from_qt(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class QtProperty:
    """A Qt property as an attribute, in the place of the getter of the same name."""

    def __init__(self, name: str, writable: bool, getter: Any) -> None:
        self._name = name
        self._writable = writable
        self._getter = getter
        self._reading: set[int] = set()

    def __get__(self, owner: Any, cls: type | None = None) -> Any:
        if owner is None:
            return self if self._getter is None else self._getter.__get__(None, cls)
        # A virtual getter such as sizeHint() looks itself up on the Python object while it runs,
        # to see whether Python overrides it: it must then find the method.
        if id(owner) in self._reading:
            return self._getter.__get__(owner, cls)
        self._reading.add(id(owner))
        try:
            return from_qt(QtCore.QObject.property(owner, self._name))
        finally:
            self._reading.discard(id(owner))

    def __set__(self, owner: Any, value: Any) -> None:
        if not self._writable:
            raise AttributeError(f"Property '{self._name}' of {owner} is read-only")
        if isinstance(value, tuple):
            value = list(value)
        if not QtCore.QObject.setProperty(owner, self._name, value):
            raise ValueError(f"Property '{self._name}' of {owner} does not take {value!r}")


def find_member(cls: type, name: str) -> Any:
    """Find a class attribute without running it."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def is_python_class(cls: type) -> bool:
    """Say whether a class was written in Python (by a module, say) rather than by Qt or CTK."""
    strict = getattr(cls, "_host_stand_in", False)
    return not strict and not cls.__module__.startswith("PySide6.")


def set_attribute(owner: Any, name: str, value: Any) -> None:
    cls = type(owner)
    member = find_member(cls, name)
    if isinstance(value, QtCore.SignalInstance):
        return  # PySide6 keeps the signals it hands out on the object, in front of ours.
    if isinstance(member, QtCore.Property):
        set_stand_in_property(owner, name, value)
    elif hasattr(type(member), "__set__"):
        member.__set__(owner, value)
    elif is_python_class(cls):
        owner.__dict__[name] = value
    elif name.encode() in {bytes(text.data()) for text in owner.dynamicPropertyNames()}:
        QtCore.QObject.setProperty(owner, name, value)
    elif not _loading_form:
        raise AttributeError(
            f"Attribute '{name}' does not exist in {class_name(owner)}"
            " and creation of new attributes on C++ objects is not allowed"
        )


@contextlib.contextmanager
def loading_form() -> Iterator[None]:
    """Let Qt's form loader try to give the form an attribute for each child: without effect."""
    _loading_form.append(True)
    try:
        yield
    finally:
        _loading_form.pop()


def set_stand_in_property(owner: Any, name: str, value: Any) -> None:
    """Assign to a property of a stand-in: the class that declares it says whether that can be."""
    tables = (vars(base).get("_host_setters", {}) for base in type(owner).__mro__)
    setter = next(table[name] for table in tables if name in table)
    if setter is None:
        raise AttributeError(f"Property '{name}' of {owner} is read-only")
    setter(owner, value)


def attribute_reader(raw: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """Hide PySide6's own connect and disconnect, which it answers before any class attribute.

    ``raw`` is the class's own way to find attributes (those with methods that are also static,
    such as QFile.exists, have one).
    """

    def get_attribute(owner: Any, name: str) -> Any:
        if name == "connect":
            return functools.partial(connect, owner)
        if name == "disconnect":
            return functools.partial(disconnect, owner)
        return raw(owner, name)

    return get_attribute


def get_missing_attribute(owner: Any, name: str) -> Any:
    """Find dynamic properties; everything else that is not there is an error."""
    if not name.startswith("__"):
        value = QtCore.QObject.property(owner, name)
        if value is not None:
            return from_qt(value)
    raise AttributeError(f"{class_name(owner)} has no attribute named '{name}'")


def qobject_classes() -> Iterator[Any]:
    """Walk through Qt's classes, each base before what derives from it."""
    found = set()
    for module in MODULES:
        for name in dir(module):
            value = getattr(module, name)
            if inspect.isclass(value) and issubclass(value, QtCore.QObject):
                found.add(value)
    yield from sorted(found, key=lambda cls: len(cls.__mro__))


def patch_members(cls: Any) -> None:
    """Put properties and signals in the places of getters, also of those a subclass redefines."""
    meta = cls.staticMetaObject
    for index in range(meta.propertyCount()):
        member = meta.property(index)
        name = member.name()
        own = vars(cls).get(name)
        if own is not None or index >= meta.propertyOffset():
            setattr(cls, name, QtProperty(name, member.isWritable(), own))
    signals: dict[str, str] = {}
    for index in range(meta.methodOffset(), meta.methodCount()):
        method = meta.method(index)
        if method.methodType() is QtCore.QMetaMethod.MethodType.Signal:
            signature = bytes(method.methodSignature().data()).decode()
            signals.setdefault(bytes(method.name().data()).decode(), signature)
    for name, signature in signals.items():
        raw = vars(cls).get(name)
        if isinstance(raw, QtCore.Signal):
            setattr(cls, name, QtSignal(signature, raw))


def patch_enumerations() -> None:
    """Let enumeration values equal their ints and hash like them, as PythonQt's do."""
    for module in MODULES:
        holders = [value for value in vars(module).values() if inspect.isclass(value)]
        for holder in holders:
            for value in list(vars(holder).values()):
                if isinstance(value, enum.EnumMeta) and not issubclass(value, int):
                    make_like_int(value)


def make_like_int(enumeration: Any) -> None:
    def equal(self: Any, other: Any) -> bool:
        return bool(self is other or (isinstance(other, int) and self.value == other))

    enumeration.__eq__ = equal
    enumeration.__hash__ = lambda self: hash(self.value)
    enumeration.__int__ = lambda self: int(self.value)
    enumeration.__index__ = lambda self: int(self.value)


def keep_none_alive() -> None:
    """Give None references to spare: PySide6 takes one away with each call that returns nothing.

    It is built for Pythons in which None cannot die (3.12 and later); before, some ten thousand
    calls end the process with "deallocating None".
    """
    if sys.version_info < (3, 12) and sys.implementation.name == "cpython":
        ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40


def install() -> None:
    """Change Qt's classes; once per process."""
    if "delete" in vars(QtCore.QObject):
        return
    keep_none_alive()
    for cls in qobject_classes():
        patch_members(cls)
        cls.__setattr__ = set_attribute
        if "__getattribute__" in vars(cls) or cls is QtCore.QObject:
            cls.__getattribute__ = attribute_reader(cls.__getattribute__)
    base: Any = QtCore.QObject
    base.name = QtProperty("objectName", True, None)
    base.__getattr__ = get_missing_attribute
    base.className = class_name
    base.delete = lambda self: self.deleteLater()
    executable: tuple[Any, ...] = (QtWidgets.QDialog, QtWidgets.QMenu, QtWidgets.QApplication)
    for cls in executable:
        cls.exec_ = cls.exec
    patch_enumerations()
    sys.excepthook = record_error
