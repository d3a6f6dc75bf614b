"""Sizes of reader studies, and the verdicts of equivalence, against known values and theory."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy import stats

from MedDiffusionLib.statistics import equivalence, planning, planning_readers
from MedDiffusionLib.statistics.equivalence import figure_equivalence
from MedDiffusionLib.statistics.figures import Auc, MeanAnswer
from MedDiffusionLib.statistics.readers import pooled


@pytest.mark.parametrize(("n", "points"), [(50, 13.4), (100, 9.6), (200, 6.9), (400, 4.9)])
def test_half_widths_of_one_reader_are_the_known_ones(n: int, points: float) -> None:
    assert 100 * planning.half_width(n) == pytest.approx(points, abs=0.05)


def test_the_cases_for_a_half_width_are_the_fewest() -> None:
    for wished in (0.15, 0.1, 0.049):
        n = planning.cases_for_half_width(wished)
        assert planning.half_width(n) <= wished < planning.half_width(n - 1)


@pytest.mark.parametrize(
    ("share", "cases"), [(0.55, 807), (0.6, 210), (0.65, 92), (0.7, 54), (0.75, 35)]
)
def test_the_cases_for_power_are_the_known_ones(share: float, cases: int) -> None:
    assert planning.cases_for_power(share) == cases


def test_power_is_the_chance_that_scipys_exact_test_rejects() -> None:
    for n, share, chance in [(35, 0.75, 0.5), (40, 0.4, 0.25)]:
        rejected = [k for k in range(n + 1) if stats.binomtest(k, n, chance).pvalue <= 0.05]
        expected = stats.binom.pmf(rejected, n, share).sum()
        assert planning.power(n, share, chance) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("margin", "cases"), [(0.05, 860), (0.1, 212), (0.15, 94)])
def test_the_cases_for_equivalence_are_the_known_ones(margin: float, cases: int) -> None:
    assert planning.equivalence_cases(margin, test="wilson") == cases
    exact = planning.equivalence_cases(margin)
    assert exact is not None
    assert cases <= exact <= 1.08 * cases


@pytest.mark.parametrize(
    ("readers", "cases", "points"), [(2, 100, 10.3), (3, 100, 8.8), (5, 100, 7.3), (5, 200, 6.0)]
)
def test_half_widths_of_several_readers_are_the_known_ones(
    readers: int, cases: int, points: float
) -> None:
    half = planning_readers.readers_half_width(readers, cases)
    assert 100 * half == pytest.approx(points, abs=0.05)
    assert planning_readers.cases_for_readers(readers, half) == cases


def test_the_analysis_pays_for_not_knowing_how_readers_differ() -> None:
    known = [planning_readers.readers_half_width(r, 100) for r in (2, 3, 5, 20)]
    found = [planning_readers.analysed_half_width(r, 100) for r in (2, 3, 5, 20)]
    paid = [f / k for f, k in zip(found, known, strict=True)]
    assert paid == sorted(paid, reverse=True)
    assert paid[0] > 2
    assert paid[-1] == pytest.approx(1, abs=0.05)


def test_where_readers_differ_too_much_no_number_of_cases_does() -> None:
    assert planning_readers.cases_for_readers(2, 0.05) is None
    assert planning.equivalence_cases(0.1, 0.6) is None
    assert planning.cases_for_power(0.5) is None


def test_power_of_readers_lies_between_one_reader_and_independent_ones() -> None:
    one = planning_readers.readers_power(1, 100, 0.6)
    three = planning_readers.readers_power(3, 100, 0.6)
    apart = planning_readers.readers_power(1, 300, 0.6)
    assert one < three < apart
    without = planning_readers.readers_power(3, 100, 0.6, correlation=0)
    assert without == pytest.approx(apart, abs=0.01)


def test_power_for_other_readers_is_that_of_simulated_studies() -> None:
    generator = np.random.default_rng(3)
    answers = [
        (generator.random((4, 60)) < share + 0.05 * generator.standard_normal((4, 1))).astype(float)
        for share in np.repeat([0.65, 0.5], 400)
    ]
    told = [pooled(MeanAnswer(each)).p <= 0.05 for each in answers[:400]]
    alike = [
        figure_equivalence(MeanAnswer(each), 0.12).verdict == "equivalent" for each in answers[400:]
    ]
    # The standard error of a share of 400 is 2.5 points at most.
    for found, share, margin in ((told, 0.65, None), (alike, 0.5, 0.12)):
        planned = planning_readers.others_power(4, 60, share, margin=margin, correlation=0)
        assert np.mean(found) == pytest.approx(planned, abs=0.06)


def test_other_readers_need_more_cases_and_a_margin_that_is_never_met_has_no_power() -> None:
    these = planning_readers.readers_power(5, 60, 0.65)
    assert planning_readers.others_power(5, 60, 0.65) < these
    assert planning_readers.others_power(2, 100, 0.5, margin=0.05) == 0


def test_areas_need_more_cases_for_a_smaller_margin() -> None:
    # (z(.95) + z(.9))^2 (2n + 1)/(12 n^2) = margin^2, solved by hand for .1: n = 143.2.
    assert planning.auc_cases(0.1) == 144
    assert planning.auc_cases(0.05) > 3.9 * 144


@pytest.mark.parametrize(
    ("right", "n", "verdict"),
    [(106, 212, "equivalent"), (28, 50, "inconclusive"), (150, 212, "different")],
)
def test_only_two_one_sided_tests_say_equivalent(right: int, n: int, verdict: str) -> None:
    found = equivalence.proportion_equivalence(right, n, 0.1)
    assert found.verdict == verdict
    below = stats.binomtest(right, n, 0.4, alternative="greater").pvalue
    above = stats.binomtest(right, n, 0.6, alternative="less").pvalue
    assert found.interval.p == pytest.approx(max(below, above), abs=1e-9)
    assert (found.interval.p <= 0.05) == (0.4 <= found.interval.low <= found.interval.high <= 0.6)


def test_equivalence_of_one_reader_is_never_falsely_said_too_often() -> None:
    for n, margin in [(94, 0.15), (212, 0.1), (100, 0.15), (333, 0.1)]:
        right = np.arange(n + 1)
        said = [
            equivalence.proportion_equivalence(int(k), n, margin).verdict == "equivalent"
            for k in right
        ]
        for true in (0.5 - margin, 0.5 + margin):
            assert stats.binom.pmf(right, n, true)[said].sum() <= 0.05 + 1e-12


def test_inconclusive_says_how_many_cases_are_missing() -> None:
    found = equivalence.proportion_equivalence(25, 50, 0.1)
    # Normal sizes of theory: (z(.95) + z(.9))^2 / 4 / .1^2 = 214.1.
    assert found.more_cases == 215 - 50
    assert str(found) == "inconclusive: 165 more cases needed"
    assert str(equivalence.proportion_equivalence(150, 212, 0.1)) == "different"


def test_no_answers_are_inconclusive() -> None:
    assert equivalence.proportion_equivalence(0, 0, 0.1).verdict == "inconclusive"
    nothing = MeanAnswer(np.full((2, 4), math.nan))
    assert equivalence.figure_equivalence(nothing, 0.1).verdict == "inconclusive"


def test_readers_who_contradict_each_other_need_more_readers() -> None:
    answers = np.vstack([np.arange(400) % 4 > 0, np.arange(400) % 4 == 0]).astype(float)
    found = equivalence.figure_equivalence(MeanAnswer(answers), 0.1)
    assert str(found) == "inconclusive: more readers needed"
    these = equivalence.figure_equivalence(MeanAnswer(answers), 0.1, readers="fixed")
    assert these.verdict == "equivalent"


def test_an_area_near_one_half_is_equivalent_only_with_enough_cases() -> None:
    generator = np.random.default_rng(9)
    few, many = (generator.integers(0, 4, (5, n)).astype(float) for n in (30, 600))
    arms = np.arange(600) % 2 == 0
    small = equivalence.figure_equivalence(Auc(few, arms[:30]), 0.1)
    assert small.verdict == "inconclusive"
    large = equivalence.figure_equivalence(Auc(many, arms), 0.1)
    assert large.verdict == "equivalent"
    assert large.interval.p <= 0.05
    assert 0.4 < large.interval.low < large.interval.high < 0.6


@pytest.mark.parametrize("margin", [0, -0.1, 0.5, math.nan])
def test_a_margin_that_means_nothing_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        equivalence.proportion_equivalence(5, 10, margin)
