"""The figures of a study: those that scipy gives for the same answers, and refusals."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy import integrate, stats

from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.studies.analysis import Analysis, analyse
from MedDiffusionLib.studies.answers import AnswerLog, read_answers
from MedDiffusionLib.studies.judged import gather, synthetic_said
from MedDiffusionLib.studies.protocols import Question, read_protocol
from MedDiffusionLib.studies.study import order_of, read_study
from study_factory import answer_to, write_study
from study_readers import answer_all, choice_study, drawn, opened, with_key


def pair(content: dict[str, Any]) -> None:
    """Two cases, one of each arm, of each label map."""
    for n, (truth,) in enumerate(content["cases"].values()):
        truth["label_map"] = f"map-{n // 2}"


def analysed(folder: Path, better: float = 0.8, seed: int = 1) -> Analysis:
    study, key = opened(folder)
    for n, reader in enumerate(study.readers):
        answer_all(study, key, reader, drawn(seed + n, better))
    return analyse(gather([folder], folder.with_name("KEY")))


def first_answers(folder: Path, reader: str, question: str) -> dict[str, int]:
    """By case, of its first showing, read out of the log without the code under test."""
    study, _ = opened(folder)
    found: dict[str, int] = {}
    for answer in read_answers(study, reader):
        if answer.question == question and answer.answer is not None:
            found.setdefault(answer.case, answer.answer)
    return found


def by_arm(folder: Path, reader: str, question: str) -> tuple[list[int], list[int]]:
    """The answers about synthetic and about real volumes."""
    _, key = opened(folder)
    given = first_answers(folder, reader, question)
    arms: dict[str, list[int]] = {"synthetic": [], "real": []}
    for case, answer in given.items():
        arms[key.arm(case)].append(answer)
    return arms["synthetic"], arms["real"]


def test_right_answers_have_scipys_intervals_and_p(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", 40)
    (reality,) = analysed(folder).realities
    for reader in ("R1", "R2"):
        synthetic, real = by_arm(folder, reader, "real")
        hits, rejections = sum(a <= 3 for a in synthetic), sum(a >= 4 for a in real)
        theirs = stats.binomtest(hits + rejections, 40)
        ours = reality.right[reader]
        assert ours.score.p == pytest.approx(theirs.pvalue, abs=1e-9)
        for found, method in ((ours.score, "wilson"), (ours.exact, "exact")):
            assert found.estimate == (hits + rejections) / 40
            expected = theirs.proportion_ci(method=method)
            assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-9)
        assert ours.detection is not None
        assert ours.detection.sensitivity.estimate == hits / 20
        assert ours.detection.specificity.estimate == rejections / 20
        z = stats.norm.ppf([(hits + 0.5) / 21, (20 - rejections + 0.5) / 21])
        assert ours.d_prime.estimate == pytest.approx(z[0] - z[1], abs=1e-9)
        assert ours.detection.criterion.estimate == pytest.approx(-z.sum() / 2, abs=1e-9)


def test_areas_and_visual_gradings_are_scipys(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", 40, "published-then-real")
    found = analysed(folder)
    (reality,) = found.realities
    area = reality.results[1]
    grading = found.criteria[2].grading
    for reader in ("R1", "R2"):
        synthetic, real = by_arm(folder, reader, "real")
        # Surer that it is real is higher: of 400 pairs the real one is, ties by half.
        theirs = stats.mannwhitneyu(real, synthetic).statistic / 400
        assert area.each[reader].estimate == pytest.approx(theirs, abs=1e-9)
        assert area.each[reader].p == pytest.approx(
            stats.brunnermunzel(synthetic, real).pvalue, abs=1e-9
        )
        synthetic, real = by_arm(folder, reader, "anatomy")
        theirs = stats.mannwhitneyu(synthetic, real).statistic / 400
        assert grading.each[reader].estimate == pytest.approx(theirs, abs=1e-9)
    mean = np.mean([area.each[reader].estimate for reader in ("R1", "R2")])
    assert area.these.estimate == pytest.approx(mean)
    assert area.others is not None
    assert area.others.estimate == pytest.approx(mean)
    assert area.resampled.low < mean < area.resampled.high


def test_pairs_of_one_label_map_have_scipys_wilcoxon_with_holm(tmp_path: Path) -> None:
    folder = with_key(write_study(tmp_path / "study", 40, "published"), pair)
    found = analysed(folder)
    p = []
    for question in ("appearance", "consistency", "anatomy"):
        given = first_answers(folder, "R1", question)
        rows = [(given[f"case-{n:03}"], given[f"case-{n + 1:03}"]) for n in range(1, 41, 2)]
        real, synthetic = zip(*rows, strict=True)
        p.append(stats.wilcoxon(synthetic, real).pvalue)
    paired = [criterion.paired["R1"] for criterion in found.criteria]
    assert [each.pairs for each in paired] == [20, 20, 20]
    assert [each.p for each in paired] == pytest.approx(p, abs=1e-9)
    raised = np.maximum.accumulate(np.sort(p) * [3, 2, 1]).clip(max=1)
    assert sorted(each.holm for each in paired) == pytest.approx(raised, abs=1e-9)
    assert all("these readers" in criterion.paired for criterion in found.criteria)


def test_without_label_maps_nothing_is_paired(tmp_path: Path) -> None:
    found = analysed(write_study(tmp_path / "study", 12, "published"))
    assert [criterion.paired for criterion in found.criteria] == [{}, {}, {}]
    assert all(question.clusters is None for question in found.questions)


def test_volumes_of_one_label_map_are_clusters(tmp_path: Path) -> None:
    folder = with_key(write_study(tmp_path / "study", 12), pair)
    (question,) = analysed(folder).questions
    assert question.clusters is not None
    assert (question.clusters[::2] == question.clusters[1::2]).all()
    assert np.unique(question.clusters).size == 6


def test_shares_at_or_above_each_answer_are_counted(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", 40, "published")
    found = analysed(folder).criteria[0]
    for place, arm in enumerate(("synthetic", "real")):
        given = np.array(by_arm(folder, "R1", "appearance")[place])
        shares = found.shares["R1", arm]
        assert [share.estimate for share in shares] == [(given >= n).mean() for n in (2, 3, 4)]
        theirs = stats.binomtest(int((given >= 3).sum()), 20).proportion_ci(method="wilson")
        assert (shares[1].low, shares[1].high) == pytest.approx(tuple(theirs), abs=1e-9)
        assert ("readers like these", arm) in found.shares


@pytest.mark.parametrize(("protocol", "alternatives"), [("2afc", 2), ("m-afc", 4)])
def test_choices_are_held_against_one_in_m(
    tmp_path: Path, protocol: str, alternatives: int
) -> None:
    folder = choice_study(tmp_path / "study", 20, protocol)
    (reality,) = analysed(folder, 0.0).realities
    given = first_answers(folder, "R2", "real")
    # The real one is the second of case 1, the third of case 2 and so on.
    right = sum(answer == int(case[-3:]) % alternatives + 1 for case, answer in given.items())
    ours = reality.right["R2"]
    theirs = stats.binomtest(right, 20, 1 / alternatives)
    assert ours.score.estimate == right / 20
    assert ours.score.p == pytest.approx(theirs.pvalue, abs=1e-9)
    others, skill = alternatives - 1, ours.d_prime.estimate
    share, _ = integrate.quad(
        lambda x: stats.norm.pdf(x - skill) * stats.norm.cdf(x) ** others, -10, 10
    )
    assert share == pytest.approx((right + 0.5) / 21, abs=1e-7)
    assert [result.name for result in reality.results] == ["Real one chosen"]
    assert reality.results[0].each["R2"].estimate == right / 20
    assert reality.results[0].chance == 1 / alternatives
    assert {each.margin for each in reality.results[0].verdicts.values()} == {0.1}


def test_readers_of_known_skill_are_found_to_have_it(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", 120, repeats_percent=0)
    study, key = opened(folder)
    generator = np.random.default_rng(5)

    def answering(shown: str, question: Question, arm: str) -> int:
        # 80 % of the synthetic and 60 % of the real are called what they are.
        is_right = generator.random() < (0.8 if arm == "synthetic" else 0.6)
        return 1 + int(generator.integers(3)) + 3 * ((arm == "real") == is_right)

    answer_all(study, key, "R1", answering)
    answer_all(study, key, "R2", answering)
    (reality,) = analyse(gather([folder], folder.with_name("KEY"))).realities
    accuracy = reality.results[0]
    assert accuracy.these.low < 0.7 < accuracy.these.high
    assert accuracy.verdicts["these readers"].verdict == "different"
    for reader in ("R1", "R2"):
        told = reality.right[reader].detection
        assert told is not None
        assert told.sensitivity.low < 0.8 < told.sensitivity.high
        assert told.specificity.low < 0.6 < told.specificity.high
        z = stats.norm.ppf([0.8, 0.4])
        assert told.d_prime.low < z[0] - z[1] < told.d_prime.high


def test_agreement_with_oneself_is_of_repeats(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", 20)
    study, key = opened(folder)

    def alike(shown: str, question: Question, arm: str) -> int:
        return 1 + int(shown[5:8]) % 6

    def otherwise(shown: str, question: Question, arm: str) -> int:
        return 6 if shown in repeats else 1

    answer_all(study, key, "R1", alike)
    repeats = {
        presentation
        for n, presentation in enumerate(order_of(study, "R2", 1))
        if study.case(presentation).id
        in {study.case(before).id for before in order_of(study, "R2", 1)[:n]}
    }
    answer_all(study, key, "R2", otherwise)
    found = analyse(gather([folder], folder.with_name("KEY"))).agreements["real"]
    by_name = {each.who: each for each in found}
    assert set(by_name) == {"between readers", "R1 with oneself", "R2 with oneself"}
    assert by_name["R1 with oneself"].cases == len(repeats) == 4
    assert by_name["R1 with oneself"].statistics["percent agreement"].estimate == 1
    assert by_name["R2 with oneself"].statistics["percent agreement"].estimate == 0
    # What R2 said of repeats counts for nothing else.
    (reality,) = analyse(gather([folder], folder.with_name("KEY"))).realities
    assert reality.right["R2"].detection is not None
    assert reality.right["R2"].detection.sensitivity.estimate == 1


def test_readers_who_are_always_right_are_different_and_guessers_are_not(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", 24)
    study, key = opened(folder)

    def right(shown: str, question: Question, arm: str) -> int:
        return 6 if arm == "real" else 1

    answer_all(study, key, "R1", right)
    answer_all(study, key, "R2", right)
    (reality,) = analyse(gather([folder], folder.with_name("KEY"))).realities
    assert {each.verdict for each in reality.results[0].verdicts.values()} == {"different"}
    # 24 answers are too few for a margin of 0.1.
    (reality,) = analysed(write_study(tmp_path / "other" / "study", 24), 0.0).realities
    said = reality.results[0].verdicts["R1"]
    assert said.verdict == "inconclusive"
    assert said.more_cases is not None
    assert said.more_cases > 0


def test_equivalence_is_said_with_enough_cases_within_the_margin_of_the_study(
    tmp_path: Path,
) -> None:
    folder = write_study(tmp_path / "study", 240, margin=0.15, repeats_percent=0)
    study, key = opened(folder)

    def even(shown: str, question: Question, arm: str) -> int:
        return 6 if int(shown[5:8]) % 4 < 2 else 1

    answer_all(study, key, "R1", even)
    (reality,) = analyse(gather([folder], folder.with_name("KEY"))).realities
    said = reality.results[0].verdicts["R1"]
    assert (said.verdict, said.margin) == ("equivalent", 0.15)
    p = max(stats.binom.cdf(120, 240, 0.65), stats.binom.sf(119, 240, 0.35))
    assert said.interval.p == pytest.approx(p, abs=1e-12)


def test_a_margin_as_wide_as_chance_gives_no_verdict(tmp_path: Path) -> None:
    found = analysed(write_study(tmp_path / "study", 12, margin=0.5))
    assert [result.verdicts for _, result in found.results] == [{}, {}, {}]


def test_time_that_grows_over_the_session_is_found(tmp_path: Path) -> None:
    found = analysed(write_study(tmp_path / "study", 20))
    (seconds,) = [effect for effect in found.effects if effect.what.startswith("seconds")]
    # A second more for each case, and only repeats stand between the first and the last.
    assert 17 <= seconds.slope["R1"].estimate <= 23
    (times,) = found.times
    assert set(times.quartiles) == {(r, a) for r in ("R1", "R2") for a in ("synthetic", "real")}
    assert times.slices["R1", "real"] == 40


def test_leaving_a_reader_out_gives_the_mean_of_the_others(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", 12, readers=["R1", "R2", "R3"], rotating=[[], [], []])
    (reality,) = analysed(folder).realities
    accuracy = reality.results[0]
    shares = {reader: right.score.estimate for reader, right in reality.right.items()}
    expected = (shares["R1"] + shares["R3"]) / 2
    assert accuracy.without_reader["R2"] == pytest.approx(expected)
    given = first_answers(folder, "R1", "real")
    assert set(accuracy.without_case) == set(given)


def test_what_cannot_be_judged_is_left_out_and_counted(tmp_path: Path) -> None:
    protocol = tmp_path / "own.json"
    text = Path(__file__).parents[1] / "Resources" / "Protocols" / "published.json"
    protocol.write_text(
        text.read_text("utf-8").replace('"comment": true', '"comment": true, "cannot_judge": true')
    )
    folder = write_study(tmp_path / "study", 12, protocol)
    study, key = opened(folder)

    def answering(shown: str, question: Question, arm: str) -> int | None:
        return None if shown.startswith("case-001") else 3

    answer_all(study, key, "R1", answering)
    found = analyse(gather([folder], folder.with_name("KEY")))
    asked = found.criteria[0].judged
    assert asked.not_judged.sum() == 1
    assert found.criteria[0].shares["R1", "real"][0].n == 5
    assert found.criteria[0].grading.these.estimate == 0.5


def test_the_middle_of_an_odd_scale_says_neither() -> None:
    question = read_protocol("published").questions[0]
    three = dataclasses.replace(question, options=question.options[:3])
    said = synthetic_said(three, np.array([1.0, 2, 3, math.nan]))
    assert said.tolist()[::2] == [1, 0]
    assert np.isnan(said[1::2]).all()


def test_readers_who_worked_in_copies_are_analysed_together(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", 12)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    study, key = opened(folder)
    answer_all(study, key, "R1", drawn(1))
    answer_all(read_study(copy), key, "R2", drawn(2))
    key_path = folder.with_name("KEY")
    assert gather([folder, copy], key_path).readers == ("R1", "R2")
    assert gather([folder], key_path).notes == ("R2 has not answered yet.",)
    # The same folder twice, or an older copy of it, is no contradiction.
    assert gather([folder, folder], key_path).readers == ("R1",)
    answer_all(read_study(copy), key, "R1", drawn(3))
    with pytest.raises(UserError, match="Reader R1 answered differently in two of the folders"):
        gather([folder, copy], key_path)


def test_another_study_beside_the_first_is_refused(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study")
    other = write_study(tmp_path / "other" / "study", title="Another")
    study, key = opened(folder)
    answer_all(study, key, "R1", drawn(1))
    with pytest.raises(UserError, match="is not the same study as"):
        gather([folder, other], folder.with_name("KEY"))


def test_no_answers_are_refused(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study")
    with pytest.raises(UserError, match="holds no answers"):
        gather([folder], folder.with_name("KEY"))


def test_one_arm_only_is_refused(tmp_path: Path) -> None:
    def one(content: dict[str, Any]) -> None:
        for (truth,) in content["cases"].values():
            truth["arm"] = "synthetic"

    folder = with_key(write_study(tmp_path / "study"), one)
    with pytest.raises(UserError, match="Only synthetic volumes were judged"):
        analysed(folder)


def test_a_question_that_was_answered_of_one_arm_only_is_left_out_and_named(
    tmp_path: Path,
) -> None:
    folder = write_study(tmp_path / "study", 12, "published-then-real", readers=["R1"],
                         rotating=[[]], repeats_percent=0)  # fmt: skip
    study, _ = opened(folder)
    second = order_of(study, "R1", 1, 1)[0]
    with AnswerLog(study, "R1", 1) as log:
        for position, shown in enumerate(order_of(study, "R1", 1)):
            for question in study.protocol.phases[0].questions:
                log.add(answer_to(study, position, 3, question=question.id, case=shown))
        log.add(answer_to(study, 0, 3, phase=1, question="real", presentation=second, case=second))
    found = analyse(gather([folder], folder.with_name("KEY")))
    assert found.realities == ()
    assert "one arm only: Is this volume real or synthetic?" in found.notes[-1]


def test_a_reader_who_has_not_finished_is_named(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", 12)
    study, _ = opened(folder)
    with AnswerLog(study, "R1", 1) as log:
        for position in range(5):
            log.add(answer_to(study, position))
    assert gather([folder], folder.with_name("KEY")).notes == (
        "R1 has not finished: session 1 stands at case 6 of 14 in part 1.",
        "R2 has not answered yet.",
    )


def test_choices_among_many_are_not_all_linked_by_the_others(tmp_path: Path) -> None:
    def maps(content: dict[str, Any]) -> None:
        # The first synthetic one of each case shows what the real one of the next case shows.
        for n, truths in enumerate(content["cases"].values()):
            for truth in truths:
                truth["label_map"] = f"map-{n if truth['arm'] == 'real' else n + 1}"

    folder = with_key(choice_study(tmp_path / "study", 12, "m-afc"), maps)
    assert analysed(folder).questions[0].clusters is None
    folder = with_key(choice_study(tmp_path / "two" / "study", 12), maps)
    clusters = analysed(folder).questions[0].clusters
    assert clusters is not None
    assert np.unique(clusters).size == 1
