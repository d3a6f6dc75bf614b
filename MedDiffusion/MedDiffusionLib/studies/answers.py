"""Answers: a log per reader that only grows, a line per answer, each on the disk before the next.

They stand in ``answers/READER.jsonl``, with ``READER.last`` beside it, which vouches for the last
line. What a killed process left of a line is dropped.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ..compute.errors import UserError
from ..compute.files import atomic, read_regular
from ..reports.spreadsheets import no_formula
from ..volumes.writing import writing
from .answer_lines import (
    COLUMNS,
    Answer,
    answer_line,
    answers_in,
    checked_lines,
    form_problem,
    header_line,
    last_path,
    sha256_of,
    whole_lines,
)
from .protocols import Question
from .study import ANSWERS_NAME, Study, check_reader, order_of

MOST_BYTES = 2**30


class AnswerLog:
    """A reader's log, held for writing: one process at a time. Use it in a ``with`` statement.

    ``notes``: sentences on what was mended when it was opened. Raises UserError where another
    process holds it, for a log that was edited or cut, and for another study's.
    """

    def __init__(self, study: Study, reader: str, session: int) -> None:
        study.cases_of(reader)
        self.study, self.reader, self.session = study, reader, session
        self.notes: list[str] = []
        self._orders: dict[int, tuple[str, ...]] = {}
        self.path = log_path(study, reader)
        with contextlib.ExitStack() as stack:
            with writing(self.path):
                self.path.parent.mkdir(exist_ok=True)
                # Unbuffered: what was added is with the system, and nothing is written twice.
                self._file = stack.enter_context(_opened(self.path))
            _hold(self._file, self.path, reader)
            self._begin()
            stack.pop_all()

    def __enter__(self) -> AnswerLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the log."""
        self._file.close()

    def add(self, answer: Answer) -> None:
        """Write an answer; when this returns it is on the disk.

        Raises UserError where it cannot be written, and nothing of it is then; ValueError for an
        answer that does not belong to this study, reader and session.
        """
        self._check(answer)
        self._append(answer_line(self._previous, answer))

    def read(self) -> list[Answer]:
        """All answers of the reader in the order in which they were given, of all sessions."""
        with writing(self.path):
            text = _content(self.path)
        return list(answers_in(self.path, text, self.study, self.reader))

    def _begin(self) -> None:
        with writing(self.path):
            text = _content(self.path)
        whole = whole_lines(text)
        # Before anything is changed: a log that is not ours stays as it is.
        lines = checked_lines(self.path, whole, self.study, self.reader)
        if len(whole) < len(text):
            self.notes.append(
                f"The last answer of {self.reader} was not written whole and is asked again."
            )
            self._shorten(len(whole))
        self._length = len(whole)
        self._previous, self._count = self.study.sha256, 0
        if lines:
            self._previous, self._count = sha256_of(lines[-1]), len(lines)
            self._vouch()
        else:
            self._append(header_line(self.study, self.reader))
            with writing(self.path):
                self._vouch()
                _sync_folder(self.path.parent)

    def _append(self, line: bytes) -> None:
        try:
            with writing(self.path):
                self._write(line)
        except UserError as error:
            # What is half there would be dropped when the log is opened, but then it may be full.
            self._shorten(self._length)
            raise UserError(
                "cannot take the answer, which is not saved",
                "make room on the disk, or see to its permissions, and answer again",
                path=self.path,
                code="answer-not-saved",
                detail=error.detail or error.problem,
            ) from error
        self._length += len(line)
        self._previous, self._count = sha256_of(line), self._count + 1
        # The answer is safe already: this only vouches for it, and is made good at the next one.
        with contextlib.suppress(OSError):
            self._vouch()

    def _write(self, line: bytes) -> None:
        descriptor = self._file.fileno()
        os.lseek(descriptor, self._length, os.SEEK_SET)
        written = 0
        while written < len(line):
            written += os.write(descriptor, line[written:])
        os.fsync(descriptor)

    def _shorten(self, length: int) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._file.fileno(), length)
            os.fsync(self._file.fileno())

    def _vouch(self) -> None:
        with atomic(last_path(self.path)) as temporary:
            temporary.write_text(f"{self._count} {self._previous}\n", "ascii")

    def _check(self, answer: Answer) -> None:
        """Raise ValueError for an answer that does not belong here."""
        phases = self.study.protocol.phases
        asked = (answer.study, answer.reader, answer.session)
        if asked != (self.study.id, self.reader, self.session):
            raise ValueError(f"{asked} are not this log's study, reader and session")
        if not 0 <= answer.phase < len(phases):
            raise ValueError(f"there is no phase {answer.phase}")
        if answer.phase not in self._orders:
            self._orders[answer.phase] = order_of(
                self.study, self.reader, self.session, answer.phase
            )
        order = self._orders[answer.phase]
        if not 0 <= answer.position < len(order) or order[answer.position] != answer.presentation:
            raise ValueError(f"{answer.presentation} does not stand at {answer.position}")
        if self.study.case(answer.presentation).id != answer.case:
            raise ValueError(f"{answer.presentation} is not of {answer.case}")
        questions = {question.id: question for question in phases[answer.phase].questions}
        _check_value(answer, questions[answer.question])
        if problem := form_problem(answer):
            raise ValueError(problem)


