"""Whether answers hold: agreement between and within readers, order and time. Needs scipy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from ..statistics import agreement
from ..statistics.effects import Halves, Slope
from ..statistics.estimate import Estimate
from ..statistics.figures import Auc, MeanAnswer
from ..statistics.readers import pooled
from .judged import Floats, Judged
from .results import THESE, Result, mean, result_of

BETWEEN = "between readers"


@dataclass(frozen=True)
class Agreement:
    """How far answers agree: between readers, or of one reader with the same one later."""

    who: str
    cases: int
    statistics: Mapping[str, Estimate]


@dataclass(frozen=True)
class Effect:
    """Whether something changes over the session, by reader and pooled for these readers."""

    what: str
    slope: Mapping[str, Estimate]
    halves: Mapping[str, Estimate]


@dataclass(frozen=True)
class Times:
    """Seconds per case: quartiles by reader and arm, and whether synthetic ones take longer."""

    part: int
    """Of the protocol, from 1."""
    quartiles: Mapping[tuple[str, str], tuple[float, float, float]]
    slices: Mapping[tuple[str, str], float]
    """The median number of different slices seen."""
    longer: Result | None
    """P(synthetic takes longer); None of a choice."""


def agreements_of(asked: Judged, is_choice: bool) -> tuple[Agreement, ...]:
    """Between readers where there are several, and of each with oneself where cases came twice."""
    found = []
    if len(asked.readers) > 1:
        found.append(_agreement(BETWEEN, asked.answers, is_choice))
    for reader, first, again in zip(asked.readers, asked.answers, asked.again, strict=True):
        both = np.stack([first, again])
        if not np.isnan(both).any(0).all():
            found.append(_agreement(f"{reader} with oneself", both, is_choice))
    return tuple(found)


def _agreement(who: str, answers: Floats, is_choice: bool) -> Agreement:
    """``answers[rater, case]``; cases with fewer than two answers say nothing of agreement."""
    answers = answers[:, (~np.isnan(answers)).sum(0) > 1]
    statistics: dict[str, Callable[[Floats], float]] = {
        "Cohen's kappa" if is_choice else "Cohen's kappa, quadratic": (
            lambda v: _mean_kappa(v, quadratic=not is_choice)
        ),
        "Fleiss' kappa": _fleiss,
        "Krippendorff's alpha": lambda v: agreement.krippendorff_alpha(
            v, "nominal" if is_choice else "ordinal"
        ),
        "Gwet's AC1": agreement.gwet_ac1,
    }
    equal = [[agreement.percent_agreement(answers[:, [n]]) for n in range(answers.shape[1])]]
    found = {"percent agreement": replace(pooled(MeanAnswer(np.array(equal))), p=math.nan)}
    found |= {name: agreement.with_interval(f, answers) for name, f in statistics.items()}
    if not is_choice:
        found["ICC(2,1)"] = agreement.icc_2_1(answers)
    return Agreement(who, answers.shape[1], found)


def _mean_kappa(answers: Floats, *, quadratic: bool) -> float:
    """The mean of Cohen's kappa over all pairs of raters."""
    pairs = combinations(answers, 2)
    return mean(np.array([agreement.cohen_kappa(*pair, quadratic=quadratic) for pair in pairs]))


def _fleiss(answers: Floats) -> float:
    """Of the cases that all judged."""
    whole = answers[:, ~np.isnan(answers).any(0)]
    return agreement.fleiss_kappa(agreement.category_counts(whole)[0])


def effect_of(what: str, asked: Judged, values: Floats) -> Effect:
    """Whether ``values[reader, case]`` change over the session."""
    found = []
    for figure in (Slope, Halves):
        rows: dict[str, Estimate] = {
            reader: pooled(figure(values[n : n + 1], asked.positions[n : n + 1]))
            for n, reader in enumerate(asked.readers)
        }
        if len(asked.readers) > 1:
            rows[THESE] = pooled(figure(values, asked.positions), readers="fixed")
        found.append(rows)
    return Effect(what, *found)


def times_of(asked: Judged, is_choice: bool) -> Times:
    """The times of the part of the protocol that a question belongs to."""
    arms = {"synthetic": asked.synthetic, "real": ~asked.synthetic}
    if is_choice:
        arms = {"both": ~asked.synthetic}
    quartiles, slices = {}, {}
    for reader, row, seen in zip(asked.readers, asked.seconds, asked.slices, strict=True):
        for arm, part in arms.items():
            given = row[part & ~np.isnan(row)]
            if given.size:
                low, middle, high = np.quantile(given, [0.25, 0.5, 0.75])
                quartiles[reader, arm] = (float(low), float(middle), float(high))
                slices[reader, arm] = float(np.nanmedian(seen[part]))
    longer = None
    if not is_choice:
        longer = result_of(
            "P(synthetic takes longer)",
            asked,
            asked.seconds,
            lambda values: Auc(values, asked.synthetic),
        )
    return Times(asked.phase + 1, quartiles, slices, longer)
