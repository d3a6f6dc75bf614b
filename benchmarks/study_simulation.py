"""How the benchmarks of reader studies draw answers, and what a row of their table is.

Binary answers have the same correlation between readers about a case; ratings are cut from normal
values that readers share in part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from MedDiffusionLib.statistics.estimate import Estimate

CUTS = np.array([-1.0, -0.2, 0.4, 1.2])
"""Where the ratings 0 to 4 are cut from normal values."""
RHO = 0.2
"""The correlation of readers' answers about a case."""

Generator = np.random.Generator
Found = tuple[float, float]
"""One study: 1 where it did what is counted, and the length of the interval."""
Trial = Callable[[Generator], Found]


@dataclass(frozen=True)
class Wished:
    """The shares between which one that is found is as promised."""

    low: float
    high: float
    text: str
    is_promised: bool = True


@dataclass(frozen=True)
class Scenario:
    """A row of the table: what is counted, in which study, what is wished, and how one is made and
    analysed. ``studies``: where chance alone would spread 2,000 by as much as is promised, more."""

    what: str
    study: str
    wished: Wished
    trial: Trial
    studies: int = 2_000


def covers(found: Estimate, truth: float) -> Found:
    length = found.high - found.low
    return float(found.low <= truth <= found.high), length if math.isfinite(length) else math.nan


def answers(
    generator: Generator, readers: int, cases: int, share: float, between: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right and wrong ``[reader, case]``, and the readers' true shares."""
    shares = np.clip(share + between * generator.standard_normal(readers), 0.01, 0.99)
    common = generator.random((readers, cases)) < math.sqrt(RHO)
    drawn = np.where(common, generator.random(cases), generator.random((readers, cases)))
    return (drawn < shares[:, None]).astype(float), shares


def correlation(share: float, between: float) -> float:
    """That of two simulated readers' answers about a case: their shares differ, so below RHO.

    RHO (E min(p, q) - share^2) over the variance of an answer, with p and q normal.
    """
    return RHO * (1 - between / math.sqrt(math.pi) / (share * (1 - share)))


def true_share(share: float, between: float) -> float:
    if not between:
        return share
    quantiles = ndtri((np.arange(20_000) + 0.5) / 20_000)
    return float(np.clip(share + between * quantiles, 0.01, 0.99).mean())


def shared(
    generator: Generator, readers: int, cases: int, d: float, spread: float, arms: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normal values ``[reader, case]``, shifted in the synthetic arm by each reader's own d'."""
    shifts = d + spread * generator.standard_normal(readers)
    common = math.sqrt(RHO) * generator.standard_normal(cases)
    values = common + math.sqrt(1 - RHO) * generator.standard_normal((readers, cases))
    return values + shifts[:, None] * arms, shifts


def cut(values: NDArray) -> NDArray[np.float64]:
    return np.digitize(values, CUTS).astype(float)


def true_area(d: float) -> float:
    """The AUC of ratings cut from normal values that are d apart."""
    edges = np.concatenate([[-np.inf], CUTS, [np.inf]])
    real, synthetic = np.diff(ndtr(edges)), np.diff(ndtr(edges - d))
    return float((synthetic * (np.cumsum(real) - real / 2)).sum())
