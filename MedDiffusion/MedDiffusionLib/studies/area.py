"""The area under the ROC curve of a single measure, with an interval that holds at its ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_Z = 1.959963984540054
"""Of the standard normal distribution, for 95 percent."""
_STEPS = 60


@dataclass(frozen=True)
class Area:
    """The probability that a real volume has more of something than a synthetic one (ties 1/2),
    and its 95 % interval."""

    estimate: float
    low: float
    high: float

    @property
    def tells(self) -> bool:
        """Whether the interval is without 1/2."""
        return not self.low <= 0.5 <= self.high


def area(real: Sequence[float], synthetic: Sequence[float]) -> Area:
    """The area, both arms with one value at least.

    The interval has all areas from which the estimate is not further than 1.96 of their standard
    errors by Hanley and McNeil 1982 (Newcombe's method 5, 2006): so it has a width where the arms
    are wholly apart, and is without 1/2 just when the test of Mann and Whitney says so.
    """
    first, second = np.asarray(real, float), np.asarray(synthetic, float)
    above = (first[:, None] > second).mean() + (first[:, None] == second).mean() / 2
    estimate = float(above)
    sizes = len(first), len(second)
    return Area(estimate, _limit(estimate, 0.0, sizes), _limit(estimate, 1.0, sizes))


def _limit(estimate: float, end: float, sizes: tuple[int, int]) -> float:
    """The area nearest to ``end`` that is in the interval, by halving."""
    inside, outside = estimate, end
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if abs(middle - estimate) <= _Z * _error(middle, sizes):
            inside = middle
        else:
            outside = middle
    return inside


def _error(value: float, sizes: tuple[int, int]) -> float:
    """The standard error of an area by Hanley and McNeil."""
    first, second = sizes
    one, two = value / (2 - value), 2 * value**2 / (1 + value)
    variance = (
        value * (1 - value) + (first - 1) * (one - value**2) + (second - 1) * (two - value**2)
    )
    return math.sqrt(max(variance, 0.0) / (first * second))
