"""Figures of readers as sums over cases: mean answers, AUC, d'.

Answers are arrays ``[reader, case]`` with NaN where a reader did not judge a case, so that a pool
for all and a rotating rest are read as they are.

Up to its error every figure of a reader is a sum over cases: what a case adds is its influence.
From the influences come all covariances between readers, with any gaps.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from .area import wins
from .estimate import Floats


class Figure(Protocol):
    """A figure of each reader that can be pooled."""

    arms: NDArray[np.bool_]
    """Per case: whether it is synthetic."""
    given: NDArray[np.bool_]
    """``[reader, case]``: whether it was judged."""
    chance: float
    """The value where nothing can be told apart."""
    bounded: bool
    """Whether it lies in [0, 1]."""
    compares: bool
    """Whether it compares the arms, so that it knows no more than the smaller one."""

    def values(self, weights: Floats) -> Floats:
        """The readers' values ``[B, reader]`` where case c counts ``weights[b, c]`` times."""

    def influence(self) -> Floats:
        """``[reader, case]``: products summed over cases are the values' covariances."""


class MeanAnswer:
    """Each reader's mean answer in [0, 1]: right or wrong, or at least as good as an anchor.

    ``arms`` keeps the arms apart: the number of cases of each is fixed, not drawn.
    """

    bounded = True
    compares = False

    def __init__(
        self, answers: Floats, arms: NDArray[np.bool_] | None = None, chance: float = 0.5
    ) -> None:
        self.answers = np.asarray(answers, np.float64)
        self.given = ~np.isnan(self.answers)
        self.arms = np.zeros(self.answers.shape[1], bool) if arms is None else np.asarray(arms)
        self.chance = chance

    def values(self, weights: Floats) -> Floats:
        right = weights @ np.where(self.given, self.answers, 0).T
        return ratio(right, weights @ self.given.T.astype(float))

    def influence(self) -> Floats:
        found = np.zeros(self.answers.shape)
        for arm in np.unique(self.arms):
            part = self.given & (self.arms == arm)
            share = ratio(part.sum(1, keepdims=True), self.given.sum(1, keepdims=True))
            found += centred(self.answers, part) * share
        return found


class Auc:
    """Each reader's AUC of ratings (ties 1/2): P(synthetic > real) + P(equal)/2, in [0, 1].

    The Mann-Whitney statistic. Of confidence that a case is synthetic it is the area under the ROC
    curve, with DeLong, DeLong and Clarke-Pearson's covariances (1988); of ratings of quality it is
    the area of visual grading (Bath and Mansson 2007).
    """

    bounded = True
    compares = True
    chance = 0.5

    def __init__(self, ratings: Floats, arms: NDArray[np.bool_]) -> None:
        ratings, self.arms = np.asarray(ratings, np.float64), np.asarray(arms, bool)
        self.given = ~np.isnan(ratings)
        self.kernel = wins(ratings[:, self.arms], ratings[:, ~self.arms])
        """``[reader, synthetic, real]``; 0 where one of the two was not judged."""

    def values(self, weights: Floats) -> Floats:
        of_synthetic, of_real = weights[:, self.arms], weights[:, ~self.arms]
        wins = np.stack([((of_synthetic @ k) * of_real).sum(1) for k in self.kernel], 1)
        given = self.given.T.astype(float)
        pairs = (of_synthetic @ given[self.arms]) * (of_real @ given[~self.arms])
        return ratio(wins, pairs)

    def influence(self) -> Floats:
        found = np.zeros(self.given.shape)
        synthetic, real = self.given[:, self.arms], self.given[:, ~self.arms]
        of_synthetic = ratio(self.kernel.sum(2), real.sum(1, keepdims=True))
        of_real = ratio(self.kernel.sum(1), synthetic.sum(1, keepdims=True))
        found[:, self.arms] = centred(of_synthetic, synthetic)
        found[:, ~self.arms] = centred(of_real, real)
        return found


class DPrime:
    """Each reader's d' = z(H) - z(F) of answers 1 ("synthetic") and 0, by (k + 1/2)/(n + 1)."""

    bounded = False
    compares = True
    chance = 0.0

    def __init__(self, answers: Floats, arms: NDArray[np.bool_]) -> None:
        self.answers, self.arms = np.asarray(answers, np.float64), np.asarray(arms, bool)
        self.given = ~np.isnan(self.answers)

    def values(self, weights: Floats) -> Floats:
        return self._score(weights, self.arms)[0] - self._score(weights, ~self.arms)[0]

    def influence(self) -> Floats:
        once = np.ones((1, self.arms.size))
        found = np.zeros(self.answers.shape)
        for arm, sign in ((self.arms, 1), (~self.arms, -1)):
            slope = self._score(once, arm)[1].T
            found += sign * slope * centred(self.answers, self.given & arm)
        return found

    def _score(self, weights: Floats, arm: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """z of the share of answers 1 in an arm, and its derivative, both ``[B, reader]``."""
        given = self.given & arm
        count, n = weights @ np.where(given, self.answers, 0).T, weights @ given.T.astype(float)
        z = ndtri(np.where(n > 0, (count + 0.5) / (n + 1), np.nan))
        return z, np.sqrt(2 * np.pi) * np.exp(z * z / 2)


def centred(values: Floats, part: NDArray[np.bool_]) -> Floats:
    """What each case of a part adds to the error of the part's mean; 0 elsewhere.

    Squares sum to the sample variance divided by the number of cases; NaN of a single case.
    """
    count = part.sum(1, keepdims=True)
    mean = ratio(np.where(part, values, 0).sum(1, keepdims=True), count)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(count > 1, 1 / np.sqrt(count * (count - 1.0)), np.nan)
        return np.where(part, (values - mean) * scale, 0)


def ratio(above: NDArray, below: NDArray) -> Floats:
    """A quotient; NaN where nothing is divided by nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)
