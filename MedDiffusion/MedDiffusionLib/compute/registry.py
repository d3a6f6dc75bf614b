"""Registries: the parts that a manifest names, each with options that it checks itself.

A registry is a dict from name to class. A class in one has ``OPTIONS``, a JSON Schema of its
options' names, kinds and ranges; what a schema cannot say its constructor checks, and raises
ValueError with a clause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from .schema import Schema, validate


@dataclass(frozen=True)
class Component:
    """A part by its name in a registry, with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Component:
        """From ``{"name": ..., OPTION: VALUE, ...}``."""
        return Component(content["name"], {k: v for k, v in content.items() if k != "name"})

    def to_json(self) -> dict[str, Any]:
        """As :meth:`from_json` takes it."""
        return {"name": self.name, **self.options}


class Registered(Protocol):
    """What a class in a registry has."""

    OPTIONS: ClassVar[Schema]


_Part = TypeVar("_Part", bound=Registered)


def build(
    registry: Mapping[str, type[_Part]], component: Component, what: str, **context: Any
) -> _Part:
    """Make a part; ``context`` is what it gets beside its options, such as channel counts.

    Raises ValueError, with ``what`` the part is in words, where the registry has no such name or
    the options are wrong.
    """
    part = registry.get(component.name)
    if part is None:
        raise ValueError(f"unknown {what} {component.name!r}")
    schema = {"type": "object", "additionalProperties": False, **part.OPTIONS}
    if problem := validate(dict(component.options), schema, what):
        raise ValueError(problem)
    return part(**context, **component.options)
