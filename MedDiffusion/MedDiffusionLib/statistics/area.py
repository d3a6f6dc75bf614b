"""Which of two volumes has more: counted over pairs, and its mean with an interval, without scipy.

The making and the check of studies need it where there is no scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_Z = NormalDist().inv_cdf(0.975)
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


def wins(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[..., n, m]`` of ``[..., n]`` and ``[..., m]``: 1 where the first is the larger, 1/2 where
    they are equal, else 0, also where one is NaN.

    Its mean is Mann and Whitney's statistic, the area under the ROC curve.
    """
    one, other = first[..., :, None], second[..., None, :]
    return (one > other) + 0.5 * (one == other)


def area(real: Sequence[float] | NDArray, synthetic: Sequence[float] | NDArray) -> Area:
    """The area of a single measure, both arms with one value at least.

    The interval has all areas from which the estimate is not further than 1.96 of their standard
    errors by Hanley and McNeil 1982 (Newcombe's method 5, 2006): so it has a width where the arms
    are wholly apart, and is without 1/2 just when the test of Mann and Whitney says so.
    """
    estimate = float(wins(np.asarray(real, float), np.asarray(synthetic, float)).mean())
    sizes = len(real), len(synthetic)
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
