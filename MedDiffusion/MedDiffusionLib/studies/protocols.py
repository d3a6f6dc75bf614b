"""Protocols: what readers are told and asked, as JSON data. Needs no torch."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..bundles.catalog import resources_folder
from ..compute.errors import UserError
from ..compute.files import read_regular
from ..compute.parsing import parse_json, read_json
from ..compute.schema import Schema, validate

PROTOCOL_VERSION = 1
SCHEMA_PATH = Path(__file__).with_name("protocol.schema.json")
MOST_BYTES = 2**20
REAL = "real"
"""The id of the question whether a volume is real (higher values: surer that it is), or which."""


@dataclass(frozen=True)
class Option:
    """An answer that may be given: what is stored, what is read, and the key that gives it."""

    value: int
    text: str
    key: str


@dataclass(frozen=True)
class Question:
    """What is asked of a case. ``cannot_judge``: it may be said that no answer can be given;
    ``comment``: free text may be added."""

    id: str
    text: str
    help: str
    options: tuple[Option, ...]
    required: bool
    cannot_judge: bool
    comment: bool


@dataclass(frozen=True)
class Phase:
    """A pass over all cases with the same questions. Until a phase is ``told``, readers are not
    told that some of the volumes are synthetic."""

    questions: tuple[Question, ...]
    told: bool


@dataclass(frozen=True)
class Protocol:
    """What readers are told and asked.

    ``kind``: a case is one volume (rating), or ``alternatives`` of them side by side (choice), one
    of which is to be chosen: option value 1 is the first. ``training``: cases with feedback before
    the first phase that is told.
    """

    id: str
    title: str
    instructions: str
    phases: tuple[Phase, ...]
    allow_back: bool
    kind: Literal["rating", "choice"]
    alternatives: int = 1
    training: int = 0

    @property
    def questions(self) -> tuple[Question, ...]:
        """Those of all phases, in their order."""
        return tuple(question for phase in self.phases for question in phase.questions)


def protocol_names() -> tuple[str, ...]:
    """The protocols that come with the program (``Resources/Protocols``), by name, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.json")))


def read_protocol(name: str | Path) -> Protocol:
    """A protocol by its name, or from a JSON file; raises UserError for what is none."""
    return parse_protocol(protocol_bytes(name), protocol_path(name))


def protocol_path(name: str | Path) -> Path:
    """The file of a protocol by its name, or a file itself."""
    path = _folder() / f"{name}.json"
    return path if str(name) in protocol_names() else Path(name)


def protocol_bytes(name: str | Path) -> bytes:
    """The text of a protocol, by its name or its file; raises UserError."""
    path = protocol_path(name)
    if not os.path.lexists(path):
        raise UserError(
            f"There is no protocol {name}",
            f"give a JSON file, or one of {', '.join(protocol_names())}",
            code="protocol-missing",
        )
    try:
        return read_regular(path, MOST_BYTES)
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", "see to its permissions", path=path
        ) from error


def parse_protocol(text: bytes, path: Path) -> Protocol:
    """A protocol from the text of the file at ``path``; raises UserError for what is none."""
    try:
        content = parse_json(text)
        newest = content.get("protocol_version") if isinstance(content, dict) else None
        if isinstance(newest, int) and newest > PROTOCOL_VERSION:
            raise UserError(
                f"is a protocol of version {newest}, and this program knows {PROTOCOL_VERSION}",
                "update MedDiffusion",
                path=path,
                code="newer-version",
            )
        if problem := validate(content, _schema(), path.name):
            raise ValueError(problem)
        return _protocol(content)
    except ValueError as error:
        raise UserError(
            f"is no protocol ({error})", "correct it", path=path, code="protocol"
        ) from error


def _protocol(content: dict[str, Any]) -> Protocol:
    """From JSON that fits the schema; raises ValueError for what a schema cannot say."""
    protocol = Protocol(
        id=content["id"],
        title=content["title"],
        instructions=content["instructions"],
        phases=tuple(_phase(phase) for phase in content["phases"]),
        allow_back=content["allow_back"],
        kind=content["kind"],
        alternatives=content.get("alternatives", 1),
        training=content.get("training", 0),
    )
    told = [phase.told for phase in protocol.phases]
    if told != sorted(told):
        raise ValueError("an untold phase comes after one that tells")
    for question in protocol.questions:
        for part in ("value", "text", "key"):
            counts = Counter(getattr(option, part) for option in question.options)
            if twice := [item for item, count in counts.items() if count > 1]:
                raise ValueError(f"question {question.id!r} has the {part} {twice[0]!r} twice")
    if twice := [i for i, count in Counter(q.id for q in protocol.questions).items() if count > 1]:
        raise ValueError(f"two questions have the id {twice[0]!r}")
    _check_kind(protocol)
    return protocol


def _check_kind(protocol: Protocol) -> None:
    if (protocol.alternatives > 1) != (protocol.kind == "choice"):
        raise ValueError("a choice has two alternatives or more, a rating has one")
    values = list(range(1, protocol.alternatives + 1))
    for question in protocol.questions if protocol.kind == "choice" else ():
        if [option.value for option in question.options] != values:
            raise ValueError(f"question {question.id!r} must have the option values {values}")


def _phase(content: dict[str, Any]) -> Phase:
    return Phase(tuple(_question(question) for question in content["questions"]), content["told"])


def _question(content: dict[str, Any]) -> Question:
    return Question(
        id=content["id"],
        text=content["text"],
        help=content.get("help", ""),
        options=tuple(
            Option(option["value"], option["text"], option["key"]) for option in content["options"]
        ),
        required=content.get("required", True),
        cannot_judge=content.get("cannot_judge", False),
        comment=content.get("comment", False),
    )


def _folder() -> Path:
    return resources_folder() / "Protocols"


@cache
def _schema() -> Schema:
    schema: Schema = read_json(SCHEMA_PATH)
    return schema
