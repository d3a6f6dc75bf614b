"""Whether synthetic and real can be told apart: two one-sided tests with a margin fixed before.

"Equivalent" is said where both tests (Schuirmann 1987) reject at 0.05, which is where the 90 %
interval lies within chance +- margin. "Different" where not so and the test against chance rejects
at 0.05. Else "inconclusive". A p above 0.05 of the test against chance never says "equivalent".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from numpy.typing import NDArray
from scipy.special import stdtr
from scipy.stats import binom

from .estimate import NOTHING, Estimate
from .figures import Figure
from .planning import cases_for_verdict
from .proportions import binomial_p, clopper_pearson
from .readers import Readers, components, pooled

Verdict = Literal["equivalent", "different", "inconclusive"]

ALPHA = 0.05
"""The level of each one-sided test."""


@dataclass(frozen=True)
class Equivalence:
    """A verdict with what it rests on."""

    verdict: Verdict
    interval: Estimate
    """The estimate with its 90 % interval; ``p`` is of the two one-sided tests, the larger."""
    p_different: float
    """Two-sided, against chance."""
    margin: float
    more_cases: int | None
    """Of "inconclusive": about as many more cases give a verdict with power 0.8, were the estimate
    the truth. None: no number of cases does, only more readers. 0 with a verdict."""

    def __str__(self) -> str:
        if self.verdict != "inconclusive":
            return self.verdict
        if self.more_cases is None:
            return "inconclusive: more readers needed"
        return f"inconclusive: {self.more_cases} more cases needed"


def proportion_equivalence(right: int, n: int, margin: float, chance: float = 0.5) -> Equivalence:
    """One reader's right answers against chance +- ``margin``: exact binomial tests.

    The interval is Clopper and Pearson's, which belongs to them. Falsely "equivalent" at the margin
    in at most 5 % for every n.
    """
    _check(margin, chance)
    if not n:
        return Equivalence("inconclusive", NOTHING, math.nan, margin, None)
    above = binom.cdf(right, n, chance + margin)
    below = binom.sf(right - 1, n, chance - margin)
    low, high = clopper_pearson(right, n, 1 - 2 * ALPHA)
    share, p_different = right / n, binomial_p(right, n, chance)
    interval = Estimate(share, low, high, float(max(above, below)), n)
    wanted = cases_for_verdict(share, max(share * (1 - share), 1 / n), 0.0, margin, chance)
    return _judged(interval, p_different, margin, n, wanted)


def figure_equivalence(
    figure: Figure,
    margin: float,
    *,
    readers: Readers = "random",
    clusters: NDArray | None = None,
) -> Equivalence:
    """Several readers' figure in [0, 1] (right answers, AUC, visual grading) against its chance.

    The interval is ``pooled``'s cautious one at 90 %; p is its inversion. ``figure`` may be
    one reader's.
    """
    _check(margin, figure.chance)
    interval = pooled(
        figure, readers=readers, clusters=clusters, cautious=True, level=1 - 2 * ALPHA
    )
    if math.isnan(interval.low):
        return Equivalence("inconclusive", interval, math.nan, margin, None)
    different = pooled(figure, readers=readers, clusters=clusters).p
    parts = components(figure, clusters)
    of_cases = parts.variance + (parts.readers - 1) * parts.covariance
    by_cases = parts.variance - parts.covariance
    random = readers == "random" and parts.readers > 1
    floor = max(parts.between - by_cases, 0.0) / parts.readers if random else 0.0
    cases = int(figure.given.any(0).sum())
    wanted = cases_for_verdict(
        interval.estimate, of_cases / parts.readers * cases, floor, margin, figure.chance
    )
    p = max(_beyond(interval, figure.chance + sign * margin, sign) for sign in (-1, 1))
    tested = Estimate(
        interval.estimate, interval.low, interval.high, p, interval.n,
        interval.standard_error, interval.freedom,
    )  # fmt: skip
    return _judged(tested, different, margin, cases, wanted)


def _beyond(found: Estimate, bound: float, sign: int) -> float:
    """The one-sided p of a true value at the bound, by Wilson's test of the effective number."""
    distance = sign * (bound - found.estimate)
    if not 0 < found.estimate < 1 or not found.standard_error > 0:
        inside = found.high < bound if sign > 0 else found.low > bound
        return 0.0 if inside else 1.0
    effective = found.estimate * (1 - found.estimate) / found.standard_error**2
    z = distance / math.sqrt(bound * (1 - bound) / effective)
    return float(stdtr(min(found.freedom, 1e12), -z))


def _judged(
    interval: Estimate, p_different: float, margin: float, cases: int, wanted: int | None
) -> Equivalence:
    if interval.p <= ALPHA:
        return Equivalence("equivalent", interval, p_different, margin, 0)
    if p_different <= ALPHA:
        return Equivalence("different", interval, p_different, margin, 0)
    more = wanted - cases if wanted is not None and wanted > cases else None
    return Equivalence("inconclusive", interval, p_different, margin, more)


def _check(margin: float, chance: float) -> None:
    if not 0 < margin < min(chance, 1 - chance):
        raise ValueError(f"the margin lies between 0 and {min(chance, 1 - chance):g}")
