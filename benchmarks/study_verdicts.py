"""How often "equivalent" is said falsely, and whether verdicts have the power that was planned."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from MedDiffusionLib.statistics import planning, planning_readers
from MedDiffusionLib.statistics.equivalence import (
    Equivalence,
    figure_equivalence,
    proportion_equivalence,
)
from MedDiffusionLib.statistics.figures import Auc, MeanAnswer
from MedDiffusionLib.statistics.proportions import proportion
from MedDiffusionLib.statistics.readers import Readers, pooled
from study_simulation import (
    RHO,
    Found,
    Generator,
    Scenario,
    Trial,
    Wished,
    answers,
    correlation,
    cut,
    shared,
    true_area,
)

MANY = 10_000
"""Of 2,000 studies a share of 80 % has a standard error of 0.9 points, and one of 5 % half one."""
FALSELY = Wished(0.0, 0.055, "falsely at most 5.5 %")
THESE: Readers = "fixed"
OTHERS: Readers = "random"
NAMES = {THESE: "these readers", OTHERS: "readers like these"}
SPREAD = 0.05
"""The standard deviation of readers' true shares."""


def verdicts() -> Iterator[Scenario]:
    yield from false_equivalence()
    yield from plans_of_one_reader()
    yield from plans_of_readers()


def planned(power: float) -> Wished:
    return Wished(power - 0.02, power + 0.02, f"planned {100 * power:.1f} %")


def is_equivalent(found: Equivalence) -> Found:
    return float(found.verdict == "equivalent"), math.nan


def false_equivalence() -> Iterator[Scenario]:
    for n, margin in [(212, 0.1), (100, 0.15), (860, 0.05)]:
        study = f"1 reader, {n} cases, margin {100 * margin:.0f}"
        trial = alone(n, 0.5 + margin, margin)
        yield Scenario('falsely "equivalent"', study, FALSELY, trial, MANY)
    for readers, cases, between in [
        (2, 400, 0.0), (3, 300, SPREAD), (5, 200, SPREAD), (8, 200, SPREAD),
    ]:  # fmt: skip
        for whom, spread in ((OTHERS, between), (THESE, 0.0)):
            study = f"{readers} readers (SD {100 * spread:.0f} points), {cases} cases, margin 10"
            trial = several(readers, cases, 0.6, spread, 0.1, whom)
            yield Scenario(f'falsely "equivalent", {NAMES[whom]}', study, FALSELY, trial, MANY)
    shift = 0.0
    while true_area(shift) < 0.6:
        shift += 1e-4

    def areas(g: Generator) -> Found:
        arms = np.arange(300) % 2 == 0
        values, _ = shared(g, 5, 300, shift, 0.1, arms)
        return is_equivalent(figure_equivalence(Auc(cut(values), arms), 0.1))

    study = "5 readers (SD 0.1), 150 + 150 cases, margin 10"
    yield Scenario('AUC falsely "equivalent"', study, FALSELY, areas, MANY)


def plans_of_one_reader() -> Iterator[Scenario]:
    for p in (0.55, 0.6, 0.65, 0.7, 0.75):
        n = planning.cases_for_power(p) or 0
        wished = planned(planning.power(n, p))
        study = f"1 reader, {n} cases, {100 * p:.0f} %"
        yield Scenario("power against 50 %", study, wished, noticed_alone(n, p), MANY)
    for margin in (0.05, 0.1, 0.15):
        n = planning.equivalence_cases(margin) or 0
        wished = planned(planning.equivalence_power(n, margin))
        study = f"1 reader, {n} cases, margin {100 * margin:.0f}"
        yield Scenario('power of "equivalent"', study, wished, alone(n, 0.5, margin), MANY)
    n = planning.auc_cases(0.1)

    def areas(g: Generator) -> Found:
        figure = Auc(g.standard_normal((1, 2 * n)), np.arange(2 * n) < n)
        return is_equivalent(figure_equivalence(figure, 0.1))

    study = f"1 reader, {n} + {n} cases, margin 10"
    yield Scenario('power of "equivalent", AUC', study, planned(0.8), areas, MANY)


