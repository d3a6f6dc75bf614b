"""Ordered ratings: visual grading, paired comparison, and the share at or above each answer.

``ratings`` are arrays ``[reader, case]``, higher is better, NaN where there is none ("cannot
judge"). ``arms`` says per case whether it is synthetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .estimate import LEVEL, Estimate, Floats
from .figures import Auc, MeanAnswer
from .readers import Readers, pooled


def visual_grading(
    ratings: Floats,
    arms: NDArray[np.bool_],
    *,
    readers: Readers = "random",
    clusters: NDArray | None = None,
    level: float = LEVEL,
) -> Estimate:
    """P(synthetic better than real) + P(equal)/2 in [0, 1], pooled; 1/2: neither is better.

    The area of visual grading characteristics (Bath and Mansson 2007, 10.1259/bjr/35012658), ranks
    alone and no distances. ``clusters`` pairs cases of one label map. Intervals as in ``pooled``.
    """
    figure = Auc(np.atleast_2d(ratings), arms)
    return pooled(figure, readers=readers, clusters=clusters, level=level)


def at_or_above(
    ratings: Floats,
    answers: Sequence[float],
    *,
    readers: Readers = "random",
    clusters: NDArray | None = None,
    level: float = LEVEL,
) -> list[Estimate]:
    """Per answer the proportion of ratings at or above it, pooled; ratings of one arm.

    p is NaN: no proportion is expected by chance.
    """
    ratings = np.atleast_2d(ratings)
    found = []
    for answer in answers:
        reached = np.where(np.isnan(ratings), np.nan, ratings >= answer)
        one = pooled(MeanAnswer(reached), readers=readers, clusters=clusters, level=level)
        found.append(
            Estimate(
                one.estimate, one.low, one.high,
                n=one.n, standard_error=one.standard_error, freedom=one.freedom,
            )
        )  # fmt: skip
    return found


def wilcoxon_p(synthetic: Floats, real: Floats) -> float:
    """The two-sided p of Wilcoxon's signed ranks (1945) of pairs; scipy's, zeros left out.

    Exact for up to 50 pairs without ties, else normal with ties corrected. Pairs with NaN are left
    out; 1 where all pairs are equal, NaN where there is none.
    """
    difference = np.asarray(synthetic, np.float64) - np.asarray(real, np.float64)
    difference = difference[~np.isnan(difference)]
    if not difference.size:
        return float("nan")
    return float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0


def holm(p: Floats) -> Floats:
    """Holm's p values (1979) of a family of tests, in their order; NaN stays and counts for none.

    The i-th smallest of k is multiplied by k - i + 1; none is below a smaller one's, none above 1.
    """
    p = np.asarray(p, np.float64)
    given = np.flatnonzero(~np.isnan(p))
    order = given[np.argsort(p[given], kind="stable")]
    raised = p[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(p.size, np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(raised))
    return adjusted
