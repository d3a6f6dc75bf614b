"""How far readers agree, with each other and with themselves.

``ratings`` are arrays ``[rater, case]`` of numbers, NaN where there is none; a rater is a reader,
or a session of one reader. 1 is full agreement, 0 what chance gives; kappa near 0 is expected where
nothing can be told apart, so show percent agreement and AC1 beside it. Where chance alone gives
full agreement (all ratings equal) kappa, alpha and ICC are NaN: nothing was to be told.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtr, fdtri

from .estimate import LEVEL, NOTHING, Estimate, Floats, critical_value

Scale = Literal["nominal", "ordinal", "interval", "ratio"]


def percent_agreement(ratings: Floats) -> float:
    """The share in [0, 1] of equal pairs of ratings of a case: mean over cases of two or more."""
    counts, _ = category_counts(ratings)
    return _observed(counts)


def cohen_kappa(first: Floats, second: Floats, *, quadratic: bool = True) -> float:
    """Cohen's kappa (1960) of two raters, weighted by squared distance (1968) unless not wished.

    ``first`` and ``second`` are numbers per case, equally spaced answers for the weights; cases
    that one did not rate are left out. 1 - sum(w observed)/sum(w expected).
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    given = ~np.isnan(first) & ~np.isnan(second)
    answers, found = np.unique(np.stack([first[given], second[given]]), return_inverse=True)
    found = found.reshape(2, -1)
    distance = _distance(answers, np.ones(answers.size), "interval" if quadratic else "nominal")
    shares = [np.bincount(f, minlength=answers.size) / max(f.size, 1) for f in found]
    observed = _mean(distance[found[0], found[1]])
    return _one_minus(observed, float(shares[0] @ distance @ shares[1]))


def fleiss_kappa(counts: NDArray) -> float:
    """Fleiss' kappa (1971) of ``counts[case, category]``, the same number of raters for each case.

    NaN where that number differs; use Krippendorff's alpha then.
    """
    counts = np.asarray(counts, np.float64)
    raters = counts.sum(1)
    if not raters.size or raters.min() != raters.max() or raters[0] < 2:
        return math.nan
    expected = ((counts.sum(0) / counts.sum()) ** 2).sum()
    return _one_minus(1 - _observed(counts), 1 - expected)


def krippendorff_alpha(ratings: Floats, scale: Scale = "ordinal") -> float:
    """Krippendorff's alpha (2011, "Computing Krippendorff's alpha-reliability"); gaps are allowed.

    1 - observed/expected disagreement. Cases with one rating count for nothing. The squared
    distance of two answers is by ``scale``: unequal; ranks between; difference; difference over
    sum.
    """
    counts, answers = category_counts(ratings)
    counts = counts[counts.sum(1) > 1]
    if not counts.size:
        return math.nan
    raters = counts.sum(1)
    pairs = (counts / (raters - 1)[:, None]).T @ counts
    pairs -= np.diag((counts / (raters - 1)[:, None]).sum(0))
    totals = counts.sum(0)
    distance = _distance(answers, totals, scale)
    observed = (pairs * distance).sum() / totals.sum()
    expected = (np.outer(totals, totals) * distance).sum() / totals.sum() / (totals.sum() - 1)
    return _one_minus(observed, expected)


def gwet_ac1(ratings: Floats) -> float:
    """Gwet's AC1 (2008), which does not collapse where nearly all answers are alike; gaps allowed.

    Chance agreement is sum(p (1 - p))/(q - 1) of the q answers that occur.
    """
    counts, answers = category_counts(ratings)
    rated = counts[counts.sum(1) > 0]
    if not rated.size:
        return math.nan
    if answers.size < 2:
        return 1.0 if (rated.sum(1) > 1).any() else math.nan
    share = (rated / rated.sum(1, keepdims=True)).mean(0)
    expected = float((share * (1 - share)).sum() / (answers.size - 1))
    return _one_minus(1 - _observed(rated), 1 - expected)


def icc_2_1(ratings: Floats, *, level: float = LEVEL) -> Estimate:
    """ICC(2,1) (Shrout and Fleiss 1979): one rating, raters a sample, absolute agreement.

    Cases that a rater left out are left out. The interval is theirs, by Satterthwaite's degrees of
    freedom; p is of the cases' F test. NaN below two raters or two cases.
    """
    complete = _complete(ratings)
    if complete is None:
        return NOTHING
    (k, n), (cases, raters, rest) = complete.shape, _mean_squares(complete)
    value = _quotient(cases - rest, cases + (k - 1) * rest + k * (raters - rest) / n)
    if rest <= 0:
        return Estimate(value, math.nan, math.nan, n=n)
    tail = (1 - level) / 2
    f = raters / rest
    above = k * value * f + n * (1 + (k - 1) * value) - k * value
    below = (n - 1) * (k * value * f) ** 2 + (n * (1 + (k - 1) * value) - k * value) ** 2
    freedom = (k - 1) * (n - 1) * above**2 / below
    over, under = fdtri(n - 1, freedom, 1 - tail), fdtri(freedom, n - 1, 1 - tail)
    spread = k * raters + (k * n - k - n) * rest
    low = n * (cases - over * rest) / (over * spread + n * cases)
    high = n * (under * cases - rest) / (spread + n * under * cases)
    return Estimate(value, float(low), float(high), _f_test(cases / rest, n, k), n)


