"""Answers with the truth beside them, as arrays ``[reader, case]`` for the statistics.

A case counts by its first showing; what a reader said of it when it came again, as a repeat or in a
later session, is for agreement with oneself alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..compute.errors import UserError
from .answer_lines import Answer
from .answers import latest, next_presentation, read_answers
from .key import Key, Truth, read_key
from .protocols import REAL, Question
from .study import Study, order_of, read_study

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """What readers answered to one question. All arrays are ``[reader, case]`` with NaN where there
    is nothing, in the order of ``readers`` and ``cases``."""

    question: Question
    phase: int
    readers: tuple[str, ...]
    cases: tuple[str, ...]
    synthetic: NDArray[np.bool_]
    """``[case]``; of a choice, which has both arms in each case, nowhere."""
    clusters: NDArray[np.intp] | None
    """``[case]``: the same number where cases show one label map; None where no two do."""
    answers: Floats
    """Option values of the first showing."""
    again: Floats
    """Of the second showing."""
    positions: Floats
    """Of the first showing in the reader's order."""
    seconds: Floats
    slices: Floats
    not_judged: NDArray[np.bool_]
    """Where the reader said that no answer can be given, or left it out."""


@dataclass(frozen=True)
class Gathered:
    """A study with its key and all answers that count, of all folders that readers worked in."""

    study: Study
    key: Key
    answers: tuple[Answer, ...]
    notes: tuple[str, ...]
    """Sentences on what is missing."""

    @property
    def readers(self) -> tuple[str, ...]:
        """Who answered, in the study's order."""
        given = {answer.reader for answer in self.answers}
        return tuple(reader for reader in self.study.readers if reader in given)

    def truth(self, case: str) -> tuple[Truth, ...]:
        return self.key.truths[case]


def gather(folders: Sequence[Path], key_path: Path) -> Gathered:
    """Read one study from the folders that its readers worked in, and open its key.

    Raises UserError for folders of different studies, for a reader who answered differently in two
    of them, without answers, and as ``read_study``, ``read_answers`` and ``read_key`` do.
    """
    study = read_study(folders[0])
    key = read_key(key_path, study)
    by_reader: dict[str, list[Answer]] = {}
    for folder in folders:
        other = read_study(folder)
        if other.sha256 != study.sha256:
            raise UserError(
                f"is not the same study as {folders[0]}",
                "analyse each study by itself",
                path=folder,
                code="study-other",
            )
        for reader, answers in _by_reader(other).items():
            by_reader[reader] = _longer(by_reader.get(reader, []), answers)
    given = latest(answer for reader in study.readers for answer in by_reader.get(reader, []))
    if not given:
        raise UserError(
            "holds no answers", "analyse it when its readers have answered",
            path=folders[0], code="no-answers",
        )  # fmt: skip
    return Gathered(study, key, tuple(given), tuple(_missing(study, given)))


def judged(gathered: Gathered) -> list[Judged]:
    """The answers to each question that was answered of both arms, in the protocol's order.

    Raises UserError where there is none.
    """
    found: list[Judged] = []
    for number, phase in enumerate(gathered.study.protocol.phases):
        of_phase = [answer for answer in gathered.answers if answer.phase == number]
        for question in phase.questions:
            if own := [answer for answer in of_phase if answer.question == question.id]:
                found.append(_judged(gathered, question, number, own, of_phase))
    compared = [each for each in found if _has_both(gathered, each)]
    if not compared:
        raise UserError(
            f"Only {'synthetic' if found[0].synthetic.all() else 'real'} volumes were judged, so "
            "that there is nothing to compare them with",
            "analyse the study when cases of both arms have been answered",
            code="study-one-arm",
        )
    return compared


def _has_both(gathered: Gathered, asked: Judged) -> bool:
    is_choice = gathered.study.protocol.kind == "choice"
    return is_choice or bool(asked.synthetic.any() and not asked.synthetic.all())


def synthetic_said(question: Question, answers: Floats) -> Floats:
    """Of a question whether a volume is real: 1 "synthetic", 0 "real", in the answers' shape.

    The lower half of the options says "synthetic"; the middle one of an odd number says neither and
    is NaN.
    """
    values = np.sort([option.value for option in question.options])
    half = len(values) // 2
    said = np.where(answers <= values[half - 1], 1.0, 0.0)
    neither = np.isnan(answers) | ((answers > values[half - 1]) & (answers < values[-half]))
    return np.where(neither, math.nan, said)


def only_pairs(clusters: NDArray[np.intp] | None, cases: NDArray) -> NDArray[np.intp] | None:
    """The clusters of a part of the cases; None where no two of them share one."""
    part = None if clusters is None else clusters[cases]
    return part if part is not None and np.unique(part).size < part.size else None


