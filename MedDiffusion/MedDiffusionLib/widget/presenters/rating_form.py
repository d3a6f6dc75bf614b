"""The answers to one case while they are given: by mouse or keys, none of them final yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ...studies.answer_lines import Answer
from ...studies.protocols import Question

CANNOT_JUDGE_KEY = "-"
"""No protocol gives an answer by it."""


@dataclass(frozen=True)
class Given:
    """What was said to a question so far."""

    answer: int | None = None
    cannot_judge: bool = False
    comment: str = ""

    @property
    def answered(self) -> bool:
        return self.answer is not None or self.cannot_judge


class Form:
    """The questions of a case. Keys answer the current one, and go on to the next unanswered."""

    def __init__(self, questions: Sequence[Question], recorded: Iterable[Answer] = ()) -> None:
        """``recorded``: what was answered before, to be shown and maybe changed."""
        self.questions = tuple(questions)
        by_id = {question.id: question for question in questions}
        self.recorded = {
            answer.question: _given(answer, by_id[answer.question]) for answer in recorded
        }
        self.given = {q.id: self.recorded.get(q.id, Given()) for q in questions}
        self.current = 0
        self._go_to_unanswered()

    @property
    def complete(self) -> bool:
        """Whether all that must be answered is."""
        return all(self.given[q.id].answered for q in self.questions if q.required)

    @property
    def to_record(self) -> list[tuple[Question, Given]]:
        """What is not recorded yet, or otherwise, in the order of the questions."""
        return [
            (question, given)
            for question in self.questions
            if (given := self.given[question.id]) != self.recorded.get(question.id)
        ]

    def choose(self, question: str, answer: int) -> None:
        """An answer, by its value."""
        self._set(question, replace(self.given[question], answer=answer, cannot_judge=False))

    def choose_cannot_judge(self, question: str) -> None:
        self._set(question, replace(self.given[question], answer=None, cannot_judge=True))

    def comment(self, question: str, text: str) -> None:
        """A free comment; it answers nothing."""
        self.given[question] = replace(self.given[question], comment=text)

    def press(self, key: str) -> None:
        """A key was pressed; one that the current question has not does nothing."""
        question = self.questions[self.current]
        if key == CANNOT_JUDGE_KEY and question.cannot_judge:
            self.choose_cannot_judge(question.id)
        for option in question.options:
            if option.key == key:
                self.choose(question.id, option.value)

    def next_question(self) -> None:
        """Let the keys answer the question after the current one; after the last the first."""
        self.current = (self.current + 1) % len(self.questions)

    def _set(self, question: str, given: Given) -> None:
        self.given[question] = given
        self.current = [q.id for q in self.questions].index(question)
        self._go_to_unanswered()

    def _go_to_unanswered(self) -> None:
        """To the next question from the current one that has no answer; where all have, stay."""
        count = len(self.questions)
        for number in ((self.current + step) % count for step in range(count)):
            if not self.given[self.questions[number].id].answered:
                self.current = number
                return


def keys(questions: Iterable[Question]) -> set[str]:
    """All keys that answer any of the questions."""
    found = {option.key for question in questions for option in question.options}
    if any(question.cannot_judge for question in questions):
        found.add(CANNOT_JUDGE_KEY)
    return found


def _given(answer: Answer, question: Question) -> Given:
    cannot_judge = answer.answer is None and question.cannot_judge
    return Given(answer.answer, cannot_judge, answer.comment)
