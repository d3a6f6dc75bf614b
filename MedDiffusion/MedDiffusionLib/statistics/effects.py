"""Whether answers change over the session, and whether one reader or case makes the result.

Figures like those of ``figures``: pool them with ``readers.pooled``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .estimate import Floats
from .figures import centred, ratio


class Slope:
    """Each reader's change of the mean answer from the first to the last position (least squares).

    ``answers[reader, case]`` are scores or right (1) and wrong (0), NaN where there is none;
    ``positions[reader, case]`` the place in that reader's order. Fatigue and learning show as
    values other than 0. Variances stay right where answers spread unequally (HC1, MacKinnon and
    White 1985). NaN with fewer than three answers.
    """

    bounded = False
    compares = False
    chance = 0.0

    def __init__(self, answers: Floats, positions: Floats) -> None:
        self.answers = np.atleast_2d(np.asarray(answers, np.float64))
        positions = np.atleast_2d(np.asarray(positions, np.float64))
        self.given = ~np.isnan(self.answers) & ~np.isnan(positions)
        self.arms = np.zeros(self.answers.shape[1], bool)
        at = np.where(self.given, positions, np.nan)
        first, last = (np.full((at.shape[0], 1), np.nan) for _ in range(2))
        some = self.given.any(1)
        first[some, 0], last[some, 0] = np.nanmin(at[some], 1), np.nanmax(at[some], 1)
        self.places = np.where(self.given, ratio(at - first, last - first), 0)
        """0 at a reader's first case, 1 at the last."""

    def values(self, weights: Floats) -> Floats:
        x, y = self.places, np.where(self.given, self.answers, 0)
        total = weights @ self.given.T.astype(float)
        mean_x, mean_y = ratio(weights @ x.T, total), ratio(weights @ y.T, total)
        covariance = weights @ (x * y).T - total * mean_x * mean_y
        spread = weights @ (x * x).T - total * mean_x**2
        return np.where(total > 2, ratio(covariance, np.where(spread > 1e-9, spread, 0)), np.nan)

    def influence(self) -> Floats:
        slope = self.values(np.ones((1, self.arms.size))).T
        count = self.given.sum(1, keepdims=True)
        x = np.where(self.given, self.places - _mean(self.places, self.given), 0)
        y = np.where(self.given, self.answers - _mean(self.answers, self.given), 0)
        scale = np.sqrt(ratio(count, count - 2))
        return scale * x * ratio(y - slope * x, (x * x).sum(1, keepdims=True))


class Halves:
    """Each reader's mean answer of the second half of the session less that of the first.

    Arrays as for ``Slope``; the halves are cut at the median position. Welch's variance (1947).
    """

    bounded = False
    compares = False
    chance = 0.0

    def __init__(self, answers: Floats, positions: Floats) -> None:
        self.answers = np.atleast_2d(np.asarray(answers, np.float64))
        positions = np.atleast_2d(np.asarray(positions, np.float64))
        self.given = ~np.isnan(self.answers) & ~np.isnan(positions)
        self.arms = np.zeros(self.answers.shape[1], bool)
        middle = [
            np.median(p[g]) if g.any() else 0 for p, g in zip(positions, self.given, strict=True)
        ]
        self.second = self.given & (positions > np.array(middle)[:, None])

    def values(self, weights: Floats) -> Floats:
        y = np.where(self.given, self.answers, 0)
        first = self.given & ~self.second
        means = [
            ratio(weights @ (y * h).T, weights @ h.T.astype(float)) for h in (self.second, first)
        ]
        return means[0] - means[1]

    def influence(self) -> Floats:
        first = self.given & ~self.second
        return centred(self.answers, self.second) - centred(self.answers, first)


def leave_one_out(statistic: Callable[[NDArray[np.intp]], float], count: int) -> Floats:
    """The statistic with each of ``count`` readers or cases left out, ``[count]``.

    ``statistic`` takes the indices that are kept, for example
    ``lambda kept: pooled(Auc(ratings[kept], arms)).estimate``.
    """
    everyone = np.arange(count)
    return np.array([statistic(np.delete(everyone, i)) for i in range(count)], np.float64)


def _mean(values: Floats, given: NDArray[np.bool_]) -> Floats:
    return ratio(np.where(given, values, 0).sum(1, keepdims=True), given.sum(1, keepdims=True))
