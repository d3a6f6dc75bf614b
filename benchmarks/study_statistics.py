"""Whether the statistics of reader studies keep what they promise, in studies made by chance.

    python benchmarks/study_statistics.py

2,000 studies a row with fixed seeds: how often 95 % intervals cover the true value, how often
"equivalent" is said at the margin, and the power that the planner promised beside the one found.
Takes some minutes. Binary answers have the same correlation between readers about a case;
ratings are cut from normal values that readers share in part.
"""

# ruff: noqa: B023 (every study is made and done before the loop goes on)
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from common import report
from MedDiffusionLib.evaluation import agreement, planning
from MedDiffusionLib.evaluation.effects import Halves, Slope
from MedDiffusionLib.evaluation.equivalence import figure_equivalence, proportion_equivalence
from MedDiffusionLib.evaluation.estimate import Estimate
from MedDiffusionLib.evaluation.figures import Auc, DPrime, MeanAnswer
from MedDiffusionLib.evaluation.proportions import choice_d_prime, detection, proportion
from MedDiffusionLib.evaluation.readers import bootstrap, each_reader, pooled

STUDIES = 2000
REPLICATES = 400
CUTS = np.array([-1.0, -0.2, 0.4, 1.2])
"""Where the ratings 0 to 4 are cut from normal values."""
RHO = 0.2
"""The correlation of readers' answers about a case."""

Generator = np.random.Generator
Found = tuple[float, float]
"""One study: 1 where it did what is counted, and the length of the interval."""
Trial = Callable[[Generator], Found]


def main() -> None:
    rows = []
    for number, (what, setting, wished, trial) in enumerate(scenarios()):
        generator = np.random.default_rng([11, number])
        found = np.array([trial(generator) for _ in range(STUDIES)])
        share, length = found.mean(0)
        low, high, text = wished
        slack = 2 * math.sqrt(max(share * (1 - share), 1e-4) / STUDIES)
        if low <= share <= high:
            verdict = "yes"
        else:
            verdict = "within chance" if low - slack <= share <= high + slack else "no"
        if wished is BESIDE:
            verdict = "not promised"
        middle = "" if math.isnan(length) else f"{length:.3f}"
        rows.append([what, setting, f"{100 * share:.1f} %", text, verdict, middle])
        print(*rows[-1], sep=" | ", flush=True)
    report(
        "study_statistics",
        f"Statistics of reader studies: {STUDIES} simulated studies a row",
        ["what", "study", "found", "wished", "kept", "mean length"],
        rows,
    )


COVERED = (0.93, 0.97, "covers 93 to 97 %")
BESIDE = (0.93, 0.97, "only beside")
FEW = (0.93, 1.0, "covers at least 93 %")
FALSE = (0.0, 0.055, "falsely at most 5.5 %")


def promised(power: float) -> tuple[float, float, str]:
    return power - 0.02, power + 0.02, f"planned {100 * power:.1f} %"


Scenario = tuple[str, str, tuple[float, float, str], Trial]


def scenarios() -> Iterator[Scenario]:
    yield from one_reader()
    yield from pooled_answers()
    yield from pooled_ratings()
    yield from agreements()
    yield from over_the_session()
    yield from false_equivalence()
    yield from plans()


def proportions(n: int, p: float) -> Iterator[Scenario]:
    setting = f"1 reader, {n} cases, {100 * p:.0f} % right"
    for interval in ("wilson", "exact"):
        wished = COVERED if interval == "wilson" else FEW

        def trial(g: Generator) -> Found:
            return covers(proportion(int(g.binomial(n, p)), n, interval=interval), p)

        yield f"right answers ({interval})", setting, wished, trial


def detections(n: int, d: float) -> Iterator[Scenario]:
    setting = f"1 reader, {n} + {n} cases, d' {d:g}"

    def detected(g: Generator) -> Found:
        hits, alarms = g.binomial(n, ndtr(d / 2)), g.binomial(n, ndtr(-d / 2))
        return covers(detection(int(hits), n, int(alarms), n).d_prime, d)

    yield "d'", setting, COVERED, detected

    def area(g: Generator) -> Found:
        arms = np.arange(2 * n) < n
        given = cut(g.standard_normal(2 * n) + d * arms)
        return covers(each_reader(Auc(given[None], arms))[0], true_area(d))

    yield "AUC", setting, COVERED, area


