"""The detector, the clean tests and the verdict of an audit, on features that are simulated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from MedDiffusionLib.evaluation.audit.detector import Found, alike, make_detector, prove
from MedDiffusionLib.evaluation.audit.evidence import (
    Cases,
    Evidence,
    Planted,
    Samples,
    correlations,
)
from MedDiffusionLib.evaluation.audit.gaps import (
    copies,
    loss_gap,
    nearest_share,
    outside_gap,
    own_case_gap,
)
from MedDiffusionLib.evaluation.audit.plants import PLANTS
from MedDiffusionLib.evaluation.audit.verdict import holm, judge

TRAINED, HELD_OUT, SIZE = 60, 40, 12


def normalized(features: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = features - features.mean(1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def simulated(
    seed: int = 0,
    copied: float = 0.0,
    like_own: float = 0.0,
    samples: int = 200,
    trained: int = TRAINED,
    held_out: int = HELD_OUT,
    noise: float = 0.05,
) -> Evidence:
    """Real cases without structure, and a model that gives back ``copied`` of its training cases.

    ``like_own``: how much each sample is like the case whose label map it has, as label maps make
    it. ``noise``: how far planted copies are from their case.
    """
    random = np.random.default_rng(seed)
    count = trained + held_out
    real = normalized(random.standard_normal((count, SIZE)))
    member = np.arange(count) < trained
    seen = np.zeros(count, bool)
    seen[random.permutation(trained)[: trained // 2]] = True
    seen[trained + random.permutation(held_out)[: held_out // 2]] = True
    maps = [random.permutation(np.flatnonzero(m)) for m in (member, ~member)]
    own = np.array([maps[n % 2][n // 2 % len(maps[n % 2])] for n in range(samples)])
    each = np.random.default_rng(seed + 1)
    made = normalized(each.standard_normal((samples, SIZE)))
    made = normalized(made + like_own * real[own])
    is_copy = member[own] & (each.random(samples) < copied)
    near = normalized(real[own] + 0.05 * each.standard_normal((samples, SIZE)))
    made[is_copy] = near[is_copy]
    outside = each.normal(0, 0.03, samples) + 0.9 * is_copy
    losses = random.normal(1, 0.1, count)
    sources = np.arange(60) % trained
    planted = {
        kind: Planted(
            normalized(real[sources] + noise * random.standard_normal((60, SIZE))), sources
        )
        for kind in PLANTS
    }
    cases = Cases(real, member, seen, np.arange(count), losses)
    return Evidence(cases, Samples(made, own, outside), planted)


def test_correlations_are_those_of_numpy() -> None:
    random = np.random.default_rng(0)
    one, other = random.standard_normal((3, 9)), random.standard_normal((4, 9))
    np.testing.assert_allclose(correlations(one, other), np.corrcoef(one, other)[:3, 3:])


def test_59_of_60_or_49_of_50_prove_the_detector_and_fewer_do_not() -> None:
    assert Found(59, 60).is_proof
    assert Found(49, 50).is_proof
    assert not Found(58, 60).is_proof
    assert not Found(48, 50).is_proof


def test_real_cases_that_were_held_out_are_called_copies_in_5_percent_over_100_resplits() -> None:
    evidence = simulated(trained=180)
    cases = evidence.cases
    random = np.random.default_rng(5)
    shares = []
    for resplit in range(100):
        order = random.permutation(len(cases.is_member))
        member = cases.is_member[order]
        parted = replace(cases, is_member=member, is_seen=cases.is_seen[order])
        # The threshold is of training cases alone here: a held-out case has no part in it.
        kept = np.flatnonzero(member)
        own = Cases(
            cases.features[kept], member[kept], parted.is_seen[kept], kept, cases.losses[kept]
        )
        detector = make_detector(own, resplit)
        held_out = np.flatnonzero(~member)
        similarity = correlations(cases.features[held_out], cases.features)
        allowed = np.broadcast_to(member, similarity.shape)
        shares.append(detector.flags(similarity, allowed, resplit).mean())
    assert np.mean(shares) == pytest.approx(0.05, abs=0.02)


def test_a_threshold_needs_19_cases_that_are_new_to_the_encoder() -> None:
    cases = simulated().cases
    seen = np.arange(len(cases.is_seen)) >= 18
    with pytest.raises(ValueError, match="18 real cases are new"):
        make_detector(replace(cases, is_seen=seen), 0)


def test_planted_copies_are_found_where_they_are_near_and_not_where_they_are_far() -> None:
    for noise, found in ((0.05, 60), (3.0, 10)):
        evidence = simulated(noise=noise)
        detector = make_detector(evidence.cases, 0)
        proof = prove(detector, evidence, 0)
        assert len(proof) >= 10
        assert all((each.found >= found) == (noise == 0.05) for each in proof.values())


def test_two_scans_of_a_patient_are_named_unless_it_is_said_that_they_are_its_own() -> None:
    cases = simulated().cases
    features = cases.features.copy()
    features[5] = normalized(features[[4]] + 0.02 * features[[7]])[0]
    twice = replace(cases, features=features)
    assert alike(twice, make_detector(twice, 0))[0][:2] == (4, 5)
    known = replace(twice, patients=np.where(cases.patients == 5, 4, cases.patients))
    assert (4, 5) not in [pair[:2] for pair in alike(known, make_detector(known, 0))]
    assert make_detector(known, 0).threshold <= make_detector(twice, 0).threshold


def test_own_case_gap_is_one_half_whatever_label_maps_tell_and_above_it_for_copies() -> None:
    honest = own_case_gap(simulated(like_own=2.0))
    assert honest.found.low < 0.5 < honest.found.high
    copying = own_case_gap(simulated(copied=1.0, like_own=1.0))
    assert copying.found.low > 0.9


def test_the_own_case_gap_is_the_area_that_pairs_give() -> None:
    evidence = simulated(samples=100)
    cases, samples = evidence.cases, evidence.samples
    own = correlations(samples.features, cases.features)[np.arange(100), samples.cases]
    means = {case: own[samples.cases == case].mean() for case in set(samples.cases.tolist())}
    pairs = [
        float(means[a] > means[b])
        for a in means if cases.is_member[a] for b in means if not cases.is_member[b]
    ]  # fmt: skip
    assert own_case_gap(evidence).found.estimate == pytest.approx(np.mean(pairs))


def test_the_nearest_case_share_of_matched_sizes_is_one_half_however_many_are_trained_on() -> None:
    shares = [nearest_share(simulated(seed, trained=180), 0).found.estimate for seed in range(12)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)


def test_the_nearest_case_share_is_the_mean_over_drawn_training_cases() -> None:
    evidence = simulated(samples=40)
    cases, samples = evidence.cases, evidence.samples
    similarity = correlations(samples.features, cases.features)
    random = np.random.default_rng(0)
    per_map: dict[int, list[float]] = {}
    for row, own in zip(similarity, samples.cases, strict=True):
        if cases.is_member[own]:
            continue
        held_out = [n for n in np.flatnonzero(~cases.is_member) if n != own]
        for _ in range(400):
            drawn = random.permutation(TRAINED)[: len(held_out)]
            won = row[drawn].max() > row[held_out].max()
            per_map.setdefault(int(own), []).append(float(won))
    drawn_share = np.mean([np.mean(wins) for wins in per_map.values()])
    assert nearest_share(evidence, 0).found.estimate == pytest.approx(drawn_share, abs=0.02)


def test_samples_of_held_out_label_maps_that_copy_training_cases_are_found() -> None:
    evidence = simulated()
    random = np.random.default_rng(0)
    copied = evidence.cases.features[random.integers(0, TRAINED, len(evidence.samples.cases))]
    made = normalized(copied + 0.05 * random.standard_normal(copied.shape))
    found = nearest_share(replace(evidence, samples=replace(evidence.samples, features=made)), 0)
    # Of 60 training cases 39 are drawn; where the copied one is not, chance decides.
    assert found.found.estimate == pytest.approx(39 / 60 + 21 / 60 / 2, abs=0.05)
    assert found.p < 0.01


def test_what_is_alike_outside_the_labels_is_told_apart() -> None:
    assert outside_gap(simulated()).p > 0.01
    assert outside_gap(simulated(copied=0.5)).found.low > 0.6


def test_the_loss_gap_is_held_to_that_between_training_cases() -> None:
    cases = simulated().cases
    gap, control = loss_gap(cases, 0)
    assert control.low < 0.5 < control.high
    assert control.low - 0.05 < gap.found.estimate < control.high + 0.05
    lower = replace(cases, losses=cases.losses - 0.2 * cases.is_member)
    assert loss_gap(lower, 0)[0].p < 0.005


def test_without_copies_there_is_no_excess_even_where_label_maps_tell_much() -> None:
    evidence = simulated(like_own=2.5, samples=400)
    excess, shares, _ = copies(evidence, make_detector(evidence.cases, 0), 0)
    # Label maps alone have far more than 5 % called copies, in both parts.
    assert shares.training.estimate > 0.15
    assert excess.found.low < 0 < excess.found.high


def test_of_a_model_that_copies_all_are_called_so_and_the_excess_is_seen() -> None:
    evidence = simulated(copied=1.0)
    excess, shares, flagged = copies(evidence, make_detector(evidence.cases, 0), 0)
    member = evidence.cases.is_member[evidence.samples.cases]
    assert shares.training.estimate == flagged[member].mean() == 1
    assert excess.found.low > 0.7


@pytest.mark.parametrize("samples", [100, 400, 1600])
def test_the_verdict_does_not_depend_on_how_many_samples_there_are(samples: int) -> None:
    assert judge(simulated(7, like_own=1.0, samples=samples), 0).verdict == "passed"
    assert judge(simulated(7, copied=0.3, samples=samples), 0).verdict == "failed"


def test_a_kind_of_copy_that_is_not_found_makes_the_verdict_inconclusive_and_is_named() -> None:
    evidence = simulated(7)
    far = Planted(normalized(-evidence.planted["flip"].features), evidence.planted["flip"].cases)
    judged = judge(replace(evidence, planted={**evidence.planted, "flip": far}), 0)
    assert judged.verdict == "inconclusive"
    assert any("flip" in sentence and "0 of 60" in sentence for sentence in judged.sentences)


def test_few_held_out_cases_make_it_inconclusive_and_it_says_what_could_not_be_seen() -> None:
    judged = judge(simulated(3, trained=30, held_out=10, samples=60), 0)
    assert judged.verdict == "inconclusive"
    assert any("not be told from 0.5" in sentence for sentence in judged.sentences)


def test_honest_models_are_rarely_failed() -> None:
    failed = [judge(simulated(seed, like_own=1.0), 0).verdict == "failed" for seed in range(12)]
    # Five in a hundred are expected: three or more of 12 come in 2 % of such series.
    assert sum(failed) <= 2


def test_p_values_are_raised_as_holm_does() -> None:
    # The worked example of Holm's rule: 4 x .01, then the greater of that and 3 x .02, ...
    assert holm([0.02, 0.01, 0.5, 0.04]) == pytest.approx((0.06, 0.04, 0.5, 0.08))
