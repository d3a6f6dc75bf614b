"""The lines of a reader's log: what an answer is, how it is written, and the chain that holds them.

A log begins with a line that names the study; every line holds the SHA-256 of the line before, and
a file beside it that of the last and how many there are, so that lines that were edited, taken out
or cut off are found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..compute.errors import UserError
from ..compute.files import read_regular
from ..compute.parsing import parse_json
from ..compute.schema import Schema, validate
from .study import Study

LOG_VERSION = 1
MOST_COMMENT = 5000
_LINE: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["previous", "study", "reader", "session", "position", "presentation", "case",
                 "phase", "question", "comment", "seconds", "slices_seen", "window_changes",
                 "changed", "time_utc"],
    "properties": {
        "previous": {"type": "string"},
        "study": {"type": "string"},
        "reader": {"type": "string"},
        "session": {"type": "integer", "minimum": 1},
        "position": {"type": "integer", "minimum": 0},
        "presentation": {"type": "string"},
        "case": {"type": "string"},
        "phase": {"type": "integer", "minimum": 0},
        "question": {"type": "string"},
        "answer": {"type": "integer"},
        "comment": {"type": "string", "maxLength": MOST_COMMENT},
        "seconds": {"type": "number", "minimum": 0},
        "slices_seen": {"type": "integer", "minimum": 0},
        "window_changes": {"type": "integer", "minimum": 0},
        "changed": {"type": "boolean"},
        "time_utc": {"type": "string", "maxLength": 40},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """One answer to one question. ``answer``: an option's value; None where the reader cannot judge
    or left out what need not be answered. ``position``: that of the presentation in its phase, from
    0. ``slices_seen``: different ones, of all views. ``changed``: it replaces an earlier one."""

    study: str
    reader: str
    session: int
    position: int
    presentation: str
    case: str
    phase: int
    question: str
    answer: int | None
    comment: str
    seconds: float
    slices_seen: int
    window_changes: int
    changed: bool
    time_utc: str


COLUMNS = tuple(field.name for field in fields(Answer))


def header_line(study: Study, reader: str) -> bytes:
    """The first line of a reader's log."""
    return _json_line(
        {
            "log_version": LOG_VERSION,
            "study": study.id,
            "study_sha256": study.sha256,
            "protocol": study.protocol.id,
            "reader": reader,
        }
    )


def answer_line(previous: str, answer: Answer) -> bytes:
    """The line of an answer; ``previous``: the hash of the line before. Raises ValueError for
    numbers that are not finite."""
    content = {name: value for name, value in asdict(answer).items() if value is not None}
    return _json_line({"previous": previous, **content})


def form_problem(answer: Answer) -> str:
    """What an answer's line may not have, whatever the study; empty where nothing is wrong."""
    return validate(parse_json(answer_line("", answer)), _LINE, "the answer") or ""


def whole_lines(text: bytes) -> bytes:
    """A log without what a killed process left of its last line."""
    return text[: text.rfind(b"\n") + 1]


def answers_in(path: Path, text: bytes, study: Study, reader: str) -> Iterator[Answer]:
    """The answers in a log's text; raises UserError as :func:`checked_lines` does."""
    for line in checked_lines(path, whole_lines(text), study, reader)[1:]:
        content = parse_json(line)
        content.pop("previous")
        yield Answer(**{"answer": None, **content})


def checked_lines(path: Path, text: bytes, study: Study, reader: str) -> list[bytes]:
    """The lines of a log, with every check of the chain; raises UserError for a log that was edited
    or cut, or is another study's."""
    lines = text.splitlines(keepends=True)
    if not lines and not last_path(path).exists():
        return []
    if not lines or lines[0] != header_line(study, reader):
        if lines and b'"study"' in lines[0] and study.id.encode() not in lines[0]:
            raise UserError(
                "holds the answers to another study",
                "keep each study's answers in its own folder",
                path=path,
                code="answers-of-another",
            )
        raise _edited(path)
    previous = sha256_of(lines[0])
    for line in lines[1:]:
        try:
            content = parse_json(line)
        except ValueError as error:
            raise _edited(path) from error
        if validate(content, _LINE) or content["previous"] != previous:
            raise _edited(path)
        if (content["study"], content["reader"]) != (study.id, reader):
            raise _edited(path)
        previous = sha256_of(line)
    _check_last(path, lines)
    return lines


def last_path(path: Path) -> Path:
    """The file that vouches for a log's last line."""
    return path.with_suffix(".last")


def sha256_of(line: bytes) -> str:
    """The hash by which the next line holds a line."""
    return hashlib.sha256(line).hexdigest()


def _json_line(content: dict[str, Any]) -> bytes:
    # In ASCII: a comment's line ends are escaped, and so are letters that are no UTF-8.
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def _check_last(path: Path, lines: list[bytes]) -> None:
    """Raise UserError where lines are gone from the end, or what vouches for them is.

    A process killed between the two files leaves one line more than is vouched for, or a first
    line, which holds no answer, without.
    """
    try:
        count, sha256 = read_regular(last_path(path), 2**10).split()
        place = int(count)
    except FileNotFoundError:
        if len(lines) > 1:
            raise _edited(path) from None
        return
    except (OSError, ValueError) as error:
        raise _edited(path) from error
    if not 0 < place <= len(lines) or sha256_of(lines[place - 1]).encode() != sha256:
        raise _edited(path)


def _edited(path: Path) -> UserError:
    return UserError(
        "was edited or cut since the answers were given",
        "put back the file as the program wrote it, and READER.last beside it; answers that were "
        "edited cannot be used",
        path=path,
        code="answers-edited",
    )
