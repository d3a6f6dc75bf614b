"""How many cases of one reader a study needs, and what a study of a given size can tell.

The exact power of binomial tests saws: a size is the smallest at which the power is reached and is
not lost at the next two sizes either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.stats import binom

from .estimate import LEVEL, critical_value, wilson

MOST = 20_000
"""The largest size that is looked for."""

POWER = 0.8
"""The power of a study unless one is asked for."""


def half_width(n: int, share: float = 0.5, *, level: float = LEVEL) -> float:
    """Half the length of Wilson's interval of one reader's proportion of ``n`` cases."""
    low, high = wilson(share, n, critical_value(level))
    return (high - low) / 2


def cases_for_half_width(wished: float, share: float = 0.5, *, level: float = LEVEL) -> int:
    """The fewest cases of one reader whose Wilson interval is no longer than twice ``wished``."""
    if not 0 < wished < 0.5:
        raise ValueError("the half-width lies between 0 and 0.5")
    low, high = 1, 2
    while half_width(high, share, level=level) > wished:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        enough = half_width(middle, share, level=level) <= wished
        low, high = (low, middle) if enough else (middle, high)
    return high if half_width(low, share, level=level) > wished else low


def power(n: int, share: float, chance: float = 0.5, *, alpha: float = 0.05) -> float:
    """The chance that the exact two-sided test of ``n`` answers rejects ``chance`` at ``share``."""
    likely = binom.pmf(np.arange(n + 1), n, chance)
    order = np.sort(likely)
    counted = np.searchsorted(order, likely * (1 + 1e-7), "right")
    p = np.concatenate([[0], np.cumsum(order)])[counted]
    return float(binom.pmf(np.flatnonzero(p <= alpha), n, share).sum())


def cases_for_power(
    share: float, chance: float = 0.5, *, wished: float = POWER, alpha: float = 0.05
) -> int | None:
    """The cases of one reader at which ``power`` is reached; None above ``MOST``."""
    if share == chance:
        return None
    return _smallest(
        lambda n: power(n, share, chance, alpha=alpha), wished, _guess(share - chance, chance)
    )


Test = Literal["exact", "wilson"]


def equivalence_power(
    n: int, margin: float, share: float = 0.5, chance: float = 0.5, *,
    test: Test = "exact", alpha: float = 0.05,
) -> float:  # fmt: skip
    """The chance that two one-sided tests of ``n`` answers say "equivalent" at a true ``share``.

    ``"exact"``: both binomial tests at ``alpha``, the analysis' own. ``"wilson"``: the interval of
    level 1 - 2 alpha within the margin, whose error at the margin reaches 6.4 % for some n.
    """
    right = np.arange(n + 1)
    if test == "exact":
        said = (binom.cdf(right, n, chance + margin) <= alpha) & (
            binom.sf(right - 1, n, chance - margin) <= alpha
        )
    else:
        critical = critical_value(1 - 2 * alpha)
        bounds = [wilson(k / n, n, critical) for k in right]
        said = np.array([low > chance - margin and high < chance + margin for low, high in bounds])
    return float(binom.pmf(right[said], n, share).sum())


def equivalence_cases(
    margin: float, share: float = 0.5, chance: float = 0.5, *,
    wished: float = POWER, test: Test = "exact", alpha: float = 0.05,
) -> int | None:  # fmt: skip
    """The cases of one reader for "equivalent" where ``share`` is true: an even number, two arms.

    None where ``share`` lies outside the margin or more than ``MOST`` are needed.
    """
    distance = margin - abs(share - chance)
    if distance <= 0:
        return None
    found = _smallest(
        lambda n: equivalence_power(n, margin, share, chance, test=test, alpha=alpha),
        wished,
        _guess(distance, chance),
    )
    return None if found is None else found + found % 2


def auc_cases(margin: float, *, wished: float = POWER, alpha: float = 0.05) -> int:
    """Cases of each arm for "equivalent" of an AUC or visual grading that is truly 1/2.

    By the Mann-Whitney variance (2n + 1)/(12 n^2), the largest there is without ties; ties need
    fewer.
    """
    reach = critical_value(1 - 2 * alpha) + critical_value(wished)
    n = 2
    while reach * math.sqrt((2 * n + 1) / (12 * n * n)) > margin:
        n += 1
    return n


def cases_for_verdict(
    estimate: float, variance_of_one: float, floor: float, margin: float, chance: float = 0.5,
    *, wished: float = POWER,
) -> int | None:  # fmt: skip
    """The cases for either verdict, "equivalent" or "different", were the estimate the truth.

    ``variance_of_one`` is the part of the variance that falls with the number of cases, times that
    number; ``floor`` the part that does not (readers). Normal. None where only more readers could
    help.
    """
    distance = abs(estimate - chance)
    reach = critical_value(2 * wished - 1)
    both = critical_value(0.9) + (critical_value(wished) if distance < 1e-9 else reach)
    errors = [distance / (critical_value(0.95) + reach), max(margin - distance, 0) / both]
    left = max(errors) ** 2 - floor
    return math.ceil(variance_of_one / left) if left > 0 else None


def _guess(distance: float, chance: float) -> int:
    """A size well below any that could do: that of a normal test with power 1/2."""
    return max(2, int(0.8 * chance * (1 - chance) * (1.645 / distance) ** 2))


def _smallest(reached: Callable[[int], float], wished: float, start: int) -> int | None:
    """The first size whose power, and that of the next two, is at least the wished one."""
    run = 0
    for n in range(start, MOST):
        run = run + 1 if reached(n) >= wished else 0
        if run == 3:
            return n - 2
    return None
