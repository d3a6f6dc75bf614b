"""Right answers of one reader: proportions, their exact test and intervals, and d'.

Counts are of independent answers; answers of several readers about the same cases are not (see
``readers``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, log_ndtr, ndtri
from scipy.stats import binomtest

from .estimate import LEVEL, NOTHING, Estimate, critical_value, unbounded, wilson

Interval = Literal["wilson", "exact"]


def binomial_p(right: int, n: int, chance: float = 0.5) -> float:
    """The exact two-sided p of ``right`` of ``n`` answers where guessing gives ``chance``.

    It sums all outcomes that are no likelier than the observed one. ``chance`` is 1/m where one of
    m is to be chosen. NaN without answers.
    """
    return float(binomtest(right, n, chance).pvalue) if n else math.nan


def clopper_pearson(right: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of Clopper and Pearson (1934): both binomial tails at most (1 - level)/2.

    It covers at least ``level`` whatever the proportion, mostly more.
    """
    tail = (1 - level) / 2
    low = float(betaincinv(right, n - right + 1, tail)) if right > 0 else 0.0
    high = float(betaincinv(right + 1, n - right, 1 - tail)) if right < n else 1.0
    return low, high


def proportion(
    right: int, n: int, chance: float = 0.5, *, interval: Interval = "wilson", level: float = LEVEL
) -> Estimate:
    """The proportion of right answers in [0, 1] with its interval and exact p against ``chance``.

    Wilson's interval covers ``level`` on average over proportions, the exact one always.
    """
    if not n:
        return NOTHING
    share = right / n
    low, high = (
        wilson(share, n, critical_value(level))
        if interval == "wilson"
        else clopper_pearson(right, n, level)
    )
    error = math.sqrt(share * (1 - share) / n)
    return Estimate(share, low, high, binomial_p(right, n, chance), n, error)


@dataclass(frozen=True)
class Detection:
    """How one reader tells synthetic from real; "synthetic" is the positive answer."""

    sensitivity: Estimate
    """Of the synthetic cases, those called synthetic."""
    specificity: Estimate
    """Of the real cases, those called real."""
    d_prime: Estimate
    """0: told apart as by a coin."""
    criterion: Estimate
    """Above 0: inclined to say "real"."""


def detection(
    hits: int, synthetic: int, false_alarms: int, real: int, *, level: float = LEVEL
) -> Detection:
    """Sensitivity, specificity, d' = z(H) - z(F) and c = -(z(H) + z(F))/2 of one reader.

    H and F are (k + 1/2)/(n + 1) (Hautus 1995), so that 0 and n of n give finite values. Variances
    of d' and c are Gourevitch and Galanter's (1967): H(1 - H)/(n phi(z(H))^2) and the same of F,
    added; a quarter of it for c. NaN where an arm has no answers.
    """
    sensitivity = proportion(hits, synthetic, level=level)
    specificity = proportion(real - false_alarms, real, level=level)
    if not synthetic or not real:
        return Detection(sensitivity, specificity, NOTHING, NOTHING)
    z_hit, hit_variance = normal_score(hits, synthetic)
    z_false, false_variance = normal_score(false_alarms, real)
    variance, n = hit_variance + false_variance, synthetic + real
    return Detection(
        sensitivity,
        specificity,
        unbounded(z_hit - z_false, variance, n=n, level=level),
        unbounded(-(z_hit + z_false) / 2, variance / 4, n=n, level=level),
    )


def normal_score(count: float, n: float) -> tuple[float, float]:
    """z((k + 1/2)/(n + 1)) and its variance by the delta method."""
    rate = (count + 0.5) / (n + 1)
    z = float(ndtri(rate))
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return z, rate * (1 - rate) / (n * density**2)


def two_choice_d_prime(share: float) -> float:
    """d' of a choice between two: sqrt(2) z(share right) (Green and Swets 1966)."""
    return math.sqrt(2) * float(ndtri(share))


def share_right(d_prime: float, choices: int) -> float:
    """The share of right choices of one in m by d': the integral of phi(x - d') Phi(x)^(m - 1).

    Green and Swets (1966): the chosen is the largest of m independent normal values.
    """

    # The trapezoidal rule is exact to rounding for smooth curves that vanish at both ends.
    x, step = np.linspace(d_prime - 10, d_prime + 10, 1001, retstep=True)
    curve = np.exp(-((x - d_prime) ** 2) / 2 + (choices - 1) * log_ndtr(x))
    return float(curve.sum() * step / math.sqrt(2 * math.pi))


def choice_d_prime(right: int, n: int, choices: int, *, level: float = LEVEL) -> Estimate:
    """d' of n choices of one in m, with Wilson's interval taken through the same curve.

    The share is (k + 1/2)/(n + 1), so that 0 and n of n give a finite d'. Below chance it is
    negative. p is the exact one of the share against 1/m.
    """
    if not n:
        return NOTHING
    low, high = wilson(right / n, n, critical_value(level))
    values = [_d_prime(share, choices) for share in ((right + 0.5) / (n + 1), low, high)]
    return Estimate(values[0], values[1], values[2], binomial_p(right, n, 1 / choices), n)


def _d_prime(share: float, choices: int) -> float:
    if share <= 0 or share >= 1:
        return math.copysign(math.inf, share - 0.5)
    if choices == 2:
        return two_choice_d_prime(share)
    bound = 20.0
    if share_right(-bound, choices) > share or share_right(bound, choices) < share:
        return math.copysign(math.inf, share - 0.5)
    return float(brentq(lambda d: share_right(d, choices) - share, -bound, bound, xtol=1e-12))
