"""How a value of each type is kept in a vtkMRMLScriptedModuleNode: the format is Slicer's.

A kind of storage reads, writes and removes the parameter of one name. Lists and optional values
are made of others, under dotted names, as Slicer writes them.
"""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from typing import Any

import slicer


class Plain:
    """A value that is one text."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def default(self) -> Any:
        return next(iter(self.kind)) if issubclass(self.kind, enum.Enum) else self.kind()

    def accepts(self, value: Any) -> bool:
        if self.kind in (int, float):
            kinds = int if self.kind is int else (int, float)
            return isinstance(value, kinds)
        return isinstance(value, self.kind)

    def has(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, value.name if isinstance(value, enum.Enum) else str(value))

    def read(self, node: Any, name: str) -> Any:
        text = node.GetParameter(name)
        if self.kind is bool:
            return text == "True"
        return self.kind[text] if issubclass(self.kind, enum.Enum) else self.kind(text)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


class Node(Plain):
    """A MRML node or None: a reference, which the scene keeps right when it is loaded."""

    def default(self) -> Any:
        return None

    def accepts(self, value: Any) -> bool:
        return value is None or isinstance(value, self.kind)

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")  # Tells a parameter that is None from one that was never set.
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class Nothing(Plain):
    """None, as one of the alternatives of a union."""

    def __init__(self) -> None:
        super().__init__(type(None))

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "True")

    def read(self, node: Any, name: str) -> Any:
        return None


class Sequence:
    """A list: its length and its elements."""

    def __init__(self, element: Any) -> None:
        self.element = element

    def default(self) -> list[Any]:
        return []

    def accepts(self, value: Any) -> bool:
        return isinstance(value, list | tuple) and all(self.element.accepts(one) for one in value)

    def has(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(f"{name}.len"))

    def write(self, node: Any, name: str, value: Any) -> None:
        self.remove(node, name)
        for index, one in enumerate(value):
            self.element.write(node, f"{name}.{index}", one)
        node.SetParameter(f"{name}.len", str(len(value)))

    def read(self, node: Any, name: str) -> tuple[Any, ...] | list[Any]:
        count = int(node.GetParameter(f"{name}.len"))
        return [self.element.read(node, f"{name}.{index}") for index in range(count)]

    def remove(self, node: Any, name: str) -> None:
        if self.has(node, name):
            for index in range(int(node.GetParameter(f"{name}.len"))):
                self.element.remove(node, f"{name}.{index}")
            node.UnsetParameter(f"{name}.len")


class Pair:
    """A key and its value."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts

    def accepts(self, value: Any) -> bool:
        return all(part.accepts(one) for part, one in zip(self.parts, value, strict=True))

    def write(self, node: Any, name: str, value: Any) -> None:
        for index, (part, one) in enumerate(zip(self.parts, value, strict=True)):
            part.write(node, f"{name}.{index}", one)

    def read(self, node: Any, name: str) -> tuple[Any, ...]:
        return tuple(part.read(node, f"{name}.{i}") for i, part in enumerate(self.parts))

    def remove(self, node: Any, name: str) -> None:
        for index, part in enumerate(self.parts):
            part.remove(node, f"{name}.{index}")


class Mapping(Sequence):
    """A dictionary: a list of pairs."""

    def default(self) -> Any:
        return {}

    def accepts(self, value: Any) -> bool:
        return isinstance(value, dict) and super().accepts(list(value.items()))

    def write(self, node: Any, name: str, value: Any) -> None:
        super().write(node, name, value.items())

    def read(self, node: Any, name: str) -> Any:
        return types.MappingProxyType(dict(super().read(node, name)))


class Union:
    """One of several types: the number of the type is part of the name."""

    def __init__(self, alternatives: list[Any]) -> None:
        self.alternatives = alternatives

    def default(self) -> Any:
        first, *rest = self.alternatives
        optional = len(rest) == 1 and isinstance(rest[0], Nothing)
        return None if optional else first.default()

    def accepts(self, value: Any) -> bool:
        return any(one.accepts(value) for one in self.alternatives)

    def has(self, node: Any, name: str) -> bool:
        return any(one.has(node, f"{name}.{i}") for i, one in enumerate(self.alternatives))

    def write(self, node: Any, name: str, value: Any) -> None:
        self.remove(node, name)
        exact = [isinstance(value, getattr(one, "kind", list)) for one in self.alternatives]
        index = exact.index(True)
        self.alternatives[index].write(node, f"{name}.{index}", value)

    def read(self, node: Any, name: str) -> Any:
        for index, one in enumerate(self.alternatives):
            if one.has(node, f"{name}.{index}"):
                return one.read(node, f"{name}.{index}")
        raise KeyError(name)

    def remove(self, node: Any, name: str) -> None:
        for index, one in enumerate(self.alternatives):
            one.remove(node, f"{name}.{index}")


def storage_for(kind: Any) -> Any:
    """Choose how a type is kept; types that this project does not use are refused."""
    origin = typing.get_origin(kind)
    if origin is list:
        return Sequence(storage_for(typing.get_args(kind)[0]))
    if origin is dict:
        return Mapping(Pair([storage_for(one) for one in typing.get_args(kind)]))
    if origin in (typing.Union, types.UnionType):
        return Union([storage_for(one) for one in typing.get_args(kind)])
    if kind is type(None):
        return Nothing()
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return Node(kind)
    plain = (int, float, str, bool, enum.Enum, pathlib.PurePath)
    if isinstance(kind, type) and issubclass(kind, plain):
        return Plain(kind)
    raise TypeError(f"the test host's parameterNodeWrapper does not know the type {kind}")
