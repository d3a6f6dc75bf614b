"""How the stand-ins of CTK's and Slicer's Qt classes are made, checked against ``qt-api.json``.

A stand-in is written as a class of the same name with the metaclass ``StandIn``. Its public names
must all be listed for it in the table (overridden virtual methods of Qt aside). What the table
lists and the class does not write is added: a property keeps its value, the setter slot of a
property sets it, a signal exists; other methods raise NotImplementedError, which says that the
host lacks something and not that the module called a wrong name.

Hooks of a stand-in: ``_setup()`` after construction, ``_get_x()`` and ``_set_x(value)`` in place of
the kept value of property x, ``_after_x()`` once it changed, ``_defaults`` for first values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from PySide6 import QtCore, QtWidgets

from host.api_table import ClassApi, Method, load
from host.pythonqt import find_member
from host.signals import QtSignal

# The classes made so far, by name: the form loader and the table's bases look here.
registry: dict[str, type] = {}

PYTHON_TYPES: dict[str, Any] = {
    "QString": str,
    "bool": bool,
    "int": int,
    "double": float,
    "QStringList": "QStringList",
}
FIRST_VALUES: dict[str, Any] = {
    "QString": "",
    "bool": False,
    "int": 0,
    "double": 0.0,
    "QStringList": (),
}


class HostSignal(NamedTuple):
    """A signal as the table names it, and as PySide6 does (it has no vtkMRMLNode*)."""

    name: str
    types: tuple[Any, ...]

    @property
    def qt_signature(self) -> str:
        names = {str: "QString", bool: "bool", int: "int", float: "double", object: "PyObject"}
        return f"{self.name}({','.join(names.get(kind, str(kind)) for kind in self.types)})"


class StandIn(type(QtCore.QObject)):  # type: ignore[misc]
    """The metaclass of all stand-ins."""

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> StandIn:
        api = load()[name]
        if bases[0].__name__ != api.base:
            raise TypeError(f"{name} derives from {api.base}, not from {bases[0].__name__}")
        refuse_unlisted(name, api, bases[0], body)
        if name in registry:
            raise TypeError(f"{name} has been made before: import its module earlier")
        setters: dict[str, Callable[..., None] | None] = {}
        for key, (kind, writable) in api.properties.items():
            get, set_ = make_accessors(name, key, kind, body)
            setters[key] = set_ if writable else None
            body[key] = QtCore.Property(PYTHON_TYPES.get(kind, object), get, setters[key])
        body["_host_setters"] = setters
        for method in (*api.slots, *(Method(key, ()) for key in api.invokables)):
            if method.name not in body and not inherits(bases[0], method.name):
                body[method.name] = make_method(name, method.name, api)
        signals = declare_signals(api)
        for key, overloads in signals.items():
            declared: Any = QtCore.Signal
            body[key] = declared(*(signal.types for signal in overloads))
        by_signature = {
            method.signature: HostSignal(method.name, python_types(method))
            for method in api.signals
        }
        body["_host_emitters"] = by_signature
        body["_host_signals"] = {key: one.qt_signature for key, one in by_signature.items()}
        body["_host_stand_in"] = True
        body.setdefault("__init__", make_constructor(name, bases[0]))
        cls = super().__new__(mcs, name, bases, body)
        for key, overloads in signals.items():
            setattr(cls, key, QtSignal(overloads[0].qt_signature, vars(cls)[key]))
        registry[name] = cls
        return cls


def inherits(base: type, name: str) -> bool:
    """Say whether a base class has a working method of that name."""
    member = find_member(base, name)
    return member is not None and not getattr(member, "_host_missing", False)


def refuse_unlisted(name: str, api: ClassApi, base: type, body: dict[str, Any]) -> None:
    """Keep the stand-ins themselves honest: they offer nothing that the real class does not."""
    public = {key for key in body if not key.startswith("_")}
    unlisted = {key for key in public - api.names if not hasattr(base, key)}
    if unlisted:
        raise TypeError(f"{name} has no {', '.join(sorted(unlisted))} in Slicer")


def make_constructor(name: str, base: Any) -> Callable[..., None]:
    def construct(self: Any, parent: Any = None) -> None:
        base.__init__(self, parent)
        setup = vars(type(self)).get("_setup")
        if setup is not None and type(self).__name__ == name:  # Once, not for each base.
            setup(self)

    return construct


def make_accessors(
    owner: str, name: str, kind: str, body: dict[str, Any]
) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]]:
    default = body.get("_defaults", {}).get(name, FIRST_VALUES.get(kind))
    getter = body.get(f"_get_{name}")
    setter = body.get(f"_set_{name}")
    after = body.get(f"_after_{name}")

    def get(self: Any) -> Any:
        if getter is not None:
            return getter(self)
        return self.__dict__.get(f"_value_{name}", default)

    def set_(self: Any, value: Any) -> None:
        value = accepted(owner, name, kind, value)
        if setter is not None:
            setter(self, value)
        elif get(self) != value:
            self.__dict__[f"_value_{name}"] = value
            if after is not None:
                after(self)

    return get, set_


def accepted(owner: str, name: str, kind: str, value: Any) -> Any:
    """Convert a value as PythonQt does on assignment, or refuse it."""
    fits = {
        "QString": isinstance(value, str),
        "bool": isinstance(value, int),
        "int": isinstance(value, int),
        "double": isinstance(value, int | float),
        "QStringList": isinstance(value, list | tuple) and all(isinstance(x, str) for x in value),
    }
    if not fits.get(kind, True):
        raise ValueError(f"Property '{name}' of {owner} is a {kind}, which {value!r} is not")
    convert: dict[str, Callable[[Any], Any]] = {"bool": bool, "double": float, "QStringList": tuple}
    return convert[kind](value) if kind in convert else value


def make_method(owner: str, name: str, api: ClassApi) -> Callable[..., Any]:
    target = name[3:4].lower() + name[4:]
    if name.startswith("set") and target in api.properties:

        def assign(self: Any, value: Any) -> None:
            setattr(self, target, value)

        return assign

    def missing(_self: Any, *_arguments: Any) -> None:
        raise NotImplementedError(f"the test host does not implement {owner}.{name}")

    missing._host_missing = True  # type: ignore[attr-defined]
    return missing


def python_types(method: Method) -> tuple[Any, ...]:
    known: dict[str, Any] = {"QString": str, "bool": bool, "int": int, "double": float}
    return tuple(known.get(kind, object) for kind in method.parameters)


def declare_signals(api: ClassApi) -> dict[str, list[HostSignal]]:
    signals: dict[str, list[HostSignal]] = {}
    for method in api.signals:
        signal = HostSignal(method.name, python_types(method))
        overloads = signals.setdefault(method.name, [])
        if signal not in overloads:
            overloads.append(signal)
    return signals


def emit(owner: Any, signature: str, *arguments: Any) -> None:
    """Emit a stand-in's signal by the signature that the table gives it."""
    for base in type(owner).__mro__:
        emitter: HostSignal | None = vars(base).get("_host_emitters", {}).get(signature)
        if emitter is not None:
            raw = vars(base)[emitter.name]._raw.__get__(owner, base)
            overload = raw[emitter.types] if emitter.types else raw
            overload.emit(*arguments)
            return
    raise ValueError(f"{type(owner).__name__} has no signal {signature}")


def declare(*names: str) -> list[type]:
    """Make the stand-ins that need no behaviour of their own, and their bases."""
    return [registry.get(name) or _declare(name) for name in names]


def _declare(name: str) -> type:
    base_name = load()[name].base
    base = getattr(QtWidgets, base_name, None) or getattr(QtCore, base_name, None)
    if base is None:
        (base,) = declare(base_name)
    return StandIn(name, (base,), {})
