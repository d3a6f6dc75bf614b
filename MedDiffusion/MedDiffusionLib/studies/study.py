"""A reader study as a folder: what ``study.json`` says, checked against what lies beside it.

The folder holds no truth: which volume is real stands in a key file of the organizer's, whose
SHA-256 is in the study, so that it can be shown afterwards that nothing was changed. Needs no
torch.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..compute.errors import UserError
from ..compute.files import file_sha256, read_regular
from ..compute.parsing import parse_json, read_json, shortened
from ..compute.schema import Schema, validate
from .order import Draws, spread
from .protocols import Protocol, parse_protocol

STUDY_VERSION = 1
STUDY_NAME, PROTOCOL_NAME = "study.json", "protocol.json"
CASES_NAME, ANSWERS_NAME = "cases", "answers"
SCHEMA_PATH = Path(__file__).with_name("study.schema.json")
MOST_BYTES = 2**26
_REPEAT = ".2"
_READER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)
"""Names that no file has on Windows."""


@dataclass(frozen=True)
class Case:
    """What is judged at once: one volume, or the alternatives of a choice; ``id``: case-001."""

    id: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class TrainingCase:
    """A case to practise on: ``feedback`` is said once it was answered."""

    case: Case
    feedback: str


@dataclass(frozen=True)
class Study:
    """A study, as its folder says.

    ``pool``: ids of the cases that all readers see; ``rotating``: of those that only the reader at
    that place in ``readers`` sees. ``groups``: cases that must not follow each other closely (as
    volumes of one label map, among others, so that no pair is told), at least ``apart``
    presentations. ``repeats_percent`` of a reader's cases come twice. ``margin``: how far from
    chance an accuracy or an area under the curve may be and still count as chance; fixed here,
    before any answer. ``window``: lowest and highest intensity shown, the same for all cases.
    ``hashes``: SHA-256 by the path below the folder; ``sha256``: of ``study.json`` itself.
    """

    folder: Path
    id: str
    title: str
    protocol: Protocol
    cases: tuple[Case, ...]
    training: tuple[TrainingCase, ...]
    readers: tuple[str, ...]
    pool: tuple[str, ...]
    rotating: tuple[tuple[str, ...], ...]
    groups: tuple[tuple[str, ...], ...]
    apart: int
    repeats_percent: int
    seed: int
    window: tuple[float, float]
    margin: float
    key_sha256: str
    hashes: dict[str, str]
    sha256: str

    def case(self, presentation: str) -> Case:
        """The case of a presentation, or of a case's own id; raises KeyError."""
        case_id = presentation.removesuffix(_REPEAT)
        return {case.id: case for case in self.cases}[case_id]

    def cases_of(self, reader: str) -> tuple[str, ...]:
        """The ids of the cases that a reader sees; raises UserError for one of another study."""
        check_reader(reader)
        if reader not in self.readers:
            raise UserError(
                f"There is no reader {reader} in this study",
                "use the code that the organizer gave you",
                code="reader-unknown",
            )
        return (*self.pool, *self.rotating[self.readers.index(reader)])

    def check_case(self, case: Case) -> None:
        """Raise UserError unless the files of a case are those that the study was made with."""
        for path in case.files:
            check_file(self.folder, path.relative_to(self.folder).as_posix(), self.hashes)


def read_study(folder: Path, *, thorough: bool = False) -> Study:
    """The study in a folder.

    That all files are there and have the same size as when it was made is always looked at, that
    they have the same content when ``thorough``, which takes as long as reading them, or by
    :meth:`Study.check_case`. Raises UserError for a folder that is incomplete, of a newer version,
    or was changed after the first answer.
    """
    text = _bytes(folder / STUDY_NAME, folder)
    content = _content(text, folder)
    protocol_text = _bytes(folder / PROTOCOL_NAME, folder)
    if hashlib.sha256(protocol_text).hexdigest() != content["protocol_sha256"]:
        raise changed(folder, PROTOCOL_NAME)
    sizes = {entry["path"]: entry["bytes"] for entry in content["files"]}
    hashes = {entry["path"]: entry["sha256"] for entry in content["files"]}
    for name, size in sizes.items():
        _check_size(folder, name, size)
        if thorough:
            check_file(folder, name, hashes)
    protocol = parse_protocol(protocol_text, folder / PROTOCOL_NAME)
    study = _study(folder, content, protocol, hashes, hashlib.sha256(text).hexdigest())
    _check_answers(study)
    return study