def icc_3_1(ratings: Floats, *, level: float = LEVEL) -> Estimate:
    """ICC(3,1) (Shrout and Fleiss 1979): one rating, these raters, their mean levels left aside.

    Gaps, p and NaN as for ``icc_2_1``.
    """
    complete = _complete(ratings)
    if complete is None:
        return NOTHING
    (k, n), (cases, _, rest) = complete.shape, _mean_squares(complete)
    value = _quotient(cases - rest, cases + (k - 1) * rest)
    if rest <= 0:
        return Estimate(value, math.nan, math.nan, n=n)
    f, tail, others = cases / rest, (1 - level) / 2, (n - 1) * (k - 1)
    low, high = f / fdtri(n - 1, others, 1 - tail), f * fdtri(others, n - 1, 1 - tail)
    low, high = (float((x - 1) / (x + k - 1)) for x in (low, high))
    return Estimate(value, low, high, _f_test(f, n, k), n)


def with_interval(
    statistic: Callable[[Floats], float], ratings: Floats, *, level: float = LEVEL
) -> Estimate:
    """A statistic of ``[rater, case]`` with an interval for these raters and cases like these.

    The jackknife over cases, on the scale atanh, which keeps it in [-1, 1] (Fisher's for
    correlations), with t of n - 1 degrees. Fewer than two cases, or a value of 1: no interval.
    """
    ratings = np.asarray(ratings, np.float64)
    n = ratings.shape[1]
    value = statistic(ratings)
    if n < 2 or not abs(value) < 1:
        return Estimate(value, math.nan, math.nan, n=n)
    without = np.array([statistic(np.delete(ratings, i, axis=1)) for i in range(n)])
    without = without[~np.isnan(without)]
    error = math.sqrt((n - 1) / max(without.size, 1) * ((without - without.mean()) ** 2).sum())
    half = critical_value(level, n - 1) * error / (1 - value**2)
    low, high = (math.tanh(math.atanh(value) + x) for x in (-half, half))
    return Estimate(value, low, high, n=n, standard_error=error, freedom=n - 1)


def category_counts(ratings: Floats) -> tuple[Floats, Floats]:
    """How many raters gave each answer ``[case, answer]``, and the answers that occur, sorted."""
    ratings = np.atleast_2d(np.asarray(ratings, np.float64))
    answers = np.unique(ratings[~np.isnan(ratings)])
    return (ratings.T[:, :, None] == answers).sum(1).astype(np.float64), answers


def _observed(counts: Floats) -> float:
    raters = counts.sum(1)
    several = raters > 1
    pairs = (counts * (counts - 1)).sum(1)[several] / (raters * (raters - 1))[several]
    return _mean(pairs)


def _distance(answers: Floats, totals: Floats, scale: Scale) -> Floats:
    """Squared distances between answers."""
    if scale == "nominal":
        return 1 - np.eye(answers.size)
    if scale == "ordinal":
        ranks = np.cumsum(totals) - totals / 2
        return (ranks[:, None] - ranks) ** 2
    difference = answers[:, None] - answers
    if scale == "interval":
        return difference**2
    total = answers[:, None] + answers
    return np.where(difference == 0, 0, difference / np.where(total == 0, 1, total)) ** 2


def _complete(ratings: Floats) -> Floats | None:
    ratings = np.asarray(ratings, np.float64)
    kept = ratings[:, ~np.isnan(ratings).any(0)]
    return kept if min(kept.shape) > 1 else None


def _mean_squares(ratings: Floats) -> tuple[float, float, float]:
    """Of cases, raters and the rest, of complete ratings ``[rater, case]``."""
    k, n = ratings.shape
    grand, of_cases, of_raters = ratings.mean(), ratings.mean(0), ratings.mean(1)
    rest = ((ratings - of_cases - of_raters[:, None] + grand) ** 2).sum() / ((k - 1) * (n - 1))
    cases = k * ((of_cases - grand) ** 2).sum() / (n - 1)
    raters = n * ((of_raters - grand) ** 2).sum() / (k - 1)
    return float(cases), float(raters), float(rest)


def _f_test(f: float, n: int, k: int) -> float:
    return float(1 - fdtr(n - 1, (n - 1) * (k - 1), f))


def _quotient(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan


def _mean(values: NDArray) -> float:
    return float(np.mean(values)) if values.size else math.nan


def _one_minus(observed: float, expected: float) -> float:
    return float(1 - observed / expected) if expected > 0 else math.nan
