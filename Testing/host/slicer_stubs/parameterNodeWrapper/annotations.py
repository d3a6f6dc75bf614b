"""What may stand in ``Annotated[type, …]``: a default value, limits, hints for a widget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


class Default:
    """The value that a parameter has at first."""

    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None) -> None:
        self._value = value
        self._generator = generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


class Validator:
    """Refuses values by raising ValueError."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class WithinRange(Validator):
    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within [{self.minimum}, {self.maximum}]")


@dataclass(frozen=True)
class Choice(Validator):
    choices: Sequence[Any]

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"{value} is not one of {self.choices}")
