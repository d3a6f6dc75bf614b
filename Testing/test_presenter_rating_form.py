"""A reader's answers to a case while they are given, and what is counted, without Slicer."""

from __future__ import annotations

import pytest

from MedDiffusionLib.studies.protocols import Option, Question, read_protocol
from MedDiffusionLib.widget.presenters.rating_attention import Attention
from MedDiffusionLib.widget.presenters.rating_form import CANNOT_JUDGE_KEY, Form, Given, keys
from study_readers import Clock

CRITERIA = read_protocol("published").phases[0].questions
QUALITY = read_protocol("quality-then-real").phases[0].questions


@pytest.fixture
def clock() -> Clock:
    return Clock()


# ---- the form


def test_keys_answer_the_current_question_and_go_on_to_the_next() -> None:
    form = Form(CRITERIA)
    for key in ("2", "x", "4", "1"):
        form.press(key)
    assert [given.answer for given in form.given.values()] == [2, 4, 1]
    assert form.complete


def test_a_question_that_is_left_out_is_come_back_to() -> None:
    form = Form(CRITERIA)
    form.next_question()
    form.press("3")
    form.press("2")
    assert [given.answer for given in form.given.values()] == [None, 3, 2]
    assert not form.complete
    form.press("1")
    assert form.complete


def test_cannot_judge_is_an_answer_where_the_protocol_has_it() -> None:
    form, strict = Form(QUALITY), Form(CRITERIA)
    for _question in QUALITY:
        form.press(CANNOT_JUDGE_KEY)
        strict.press(CANNOT_JUDGE_KEY)
    assert form.complete
    assert not strict.complete
    form.choose("anatomy", 2)
    assert form.given["anatomy"] == Given(2)
    assert keys(QUALITY) == {"1", "2", "3", "4", CANNOT_JUDGE_KEY}
    assert keys(CRITERIA) == {"1", "2", "3", "4"}


def test_a_question_that_need_not_be_answered_does_not_hold_up() -> None:
    options = (Option(1, "yes", "y"), Option(2, "no", "n"))
    asked = [Question(name, name, "", options, name == "first", False, True)
             for name in ("first", "second")]  # fmt: skip
    form = Form(asked)
    form.press("y")
    form.comment("second", "hm")
    assert form.complete
    recorded = [(question.id, given) for question, given in form.to_record]
    assert recorded == [("first", Given(1)), ("second", Given(comment="hm"))]


# ---- what is counted


def test_time_passes_only_while_the_case_is_seen(clock: Clock) -> None:
    attention = Attention(clock)
    for seconds, running in ((5.0, False), (3.0, True), (4.0, True), (100.0, False), (2.0, True)):
        attention.run(running)
        clock.now += seconds
    assert attention.seconds == pytest.approx(9.0)


def test_each_slice_of_each_view_is_counted_once(clock: Clock) -> None:
    attention = Attention(clock)
    attention.see("A", 0)
    attention.run(True)
    for view, number in (("A", 1), ("A", 2), ("A", 1), ("B", 1)):
        attention.see(view, number)
    assert attention.slices_seen == 3


def test_a_drag_of_the_window_is_one_change(clock: Clock) -> None:
    attention = Attention(clock)
    attention.run(True)
    for pause in (0.1, 0.1, 0.5, 3.0, 0.1):
        clock.now += pause
        attention.change_window()
    assert attention.window_changes == 2