def plans_of_readers() -> Iterator[Scenario]:
    for readers, cases in [(2, 120), (3, 100), (5, 80)]:
        wished = planned(planning_readers.readers_power(readers, cases, 0.6))
        study = f"{readers} readers, {cases} cases, 60 %"
        trial = noticed(readers, cases, 0.6, 0.0, THESE)
        yield Scenario("power against 50 %, these readers", study, wished, trial, MANY)
    for readers, cases, share in [(2, 300, 0.65), (3, 100, 0.7), (5, 60, 0.65), (8, 30, 0.65)]:
        wished = planned(others_power(readers, cases, share))
        study = f"{readers} readers (SD 5 points), {cases} cases, {100 * share:.0f} %"
        trial = noticed(readers, cases, share, SPREAD, OTHERS)
        yield Scenario("power against 50 %, readers like these", study, wished, trial, MANY)
    for readers in (2, 3, 5, 8):
        of_one = 0.25 * (1 + (readers - 1) * RHO) / readers
        cases = planning.cases_for_verdict(0.5, of_one, 0.0, 0.1) or 0
        study = f"{readers} readers, {cases} cases, margin 10"
        trial = several(readers, cases, 0.5, 0.0, 0.1, THESE)
        yield Scenario('power of "equivalent", these readers', study, planned(0.8), trial, MANY)
    for readers, cases, margin in [(3, 300, 0.15), (5, 245, 0.1), (8, 88, 0.1)]:
        power = others_power(readers, cases, 0.5, margin)
        study = f"{readers} readers (SD 5 points), {cases} cases, margin {100 * margin:.0f}"
        trial = several(readers, cases, 0.5, SPREAD, margin, OTHERS)
        name = 'power of "equivalent", readers like these'
        yield Scenario(name, study, planned(power), trial, MANY)
    for readers, cases in [(2, 100), (3, 100), (5, 100), (5, 200)]:
        half = planning_readers.readers_half_width(readers, cases, between=SPREAD)
        study = f"{readers} readers (SD 5 points), {cases} cases: within {100 * half:.1f} points"
        yield Scenario("planned half-width", study, planned(0.95), near(readers, cases, half))


def others_power(readers: int, cases: int, share: float, margin: float | None = None) -> float:
    return planning_readers.others_power(
        readers, cases, share, margin=margin, between=SPREAD,
        correlation=correlation(share, SPREAD),
    )  # fmt: skip


def alone(n: int, share: float, margin: float) -> Trial:
    """Whether "equivalent" is said of one reader."""

    def trial(g: Generator) -> Found:
        return is_equivalent(proportion_equivalence(int(g.binomial(n, share)), n, margin))

    return trial


def several(
    readers: int, cases: int, share: float, between: float, margin: float, whom: Readers
) -> Trial:
    """Whether "equivalent" is said of several readers."""

    def trial(g: Generator) -> Found:
        given, _ = answers(g, readers, cases, share, between)
        return is_equivalent(figure_equivalence(MeanAnswer(given), margin, readers=whom))

    return trial


def noticed_alone(n: int, share: float) -> Trial:
    """Whether one reader's right answers are found not to be chance."""

    def trial(g: Generator) -> Found:
        return float(proportion(int(g.binomial(n, share)), n).p <= 0.05), math.nan

    return trial


def noticed(readers: int, cases: int, share: float, between: float, whom: Readers) -> Trial:
    """Whether several readers' right answers are found not to be chance."""

    def trial(g: Generator) -> Found:
        given, _ = answers(g, readers, cases, share, between)
        return float(pooled(MeanAnswer(given), readers=whom).p <= 0.05), math.nan

    return trial


def near(readers: int, cases: int, half: float) -> Trial:
    """Whether the mean lies within the planned half-width of the truth."""

    def trial(g: Generator) -> Found:
        given, _ = answers(g, readers, cases, 0.5, SPREAD)
        return float(abs(given.mean() - 0.5) <= half), math.nan

    return trial
