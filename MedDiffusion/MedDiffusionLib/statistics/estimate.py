"""A figure with its interval, and the shapes of interval that several statistics share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri, stdtr, stdtrit

Floats = NDArray[np.float64]

LEVEL = 0.95
"""The level of intervals unless one is asked for."""


@dataclass(frozen=True)
class Estimate:
    """What was estimated, its interval, the two-sided p against chance, and from how many answers.

    NaN stands for what the answers do not determine. ``standard_error`` and ``freedom`` (degrees of
    freedom, infinite for the normal distribution) are there where the interval rests on them.
    """

    estimate: float
    low: float
    high: float
    p: float = math.nan
    n: int = 0
    standard_error: float = math.nan
    freedom: float = math.inf


NOTHING = Estimate(math.nan, math.nan, math.nan)
"""The estimate where there are no answers."""


def critical_value(level: float = LEVEL, freedom: float = math.inf) -> float:
    """The half of a two-sided interval in standard errors: normal, or t with so many degrees."""
    tail = (1 + level) / 2
    return float(ndtri(tail)) if math.isinf(freedom) else float(stdtrit(freedom, tail))


def two_sided_p(statistic: float, freedom: float = math.inf) -> float:
    """The chance of a value at least as far from 0: normal, or t with so many degrees."""
    return float(2 * stdtr(min(freedom, 1e12), -abs(statistic)))


def unbounded(
    estimate: float,
    variance: float,
    freedom: float = math.inf,
    *,
    against: float = 0.0,
    n: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """An estimate on the whole line with its symmetric interval and the test against a value."""
    error = math.sqrt(variance) if variance >= 0 else math.nan
    half = critical_value(level, freedom) * error if error == error else math.nan
    p = two_sided_p((estimate - against) / error, freedom) if error > 0 else math.nan
    return Estimate(estimate, estimate - half, estimate + half, p, n, error, freedom)


def wilson(share: float, n: float, critical: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of a proportion of ``n`` answers, within [0, 1].

    All p with |share - p| <= critical * sqrt(p (1 - p) / n). ``n`` may be an effective number.
    """
    square = critical * critical / n
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(square * share * (1 - share) + square * square / 4) / (1 + square)
    low = 0.0 if share == 0 else max(0.0, middle - half)
    high = 1.0 if share == 1 else min(1.0, middle + half)
    return low, high


def bounded(
    estimate: float,
    variance: float,
    freedom: float = math.inf,
    *,
    against: float = 0.5,
    n: int = 0,
    fewest: float = 1,
    level: float = LEVEL,
) -> Estimate:
    """An estimate in [0, 1] with an interval that stays there.

    Wilson's interval of the effective number of answers, estimate (1 - estimate)/variance (Korn and
    Graubard 1998 for proportions); of ordered ratings it covers better than the logit scale. Where
    all answers are alike there is no variance: Wilson's of ``fewest`` answers. p is of the plain
    difference from ``against``.
    """
    if math.isnan(estimate) or math.isnan(variance):
        return Estimate(estimate, math.nan, math.nan, n=n)
    error = math.sqrt(variance)
    if not 0 < estimate < 1 or error == 0:
        low, high = wilson(estimate, max(fewest, 1), critical_value(level))
        z = (estimate - against) / math.sqrt(against * (1 - against) / max(fewest, 1))
        return Estimate(estimate, low, high, two_sided_p(z), n, error, freedom)
    effective = estimate * (1 - estimate) / variance
    low, high = wilson(estimate, effective, critical_value(level, freedom))
    p = two_sided_p((estimate - against) / error, freedom)
    return Estimate(estimate, low, high, p, n, error, freedom)


def freedom_of(critical: float, level: float = LEVEL) -> float:
    """The degrees of freedom whose t has this critical value; infinite up to the normal one."""
    if critical <= critical_value(level, 1e6):
        return math.inf
    low = 0.05
    if critical >= critical_value(level, low):
        return low
    return float(brentq(lambda f: critical_value(level, f) - critical, low, 1e6))