def read_answers(study: Study, reader: str | None = None) -> list[Answer]:
    """All answers of a study, or those of one reader, reader by reader in the order given.

    Half a last line is left out. Raises UserError for a log that was edited or cut, or is another
    study's.
    """
    paths = sorted((study.folder / ANSWERS_NAME).glob("*.jsonl"))
    answers: list[Answer] = []
    for path in paths if reader is None else [log_path(study, reader)]:
        if reader is None or path.exists():
            code = path.stem
            check_reader(code)
            with writing(path):
                text = _content(path)
            answers += answers_in(path, text, study, code)
    return answers


def latest(answers: Iterable[Answer]) -> list[Answer]:
    """The answers that count: of each question of each presentation the last, in their order."""
    last = {(a.reader, a.session, a.phase, a.presentation, a.question): a for a in answers}
    return list(last.values())


def next_presentation(
    study: Study, answers: Iterable[Answer], reader: str, session: int
) -> tuple[int, int] | None:
    """Phase and position of the first presentation of a session that lacks an answer to a required
    question; None where all are answered."""
    given = {(a.phase, a.position, a.question) for a in answers
             if (a.reader, a.session) == (reader, session)}  # fmt: skip
    for number, phase in enumerate(study.protocol.phases):
        required = [q.id for q in phase.questions if q.required] or [phase.questions[0].id]
        for position in range(len(order_of(study, reader, session, number))):
            if any((number, position, question) not in given for question in required):
                return number, position
    return None


def write_csv(study: Study, path: Path, reader: str | None = None) -> None:
    """Write the answers as a tidy table, a row each, all that were changed included.

    Raises UserError as :func:`read_answers` does, and where it cannot be written.
    """
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, [*COLUMNS, "answer_text"], lineterminator="\n")
    rows.writeheader()
    texts = {
        (question.id, option.value): option.text
        for question in study.protocol.questions
        for option in question.options
    }
    for answer in read_answers(study, reader):
        value = "" if answer.answer is None else texts.get((answer.question, answer.answer), "")
        comment = no_formula(answer.comment)
        rows.writerow({**asdict(answer), "comment": comment, "answer_text": no_formula(value)})
    with writing(path), atomic(path) as temporary:
        temporary.write_text(text.getvalue(), "utf-8")


def log_path(study: Study, reader: str) -> Path:
    """The file of a reader's answers."""
    check_reader(reader)
    return study.folder / ANSWERS_NAME / f"{reader}.jsonl"


def _check_value(answer: Answer, question: Question) -> None:
    values = [option.value for option in question.options]
    if answer.answer is None:
        if question.required and not question.cannot_judge:
            raise ValueError(f"{question.id} needs an answer")
    elif answer.answer not in values:
        raise ValueError(f"{answer.answer} is no answer to {question.id}")
    if answer.comment and not question.comment:
        raise ValueError(f"{question.id} takes no comment")


def _content(path: Path) -> bytes:
    return read_regular(path, MOST_BYTES)


def _opened(path: Path) -> BinaryIO:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.fdopen(os.open(path, flags, 0o644), "rb+", buffering=0)


def _hold(file: BinaryIO, path: Path, reader: str) -> None:
    """Hold a log until it is closed; raises UserError where another process does."""
    try:
        _lock(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            # A file system that knows no locks.
            return
        raise UserError(
            f"Reader {reader} is answering in another window already",
            "close that one; two readers must not have one code",
            code="reader-busy",
        ) from error


if sys.platform == "win32":
    import msvcrt

    def _sync_folder(folder: Path) -> None:
        """Windows writes the names of new files by itself."""

    def _lock(descriptor: int) -> None:
        # Far behind the end, since what is locked there cannot be read.
        os.lseek(descriptor, 2**40, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _sync_folder(folder: Path) -> None:
        """Bring the names of new files to the disk."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