def _by_reader(study: Study) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    orders: dict[tuple[str, int, int], tuple[str, ...]] = {}
    for answer in read_answers(study):
        study.cases_of(answer.reader)
        place = answer.reader, answer.session, answer.phase
        if answer.phase < len(study.protocol.phases) and place not in orders:
            orders[place] = order_of(study, *place)
        if not _belongs(study, answer, orders.get(place, ())):
            raise UserError(
                f"The answers of {answer.reader} are not of the cases that this reader was shown",
                "put back the files as the program wrote them",
                code="answers-edited",
            )
        found.setdefault(answer.reader, []).append(answer)
    return found


def _belongs(study: Study, answer: Answer, order: tuple[str, ...]) -> bool:
    if order[answer.position : answer.position + 1] != (answer.presentation,):
        return False
    questions = {q.id: q for q in study.protocol.phases[answer.phase].questions}
    values = [o.value for q in questions.values() if q.id == answer.question for o in q.options]
    is_case = study.case(answer.presentation).id == answer.case
    return is_case and bool(values) and (answer.answer is None or answer.answer in values)


def _longer(first: list[Answer], second: list[Answer]) -> list[Answer]:
    """Of two logs of one reader that which goes on from the other; raises UserError."""
    short, long = sorted((first, second), key=len)
    if long[: len(short)] != short:
        raise UserError(
            f"Reader {long[0].reader} answered differently in two of the folders",
            "give the folder that counts; two readers must not have one code",
            code="reader-twice",
        )
    return long


def _missing(study: Study, answers: Sequence[Answer]) -> Iterable[str]:
    for reader in study.readers:
        own = [answer for answer in answers if answer.reader == reader]
        if not own:
            yield f"{reader} has not answered yet."
        for session in sorted({answer.session for answer in own}):
            if (place := next_presentation(study, own, reader, session)) is not None:
                phase, position = place
                total = len(order_of(study, reader, session, phase))
                yield (
                    f"{reader} has not finished: session {session} stands at case {position + 1} "
                    f"of {total} in part {phase + 1}."
                )


def _judged(
    gathered: Gathered,
    question: Question,
    phase: int,
    own: Sequence[Answer],
    of_phase: Sequence[Answer],
) -> Judged:
    study, readers = gathered.study, gathered.readers
    seen = {answer.case for answer in own}
    cases = tuple(case.id for case in study.cases if case.id in seen)
    is_choice = study.protocol.kind == "choice"
    arms = [not is_choice and gathered.key.arm(case) == "synthetic" for case in cases]
    seconds: dict[tuple[str, int, str], float] = {}
    for answer in of_phase:
        shown = answer.reader, answer.session, answer.presentation
        # Each question of a case has its own time since the case appeared: the last counts.
        seconds[shown] = max(seconds.get(shown, 0.0), answer.seconds)
    shape = len(readers), len(cases)
    first, again, positions, times, slices = (np.full(shape, math.nan) for _ in range(5))
    unjudged = np.zeros(shape, bool)
    showings: dict[tuple[int, int], int] = {}
    for answer in sorted(own, key=lambda a: (a.session, a.position)):
        at = readers.index(answer.reader), cases.index(answer.case)
        value = math.nan if answer.answer is None else float(answer.answer)
        showings[at] = showings.get(at, 0) + 1
        if showings[at] == 1:
            first[at], positions[at], slices[at] = value, answer.position, answer.slices_seen
            times[at] = seconds[answer.reader, answer.session, answer.presentation]
            unjudged[at] = answer.answer is None
        elif showings[at] == 2:
            again[at] = value
    numbers = _clusters([gathered.truth(case) for case in cases])
    return Judged(
        question, phase, readers, cases, np.array(arms), only_pairs(numbers, np.arange(len(cases))),
        first, again, positions, times, slices, unjudged,
    )  # fmt: skip


def _clusters(truths: Sequence[Sequence[Truth]]) -> NDArray[np.intp]:
    """A number for each case, the same where label maps, directly or through others, link them.

    Of a choice among many the real one's label map counts, since else all cases would be linked.
    """
    number: dict[str, int] = {}
    found = list(range(len(truths)))
    for n, case in enumerate(truths):
        counted = case if len(case) <= 2 else [t for t in case if t.arm == "real"]
        for name in {truth.label_map for truth in counted} - {""}:
            linked = found[number.setdefault(name, n)]
            joined = found[n]
            found = [linked if other == joined else other for other in found]
    return np.array(found)


def is_about_reality(asked: Judged) -> bool:
    """Whether readers were asked if a volume is real."""
    return asked.question.id == REAL
