"""What several readers answered about the same cases, pooled: for readers like these, or for these.

A case shown again counts once, with its mean answer, or as a case of the same cluster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammaincinv, ndtr

from .estimate import (
    LEVEL,
    NOTHING,
    Estimate,
    Floats,
    bounded,
    critical_value,
    freedom_of,
    unbounded,
)
from .figures import Figure, ratio

Readers = Literal["random", "fixed"]

_POINTS = 200
"""Points at which the distribution of MS(R) is taken."""


def each_reader(figure: Figure, *, level: float = LEVEL) -> list[Estimate]:
    """Every reader's own figure, for cases like these; see ``pooled`` for the intervals."""
    values = figure.values(np.ones((1, figure.arms.size)))[0]
    return [
        _over_cases(figure, float(value), own, _groups(figure.arms, given), level)
        for value, own, given in zip(values, figure.influence(), figure.given, strict=True)
    ]


@dataclass(frozen=True)
class Components:
    """Obuchowski and Rockette's parts (1995) of the error of a mean over readers."""

    between: float
    """The mean square between readers, MS(R)."""
    variance: float
    """The mean variance of one reader's figure over cases."""
    covariance: float
    """The mean covariance of two readers' figures over cases, Cov2, at least 0."""
    readers: int


def components(figure: Figure, clusters: NDArray | None = None) -> Components:
    """MS(R), variance and Cov2 of a figure; the last from the influences, so with gaps as well."""
    values = figure.values(np.ones((1, figure.arms.size)))[0]
    influence = clustered(figure.influence(), clusters)
    kept = ~np.isnan(values)
    covariances = influence[kept] @ influence[kept].T
    count = int(kept.sum())
    between = float(values[kept].var(ddof=1)) if count > 1 else math.nan
    variance = float(np.trace(covariances)) / count if count else math.nan
    other = (float(covariances.sum()) / count - variance) / (count - 1) if count > 1 else 0.0
    return Components(between, variance, max(other, 0.0), count)


def pooled(
    figure: Figure,
    *,
    readers: Readers = "random",
    clusters: NDArray | None = None,
    cautious: bool = False,
    level: float = LEVEL,
) -> Estimate:
    """The mean of the readers' figures, each reader counted once.

    ``readers="random"``: for readers like these and cases like these. Obuchowski and Rockette's
    model of one modality (1995), variance (MS(R) + R Cov2)/R, with Hillis' degrees of freedom
    (2007), (R - 1) ((MS(R) + R Cov2)/MS(R))^2, mended where readers are few
    (``error_with_readers``). With two or three it is wide: so little do they tell about others.
    ``"fixed"``: for these readers alone and cases like these. One reader: always ``"fixed"``.
    ``cautious``: of random readers the longer interval, for what must not be said too early.

    ``clusters`` numbers the cases by what they share (label map, patient, a repeated volume).
    Figures in [0, 1] have Wilson's interval of an effective number of answers. p is against the
    figure's chance. A reader who judged nothing, or for a comparison nothing of one arm, counts for
    none; where one judged a single case of an arm there is no interval.
    """
    values = figure.values(np.ones((1, figure.arms.size)))[0]
    kept = ~np.isnan(values)
    if not kept.any():
        return NOTHING
    influence = clustered(figure.influence()[kept], clusters)
    of_mean = influence.mean(0)
    estimate = float(values[kept].mean())
    parts = components(figure, clusters)
    judged = figure.given[kept].any(0)
    if clusters is None:
        groups = _groups(figure.arms, judged)
    else:
        groups = [clustered(judged.astype(float)[None], clusters)[0] > 0]
    if readers == "fixed" or parts.readers < 2:
        return _over_cases(figure, estimate, of_mean, groups, level)
    error, freedom = error_with_readers(parts, level, cautious=cautious)
    return _interval(figure, estimate, error**2, freedom, groups, level)