def one_reader() -> Iterator[Scenario]:
    for n, p in [(50, 0.5), (100, 0.6), (200, 0.8)]:
        yield from proportions(n, p)

    for n, d in [(40, 0.0), (40, 1.0), (100, 2.0)]:
        yield from detections(n, d)

    def chosen(g: Generator) -> Found:
        return covers(choice_d_prime(int(g.binomial(100, 0.25)), 100, 4), 0.0)

    yield "d' of one in four", "1 reader, 100 choices, 25 % right", COVERED, chosen


def shares_of_readers(readers: int, cases: int, p: float, between: float) -> Iterator[Scenario]:
    setting = f"{readers} readers (SD {100 * between:.0f} points), {cases} cases, {100 * p:.0f} %"
    draw = partial(answers, readers=readers, cases=cases, share=p, between=between)
    truth = true_share(p, between)
    wished = COVERED if between else FEW

    def other(g: Generator) -> Found:
        return covers(pooled(MeanAnswer(draw(g)[0])), truth)

    def these(g: Generator) -> Found:
        given, shares = draw(g)
        return covers(pooled(MeanAnswer(given), readers="fixed"), float(shares.mean()))

    def drawn(g: Generator) -> Found:
        figure = MeanAnswer(draw(g)[0])
        seed = int(g.integers(2**31))
        return covers(bootstrap(figure, replicates=REPLICATES, seed=seed), truth)

    yield "right answers, readers like these", setting, wished, other
    yield "right answers, these readers", setting, COVERED, these
    if cases == 100:
        yield "right answers, bootstrap", setting, BESIDE, drawn


def pooled_answers() -> Iterator[Scenario]:
    for readers, cases, p, between in [
        (2, 50, 0.5, 0.05), (2, 100, 0.5, 0.0), (2, 100, 0.6, 0.1), (3, 100, 0.5, 0.05),
        (3, 200, 0.6, 0.1), (5, 100, 0.5, 0.05), (5, 100, 0.5, 0.0), (5, 100, 0.9, 0.03),
        (5, 200, 0.6, 0.1), (10, 100, 0.6, 0.05),
    ]:  # fmt: skip
        yield from shares_of_readers(readers, cases, p, between)

    def rotating(g: Generator) -> Found:
        given, _ = answers(g, readers=5, cases=120, share=0.6, between=0.05)
        for reader in range(5):
            rest = np.arange(40, 120)
            given[reader, rest[rest % 5 != reader]] = np.nan
        return covers(pooled(MeanAnswer(given)), true_share(0.6, 0.05))

    yield (
        "right answers, readers like these",
        "5 readers (SD 5 points), 40 cases for all and 16 of their own, 60 %", COVERED, rotating,
    )  # fmt: skip

    def repeated(g: Generator) -> Found:
        given, shares = answers(g, readers=3, cases=60, share=0.6, between=0.05)
        clusters = np.concatenate([np.arange(60), np.arange(20)])
        again = np.where(g.random((3, 20)) < 0.8, given[:, :20], g.random((3, 20)) < 0.6)
        figure = MeanAnswer(np.hstack([given, again]))
        truth = float(shares.mean() * (76 + 0) / 80 + 0.2 * 20 / 80 * 0.6)
        return covers(pooled(figure, readers="fixed", clusters=clusters), truth)

    yield (
        "right answers, these readers", "3 readers, 60 cases, 20 of them twice, 60 %", COVERED,
        repeated,
    )  # fmt: skip

    def d_primes(g: Generator) -> Found:
        arms = np.arange(100) % 2 == 0
        x, _ = shared(g, 5, 100, 0.8, 0.3, arms)
        return covers(pooled(DPrime((x > 0.4).astype(float), arms)), 0.8)

    yield "d', readers like these", "5 readers (SD 0.3), 50 + 50 cases, d' 0.8", COVERED, d_primes


