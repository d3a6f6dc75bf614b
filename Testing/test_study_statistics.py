"""The statistics of reader studies against published examples and other libraries.

Where an oracle (``study-oracles``) is not installed its test is skipped; what krippendorff 0.9.0,
pingouin 0.7.0, scikit-learn 1.9.1 and statsmodels 0.15.0 gave for the published examples stands
here, each with the call that gave it.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy import stats

from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.statistics import agreement, effects, ratings, require_scipy, roc
from MedDiffusionLib.statistics.estimate import bounded, freedom_of, wilson
from MedDiffusionLib.statistics.figures import Auc, DPrime, MeanAnswer
from MedDiffusionLib.statistics.proportions import (
    binomial_p,
    choice_d_prime,
    clopper_pearson,
    detection,
    proportion,
    share_right,
    two_choice_d_prime,
)
from MedDiffusionLib.statistics.readers import Readers, bootstrap, components, each_reader, pooled

NAN = math.nan
POSITIVE = np.array([5, 4, 4, 3, 5, 2, 6, 3.0])
NEGATIVE = np.array([1, 2, 3, 3, 2, 4, 1, 2.0])
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
FLEISS = np.array(
    [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]
)  # fmt: skip
SHROUT_FLEISS = np.array(
    [[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7.0]]
)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(11)


def test_28_of_50_has_the_known_p_and_intervals() -> None:
    by_score, exact = proportion(28, 50), proportion(28, 50, interval="exact")
    assert by_score.p == pytest.approx(0.479888, abs=1e-6)
    assert (by_score.low, by_score.high) == pytest.approx((0.423060, 0.688378), abs=1e-6)
    assert (exact.low, exact.high) == pytest.approx((0.412544, 0.700093), abs=1e-6)


@pytest.mark.parametrize(("right", "n", "chance"), [(0, 7, 0.5), (7, 7, 0.25), (29, 100, 0.25)])
def test_proportions_are_scipys(right: int, n: int, chance: float) -> None:
    theirs = stats.binomtest(right, n, chance)
    assert binomial_p(right, n, chance) == pytest.approx(theirs.pvalue, abs=1e-9)
    by_score, exact = theirs.proportion_ci(method="wilson"), theirs.proportion_ci(method="exact")
    ours = proportion(right, n, chance)
    assert (ours.low, ours.high) == pytest.approx(tuple(by_score), abs=1e-9)
    assert clopper_pearson(right, n) == pytest.approx(tuple(exact), abs=1e-9)


def test_proportions_are_statsmodels() -> None:
    theirs = pytest.importorskip("statsmodels.stats.proportion")
    for right, n in [(1, 9), (28, 50), (90, 91)]:
        ours = proportion(right, n)
        assert (ours.low, ours.high) == pytest.approx(
            theirs.proportion_confint(right, n, method="wilson"), abs=1e-9
        )
        assert clopper_pearson(right, n) == pytest.approx(
            theirs.proportion_confint(right, n, method="beta"), abs=1e-9
        )


def test_d_prime_is_finite_for_a_perfect_reader_and_zero_for_a_coin() -> None:
    perfect = detection(20, 20, 0, 20)
    z = stats.norm.ppf(20.5 / 21)
    assert perfect.d_prime.estimate == pytest.approx(2 * z, abs=1e-9)
    assert perfect.criterion.estimate == pytest.approx(0, abs=1e-12)
    coin = detection(10, 20, 10, 20)
    assert coin.d_prime.estimate == pytest.approx(0, abs=1e-12)
    assert coin.d_prime.low < 0 < coin.d_prime.high
    assert coin.d_prime.p == pytest.approx(1)


def test_who_always_says_real_has_a_criterion_above_zero() -> None:
    found = detection(2, 20, 1, 20)
    assert found.criterion.low > 0
    assert found.specificity.estimate == pytest.approx(0.95)


def test_choices_of_one_in_m_follow_the_normal_model() -> None:
    # 2AFC has a closed form; chance is 1/m without signal; else the largest of m normal values.
    assert share_right(1.3, 2) == pytest.approx(stats.norm.cdf(1.3 / math.sqrt(2)), abs=1e-9)
    assert share_right(0, 4) == pytest.approx(0.25, abs=1e-9)
    shift = np.array([1.0, 0, 0, 0])
    drawn = np.random.default_rng(2).standard_normal((100_000, 4)) + shift
    assert share_right(1, 4) == pytest.approx((drawn.argmax(1) == 0).mean(), abs=0.006)
    assert two_choice_d_prime(0.5) == 0


def test_d_prime_of_choices_goes_back_to_the_share() -> None:
    found = choice_d_prime(29, 100, 4)
    assert share_right(found.estimate, 4) == pytest.approx(29.5 / 101, abs=1e-9)
    assert found.low < 0 < found.high
    assert choice_d_prime(0, 10, 4).low == -math.inf
    assert choice_d_prime(10, 10, 2).high == math.inf


def test_the_area_has_delongs_variance() -> None:
    found = roc.auc(POSITIVE, NEGATIVE)
    assert found.estimate == pytest.approx(0.8515625, abs=1e-9)
    assert found.standard_error**2 == pytest.approx(0.00863211496, abs=1e-10)


def test_the_areas_test_is_brunner_and_munzels() -> None:
    theirs = stats.brunnermunzel(NEGATIVE, POSITIVE)
    assert roc.auc(POSITIVE, NEGATIVE).p == pytest.approx(theirs.pvalue, abs=1e-9)


def test_area_and_curve_are_scikit_learns(generator: np.random.Generator) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    truth = generator.random(60) < 0.4
    given = generator.integers(0, 6, 60).astype(float)
    ours = roc.auc(given[truth], given[~truth]).estimate
    assert ours == pytest.approx(metrics.roc_auc_score(truth, given), abs=1e-9)
    theirs = metrics.roc_curve(truth, given, drop_intermediate=False)
    for mine, other in zip(roc.roc_curve(given[truth], given[~truth]), theirs[:2], strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-9)


def test_the_area_leaves_nan_out_and_knows_its_limits() -> None:
    gaps = roc.auc(np.append(POSITIVE, NAN), NEGATIVE)
    assert gaps == roc.auc(POSITIVE, NEGATIVE)
    assert math.isnan(roc.auc(POSITIVE, np.array([])).estimate)
    apart = roc.auc(np.full(20, 5.0), np.full(30, 1.0))
    assert (apart.estimate, apart.high) == (1, 1)
    assert apart.low == pytest.approx(wilson(1, 20, stats.norm.ppf(0.975))[0])
    alike = roc.auc(np.full(20, 3.0), np.full(20, 3.0))
    assert (alike.estimate, alike.p) == (0.5, 1)
    assert alike.low < 0.4 < 0.6 < alike.high


def test_agreement_has_the_published_values() -> None:
    # krippendorff.alpha(reliability_data=KRIPPENDORFF, level_of_measurement=scale)
    known = {
        "nominal": 0.743421052631579, "ordinal": 0.8153875037548814,
        "interval": 0.8491071428571428, "ratio": 0.7974027747116121,
    }  # fmt: skip
    ours = {s: agreement.krippendorff_alpha(KRIPPENDORFF, s) for s in known}  # type: ignore[arg-type]
    assert ours == pytest.approx(known, abs=1e-9)
    # statsmodels.stats.inter_rater.fleiss_kappa(FLEISS)
    assert agreement.fleiss_kappa(FLEISS) == pytest.approx(0.20993070442195522, abs=1e-9)
    # pingouin.intraclass_corr(...): ICC(A,1), ICC(C,1), p, and intervals rounded to two digits
    absolute, consistent = agreement.icc_2_1(SHROUT_FLEISS), agreement.icc_3_1(SHROUT_FLEISS)
    assert absolute.estimate == pytest.approx(0.28976377952755916, abs=1e-9)
    assert consistent.estimate == pytest.approx(0.7148407148407154, abs=1e-9)
    assert absolute.p == pytest.approx(0.000134566516484335, abs=1e-9)
    assert (absolute.low, absolute.high) == pytest.approx((0.02, 0.76), abs=0.005)
    assert (consistent.low, consistent.high) == pytest.approx((0.34, 0.95), abs=0.005)


def test_ac1_stays_high_where_kappa_collapses() -> None:
    # Gwet (2008): 118 of 125 agreed positive, 5 and 2 disagreed.
    first = np.repeat([1.0, 0.0], [123, 2])
    second = np.repeat([1.0, 0.0, 1.0], [118, 5, 2])
    assert agreement.percent_agreement(np.stack([first, second])) == pytest.approx(118 / 125)
    chance = 2 * 0.972 * 0.028
    expected = (118 / 125 - chance) / (1 - chance)
    assert agreement.gwet_ac1(np.stack([first, second])) == pytest.approx(expected, abs=1e-9)
    assert agreement.cohen_kappa(first, second) == pytest.approx(-0.0234, abs=1e-4)


def test_agreement_is_that_of_other_libraries(generator: np.random.Generator) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    raters = pytest.importorskip("statsmodels.stats.inter_rater")
    first, second = generator.integers(0, 4, (2, 40)).astype(float)
    for quadratic, weights in ((True, "quadratic"), (False, None)):
        assert agreement.cohen_kappa(first, second, quadratic=quadratic) == pytest.approx(
            metrics.cohen_kappa_score(first, second, weights=weights), abs=1e-9
        )
    assert agreement.fleiss_kappa(FLEISS) == pytest.approx(raters.fleiss_kappa(FLEISS), abs=1e-9)


def test_alpha_is_krippendorffs_with_any_gaps(generator: np.random.Generator) -> None:
    theirs = pytest.importorskip("krippendorff")
    given = generator.integers(1, 6, (4, 30)).astype(float)
    given[generator.random(given.shape) < 0.3] = NAN
    for scale in ("nominal", "ordinal", "interval", "ratio"):
        ours = agreement.krippendorff_alpha(given, scale)
        other = theirs.alpha(reliability_data=given, level_of_measurement=scale)
        assert ours == pytest.approx(other, abs=1e-9)


def test_intraclass_correlation_is_pingouins(generator: np.random.Generator) -> None:
    pingouin, pandas = pytest.importorskip("pingouin"), pytest.importorskip("pandas")
    given = generator.standard_normal(20) + 0.7 * generator.standard_normal((3, 20))
    table = pandas.DataFrame(
        [(i, j, given[j, i]) for i in range(20) for j in range(3)], columns=["t", "r", "s"]
    )
    theirs = pingouin.intraclass_corr(table, targets="t", raters="r", ratings="s")
    for ours, row in ((agreement.icc_2_1(given), 1), (agreement.icc_3_1(given), 2)):
        assert ours.estimate == pytest.approx(theirs.loc[row, "ICC"], abs=1e-9)
        assert (ours.low, ours.high) == pytest.approx(tuple(theirs.loc[row, "CI95"]), abs=0.0051)


@pytest.mark.parametrize("same", [1.0, 3.0])
def test_nothing_to_tell_is_no_number_but_full_percent_agreement(same: float) -> None:
    given = np.full((2, 10), same)
    assert math.isnan(agreement.cohen_kappa(*given))
    assert math.isnan(agreement.krippendorff_alpha(given))
    assert agreement.percent_agreement(given) == agreement.gwet_ac1(given) == 1
    assert math.isnan(agreement.percent_agreement(np.full((2, 3), NAN)))
    assert math.isnan(agreement.icc_2_1(np.ones((1, 5))).estimate)


def test_the_jackknife_of_a_mean_is_its_standard_error(generator: np.random.Generator) -> None:
    given = generator.random((1, 25)) - 0.5
    found = agreement.with_interval(lambda r: float(r.mean()), given)
    assert found.standard_error == pytest.approx(stats.sem(given[0]), abs=1e-12)


def test_holm_and_wilcoxon_are_those_of_other_libraries(generator: np.random.Generator) -> None:
    a, b = generator.integers(0, 4, (2, 25)).astype(float)
    assert ratings.wilcoxon_p(np.append(a, NAN), np.append(b, 1)) == pytest.approx(
        stats.wilcoxon(a, b).pvalue, abs=1e-9
    )
    assert ratings.wilcoxon_p(a, a) == 1
    # Holm's own rule by hand: .01 * 4, .03 * 3 (.02 * 3 = .06 before it), 1 at most.
    adjusted = ratings.holm(np.array([0.03, NAN, 0.01, 0.9, 0.02]))
    np.testing.assert_allclose(adjusted, [0.06, NAN, 0.04, 0.9, 0.06], atol=1e-12)
    theirs = pytest.importorskip("statsmodels.stats.multitest")
    p = generator.random(9) / 5
    np.testing.assert_allclose(
        ratings.holm(p), theirs.multipletests(p, method="holm")[1], atol=1e-9
    )


def arms_of(cases: int) -> np.ndarray:
    return np.arange(cases) % 2 == 0


def test_covariances_of_readers_are_those_of_their_answers(generator: np.random.Generator) -> None:
    answers = (generator.random((3, 40)) < 0.6).astype(float)
    influence = MeanAnswer(answers).influence()
    np.testing.assert_allclose(influence @ influence.T, np.cov(answers) / 40, atol=1e-12)


@pytest.mark.parametrize("kind", [MeanAnswer, Auc, DPrime])
def test_influences_are_the_derivatives_of_the_values(
    generator: np.random.Generator, kind: type[MeanAnswer | Auc | DPrime]
) -> None:
    answers = (generator.random((2, 200)) < 0.6).astype(float)
    answers[0, :50] = NAN
    figure = kind(answers, arms_of(200))
    influence, step = figure.influence(), 1e-5
    for case in (0, 61, 130, 199):
        weights = np.ones((2, 200))
        weights[1, case] += step
        before, after = figure.values(weights)
        # The corrections for small samples, n/(n - 1) and 1/(n + 1), are a few percent here.
        np.testing.assert_allclose((after - before) / step, influence[:, case], atol=6e-4)


def test_one_readers_pooled_figure_is_that_reader() -> None:
    arms = np.arange(16) < 8
    alone = roc.auc(POSITIVE, NEGATIVE)
    assert pooled(Auc(np.concatenate([POSITIVE, NEGATIVE])[None], arms)) == alone


def test_readers_who_answer_alike_tell_no_more_than_one() -> None:
    answers = np.tile((np.arange(60) % 3 > 0).astype(float), (4, 1))
    together, alone = pooled(MeanAnswer(answers)), each_reader(MeanAnswer(answers))[0]
    assert together.standard_error == pytest.approx(alone.standard_error, rel=1e-9)
    assert together.estimate == pytest.approx(2 / 3)


def test_pooling_has_obuchowski_and_rocketts_components(generator: np.random.Generator) -> None:
    answers = (generator.random((4, 50)) < 0.7).astype(float)
    parts = components(MeanAnswer(answers))
    covariance = np.cov(answers) / 50
    assert parts.between == pytest.approx(answers.mean(1).var(ddof=1))
    assert parts.variance == pytest.approx(np.trace(covariance) / 4)
    off = covariance[~np.eye(4, dtype=bool)].mean()
    assert parts.covariance == pytest.approx(max(off, 0))


def test_for_other_readers_the_interval_is_wider_than_for_these() -> None:
    generator = np.random.default_rng(3)
    answers = (generator.random((3, 80)) < np.array([[0.5], [0.65], [0.8]])).astype(float)
    others, these = (pooled(MeanAnswer(answers), readers=r) for r in ("random", "fixed"))
    assert others.estimate == these.estimate
    assert others.low < these.low < these.high < others.high


def test_cases_repeated_as_clusters_make_no_interval_shorter() -> None:
    generator = np.random.default_rng(4)
    answers = (generator.random((2, 50)) < 0.6).astype(float)
    twice, numbers = np.hstack([answers, answers]), np.tile(np.arange(50), 2)
    honest = pooled(MeanAnswer(twice), readers="fixed", clusters=numbers)
    once = pooled(MeanAnswer(answers), readers="fixed")
    assert honest.standard_error == pytest.approx(once.standard_error, rel=0.01)
    assert pooled(MeanAnswer(twice), readers="fixed").standard_error < 0.75 * once.standard_error


def test_a_reader_without_answers_counts_for_none() -> None:
    answers = (np.random.default_rng(5).random((3, 40)) < 0.6).astype(float)
    answers[1] = NAN
    assert pooled(MeanAnswer(answers)) == pooled(MeanAnswer(answers[[0, 2]]))
    assert math.isnan(pooled(MeanAnswer(np.full((2, 5), NAN))).estimate)


def test_the_bootstrap_is_near_the_model_and_the_same_for_a_seed() -> None:
    answers = (np.random.default_rng(6).random((6, 100)) < 0.6).astype(float)
    figure = MeanAnswer(answers, arms_of(100))
    first, again = bootstrap(figure, seed=1), bootstrap(figure, seed=1)
    assert first == again != bootstrap(figure, seed=2)
    fixed = bootstrap(figure, readers="fixed", replicates=4000)
    model = pooled(figure, readers="fixed")
    assert fixed.standard_error == pytest.approx(model.standard_error, rel=0.05)
    assert (fixed.low, fixed.high) == pytest.approx((model.low, model.high), abs=0.01)


def test_the_bootstrap_of_an_area_with_gaps_draws_within_arms() -> None:
    generator = np.random.default_rng(7)
    given = generator.integers(0, 4, (2, 40)).astype(float)
    given[0, :10] = NAN
    figure = Auc(given, arms_of(40))
    pairs = [roc.auc(r[arms_of(40)], r[~arms_of(40)]).estimate for r in given]
    assert figure.values(np.ones((1, 40)))[0] == pytest.approx(pairs, abs=1e-12)
    assert bootstrap(figure).low < np.mean(pairs) < bootstrap(figure).high


def test_visual_grading_turns_round_with_the_arms() -> None:
    given = np.concatenate([POSITIVE, NEGATIVE])[None]
    arms = np.arange(16) < 8
    better, worse = (ratings.visual_grading(given, a) for a in (arms, ~arms))
    assert better.estimate == pytest.approx(1 - worse.estimate)
    assert (better.low, better.high) == pytest.approx((1 - worse.high, 1 - worse.low))


def test_proportions_at_or_above_fall_and_leave_gaps_out() -> None:
    found = ratings.at_or_above(np.array([[1, 2, 2, 3, 4, 4, NAN, 4.0]]), [1, 2, 3, 4])
    assert [e.estimate for e in found] == pytest.approx([1, 6 / 7, 4 / 7, 3 / 7])
    assert found[0].high == 1
    assert all(math.isnan(e.p) for e in found)


def test_the_slope_over_the_session_is_that_of_least_squares(
    generator: np.random.Generator,
) -> None:
    answers = generator.integers(0, 4, (1, 30)).astype(float)
    order = generator.permutation(30).astype(float)[None]
    (found,) = each_reader(effects.Slope(answers, order))
    theirs = stats.linregress(order[0], answers[0])
    assert found.estimate == pytest.approx(theirs.slope * 29, abs=1e-9)
    api = pytest.importorskip("statsmodels.api")
    fit = api.OLS(answers[0], api.add_constant(order[0])).fit(cov_type="HC1")
    assert found.standard_error == pytest.approx(fit.bse[1] * 29, abs=1e-9)


def test_session_halves_are_compared_as_by_welch(generator: np.random.Generator) -> None:
    answers = generator.random((1, 21))
    order = np.arange(21.0)[None]
    (found,) = each_reader(effects.Halves(answers, order))
    theirs = stats.ttest_ind(answers[0, 11:], answers[0, :11], equal_var=False)
    assert found.estimate / found.standard_error == pytest.approx(theirs.statistic, abs=1e-9)


def test_effects_are_pooled_over_readers_with_orders_of_their_own() -> None:
    generator = np.random.default_rng(8)
    order = np.stack([generator.permutation(60) for _ in range(4)]).astype(float)
    tiring = (generator.random((4, 60)) < 0.9 - 0.5 * order / 59).astype(float)
    assert pooled(effects.Slope(tiring, order)).high < 0
    assert pooled(effects.Halves(tiring, order)).high < 0


def test_leaving_one_out_shows_who_makes_the_result() -> None:
    answers = np.vstack([np.tile([1.0, 0.0], (3, 10)), np.ones((1, 20))])
    found = effects.leave_one_out(lambda kept: pooled(MeanAnswer(answers[kept])).estimate, 4)
    assert found == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0.5])


def test_intervals_of_bounded_figures_are_wilsons() -> None:
    found = bounded(0.56, 0.56 * 0.44 / 50)
    assert (found.low, found.high) == pytest.approx(
        wilson(0.56, 50, stats.norm.ppf(0.975)), abs=1e-12
    )
    assert freedom_of(stats.t.ppf(0.975, 7)) == pytest.approx(7, rel=1e-6)
    assert freedom_of(1.0) == math.inf


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("readers", ["random", "fixed"])
@pytest.mark.parametrize("kind", [MeanAnswer, Auc, DPrime])
def test_too_few_answers_give_nan_and_no_warning(
    kind: type[MeanAnswer | Auc | DPrime], readers: Readers
) -> None:
    arms = np.array([True, True, False, False])
    one_arm = np.array([[1, 0, NAN, NAN], [NAN, NAN, NAN, NAN]])
    found = pooled(kind(one_arm, arms), readers=readers)
    assert math.isnan(found.estimate) == (kind is not MeanAnswer)
    single = np.array([[1, NAN, 0, 1], [1, 0, 0, 1.0]])
    assert math.isnan(pooled(kind(single, arms), readers=readers).low)
    for effect in (effects.Slope, effects.Halves):
        short = effect(np.array([[1, 0, NAN, NAN]]), np.array([[0, 1, 2, 3.0]]))
        assert math.isnan(pooled(short, readers=readers).low)


@pytest.mark.filterwarnings("error")
def test_readers_who_agree_in_everything_still_have_an_interval() -> None:
    found = pooled(MeanAnswer(np.ones((3, 30))))
    assert (found.estimate, found.high) == (1, 1)
    assert found.low == pytest.approx(wilson(1, 30, stats.norm.ppf(0.975))[0])
    alike = pooled(MeanAnswer(np.tile([1.0, 0.0], (2, 20))))
    assert 0.2 < alike.low < 0.4 < 0.6 < alike.high < 0.8


def test_without_scipy_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    require_scipy()
    monkeypatch.setattr("MedDiffusionLib.statistics.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"meddiffusion\[study\]") as caught:
        require_scipy()
    assert caught.value.code == "no-scipy"
