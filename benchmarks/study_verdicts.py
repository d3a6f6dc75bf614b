"""How often "equivalent" is said falsely, and whether verdicts have the power that was planned."""

# ruff: noqa: B023 (every study is made and done before the loop goes on)
from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from MedDiffusionLib.evaluation import planning, planning_readers
from MedDiffusionLib.evaluation.equivalence import (
    Equivalence,
    figure_equivalence,
    proportion_equivalence,
)
from MedDiffusionLib.evaluation.figures import Auc, MeanAnswer
from MedDiffusionLib.evaluation.proportions import proportion
from MedDiffusionLib.evaluation.readers import Readers, pooled
from study_simulation import (
    Found,
    Generator,
    Scenario,
    Wished,
    answers,
    cut,
    shared,
    true_area,
)

MANY = 10_000
"""Of 2,000 studies a share of 80 % has a standard error of 0.9 points, and one of 5 % half one."""
FALSELY = Wished(0.0, 0.055, "falsely at most 5.5 %")
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
    falsely = 'falsely "equivalent"'
    for n, margin in [(212, 0.1), (100, 0.15), (860, 0.05)]:

        def alone(g: Generator) -> Found:
            return is_equivalent(
                proportion_equivalence(int(g.binomial(n, 0.5 + margin)), n, margin)
            )

        study = f"1 reader, {n} cases, margin {100 * margin:.0f}"
        yield Scenario(falsely, study, FALSELY, alone, MANY)
    sizes = [(2, 400, 0.0), (3, 300, SPREAD), (5, 200, SPREAD), (8, 200, SPREAD)]
    whom: tuple[Readers, ...] = ("random", "fixed")
    for readers, cases, between in sizes:
        for whose in whom:
            spread = between if whose == "random" else 0.0

            def several(g: Generator) -> Found:
                given, _ = answers(g, readers, cases, 0.6, spread)
                return is_equivalent(figure_equivalence(MeanAnswer(given), 0.1, readers=whose))

            study = f"{readers} readers ({whose}, SD {100 * spread:.0f} points), {cases} cases"
            yield Scenario(falsely, f"{study}, margin 10", FALSELY, several, MANY)
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

        def powered(g: Generator) -> Found:
            return float(proportion(int(g.binomial(n, p)), n).p <= 0.05), math.nan

        study = f"1 reader, {n} cases, {100 * p:.0f} %"
        yield Scenario("power against 50 %", study, planned(planning.power(n, p)), powered, MANY)
    for margin in (0.05, 0.1, 0.15):
        n = planning.equivalence_cases(margin) or 0

        def same(g: Generator) -> Found:
            return is_equivalent(proportion_equivalence(int(g.binomial(n, 0.5)), n, margin))

        study = f"1 reader, {n} cases, margin {100 * margin:.0f}"
        power = planning.equivalence_power(n, margin)
        yield Scenario('power of "equivalent"', study, planned(power), same, MANY)
    n = planning.auc_cases(0.1)

    def areas(g: Generator) -> Found:
        figure = Auc(g.standard_normal((1, 2 * n)), np.arange(2 * n) < n)
        return is_equivalent(figure_equivalence(figure, 0.1))

    study = f"1 reader, {n} + {n} cases, margin 10"
    yield Scenario('power of "equivalent", AUC', study, planned(0.8), areas, MANY)


def plans_of_readers() -> Iterator[Scenario]:
    for readers, cases in [(2, 120), (3, 100), (5, 80)]:

        def noticed(g: Generator) -> Found:
            given, _ = answers(g, readers, cases, 0.6, 0.0)
            return float(pooled(MeanAnswer(given), readers="fixed").p <= 0.05), math.nan

        power = planning_readers.readers_power(readers, cases, 0.6)
        study = f"these {readers} readers, {cases} cases, 60 %"
        yield Scenario("power against 50 %", study, planned(power), noticed, MANY)
    for readers, cases, share in [(2, 300, 0.65), (3, 100, 0.7), (5, 60, 0.65), (8, 30, 0.65)]:

        def of_others(g: Generator) -> Found:
            given, _ = answers(g, readers, cases, share, SPREAD)
            return float(pooled(MeanAnswer(given)).p <= 0.05), math.nan

        power = planning_readers.others_power(readers, cases, share, between=SPREAD)
        study = f"{readers} readers (SD 5 points), {cases} cases, {100 * share:.0f} %"
        name = "power against 50 %, readers like these"
        yield Scenario(name, study, planned(power), of_others, MANY)
    for readers in (2, 3, 5, 8):
        of_one = 0.25 * (1 + (readers - 1) * 0.2) / readers
        cases = planning.cases_for_verdict(0.5, of_one, 0.0, 0.1) or 0

        def same(g: Generator) -> Found:
            given, _ = answers(g, readers, cases, 0.5, 0.0)
            return is_equivalent(figure_equivalence(MeanAnswer(given), 0.1, readers="fixed"))

        study = f"these {readers} readers, {cases} cases, margin 10"
        yield Scenario('power of "equivalent"', study, planned(0.8), same, MANY)
    for readers, cases, margin in [(3, 300, 0.15), (5, 245, 0.1), (8, 88, 0.1)]:

        def alike(g: Generator) -> Found:
            given, _ = answers(g, readers, cases, 0.5, SPREAD)
            return is_equivalent(figure_equivalence(MeanAnswer(given), margin))

        power = planning_readers.others_power(readers, cases, 0.5, margin=margin, between=SPREAD)
        study = f"{readers} readers (SD 5 points), {cases} cases, margin {100 * margin:.0f}"
        name = 'power of "equivalent", readers like these'
        yield Scenario(name, study, planned(power), alike, MANY)
    for readers, cases in [(2, 100), (3, 100), (5, 100), (5, 200)]:
        half = planning_readers.readers_half_width(readers, cases, between=SPREAD)

        def near(g: Generator) -> Found:
            given, _ = answers(g, readers, cases, 0.5, SPREAD)
            return float(abs(given.mean() - 0.5) <= half), math.nan

        study = f"{readers} readers (SD 5 points), {cases} cases: within {100 * half:.1f} points"
        yield Scenario("planned half-width", study, planned(0.95), near)
