"""How often the 95 % intervals of reader studies cover the true value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from MedDiffusionLib.statistics import agreement
from MedDiffusionLib.statistics.effects import Halves, Slope
from MedDiffusionLib.statistics.estimate import Estimate
from MedDiffusionLib.statistics.figures import Auc, DPrime, MeanAnswer
from MedDiffusionLib.statistics.proportions import choice_d_prime, detection, proportion
from MedDiffusionLib.statistics.readers import bootstrap, each_reader, pooled
from study_simulation import (
    CUTS,
    RHO,
    Found,
    Generator,
    Scenario,
    Trial,
    Wished,
    answers,
    covers,
    cut,
    shared,
    true_area,
    true_share,
)

Statistic = Callable[[NDArray], float]

REPLICATES = 400
COVERED = Wished(0.93, 0.97, "covers 93 to 97 %")
AT_LEAST = Wished(0.93, 1.0, "covers at least 93 %")
BESIDE = Wished(0.93, 0.97, "only beside", is_promised=False)


def intervals() -> Iterator[Scenario]:
    yield from one_reader()
    yield from pooled_answers()
    yield from pooled_ratings()
    yield from agreements()
    yield from over_the_session()


def one_reader() -> Iterator[Scenario]:
    for n, p in [(50, 0.5), (100, 0.6), (200, 0.8)]:
        yield from proportions(n, p)
    for n, d in [(40, 0.0), (40, 1.0), (100, 2.0)]:
        yield from detections(n, d)

    def chosen(g: Generator) -> Found:
        return covers(choice_d_prime(int(g.binomial(100, 0.25)), 100, 4), 0.0)

    yield Scenario("d' of one in four", "1 reader, 100 choices, 25 % right", COVERED, chosen)


def proportions(n: int, p: float) -> Iterator[Scenario]:
    setting = f"1 reader, {n} cases, {100 * p:.0f} % right"

    def by_score(g: Generator) -> Found:
        return covers(proportion(int(g.binomial(n, p)), n), p)

    def exact(g: Generator) -> Found:
        return covers(proportion(int(g.binomial(n, p)), n, interval="exact"), p)

    yield Scenario("right answers (wilson)", setting, COVERED, by_score)
    yield Scenario("right answers (exact)", setting, AT_LEAST, exact)


def detections(n: int, d: float) -> Iterator[Scenario]:
    setting = f"1 reader, {n} + {n} cases, d' {d:g}"

    def detected(g: Generator) -> Found:
        hits, alarms = g.binomial(n, ndtr(d / 2)), g.binomial(n, ndtr(-d / 2))
        return covers(detection(int(hits), n, int(alarms), n).d_prime, d)

    def area(g: Generator) -> Found:
        arms = np.arange(2 * n) < n
        given = cut(g.standard_normal(2 * n) + d * arms)
        return covers(each_reader(Auc(given[None], arms))[0], true_area(d))

    yield Scenario("d'", setting, COVERED, detected)
    yield Scenario("AUC", setting, COVERED, area)


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

    def repeated(g: Generator) -> Found:
        given, shares = answers(g, readers=3, cases=60, share=0.6, between=0.05)
        clusters = np.concatenate([np.arange(60), np.arange(20)])
        # Of five repeats four are answered as before, one anew.
        again = np.where(g.random((3, 20)) < 0.8, given[:, :20], g.random((3, 20)) < 0.6)
        figure = MeanAnswer(np.hstack([given, again]))
        truth = float(shares.mean() * (60 + 0.8 * 20) / 80 + 0.6 * 0.2 * 20 / 80)
        return covers(pooled(figure, readers="fixed", clusters=clusters), truth)

    def d_primes(g: Generator) -> Found:
        arms = np.arange(100) % 2 == 0
        values, _ = shared(g, 5, 100, 0.8, 0.3, arms)
        return covers(pooled(DPrime((values > 0.4).astype(float), arms)), 0.8)

    yield Scenario(
        "right answers, readers like these",
        "5 readers (SD 5 points), 40 cases for all and 16 of their own, 60 %",
        COVERED,
        rotating,
    )
    yield Scenario(
        "right answers, these readers",
        "3 readers, 60 cases, 20 of them twice, 60 %",
        COVERED,
        repeated,
    )
    yield Scenario(
        "d', readers like these", "5 readers (SD 0.3), 50 + 50 cases, d' 0.8", COVERED, d_primes
    )


def shares_of_readers(readers: int, cases: int, p: float, between: float) -> Iterator[Scenario]:
    setting = f"{readers} readers (SD {100 * between:.0f} points), {cases} cases, {100 * p:.0f} %"
    draw = partial(answers, readers=readers, cases=cases, share=p, between=between)
    truth = true_share(p, between)

    def other(g: Generator) -> Found:
        return covers(pooled(MeanAnswer(draw(g)[0])), truth)

    def these(g: Generator) -> Found:
        given, shares = draw(g)
        return covers(pooled(MeanAnswer(given), readers="fixed"), float(shares.mean()))

    def drawn(g: Generator) -> Found:
        figure = MeanAnswer(draw(g)[0])
        seed = int(g.integers(2**31))
        return covers(bootstrap(figure, replicates=REPLICATES, seed=seed), truth)

    # Where readers do not differ at all, their interval is too long and cannot be else.
    wished = COVERED if between else AT_LEAST
    yield Scenario("right answers, readers like these", setting, wished, other)
    yield Scenario("right answers, these readers", setting, COVERED, these)
    if cases == 100:
        yield Scenario("right answers, bootstrap", setting, BESIDE, drawn)


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

    def reaching(g: Generator) -> Found:
        values, _ = shared(g, 4, 50, 0.0, 0.0, np.zeros(50, bool))
        found = pooled(MeanAnswer((values > CUTS[2]).astype(float)), readers="fixed")
        return covers(found, float(1 - ndtr(CUTS[2])))

    yield Scenario(
        "visual grading, these readers", "3 readers, 40 label maps in both arms", COVERED, in_pairs
    )
    yield Scenario("at or above an answer, these readers", "4 readers, 50 cases", COVERED, reaching)


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

    yield Scenario("AUC and visual grading, readers like these", setting, COVERED, other)
    yield Scenario("AUC and visual grading, these readers", setting, COVERED, these)
    if readers in (3, 5) and cases == 100:
        yield Scenario("AUC and visual grading, bootstrap", setting, BESIDE, drawn)


def agreements() -> Iterator[Scenario]:
    statistics: dict[str, Statistic] = {
        "kappa (quadratic)": lambda r: agreement.cohen_kappa(*r[:2]),
        "alpha (ordinal)": agreement.krippendorff_alpha,
        "AC1": agreement.gwet_ac1,
        "percent agreement": agreement.percent_agreement,
    }
    for name, statistic in statistics.items():
        readers = 2 if name.startswith("kappa") else 3
        trial = agreed(statistic, readers)
        yield Scenario(name, f"{readers} readers, 50 cases", COVERED, trial)
    for name, icc, spread in (
        ("ICC(2,1)", agreement.icc_2_1, 0.3),
        ("ICC(3,1)", agreement.icc_3_1, 0.0),
    ):
        yield Scenario(name, "4 readers, 40 cases", COVERED, correlated(icc, spread))


def agreed(statistic: Statistic, readers: int) -> Trial:
    def coded(g: Generator, cases: int) -> NDArray[np.float64]:
        common = math.sqrt(0.5) * g.standard_normal(cases)
        return cut(common + math.sqrt(0.5) * g.standard_normal((readers, cases)))

    truth = statistic(coded(np.random.default_rng(1), 200_000))
    return lambda g: covers(agreement.with_interval(statistic, coded(g, 50)), truth)


def correlated(icc: Callable[[NDArray], Estimate], spread: float) -> Trial:
    """``spread``: the standard deviation of the readers' mean levels."""

    def trial(g: Generator) -> Found:
        given = g.standard_normal(40) + spread * g.standard_normal((4, 1))
        return covers(icc(given + g.standard_normal((4, 40))), 1 / (2 + spread**2))

    return trial


def over_the_session() -> Iterator[Scenario]:
    for readers in (1, 4):
        study = f"{readers} reader{'s' * (readers > 1)}, 80 cases"
        yield Scenario("slope over the session", study, COVERED, tiring(readers, Slope, -0.2))
        half = -0.2 * 40 / 79
        yield Scenario("second half less first", study, COVERED, tiring(readers, Halves, half))


def tiring(readers: int, kind: type[Slope | Halves], truth: float) -> Trial:
    def trial(g: Generator) -> Found:
        order = np.stack([g.permutation(80) for _ in range(readers)]).astype(float)
        shares = 0.7 - 0.2 * order / 79
        given = np.where(g.random(80) < RHO, g.random(80), g.random((readers, 80)))
        figure = kind((given < shares).astype(float), order)
        return covers(pooled(figure, readers="fixed"), truth)

    return trial
