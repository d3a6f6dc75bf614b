"""A reader's session without Slicer: what is asked in which order, and what is recorded when."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from MedDiffusionLib.studies.answers import AnswerLog, latest, read_answers
from MedDiffusionLib.studies.study import Study, order_of, read_study
from MedDiffusionLib.widget.presenters.rating import Rating, Stage
from MedDiffusionLib.widget.presenters.rating_form import Given
from MedDiffusionLib.widget.presenters.rating_start import Start, other_data_question
from MedDiffusionLib.widget.presenters.rating_walk import steps_of
from study_factory import write_study
from study_readers import Clock


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return read_study(write_study(tmp_path / "study"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rating(study: Study, clock: Clock) -> Iterator[Rating]:
    """At its first case, which is shown."""
    session = opened(study, clock)
    begin(session)
    yield session
    session.close()


def opened(study: Study, clock: Clock, reader: str = "R1", session: int = 1) -> Rating:
    return Rating(AnswerLog(study, reader, session), clock)


def begin(rating: Rating) -> None:
    """Read all pages up to the next case, and show it."""
    while rating.stage is not Stage.CASE:
        rating.go_on()
    rating.shown()


def answer(rating: Rating, key: str) -> None:
    """Answer every question of the case by one key, and go on."""
    for _question in rating.form.questions:
        rating.form.press(key)
    rating.confirm()
    if rating.stage is Stage.CASE:
        rating.shown()


def with_training(folder: Path, protocol: str) -> Path:
    """A study whose last two cases are there to practise on."""
    path = write_study(folder, 8, protocol) / "study.json"
    content = json.loads(path.read_bytes())
    content["training"] = [
        {**case, "id": f"training-{n:03}", "feedback": f"Truth {n}."}
        for n, case in enumerate(content["cases"][6:])
    ]
    content["cases"] = content["cases"][:6]
    content["pool"] = content["pool"][:6]
    path.write_text(json.dumps(content), "utf-8")
    return folder


# ---- the way through


def test_cases_come_in_the_order_of_the_study_and_each_answer_is_saved_at_next(
    study: Study, rating: Rating, clock: Clock
) -> None:
    order = order_of(study, "R1", 1)
    for position, presentation in enumerate(order):
        assert rating.case == study.case(presentation)
        assert rating.progress == (f"Case {position + 1} of {len(order)}", position, len(order))
        assert len(read_answers(study)) == position
        clock.now += 2.5
        rating.attention.see("A", position)
        answer(rating, str(1 + position % 6))
    assert rating.stage is Stage.FINISHED
    given = read_answers(study, "R1")
    assert [a.presentation for a in given] == list(order)
    assert [a.answer for a in given] == [1 + n % 6 for n in range(len(order))]
    assert {(a.seconds, a.slices_seen, a.window_changes, a.changed) for a in given} == {
        (2.5, 1, 0, False)
    }


def test_next_does_nothing_before_all_is_answered_and_the_case_is_seen(rating: Rating) -> None:
    first = rating.case
    assert rating.controls()["nextButton"].refusal == "Answer every question first."
    rating.confirm()
    rating.form.press("3")
    rating.is_shown = False
    assert rating.controls()["nextButton"].refusal == "The case is being loaded."
    rating.confirm()
    assert rating.case == first
    assert rating.log.read() == []


def test_a_change_after_going_back_is_logged_and_counts(study: Study, rating: Rating) -> None:
    answer(rating, "2")
    rating.form.press("5")
    rating.back()
    rating.shown()
    assert rating.form.given["real"] == Given(2)
    rating.confirm()
    rating.shown()
    assert len(rating.log.read()) == 1, "what was not changed is not logged again"
    assert rating.form.given["real"] == Given(5), "what was chosen before going back"
    rating.back()
    rating.shown()
    answer(rating, "6")
    first = order_of(study, "R1", 1)[0]
    logged = [(a.answer, a.changed) for a in rating.log.read() if a.presentation == first]
    assert logged == [(2, False), (6, True)]
    assert [a.answer for a in latest(rating.log.read())] == [6]


def test_there_is_no_way_back_where_the_protocol_has_none(study: Study, clock: Clock) -> None:
    protocol = dataclasses.replace(study.protocol, allow_back=False)
    rating = opened(dataclasses.replace(study, protocol=protocol), clock)
    begin(rating)
    answer(rating, "1")
    before = rating.case
    rating.back()
    assert rating.case == before
    assert rating.controls()["backButton"].refusal == "In this study there is no way back."
    rating.close()


def test_there_is_nothing_before_the_first_case(rating: Rating) -> None:
    first = rating.case
    rating.back()
    assert rating.case == first
    assert not rating.controls()["backButton"].enabled


def test_a_pause_keeps_what_was_chosen_and_stops_the_clock(rating: Rating, clock: Clock) -> None:
    rating.form.press("4")
    clock.now += 3
    rating.pause()
    assert rating.page.heading == "Paused"
    assert not rating.is_shown
    clock.now += 1000
    begin(rating)
    clock.now += 2
    rating.confirm()
    (logged,) = rating.log.read()
    assert (logged.answer, logged.seconds) == (4, 5.0)


def test_no_time_passes_while_slicer_cannot_be_seen(rating: Rating, clock: Clock) -> None:
    for visible in (True, False, False, True):
        rating.look(visible)
        clock.now += 10
    answer(rating, "1")
    assert rating.log.read()[0].seconds == 20.0


def test_a_session_goes_on_at_the_same_case_in_the_same_order(study: Study, clock: Clock) -> None:
    first = opened(study, clock)
    begin(first)
    for key in "123":
        answer(first, key)
    case = first.case
    first.close()
    second = opened(study, clock)
    assert second.page.heading == "Welcome back"
    begin(second)
    assert second.case == case
    assert second.progress[1] == 3
    second.back()
    assert second.form.given["real"] == Given(3)
    second.close()


def test_another_session_has_another_order_and_begins_anew(study: Study, clock: Clock) -> None:
    first = opened(study, clock)
    begin(first)
    answer(first, "1")
    first.close()
    second = opened(study, clock, session=2)
    begin(second)
    assert second.progress[1] == 0
    second.close()
    orders = [[step.presentation for step in steps_of(study, "R1", n)] for n in (1, 2)]
    assert sorted(orders[0]) != orders[0] != orders[1]


def test_a_failing_disk_gives_a_sentence_and_the_case_stays(
    study: Study, rating: Rating, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = rating.case
    with monkeypatch.context() as patch:

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "write", full)
        answer(rating, "2")
        assert rating.case == case
        assert "No space left on device" in rating.sentence
        assert rating.form.given["real"] == Given(2)
    rating.confirm()
    assert rating.sentence == ""
    assert [a.answer for a in read_answers(study)] == [2]
    assert rating.case != case


def test_an_answer_saved_before_the_disk_failed_is_not_saved_twice(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rating = opened(read_study(write_study(tmp_path / "study", protocol="published")), clock)
    begin(rating)
    add, added = rating.log.add, []

    def second_fails(given: Any) -> None:
        added.append(given.question)
        if len(added) == 2:
            raise_full()
        add(given)

    monkeypatch.setattr(rating.log, "add", second_fails)
    answer(rating, "3")
    assert rating.progress[1] == 0
    rating.confirm()
    assert added == ["appearance", "consistency", "consistency", "anatomy"]
    assert rating.progress[1] == 1
    rating.close()


def raise_full() -> None:
    from MedDiffusionLib.compute.errors import UserError

    raise UserError("cannot take the answer, which is not saved", code="answer-not-saved")


def test_practice_tells_the_truth_and_is_not_recorded(tmp_path: Path, clock: Clock) -> None:
    study = read_study(with_training(tmp_path / "study", "real-or-synthetic"))
    rating = opened(study, clock)
    rating.go_on()
    assert "2 cases to practise on" in joined_words(rating.page.text)
    for truth in ("Truth 0.", "Truth 1."):
        begin(rating)
        assert "to practise on" in rating.progress[0]
        assert not rating.controls()["backButton"].enabled
        answer(rating, "1")
        assert rating.page.text == truth
    rating.go_on()
    assert rating.page.text.startswith("That was the practice.")
    begin(rating)
    assert rating.log.read() == []
    assert rating.progress[0] == "Case 1 of 7"
    rating.close()


def joined_words(text: str) -> str:
    return " ".join(text.split())


def test_what_is_asked_in_the_second_part_is_not_told_before(tmp_path: Path, clock: Clock) -> None:
    study = read_study(with_training(tmp_path / "study", "quality-then-real"))
    rating = opened(study, clock)
    seen: list[str] = []
    while rating.progress[2] and rating.stage is not Stage.FINISHED and not on_part_two(rating):
        if rating.stage is Stage.CASE:
            rating.shown()
            form = rating.form
            seen += [text for q in form.questions for text in (q.text, q.help, rating.progress[0])]
            answer(rating, "2")
        else:
            seen += [rating.page.heading, rating.page.text]
            rating.go_on()
    assert len(read_answers(study)) == 3 * len(order_of(study, "R1", 1, 0))
    assert not any("synthetic" in text.lower() or "real" in text.lower().split() for text in seen)
    assert "Is this volume real or synthetic?" in rating.page.text
    assert "2 cases to practise on" in joined_words(rating.page.text)
    assert rating.page.heading == "Part 2 of 2"
    rating.close()


def on_part_two(rating: Rating) -> bool:
    return rating.stage is Stage.PART and rating.page.heading == "Part 2 of 2"


def test_a_session_that_is_done_says_so(study: Study, rating: Rating, clock: Clock) -> None:
    while rating.stage is not Stage.FINISHED:
        answer(rating, "1")
    rating.close()
    again = opened(study, clock)
    assert again.stage is Stage.FINISHED
    assert again.case is None
    assert again.page.button == ""
    again.close()


# ---- the first page


def test_the_first_page_asks_for_study_and_code(study: Study) -> None:
    start = Start()
    assert start.button("R1").refusal == "Choose the folder of the study."
    start.choose(str(study.folder))
    assert start.button(" ").refusal == "Give the code that the organizer gave you."
    assert start.button("R1").enabled
    start.choose(str(study.folder.parent))
    assert "is no whole study" in start.button("R1").refusal


@pytest.mark.parametrize(
    ("reader", "said"),
    [
        ("R9", "There is no reader R9 in this study"),
        ("Dr. Müller", "is no code for a reader"),
        ("R1", "Reader R1 is answering in another window already"),
    ],
)
def test_who_cannot_rate_is_told_why(study: Study, reader: str, said: str) -> None:
    start = Start()
    start.choose(str(study.folder))
    with AnswerLog(study, "R1", 1):
        assert start.open(reader, 1) is None
    assert said in start.sentence


def test_a_study_that_was_changed_meanwhile_is_not_opened(study: Study) -> None:
    start = Start()
    start.choose(str(study.folder))
    study.cases[0].files[0].write_text("shorter")
    assert start.open("R1", 1) is None
    assert "was changed since the study was made" in start.sentence


def test_other_data_in_the_scene_is_named() -> None:
    asked = other_data_question(["Head", "Neck", "Chest", "Leg"])
    assert "(Head, Neck, Chest, …)" in asked
    assert "could tell what they are" in asked