def order_of(study: Study, reader: str, session: int, phase: int = 0) -> tuple[str, ...]:
    """The presentations of a reader in a session and a phase (from 0) of the protocol, in order.

    A presentation is a case's id, or that with an ending for its repeat: :meth:`Study.case` gives
    the case. The order depends on study, reader, session and phase alone, and is the same on all
    systems. Repeats, and cases of one group, are ``study.apart`` presentations apart, from the end
    of one phase to the next as well; where a study has too few cases for that, as far as possible.
    Raises UserError for an unknown reader.
    """
    cases = study.cases_of(reader)
    group_of = _groups(study)
    repeated = _repeated(study, cases, f"repeats\n{study.id}\n{study.seed}\n{reader}\n{session}")
    presentations = [*sorted(cases), *(f"{case}{_REPEAT}" for case in repeated)]
    groups = [group_of[study.case(p).id] for p in presentations]
    draws = Draws(f"order\n{study.id}\n{study.seed}\n{reader}\n{session}\n{phase}")
    before = order_of(study, reader, session, phase - 1) if phase else ()
    earlier = [group_of[study.case(p).id] for p in before]
    return tuple(spread(presentations, groups, study.apart, draws, earlier))


def _groups(study: Study) -> dict[str, int]:
    """A number for each case; that of cases that are kept apart is the same."""
    alone = {case.id: len(study.groups) + n for n, case in enumerate(study.cases)}
    return alone | {case: n for n, group in enumerate(study.groups) for case in group}


def _repeated(study: Study, cases: tuple[str, ...], seed: str) -> list[str]:
    """The cases that come twice, sorted: of each group one, as long as there are others.

    They are the same in all phases of a session.
    """
    count = (len(cases) * study.repeats_percent + 50) // 100
    group_of = _groups(study)
    first: dict[int, str] = {}
    mixed = Draws(seed).shuffled(sorted(cases))
    for case in mixed:
        first.setdefault(group_of[case], case)
    alone = list(first.values())
    others = [case for case in mixed if case not in alone]
    return sorted([*alone, *others][:count])


def check_reader(code: str) -> None:
    """Raise UserError for a reader's code that would not do as a file name on every system."""
    if not _READER.fullmatch(code) or _DEVICES.fullmatch(code):
        raise UserError(
            f"{shortened(repr(code))} is no code for a reader",
            "use 1 to 32 letters from A to Z, digits, - and _, as in R1",
            code="reader-code",
        )


def changed(folder: Path, name: str) -> UserError:
    """What is said of a file of a study that is not as it was when the study was made."""
    return UserError(
        f"has a {name} that was changed since the study was made",
        "take the study's folder as the organizer gave it; for other cases or another protocol "
        "make a new study",
        path=folder,
        code="study-changed",
    )


def check_file(folder: Path, name: str, hashes: dict[str, str]) -> None:
    """Raise UserError unless a file has the content that the study was made with."""
    try:
        same = file_sha256(folder / name) == hashes[name]
    except OSError as error:
        raise _incomplete(folder, name, error) from error
    if not same:
        raise changed(folder, name)


def _study(
    folder: Path, content: dict[str, Any], protocol: Protocol, hashes: dict[str, str], sha256: str
) -> Study:
    def case(entry: dict[str, Any]) -> Case:
        return Case(entry["id"], tuple(folder / name for name in entry["files"]))

    low, high = content["window"]
    study = Study(
        folder=folder,
        id=content["id"],
        title=content["title"],
        protocol=protocol,
        cases=tuple(map(case, content["cases"])),
        training=tuple(TrainingCase(case(e), e["feedback"]) for e in content["training"]),
        readers=tuple(content["readers"]),
        pool=tuple(content["pool"]),
        rotating=tuple(map(tuple, content["rotating"])),
        groups=tuple(map(tuple, content["groups"])),
        apart=content["apart"],
        repeats_percent=content["repeats_percent"],
        seed=content["seed"],
        window=(float(low), float(high)),
        margin=float(content["margin"]),
        key_sha256=content["key_sha256"],
        hashes=hashes,
        sha256=sha256,
    )
    if problem := _contradiction(study):
        raise UserError(
            f"has a {STUDY_NAME} that cannot be used ({problem})",
            "make the study anew",
            path=folder,
            code="study",
        )
    return study


