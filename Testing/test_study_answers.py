"""Answers: none that was confirmed is lost, none can be changed without being found."""

from __future__ import annotations

import csv
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.studies.answers import (
    AnswerLog,
    latest,
    next_presentation,
    read_answers,
    write_csv,
)
from MedDiffusionLib.studies.study import Study, order_of, read_study
from study_factory import answer_to, write_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return read_study(write_study(tmp_path / "study"))


def fill(study: Study, count: int) -> Path:
    with AnswerLog(study, "R1", 1) as log:
        for position in range(count):
            log.add(answer_to(study, position, 1 + position % 6, comment="schön\n"))
    return log.path


def test_answers_are_read_back_in_their_order(study: Study) -> None:
    fill(study, 5)
    given = [answer_to(study, n, 1 + n % 6, comment="schön\n") for n in range(5)]
    assert read_answers(study) == given
    with AnswerLog(study, "R1", 1) as log:
        assert log.read() == given
        assert log.notes == []


def test_a_log_goes_on_after_it_was_closed(study: Study) -> None:
    fill(study, 3)
    with AnswerLog(study, "R1", 1) as log:
        log.add(answer_to(study, 3))
    assert [answer.position for answer in read_answers(study)] == [0, 1, 2, 3]
    assert next_presentation(study, read_answers(study), "R1", 1) == (0, 4)


def test_an_answer_that_was_changed_counts_by_its_last(study: Study) -> None:
    fill(study, 2)
    with AnswerLog(study, "R1", 1) as log:
        log.add(answer_to(study, 0, 6, changed=True))
    assert [answer.answer for answer in read_answers(study)] == [1, 2, 6]
    assert [answer.answer for answer in latest(read_answers(study))] == [6, 2]


def test_nothing_is_left_to_answer_at_the_end(study: Study) -> None:
    fill(study, len(order_of(study, "R1", 1)))
    assert next_presentation(study, read_answers(study), "R1", 1) is None
    assert next_presentation(study, read_answers(study), "R1", 2) == (0, 0)


def test_half_a_last_line_is_dropped_with_a_note(study: Study) -> None:
    path = fill(study, 3)
    with path.open("ab") as file:
        file.write(b'{"previous":"0')
    assert len(read_answers(study)) == 3
    with AnswerLog(study, "R1", 1) as log:
        assert log.notes == ["The last answer of R1 was not written whole and is asked again."]
        log.add(answer_to(study, 3))
    assert len(read_answers(study)) == 4


@pytest.mark.parametrize("how", ["edit", "take out", "cut", "cut all", "swap", "add", "no last"])
def test_a_log_that_was_edited_or_cut_is_refused_and_left_alone(study: Study, how: str) -> None:
    path = fill(study, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    if how == "edit":
        lines[2] = lines[2].replace(b'"answer":2', b'"answer":5')
    elif how == "take out":
        del lines[2]
    elif how == "cut":
        del lines[-1]
    elif how == "cut all":
        lines.clear()
    elif how == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    elif how == "add":
        lines.append(lines[-1])
    else:
        path.with_suffix(".last").unlink()
    path.write_bytes(b"".join(lines))
    before = path.read_bytes()
    with pytest.raises(UserError, match="was edited or cut"):
        AnswerLog(study, "R1", 1)
    with pytest.raises(UserError, match="was edited or cut"):
        read_answers(study)
    assert path.read_bytes() == before


def test_answers_to_another_study_are_refused(study: Study, tmp_path: Path) -> None:
    path = fill(study, 1)
    other = read_study(write_study(tmp_path / "other" / "study", id="f" * 16))
    path.rename(other.folder / "answers" / path.name)
    with pytest.raises(UserError, match="answers to another study"):
        AnswerLog(other, "R1", 1)


def test_two_readers_with_one_code_are_refused(study: Study) -> None:
    with AnswerLog(study, "R1", 1) as log:
        with pytest.raises(UserError, match="Reader R1 is answering in another window"):
            AnswerLog(study, "R1", 1)
        with AnswerLog(study, "R2", 1):
            log.add(answer_to(study, 0))
    with AnswerLog(study, "R1", 1) as log:
        assert len(log.read()) == 1


def test_a_full_disk_at_an_answer_is_said_and_nothing_is_lost(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(study, 2)
    write = os.write
    written: list[int] = []

    def fill_up(descriptor: int, data: bytes) -> int:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(write(descriptor, data[:50]))
        return written[0]

    with AnswerLog(study, "R1", 1) as log:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fill_up)
            with pytest.raises(UserError, match="cannot take the answer, which is not saved"):
                log.add(answer_to(study, 2))
        assert len(log.read()) == 2
        assert log.path.read_bytes().endswith(b"\n")
        log.add(answer_to(study, 2))
    assert [answer.position for answer in read_answers(study)] == [0, 1, 2]


@pytest.mark.parametrize(
    "change",
    [{"answer": 7}, {"answer": None}, {"presentation": "case-999"}, {"session": 2}, {"phase": 1},
     {"seconds": float("nan")}, {"seconds": -1.0}, {"comment": "x" * 5001}],
)  # fmt: skip
def test_an_answer_that_does_not_belong_is_not_written(study: Study, change: dict) -> None:
    with AnswerLog(study, "R1", 1) as log:
        with pytest.raises(ValueError):
            log.add(answer_to(study, 0, **change))
        assert log.read() == []


def test_the_table_is_tidy_and_no_comment_is_a_formula(study: Study, tmp_path: Path) -> None:
    fill(study, 1)
    with AnswerLog(study, "R1", 1) as log:
        log.add(answer_to(study, 1, 6, comment="=1+1"))
    write_csv(study, tmp_path / "answers.csv")
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["reader"], first["answer"], first["answer_text"]) == (
        "R1",
        "1",
        "Surely synthetic",
    )
    assert first["comment"] == "schön\n"
    assert second["comment"] == "'=1+1"
    assert "arm" not in first


ANSWERING = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from study_factory import answer_to
from MedDiffusionLib.studies.answers import AnswerLog
from MedDiffusionLib.studies.study import read_study
study = read_study(Path(sys.argv[1]))
with AnswerLog(study, "R1", 1) as log:
    while True:
        for position in range(14):
            log.add(answer_to(study, position))
            print(position, flush=True)
"""


@pytest.mark.process
@pytest.mark.parametrize("confirmed", [1, 5, 23])
def test_a_killed_process_loses_no_confirmed_answer(study: Study, confirmed: int) -> None:
    command = [sys.executable, "-c", ANSWERING, str(study.folder), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(confirmed):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        confirmed += len(process.stdout.readlines())
    with AnswerLog(study, "R1", 1) as log:
        assert confirmed <= len(log.read()) <= confirmed + 1
        log.add(answer_to(study, 0))
