"""What an arm gains over real cases alone, and what of it may be chance.

A gain is the mean over seeds and patients of an arm's Dice less that of the arm "real" of the same
cases, seed and patient. Three intervals, since patients and trainings both vary: over patients
(paired bootstrap; of just these trainings), over patients and seeds (paired bootstrap of both), and
for trainings like these, from an analysis of variance with both as random effects. The verdict
rests on the last: a bootstrap over three seeds has no seed below the lowest, and would call no
effect at all a gain or a harm in one of four experiments where trainings differ most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import stdtrit

from ...statistics.estimate import Estimate, unbounded
from ...statistics.ratings import holm
from ..figures.checks import Floats
from ..figures.intervals import Interval, bootstrap
from ..json_arrays import listed

GAIN, HARM, NONE = "gain", "harm", "no gain seen"
_POWER = 0.8
_SEED = 0
_DRAWS = 2000


@dataclass(frozen=True)
class Gain:
    """An arm against real cases alone. ``label`` is a label's name, or "all labels".

    ``dice``: the arm's own; ``real``: of real cases alone; ``seeds``: the gain of each seed;
    ``seeable``: the true gain that four of five such experiments would have seen.
    """

    size: int
    arm: str
    maps: str
    label: str
    dice: Interval
    real: Interval
    patients: Interval
    both: Interval
    trainings: Estimate
    seeds: tuple[float, ...]
    seeable: float
    verdict: str
    holm: float = math.nan

    def to_json(self) -> dict[str, Any]:
        """As the experiment's JSON holds it."""
        trainings = self.trainings
        return {
            "cases": self.size,
            "arm": self.arm,
            "maps": self.maps,
            "label": self.label,
            "dice": _bounds(self.dice),
            "dice of real": _bounds(self.real),
            "gain": listed(trainings.estimate),
            "over patients (bootstrap)": _bounds(self.patients),
            "over patients and seeds (bootstrap)": _bounds(self.both),
            "trainings like these (analysis of variance)": _bounds(trainings),
            "p": listed(trainings.p),
            "Holm": listed(self.holm),
            "by seed": [listed(seed) for seed in self.seeds],
            "seeable with power 0.8": listed(self.seeable),
            "verdict": self.verdict,
        }


def gain(size: int, arm: str, maps: str, label: str, own: Floats, real: Floats) -> Gain | None:
    """The gain of an arm, of Dice ``[seeds, patients]`` each; None where nothing is paired.

    Patients whose label nobody drew are left out.
    """
    known = ~(np.isnan(own) | np.isnan(real)).any(0)
    own, real = own[:, known], real[:, known]
    difference = own - real
    seeds, patients = difference.shape
    if patients < 2 or not seeds:
        return None
    found = random_effects(difference)
    return Gain(
        size, arm, maps, label, of_patients(own), of_patients(real), of_patients(difference),
        of_both(difference), found, tuple(difference.mean(1).tolist()), seeable(found),
        verdict(found),
    )  # fmt: skip


def of_patients(values: Floats) -> Interval:
    """The mean of ``[seeds, patients]`` with a bootstrap over patients, all seeds of each."""
    return bootstrap(values.mean(0), lambda drawn: float(drawn.mean()), _SEED, _DRAWS)


def of_both(values: Floats) -> Interval:
    """The mean of ``[seeds, patients]`` with a bootstrap over both (Owen 2007).

    Of S seeds S - 1 are drawn, with replacement, which makes the variance between them right (Rao
    and Wu 1988). NaN of a single seed.
    """
    seeds, patients = values.shape
    if seeds < 2:
        return Interval(float(values.mean()), math.nan, math.nan)
    random = np.random.default_rng(_SEED)
    rows = random.multinomial(seeds - 1, np.full(seeds, 1 / seeds), _DRAWS) / (seeds - 1)
    columns = random.multinomial(patients, np.full(patients, 1 / patients), _DRAWS) / patients
    means = np.einsum("ds,sp,dp->d", rows, values, columns, optimize=True)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def random_effects(values: Floats) -> Estimate:
    """The mean of ``[seeds, patients]`` for other seeds and patients: both are random effects.

    The variance is (MS_seeds + MS_patients - MS_rest) / (S P), at least that of seeds or patients
    alone, with Satterthwaite's degrees of freedom. NaN of a single seed.
    """
    seeds, patients = values.shape
    mean = float(values.mean())
    if seeds < 2 or patients < 2:
        return Estimate(mean, math.nan, math.nan)
    rows, columns = values.mean(1), values.mean(0)
    of_seeds = patients * float(((rows - mean) ** 2).sum()) / (seeds - 1)
    of_patients = seeds * float(((columns - mean) ** 2).sum()) / (patients - 1)
    rest = values - rows[:, None] - columns + mean
    of_rest = float((rest**2).sum()) / ((seeds - 1) * (patients - 1))
    together = of_seeds + of_patients - of_rest
    parts = of_seeds**2 / (seeds - 1) + of_patients**2 / (patients - 1)
    parts += of_rest**2 / ((seeds - 1) * (patients - 1))
    freedom = together**2 / parts if parts > 0 else math.inf
    for alone, count in ((of_seeds, seeds), (of_patients, patients)):
        if alone > together:
            together, freedom = alone, float(count - 1)
    freedom = max(freedom, 1.0)
    return unbounded(mean, together / (seeds * patients), freedom, n=patients)


def seeable(found: Estimate) -> float:
    """The true gain that would have been seen, as a lower bound above 0, with power 0.8."""
    if math.isnan(found.standard_error):
        return math.nan
    freedom = min(found.freedom, 1e12)
    half = found.high - found.estimate
    return half + float(stdtrit(freedom, _POWER)) * found.standard_error


def verdict(found: Estimate) -> str:
    """Gain or harm where the interval is on one side of 0; empty where there is none."""
    if math.isnan(found.low):
        return ""
    if found.low > 0:
        return GAIN
    return HARM if found.high < 0 else NONE


def with_holm(gains: Sequence[Gain]) -> list[Gain]:
    """The gains with p values raised for how many there are."""
    raised = holm(np.array([gain.trainings.p for gain in gains]))
    return [replace(gain, holm=float(p)) for gain, p in zip(gains, raised, strict=True)]


def _bounds(interval: Interval | Estimate) -> list[float | None]:
    return [listed(interval.estimate), listed(interval.low), listed(interval.high)]