def _contradiction(study: Study) -> str:
    """What the schema cannot say; empty where nothing is wrong."""
    known = [case.id for case in study.cases]
    shares = [*study.pool, *(case for share in study.rotating for case in share)]
    if len(set(known)) != len(known):
        return "two cases have one id"
    if not set(shares) <= set(known) or len(set(shares)) != len(shares):
        return "its pool and its rotating rest are not made of its cases"
    if not {case for group in study.groups for case in group} <= set(known):
        return "its groups are not made of its cases"
    if len(study.rotating) != len(study.readers):
        return "it has not one share of cases for each reader"
    if len({reader.casefold() for reader in study.readers}) != len(study.readers):
        return "two readers have one code"
    if any(len(case.files) != study.protocol.alternatives for case in study.cases):
        return "its cases have not as many volumes as its protocol asks for"
    return ""


def _content(text: bytes, folder: Path) -> dict[str, Any]:
    """What ``study.json`` says, of the schema's form; raises UserError."""
    try:
        content = parse_json(text)
        version = content.get("study_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > STUDY_VERSION:
            raise UserError(
                f"is a study of version {version}, and this program knows {STUDY_VERSION}",
                "update MedDiffusion",
                path=folder,
                code="newer-version",
            )
        if problem := validate(content, study_schema(), STUDY_NAME):
            raise ValueError(problem)
        named = [
            name for part in ("cases", "training") for c in content[part] for name in c["files"]
        ]
        if sorted(named) != sorted(entry["path"] for entry in content["files"]):
            raise ValueError("its cases are not made of its files")
    except ValueError as error:
        raise UserError(
            f"has a {STUDY_NAME} that cannot be used ({error})",
            "take the study's folder as the organizer gave it",
            path=folder,
            code="study",
        ) from error
    checked: dict[str, Any] = content
    for reader in checked["readers"]:
        check_reader(reader)
    return checked


def _check_answers(study: Study) -> None:
    """Raise UserError where an answer was given to this folder with another ``study.json``."""
    for path in sorted((study.folder / ANSWERS_NAME).glob("*.jsonl")):
        if (begun_with := first_study_sha256(path)) and begun_with != study.sha256:
            raise UserError(
                f"has a {STUDY_NAME} that was changed after the first answer (of {path.stem})",
                "put the former one back; for another design make a new study",
                path=study.folder,
                code="study-changed",
            )


def first_study_sha256(log: Path) -> str:
    """The hash of the ``study.json`` with which a reader's log was begun; empty where the log's
    first line does not say it, which whoever reads the log will find."""
    try:
        with log.open("rb") as file:
            first = parse_json(file.readline(2**16))
        return str(first["study_sha256"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _check_size(folder: Path, name: str, size: int) -> None:
    try:
        same = (folder / name).stat().st_size == size
    except OSError as error:
        raise _incomplete(folder, name, error) from error
    if not same:
        raise changed(folder, name)


def _bytes(path: Path, folder: Path) -> bytes:
    try:
        return read_regular(path, MOST_BYTES)
    except OSError as error:
        raise _incomplete(folder, path.name, error) from error


def _incomplete(folder: Path, name: str, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UserError(
            f"is no whole study (it has no {name})",
            "copy the study's folder anew, with all that is in it",
            path=folder,
            code="study-incomplete",
        )
    return UserError(
        f"cannot be read ({error.strerror or error})",
        "see to its permissions",
        path=folder / name,
        code="study-incomplete",
    )


@cache
def study_schema() -> Schema:
    """The JSON Schema of ``study.json``."""
    schema: Schema = read_json(SCHEMA_PATH)
    return schema