def areas_of_readers(readers: int, cases: int, d: float, spread: float) -> Iterator[Scenario]:
    setting = f"{readers} readers (SD {spread:g}), {cases // 2} + {cases // 2} cases, d' {d:g}"
    arms = np.arange(cases) % 2 == 0
    draw = partial(shared, readers=readers, cases=cases, d=d, spread=spread, arms=arms)
    x, weights = np.polynomial.hermite_e.hermegauss(21)
    truth = float(sum(w * true_area(d + spread * v) for v, w in zip(x, weights, strict=True)))
    truth /= float(weights.sum())

    def other(g: Generator) -> Found:
        return covers(pooled(Auc(cut(draw(g)[0]), arms)), truth)

    def these(g: Generator) -> Found:
        values, shifts = draw(g)
        area = float(np.mean([true_area(s) for s in shifts]))
        return covers(pooled(Auc(cut(values), arms), readers="fixed"), area)

    def drawn(g: Generator) -> Found:
        seed = int(g.integers(2**31))
        figure = Auc(cut(draw(g)[0]), arms)
        return covers(bootstrap(figure, replicates=REPLICATES, seed=seed), truth)

    yield "AUC and visual grading, readers like these", setting, COVERED, other
    yield "AUC and visual grading, these readers", setting, COVERED, these
    if readers in (3, 5) and cases == 100:
        yield "AUC and visual grading, bootstrap", setting, BESIDE, drawn


def pooled_ratings() -> Iterator[Scenario]:
    for readers, cases, d, spread in [
        (2, 100, 0.0, 0.2), (3, 100, 0.0, 0.2), (5, 60, 0.3, 0.2), (5, 100, 1.0, 0.3),
    ]:  # fmt: skip
        yield from areas_of_readers(readers, cases, d, spread)

    def in_pairs(g: Generator) -> Found:
        arms, maps = np.arange(80) % 2 == 0, np.arange(80) // 2
        of_map = g.standard_normal(40)[maps] * math.sqrt(0.4)
        values = of_map + math.sqrt(0.6) * g.standard_normal((3, 80)) + 0.3 * arms
        figure = Auc(cut(values), arms)
        return covers(pooled(figure, readers="fixed", clusters=maps), true_area(0.3))

    yield (
        "visual grading, these readers",
        "3 readers, 40 label maps in both arms",
        COVERED,
        in_pairs,
    )

    def reaching(g: Generator) -> Found:
        values, _ = shared(g, 4, 50, 0.0, 0.0, np.zeros(50, bool))
        found = pooled(MeanAnswer((values > CUTS[2]).astype(float)), readers="fixed")
        return covers(found, float(1 - ndtr(CUTS[2])))

    yield "at or above an answer, these readers", "4 readers, 50 cases", COVERED, reaching


def agreements() -> Iterator[Scenario]:
    def coded(g: Generator, readers: int, cases: int) -> NDArray[np.float64]:
        common = math.sqrt(0.5) * g.standard_normal(cases)
        return cut(common + math.sqrt(0.5) * g.standard_normal((readers, cases)))

    statistics: dict[str, Callable[[NDArray], float]] = {
        "kappa (quadratic)": lambda r: agreement.cohen_kappa(*r[:2]),
        "alpha (ordinal)": agreement.krippendorff_alpha,
        "AC1": agreement.gwet_ac1,
        "percent agreement": agreement.percent_agreement,
    }
    for name, statistic in statistics.items():
        readers = 2 if name.startswith("kappa") else 3
        truth = statistic(coded(np.random.default_rng(1), readers, 200_000))

        def trial(g: Generator) -> Found:
            found = agreement.with_interval(statistic, coded(g, readers, 50))
            return covers(found, truth)

        yield name, f"{readers} readers, 50 cases", COVERED, trial
    for name, icc in {"ICC(2,1)": agreement.icc_2_1, "ICC(3,1)": agreement.icc_3_1}.items():
        spread = 0.3 if name == "ICC(2,1)" else 0.0

        def correlated(g: Generator) -> Found:
            given = g.standard_normal(40) + spread * g.standard_normal((4, 1))
            given = given + g.standard_normal((4, 40))
            return covers(icc(given), 1 / (2 + spread**2))

        yield name, "4 readers, 40 cases", COVERED, correlated


def over_the_session() -> Iterator[Scenario]:
    for kind, name in ((Slope, "slope over the session"), (Halves, "second half less first")):
        for readers in (1, 4):

            def trial(g: Generator) -> Found:
                order = np.stack([g.permutation(80) for _ in range(readers)]).astype(float)
                shares = 0.7 - 0.2 * order / 79
                given = np.where(g.random(80) < RHO, g.random(80), g.random((readers, 80)))
                figure = kind((given < shares).astype(float), order)
                truth = -0.2 if kind is Slope else -0.2 * 40 / 79
                return covers(pooled(figure, readers="fixed"), truth)

            yield name, f"{readers} reader{'s' * (readers > 1)}, 80 cases", COVERED, trial


