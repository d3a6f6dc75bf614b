"""The ROC curve of one reader's confidence, its area, and the area's error.

Several readers: ``readers.pooled(figures.Auc(...))``.
"""

from __future__ import annotations

import numpy as np

from .estimate import LEVEL, NOTHING, Estimate, Floats
from .figures import Auc
from .readers import each_reader


def auc(positive: Floats, negative: Floats, *, level: float = LEVEL) -> Estimate:
    """P(positive > negative) + P(equal)/2 in [0, 1] of two lists of ratings; NaN is left out.

    ``standard_error`` squared is the variance of DeLong, DeLong and Clarke-Pearson (1988),
    s^2(V10)/m + s^2(V01)/n; p against 1/2 is Brunner and Munzel's (2000), the same with t. The
    interval is Wilson's of the effective number of answers; where one list lies wholly above the
    other it is that of the shorter list's length. Everything is NaN with an empty list, the
    interval with a list of one.
    """
    positive, negative = (np.asarray(x, np.float64) for x in (positive, negative))
    positive, negative = positive[~np.isnan(positive)], negative[~np.isnan(negative)]
    if not positive.size or not negative.size:
        return NOTHING
    arms = np.arange(positive.size + negative.size) < positive.size
    (found,) = each_reader(Auc(np.concatenate([positive, negative])[None], arms), level=level)
    return found


def roc_curve(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """False and true positive rates in [0, 1] at every threshold, from (0, 0) to (1, 1).

    A case is called positive at a rating of at least the threshold. NaN is left out.
    """
    positive, negative = (np.sort(x[~np.isnan(x)]) for x in (positive, negative))
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    rates = [
        np.concatenate([[0.0], 1 - np.searchsorted(x, thresholds, "left") / x.size])
        for x in (negative, positive)
    ]
    return rates[0], rates[1]
