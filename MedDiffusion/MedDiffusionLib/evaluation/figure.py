"""One figure of a model, with its interval and what real cases give beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .figures.intervals import Interval
from .json_arrays import listed

AS_REAL = "as real"
DIFFERS = "differs from real"
INCONCLUSIVE = "inconclusive"
TOO_EASY = "too easy to segment"


@dataclass(frozen=True)
class Figure:
    """A figure of synthetic volumes; ``name`` is what ``--gate`` calls it.

    ``seeds``: it of each seed alone, in their order. ``real``: the same figure between real cases,
    or of real volumes, as ``what`` says. ``verdict`` is empty where the figure is not judged.
    """

    name: str
    what: str
    value: Interval
    seeds: tuple[float, ...] = ()
    real: Interval | None = None
    verdict: str = ""

    @property
    def subject(self) -> str:
        """What it is about: the first part of its name."""
        return self.name.split("/")[0]

    def to_json(self) -> dict[str, Any]:
        """As a report's JSON holds it."""
        return {
            "name": self.name,
            "what": self.what,
            "value": _bounds(self.value),
            "seeds": [listed(seed) for seed in self.seeds],
            "real": None if self.real is None else _bounds(self.real),
            "verdict": self.verdict,
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> Figure:
        """The inverse of :meth:`to_json`; raises KeyError or TypeError."""
        real = content["real"]
        return Figure(
            content["name"],
            content["what"],
            _interval(content["value"]),
            tuple(_number(seed) for seed in content["seeds"]),
            None if real is None else _interval(real),
            content["verdict"],
        )


def within(value: Interval, real: Interval) -> str:
    """The verdict on a figure whose real cases lie within ``real``."""
    if math.isnan(value.estimate) or math.isnan(real.low):
        return ""
    if real.low <= value.estimate <= real.high:
        return AS_REAL
    if value.high < real.low or value.low > real.high:
        return DIFFERS
    return INCONCLUSIVE


def at_most(value: Interval, real: Interval) -> str:
    """The verdict on a distance that is to be no more than between real cases."""
    if math.isnan(value.estimate) or math.isnan(real.high):
        return ""
    if value.estimate <= real.high:
        return AS_REAL
    return DIFFERS if value.low > real.high else INCONCLUSIVE


def _bounds(interval: Interval) -> list[float | None]:
    return [listed(interval.estimate), listed(interval.low), listed(interval.high)]


def _interval(content: list[float | None]) -> Interval:
    estimate, low, high = (_number(each) for each in content)
    return Interval(estimate, low, high)


def _number(content: float | None) -> float:
    return math.nan if content is None else float(content)
