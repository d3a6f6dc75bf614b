"""A figure of a study as it is reported: each reader, pooled, with its verdict, and leave-outs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..statistics.effects import leave_one_out
from ..statistics.equivalence import Equivalence, figure_equivalence, proportion_equivalence
from ..statistics.estimate import Estimate
from ..statistics.figures import Figure
from ..statistics.readers import Components, Readers, bootstrap, components, pooled
from .judged import Floats, Judged

REPLICATES = 2000
THESE, OTHERS, BOOTSTRAP = "these readers", "readers like these", "bootstrap"


@dataclass(frozen=True)
class Result:
    """A figure by name, its value by chance, and what was found of it."""

    name: str
    chance: float
    each: Mapping[str, Estimate]
    """By reader, for cases like these."""
    these: Estimate
    """The readers' mean, for these readers and cases like these."""
    others: Estimate | None
    """For readers like these (Obuchowski and Rockette); None with one reader."""
    resampled: Estimate
    """The percentile interval of the bootstrap over readers and cases."""
    parts: Components
    verdicts: Mapping[str, Equivalence]
    """By reader and pooled; empty where the figure has no margin."""
    without_reader: Mapping[str, float]
    """The mean with a reader left out."""
    without_case: Mapping[str, float]
    """The mean with a case left out."""

    @property
    def rows(self) -> dict[str, Estimate]:
        """Who, and what was found: each reader, and pooled where there are several."""
        if self.others is None:
            return dict(self.each)
        return {**self.each, THESE: self.these, OTHERS: self.others}


def pooled_rows(result: Result) -> list[tuple[str, Estimate]]:
    """The rows with the bootstrap's beside them."""
    return [*result.rows.items(), (BOOTSTRAP, result.resampled)]


def result_of(
    name: str,
    judged: Judged,
    values: Floats,
    figure_of: Callable[[Floats], Figure],
    *,
    margin: float | None = None,
    exact: bool = False,
) -> Result:
    """The result of a figure of ``values[reader, case]``.

    ``exact``: the values are right (1) and wrong (0), so that a single reader's verdict is by
    binomial tests where cases are independent. ``margin``: None where none was fixed.
    """
    figure, clusters = figure_of(values), judged.clusters

    def alone(row: int) -> Figure:
        return figure_of(values[row : row + 1])

    def verdict(of: Figure, row: int | None, readers: Readers) -> Equivalence:
        assert margin is not None
        if exact and row is not None and clusters is None:
            given = values[row][~np.isnan(values[row])]
            return proportion_equivalence(int(given.sum()), given.size, margin, figure.chance)
        return figure_equivalence(of, margin, readers=readers, clusters=clusters)

    rows = range(len(judged.readers))
    verdicts = {}
    if margin is not None and margin < min(figure.chance, 1 - figure.chance):
        verdicts = {judged.readers[row]: verdict(alone(row), row, "fixed") for row in rows}
        if len(rows) > 1:
            verdicts[THESE] = verdict(figure, None, "fixed")
            verdicts[OTHERS] = verdict(figure, None, "random")
    several = len(rows) > 1
    return Result(
        name,
        figure.chance,
        {judged.readers[row]: pooled(alone(row), clusters=clusters) for row in rows},
        pooled(figure, readers="fixed", clusters=clusters),
        pooled(figure, readers="random", clusters=clusters) if several else None,
        bootstrap(figure, clusters=clusters, replicates=REPLICATES),
        components(figure, clusters),
        verdicts,
        _without_reader(figure, judged) if several else {},
        _without_case(figure, judged),
    )


def _without_reader(figure: Figure, judged: Judged) -> dict[str, float]:
    (values,) = figure.values(np.ones((1, figure.arms.size)))
    left = leave_one_out(lambda kept: mean(values[kept]), len(judged.readers))
    return dict(zip(judged.readers, map(float, left), strict=True))


def _without_case(figure: Figure, judged: Judged) -> dict[str, float]:
    def kept_mean(kept: NDArray[np.intp]) -> float:
        weights = np.zeros((1, figure.arms.size))
        weights[0, kept] = 1
        return mean(figure.values(weights))

    left = leave_one_out(kept_mean, len(judged.cases))
    return dict(zip(judged.cases, map(float, left), strict=True))


def mean(values: Floats) -> float:
    """The mean of what is there; NaN where nothing is."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else float("nan")
