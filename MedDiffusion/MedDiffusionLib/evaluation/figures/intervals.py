"""Intervals of figures over patients: the bootstrap, and half samples for figures of whole sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from .checks import Floats, enough

LEVEL = 0.95
"""The level of intervals unless one is asked for."""
_FEWEST = 2


@dataclass(frozen=True)
class Interval:
    """A figure and its interval; NaN where the cases do not determine it."""

    estimate: float
    low: float
    high: float


def bootstrap(
    values: NDArray[Any],
    statistic: Callable[[NDArray[Any]], float],
    seed: int,
    count: int = 2000,
    *,
    method: Literal["percentile", "bca"] = "percentile",
    level: float = LEVEL,
) -> Interval:
    """An interval of ``statistic(values)`` over patients, ``values`` ``[patients, ...]``.

    Patients are drawn with replacement ``count`` times. ``bca``: corrected for bias and
    acceleration (Efron 1987). Draws whose statistic is NaN are left out; the interval is NaN where
    these are half or more. Raises UserError (code ``too-few-cases``) for fewer than 2 patients.

    Not for figures of whole sets, such as distances between features: patients drawn twice are
    each other's neighbours. ``half_samples`` is for these.
    """
    values = np.asarray(values)
    enough(len(values), _FEWEST, "An interval")
    estimate = float(statistic(values))
    found = np.array([float(statistic(values[draw])) for draw in _draws(len(values), seed, count)])
    levels = np.array([(1 - level) / 2, (1 + level) / 2])
    known = found[~np.isnan(found)]
    if math.isnan(estimate) or 2 * len(known) <= count:
        return Interval(estimate, math.nan, math.nan)
    if method == "bca":
        levels = _bca_levels(levels, estimate, known, _left_out(values, statistic))
    low, high = np.quantile(known, levels)
    return Interval(estimate, float(low), float(high))


def _draws(patients: int, seed: int, count: int) -> NDArray[np.int64]:
    """Patients drawn with replacement, ``[count, patients]``."""
    return np.random.default_rng(seed).integers(0, patients, (count, patients))


def _left_out(values: NDArray[Any], statistic: Callable[[NDArray[Any]], float]) -> Floats:
    """The statistic without each patient in turn."""
    each = np.arange(len(values))
    return np.array([float(statistic(values[each != patient])) for patient in each])


def _bca_levels(levels: Floats, estimate: float, draws: Floats, left_out: Floats) -> Floats:
    """The levels whose quantiles are the bounds (Efron 1987, eq. 2.3)."""
    below = (np.mean(draws < estimate) + np.mean(draws <= estimate)) / 2
    if not 0 < below < 1:
        return levels
    shift = ndtri(below)
    away = np.nanmean(left_out) - left_out
    spread = np.nansum(away**2) ** 1.5
    acceleration = np.nansum(away**3) / (6 * spread) if spread > 0 else 0.0
    moved = shift + ndtri(levels)
    corrected: Floats = ndtr(shift + moved / (1 - acceleration * moved))
    return corrected


def mean_interval(values: Floats, seed: int, count: int = 2000) -> Interval:
    """``bootstrap`` of the mean over patients, ``[patients]``, without those that are NaN."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    enough(len(known), _FEWEST, "An interval")
    found = known[_draws(len(known), seed, count)].mean(1)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(known.mean()), float(low), float(high))


def paired_difference(real: Floats, synthetic: Floats, seed: int, count: int = 2000) -> Interval:
    """The mean of synthetic - real over patients, ``[patients]`` each; pairs with a NaN are left
    out. Raises ValueError where the counts differ, UserError for fewer than 2 pairs."""
    real, synthetic = np.asarray(real, np.float64), np.asarray(synthetic, np.float64)
    if real.shape != synthetic.shape or real.ndim != 1:
        raise ValueError(f"pairs of shapes {real.shape} and {synthetic.shape}")
    return mean_interval(synthetic - real, seed, count)


def half_samples(
    real: Floats,
    synthetic: Floats,
    figure: Callable[[Floats, Floats], float],
    seed: int,
    count: int = 200,
    *,
    paired: bool = False,
    level: float = LEVEL,
) -> Interval:
    """An interval of a figure of two sets ``[n, d]`` and ``[m, d]`` over their cases.

    Half of each set is drawn without replacement: about their mean, figures of halves vary as
    those of the whole do over new cases (McCarthy 1969), and no case stands beside a copy of
    itself. Their bias, which depends on the number of cases, is left out. ``paired``: case i of
    both sets is the same patient, and is drawn for both. Raises ValueError where paired sets
    differ in size, UserError for fewer than 4 cases and what the figure raises.
    """
    if paired and len(real) != len(synthetic):
        raise ValueError(f"{len(real)} cases paired with {len(synthetic)}")
    enough(min(len(real), len(synthetic)), 2 * _FEWEST, "An interval")
    estimate = float(figure(real, synthetic))
    random = np.random.default_rng(seed)
    found = np.empty(count)
    for draw in range(count):
        one = random.permutation(len(real))[: len(real) // 2]
        other = one if paired else random.permutation(len(synthetic))[: len(synthetic) // 2]
        found[draw] = figure(real[one], synthetic[other])
    low, high = np.quantile(found - found.mean(), [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, estimate + float(low), estimate + float(high))
