"""Tables for other programs: a tidy one, R's MRMCaov, and REDCap's data dictionary."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from ..compute.parsing import printable
from ..reports.spreadsheets import no_formula
from .judged import Gathered
from .protocols import REAL, Protocol, Question

TIDY = ("study", "reader", "session", "phase", "position", "case", "repeat", "arm", "label_map",
        "criterion", "answer", "answer_text", "right", "comment", "seconds", "slices_seen",
        "window_changes", "changed", "time_utc")  # fmt: skip
MRMCAOV = ("reader", "treatment", "case", "truth", "rating")
REDCAP = (
    "Variable / Field Name", "Form Name", "Section Header", "Field Type", "Field Label",
    "Choices, Calculations, OR Slider Labels", "Field Note",
    "Text Validation Type OR Show Slider Number", "Text Validation Min", "Text Validation Max",
    "Identifier?", "Branching Logic (Show field only if...)", "Required Field?",
    "Custom Alignment", "Question Number (surveys only)", "Matrix Group Name", "Matrix Ranking?",
    "Field Annotation",
)  # fmt: skip
_RECORD, _SECONDS = "record_id", "seconds"
_SHOWING = (("reader", "Reader"), ("session", "Session"), ("part", "Part of the protocol"),
            ("presentation", "Showing of a case"))  # fmt: skip


def tidy_csv(gathered: Gathered) -> str:
    """All answers that count with their truth, a row each; of a choice ``arm`` is that chosen."""
    rows = []
    questions = {question.id: question for question in gathered.study.protocol.questions}
    for answer in gathered.answers:
        truths = gathered.truth(answer.case)
        texts = {o.value: o.text for o in questions[answer.question].options}
        arm, right = truths[0].arm if len(truths) == 1 else "", ""
        if len(truths) > 1 and answer.answer is not None:
            arm = truths[answer.answer - 1].arm
            right = str(int(arm == "real"))
        value = "" if answer.answer is None else str(answer.answer)
        rows.append(
            (answer.study, answer.reader, answer.session, answer.phase, answer.position,
             answer.case, int(answer.presentation != answer.case), arm,
             "" if len(truths) > 1 else truths[0].label_map, answer.question, value,
             texts[answer.answer] if answer.answer is not None else "", right, answer.comment,
             answer.seconds, answer.slices_seen, answer.window_changes, int(answer.changed),
             answer.time_utc)
        )  # fmt: skip
    return _csv(TIDY, rows)


def mrmcaov_csv(gathered: Gathered) -> str | None:
    """The columns of R's MRMCaov: ``truth`` 1 is synthetic, and higher ratings are surer of it.

    One treatment, the study's model; each case by its first showing. None where the protocol does
    not ask whether a volume is real.
    """
    protocol = gathered.study.protocol
    asked = [question for question in protocol.questions if question.id == REAL]
    if protocol.kind == "choice" or not asked:
        return None
    values = [option.value for option in asked[0].options]
    rows = []
    seen = set()
    for answer in sorted(gathered.answers, key=lambda a: (a.reader, a.session, a.position)):
        if answer.question != REAL or (answer.reader, answer.case) in seen:
            continue
        seen.add((answer.reader, answer.case))
        if answer.answer is not None:
            truth = int(gathered.key.arm(answer.case) == "synthetic")
            rating = max(values) + min(values) - answer.answer
            rows.append((answer.reader, "synthetic", answer.case, truth, rating))
    return _csv(MRMCAOV, rows)


def redcap_csv(protocol: Protocol) -> str:
    """REDCap's data dictionary (18 columns) of the protocol's questions: one record is one
    showing of a case to a reader."""
    form = _name(protocol.id)
    rows = [_redcap_row(_RECORD, form, "text", "Record")]
    rows += [_redcap_row(name, form, "text", label, required=True) for name, label in _SHOWING]
    for question in protocol.questions:
        rows.append(_redcap_question(question, form))
        if question.comment:
            rows.append(_redcap_row(_comment(question), form, "notes", "Comment"))
    rows.append(_redcap_row(_SECONDS, form, "text", "Seconds", validation="number"))
    return _csv(REDCAP, rows)


def redcap_data_csv(gathered: Gathered) -> str:
    """The answers as REDCap imports them into a project with that dictionary; no truth in it."""
    records: dict[tuple[str, int, int, str], dict[str, object]] = {}
    questions = {question.id: question for question in gathered.study.protocol.questions}
    for answer in gathered.answers:
        showing = answer.reader, answer.session, answer.phase + 1, answer.presentation
        named = dict(zip((name for name, _ in _SHOWING), showing, strict=True))
        record = records.setdefault(showing, {_RECORD: "-".join(map(str, showing)), **named})
        question = questions[answer.question]
        record[_name(question.id)] = "" if answer.answer is None else answer.answer
        if question.comment:
            record[_comment(question)] = answer.comment
        # Each question of a case has its own time since the case appeared: the last counts.
        record[_SECONDS] = max(float(str(record.get(_SECONDS, 0))), answer.seconds)
    columns = [row[0] for row in csv.reader(io.StringIO(redcap_csv(gathered.study.protocol)))][1:]
    rows = [[record.get(name, "") for name in columns] for record in records.values()]
    return _csv(columns, rows)


def _redcap_question(question: Question, form: str) -> list[str]:
    # A bar or a line end would begin another choice.
    choices = " | ".join(
        f"{option.value}, {printable(option.text).replace('|', '/')}" for option in question.options
    )
    return _redcap_row(
        _name(question.id), form, "radio", question.text, choices, question.help,
        required=question.required and not question.cannot_judge,
    )  # fmt: skip


def _redcap_row(
    name: str, form: str, kind: str, label: str, choices: str = "", note: str = "",
    *, validation: str = "", required: bool = False,
) -> list[str]:  # fmt: skip
    row = dict.fromkeys(REDCAP, "")
    row |= {
        "Variable / Field Name": name,
        "Form Name": form,
        "Field Type": kind,
        "Field Label": label,
        "Choices, Calculations, OR Slider Labels": choices,
        "Field Note": note,
        "Text Validation Type OR Show Slider Number": validation,
        "Required Field?": "y" if required else "",
    }
    return list(row.values())


def _comment(question: Question) -> str:
    return f"{_name(question.id)}_comment"


def _name(text: str) -> str:
    """A name of REDCap's: small letters, digits and _, a letter first, none of this form's own."""
    name = text.replace("-", "_")
    own = (_RECORD, _SECONDS, *(field for field, _ in _SHOWING))
    return name if name[:1].isalpha() and name not in own else f"q_{name}"


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(no_formula(printable(c)) if isinstance(c, str) else c for c in row)
    return text.getvalue()
