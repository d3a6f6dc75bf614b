"""What a subject is: what it measures of each volume, and the figures that it makes of all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...compute.errors import UserError
from ...synthesis.synthesizer import Synthesizer
from ...volumes.volume import Grid
from ..cases import Pair
from ..features import Extractor
from ..figure import Figure
from ..figures.checks import Floats
from ..figures.intervals import Interval, bootstrap
from ..results import Results
from ..segmenters.segmenter import Segmenter

SEED = 0
"""Of all random draws in figures."""


@dataclass(frozen=True)
class Tools:
    """What volumes are measured with."""

    synthesizer: Synthesizer
    segmenters: Sequence[Segmenter]
    extractors: Sequence[Extractor]


@dataclass(frozen=True, eq=False)
class Kept:
    """A case's volumes as they are kept for comparisons between cases, in [-1, 1]."""

    real: NDArray[np.float32]
    """``[C, X, Y, Z]``."""
    synthetic: tuple[NDArray[np.float32], ...]
    """One of each seed."""
    labels: NDArray[np.integer]
    valid: NDArray[np.bool_]
    grid: Grid


class Subject(ABC):
    """Measures volumes one by one, and makes figures of what was measured.

    What is measured is an object of lists of numbers, as :func:`..json_arrays.listed` makes them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    meaning: ClassVar[str]
    """What its figures mean, in a few sentences."""
    fewest: ClassVar[int] = 2
    """Cases below which it makes no figure."""
    needs_segmenters: ClassVar[bool] = False

    def of_case(self, pair: Pair, tools: Tools) -> dict[str, Any]:
        """What is measured of a case as a whole; it stands with its real volume's."""
        return {}

    def of_volume(self, image: NDArray[np.float32], pair: Pair, tools: Tools) -> dict[str, Any]:
        """What is measured of a volume, real or synthetic."""
        return {}

    def of_synthetic(self, image: NDArray[np.float32], pair: Pair, tools: Tools) -> dict[str, Any]:
        """What is measured of a synthetic volume beside the real one."""
        return {}

    def across(self, one: Kept, other: Kept) -> dict[str, Any]:
        """What is measured of the volumes of two patients."""
        return {}

    def missing(self, patients: int) -> list[str]:
        """A sentence for each figure that so many patients are too few for."""
        if patients >= self.fewest:
            return []
        return [too_few(self.title, self.fewest, patients)]

    @abstractmethod
    def figures(self, results: Results) -> list[Figure]:
        """All figures; raises UserError where the cases do not determine any."""


def too_few(figure: str, fewest: int, patients: int) -> str:
    """The sentence for a figure that needs more patients."""
    return f"{figure}: at least {fewest} patients are needed, and there are {patients}."


def mean_over_pairs(
    table: Sequence[tuple[int, int, float]], patients: Sequence[int], seed: int = SEED
) -> Interval:
    """The mean of what was measured of pairs of cases, and its interval over patients.

    ``table``: numbers of two cases, and the figure; ``patients``: of each case. A patient that is
    drawn twice is not compared with itself. Raises UserError for fewer than 3 patients.
    """
    count = max(patients, default=-1) + 1
    if count < 3:
        raise UserError(
            f"An interval over pairs needs at least 3 patients, and there are {count}",
            "give more cases or leave this figure out",
            code="too-few-cases",
        )
    square = np.full((count, count), np.nan)
    for one, other, value in table:
        a, b = patients[one], patients[other]
        square[a, b] = square[b, a] = value

    def mean(chosen: Floats) -> float:
        drawn = chosen[:, 0].astype(np.intp)
        weights = np.bincount(drawn, minlength=count).astype(np.float64)
        both = np.outer(weights, weights)
        known = ~np.isnan(square)
        np.fill_diagonal(known, False)
        total = (both * known).sum()
        return float((both * np.where(known, square, 0)).sum() / total) if total else np.nan

    return bootstrap(np.arange(count, dtype=np.float64)[:, None], mean, seed, 1000)