def error_with_readers(
    parts: Components, level: float, *, cautious: bool = False
) -> tuple[float, float]:
    """A standard error for readers like these and the degrees of freedom that go with it.

    Hillis' interval covers too little where two or three readers agree by chance (0.87 to 0.92
    instead of 0.95). The generalized interval (Weerahandi 1993), in which MS(R) becomes
    (R - 1) MS(R)/chi^2 but no less than cases alone make of it, covers too much (0.97 to 0.99). The
    geometric mean of the two covers as it should (benchmarks/study_statistics.py); ``cautious`` is
    the second alone. In Hillis' part MS(R) counts as a 16th of what cases alone make of it where it
    is less, so that two readers who agree exactly do not make an interval of no length.
    """
    if math.isnan(parts.variance):
        return math.nan, math.inf
    count, covariance = parts.readers, parts.covariance
    by_cases = max(parts.variance - covariance, 0.0)
    mean_square = max(parts.between, by_cases / 16)
    total = mean_square + count * covariance
    error = math.sqrt(total / count)
    if mean_square == 0:
        return error, math.inf
    hillis = error * critical_value(level, (count - 1) * (total / mean_square) ** 2)
    chi = 2 * gammaincinv((count - 1) / 2, (np.arange(_POINTS) + 0.5) / _POINTS)
    between = np.maximum((count - 1) * parts.between / chi, by_cases)
    errors = np.sqrt((between + count * covariance) / count)

    def beyond(half: float) -> float:
        return float((2 * ndtr(half / errors) - 1).mean()) - level

    general = float(brentq(beyond, 0, 10 * errors.max()))
    half = general if cautious else math.sqrt(hillis * general)
    return error, freedom_of(half / error, level)


def clustered(influence: Floats, clusters: NDArray | None) -> Floats:
    """Influences summed over the cases of a cluster, ``[reader, cluster]``."""
    if clusters is None:
        return influence
    _, number = np.unique(clusters, return_inverse=True)
    return influence @ np.eye(number.max() + 1)[number]


def bootstrap(
    figure: Figure,
    *,
    readers: Readers = "random",
    clusters: NDArray | None = None,
    replicates: int = 2000,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """The pooled figure with the percentile interval of a bootstrap over readers and cases.

    Readers, and cases (or clusters) within their arm, are drawn anew with replacement, each by
    itself (Owen 2007). Beside ``pooled`` only: of few readers it shows too little of their spread.
    The same seed gives the same interval.
    """
    generator = np.random.default_rng(seed)
    estimates = figure.values(np.ones((1, figure.arms.size)))[0]
    values = figure.values(_case_weights(figure.arms, clusters, replicates, generator))
    count = values.shape[1]
    drawn = np.ones((replicates, count))
    if readers == "random":
        drawn[:] = generator.multinomial(count, np.full(count, 1 / count), replicates)
    drawn *= ~np.isnan(values)
    means = ratio((np.nan_to_num(values) * drawn).sum(1), drawn.sum(1))
    means = means[~np.isnan(means)]
    if not means.size:
        return NOTHING
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    below = float((means <= figure.chance).mean())
    p = min(1.0, 2 * max(min(below, 1 - below), 1 / (means.size + 1)))
    error = float(means.std(ddof=1))
    return Estimate(float(np.nanmean(estimates)), float(low), float(high), p, count, error)


def _case_weights(
    arms: NDArray[np.bool_],
    clusters: NDArray | None,
    replicates: int,
    generator: np.random.Generator,
) -> Floats:
    """How often each case counts in each replicate: clusters with the same arms are exchanged."""
    names = np.arange(arms.size) if clusters is None else clusters
    _, number = np.unique(names, return_inverse=True)
    total = number.max() + 1
    kind = np.zeros(total, int)
    np.bitwise_or.at(kind, number, np.where(arms, 2, 1))
    counts = np.zeros((replicates, total))
    for which in np.unique(kind):
        (members,) = np.nonzero(kind == which)
        even = np.full(members.size, 1 / members.size)
        counts[:, members] = generator.multinomial(members.size, even, replicates)
    return counts[:, number]


def _over_cases(
    figure: Figure, estimate: float, influence: Floats, groups: list[NDArray], level: float
) -> Estimate:
    """The interval for cases like these, t with Satterthwaite's degrees of freedom.

    ``groups`` are the independent samples of cases; of an AUC the degrees are Brunner and Munzel's
    (2000).
    """
    parts = [(float((influence[g] ** 2).sum()), int(g.sum())) for g in groups if g.any()]
    variance = sum(part for part, _ in parts)
    below = sum(part**2 / (n - 1) for part, n in parts if n > 1)
    freedom = variance**2 / below if below > 0 else math.inf
    return _interval(figure, estimate, variance, freedom, groups, level)


def _groups(arms: NDArray[np.bool_], given: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    return [given & arms, given & ~arms]


def _interval(
    figure: Figure,
    estimate: float,
    variance: float,
    freedom: float,
    groups: list[NDArray],
    level: float,
) -> Estimate:
    sizes = [int(group.sum()) for group in groups]
    n = sum(sizes)
    if not figure.bounded:
        return unbounded(estimate, variance, freedom, against=figure.chance, n=n, level=level)
    fewest = min(sizes) if figure.compares else n
    return bounded(
        estimate, variance, freedom, against=figure.chance, n=n, fewest=fewest, level=level
    )
