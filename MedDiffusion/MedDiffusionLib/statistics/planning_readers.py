"""How many cases several readers need, and what so many can tell, for these readers or for others.

``between`` is the standard deviation of the readers' true shares, ``correlation`` that of two
readers' answers about one case.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammaincinv, nctdtr, ndtr

from .estimate import LEVEL, bounded, critical_value
from .readers import Components, error_with_readers

_POINTS = 40
"""Points at which the distribution of MS(R) is taken."""


def readers_variance(
    readers: int, cases: int, *, share: float = 0.5, between: float = 0.05, correlation: float = 0.2
) -> float:
    """The variance of a proportion pooled over readers and cases (Obuchowski and Rockette 1995).

    between^2/R + share (1 - share) (1 + (R - 1) correlation)/(R C).
    """
    spread = share * (1 - share) * (1 + (readers - 1) * correlation)
    return between**2 / readers + spread / (readers * cases)


def readers_half_width(
    readers: int, cases: int, *, share: float = 0.5, between: float = 0.05,
    correlation: float = 0.2, level: float = LEVEL,
) -> float:  # fmt: skip
    """Half of a 95 % interval of a proportion pooled, were the variances known (normal).

    The analysis must estimate the spread between readers: of two or three readers its interval for
    other readers is far longer (``analysed_half_width``), the one for these readers alone
    (``between=0``) is shorter.
    """
    variance = readers_variance(
        readers, cases, share=share, between=between, correlation=correlation
    )
    return critical_value(level) * math.sqrt(variance)


def readers_power(
    readers: int, cases: int, share: float, *, correlation: float = 0.2, chance: float = 0.5,
    alpha: float = 0.05,
) -> float:  # fmt: skip
    """The chance that the test of these readers rejects ``chance`` where ``share`` is true
    (noncentral t)."""
    variance = readers_variance(readers, cases, share=share, between=0, correlation=correlation)
    critical = critical_value(1 - alpha, cases - 1)
    return float(1 - nctdtr(cases - 1, abs(share - chance) / math.sqrt(variance), critical))


def others_power(
    readers: int, cases: int, share: float, *, margin: float | None = None,
    between: float = 0.05, correlation: float = 0.2, chance: float = 0.5, alpha: float = 0.05,
) -> float:  # fmt: skip
    """The chance of a verdict for readers like these where ``share`` is true: "different", or with
    a ``margin`` "equivalent", as the analysis finds it.

    The mean over the distribution of MS(R), which the analysis must estimate and which is chi^2 of
    R - 1 degrees; the pooled share is normal and independent of it.
    """
    of_case = share * (1 - share) / cases
    error = math.sqrt(
        readers_variance(readers, cases, share=share, between=between, correlation=correlation)
    )
    expected = between**2 + (1 - correlation) * of_case
    chi = 2 * gammaincinv((readers - 1) / 2, (np.arange(_POINTS) + 0.5) / _POINTS)
    found = 0.0
    for mean_square in expected * chi / (readers - 1):
        parts = Components(float(mean_square), of_case, correlation * of_case, readers)
        low, high = _equal(parts, chance, alpha) if margin is None else _equivalent(
            parts, chance, margin, alpha)  # fmt: skip
        within = float(ndtr((high - share) / error) - ndtr((low - share) / error))
        found += 1 - within if margin is None else within
    return found / _POINTS


def analysed_half_width(
    readers: int, cases: int, *, share: float = 0.5, between: float = 0.05,
    correlation: float = 0.2, level: float = LEVEL,
) -> float:  # fmt: skip
    """Half of the interval that ``readers.pooled`` gives for readers like these, at the expected
    components.

    Somewhat longer than the mean of many studies: by 4 % for five readers, 9 % for three, a fourth
    for two, whose intervals differ most.
    """
    of_case = share * (1 - share) / cases
    parts = Components(
        between**2 + (1 - correlation) * of_case, of_case, correlation * of_case, readers
    )
    error, freedom = error_with_readers(parts, level)
    found = bounded(share, error**2, freedom, level=level)
    return (found.high - found.low) / 2


def cases_for_readers(
    readers: int, wished: float, *, share: float = 0.5, between: float = 0.05,
    correlation: float = 0.2, level: float = LEVEL,
) -> int | None:  # fmt: skip
    """The fewest cases for ``readers_half_width``; None where only more readers could help."""
    left = (wished / critical_value(level)) ** 2 - between**2 / readers
    spread = share * (1 - share) * (1 + (readers - 1) * correlation) / readers
    return math.ceil(spread / left - 1e-9) if left > 0 else None


def _equal(parts: Components, chance: float, alpha: float) -> tuple[float, float]:
    """Between which shares the test against chance does not reject."""
    error, freedom = error_with_readers(parts, 1 - alpha)
    reach = critical_value(1 - alpha, freedom) * error
    return chance - reach, chance + reach


def _equivalent(
    parts: Components, chance: float, margin: float, alpha: float
) -> tuple[float, float]:
    """Between which shares "equivalent" is said; none where it never is."""
    level = 1 - 2 * alpha
    error, freedom = error_with_readers(parts, level, cautious=True)
    shares = np.linspace(chance - margin, chance + margin, 401)[1:-1]
    said = np.ones(shares.size, bool)
    for bound in (chance - margin, chance + margin):
        # The error at the bound, as Wilson's test of the effective number has it.
        at_bound = error * np.sqrt(bound * (1 - bound) / (shares * (1 - shares)))
        said &= np.abs(bound - shares) >= critical_value(level, freedom) * at_bound
    return (float(shares[said][0]), float(shares[said][-1])) if said.any() else (chance, chance)