def false_equivalence() -> Iterator[Scenario]:
    for n, margin in [(212, 0.1), (100, 0.15), (860, 0.05)]:

        def alone(g: Generator) -> Found:
            found = proportion_equivalence(int(g.binomial(n, 0.5 + margin)), n, margin)
            return float(found.verdict == "equivalent"), math.nan

        yield (
            'falsely "equivalent"',
            f"1 reader, {n} cases, margin {100 * margin:.0f}",
            FALSE,
            alone,
        )
    for readers, cases, between in [(2, 400, 0.0), (3, 300, 0.05), (5, 200, 0.05), (8, 200, 0.05)]:
        for whose in ("random", "fixed"):
            spread = between if whose == "random" else 0.0

            def several(g: Generator) -> Found:
                given, _ = answers(g, readers, cases, 0.6, spread)
                found = figure_equivalence(MeanAnswer(given), 0.1, readers=whose)
                return float(found.verdict == "equivalent"), math.nan

            setting = f"{readers} readers ({whose}, SD {100 * spread:.0f} points), {cases} cases"
            yield 'falsely "equivalent"', f"{setting}, margin 10", FALSE, several
    shift = 0.0
    while true_area(shift) < 0.6:
        shift += 1e-4

    def areas(g: Generator) -> Found:
        arms = np.arange(300) % 2 == 0
        values, _ = shared(g, 5, 300, shift, 0.1, arms)
        return float(
            figure_equivalence(Auc(cut(values), arms), 0.1).verdict == "equivalent"
        ), math.nan

    yield 'AUC falsely "equivalent"', "5 readers (SD 0.1), 150 + 150 cases, margin 10", FALSE, areas


def plans() -> Iterator[Scenario]:
    for p in (0.55, 0.6, 0.65, 0.7, 0.75):
        n = planning.cases_for_power(p) or 0

        def powered(g: Generator) -> Found:
            return float(proportion(int(g.binomial(n, p)), n).p <= 0.05), math.nan

        wished = promised(planning.power(n, p))
        yield "power against 50 %", f"1 reader, {n} cases, {100 * p:.0f} %", wished, powered
    for margin in (0.05, 0.1, 0.15):
        n = planning.equivalence_cases(margin) or 0

        def same(g: Generator) -> Found:
            found = proportion_equivalence(int(g.binomial(n, 0.5)), n, margin)
            return float(found.verdict == "equivalent"), math.nan

        wished = promised(planning.equivalence_power(n, margin))
        yield (
            'power of "equivalent"',
            f"1 reader, {n} cases, margin {100 * margin:.0f}",
            wished,
            same,
        )
    n = planning.auc_cases(0.1)

    def areas(g: Generator) -> Found:
        arms = np.arange(2 * n) < n
        figure = Auc(g.standard_normal((1, 2 * n)), arms)
        return float(figure_equivalence(figure, 0.1).verdict == "equivalent"), math.nan

    yield (
        'power of "equivalent", AUC',
        f"1 reader, {n} + {n} cases, margin 10",
        promised(0.8),
        areas,
    )
    for readers, cases in [(2, 120), (3, 100), (5, 80)]:

        def found(g: Generator) -> Found:
            given, _ = answers(g, readers, cases, 0.6, 0.0)
            one = pooled(MeanAnswer(given), readers="fixed")
            return float(one.p <= 0.05), math.nan

        wished = promised(planning.readers_power(readers, cases, 0.6))
        yield "power against 50 %", f"these {readers} readers, {cases} cases, 60 %", wished, found
    for readers, cases in [(2, 100), (3, 100), (5, 100), (5, 200)]:
        half = planning.readers_half_width(readers, cases)

        def near(
            g: Generator, readers: int = readers, cases: int = cases, half: float = half
        ) -> Found:
            given, _ = answers(g, readers, cases, 0.5, 0.05)
            return float(abs(given.mean() - 0.5) <= half), math.nan

        setting = f"{readers} readers (SD 5 points), {cases} cases: within {100 * half:.1f} points"
        yield "planned half-width", setting, promised(0.95), near


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


if __name__ == "__main__":
    main()
