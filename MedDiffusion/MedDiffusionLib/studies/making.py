"""Makes a study: both arms through one pipeline into a folder that is whole or not there at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..compute.errors import UserError
from ..compute.files import atomic, file_sha256, json_bytes
from ..volumes.reading import stem
from ..volumes.writing import writing
from .design import APART, Design, design
from .generation import IsCancelled, OnProgress, Work, generated, planned
from .key import ARMS, Key, key_bytes, new_nonce
from .order import Draws, distance
from .pipeline import (
    WINDOW,
    Standard,
    extent,
    set_date,
    standard,
    standardized,
    write_case,
)
from .protocols import Protocol, parse_protocol, protocol_bytes, protocol_path
from .request import Generation, StudyRequest, check_request
from .sources import Source, label_maps_of_all, labels_by_name, read_labels, sources_of
from .study import (
    ANSWERS_NAME,
    CASES_NAME,
    PROTOCOL_NAME,
    STUDY_NAME,
    STUDY_VERSION,
    Study,
    order_of,
    read_study,
)
from .work_folder import work_folder

_LETTERS = "abcdefghi"


@dataclass(frozen=True)
class Made:
    """A study that was made; ``notes``: sentences on what the organizer should know."""

    study: Study
    key: Path
    notes: tuple[str, ...]


def make_study(
    request: StudyRequest,
    on_progress: OnProgress = lambda progress: None,
    is_cancelled: IsCancelled = lambda: False,
    nonce: str | None = None,
) -> Made:
    """Make a study and its key; nothing that is there is replaced, and on any error none is left.

    Every volume is read, and the common box found, before a case is written. With the ``nonce`` of
    a key the same study is made again. Raises UserError, and Cancelled when ``is_cancelled``.
    """
    protocol_text = protocol_bytes(request.protocol)
    protocol = parse_protocol(protocol_text, protocol_path(request.protocol))
    check_request(request)
    with writing(request.output), work_folder(request.output.parent) as place:
        work = Work(place, nonce or new_nonce(), on_progress, is_cancelled)
        drawn = _design(request, protocol, work)
        drawn = generated(drawn, work)
        folder = work.folder / "study"
        (folder / CASES_NAME).mkdir(parents=True)
        (folder / ANSWERS_NAME).mkdir()
        to, notes = _write_cases(folder, drawn, request, work)
        key = _write_study(folder, drawn, request, protocol, protocol_text, work.nonce)
        made = read_study(folder, thorough=True)
        notes += _order_notes(made, drawn.tells_pairs)
        notes.append(f"All volumes have {' x '.join(map(str, to.size))} voxels of "
                     f"{' x '.join(f'{mm:.3g}' for mm in to.spacing)} mm.")  # fmt: skip
        _put(folder, request.output, key, request.key_path)
    return Made(read_study(request.output), request.key_path, tuple(notes))


def _design(request: StudyRequest, protocol: Protocol, work: Work) -> Design:
    if request.real == request.synthetic and not isinstance(request.real, Generation):
        raise UserError(
            "is given for both arms", "give real and synthetic volumes", path=request.real,
            code="study-one-arm",
        )  # fmt: skip
    real, synthetic = (
        planned(given, arm, work) if isinstance(given, Generation) else sources_of(given, arm)
        for given, arm in zip((request.real, request.synthetic), ARMS, strict=True)
    )
    return design(
        real,
        synthetic,
        per_arm=request.per_arm,
        alternatives=protocol.alternatives,
        training=protocol.training if request.training is None else request.training,
        pool_percent=request.pool_percent,
        readers=len(request.readers),
        repeats_percent=request.repeats_percent,
        draws=Draws(f"design\n{work.nonce}"),
    )


def _write_cases(
    folder: Path, drawn: Design, request: StudyRequest, work: Work
) -> tuple[Standard, list[str]]:
    named = dict(_files(drawn))
    sources = list(named.values())
    _refuse_same(sources)
    labels = {} if request.labels is None else labels_by_name(request.labels)
    labels |= {stem(path): path for path, _ in work.planned.values()}
    regions = list(label_maps_of_all(sources, labels))
    pairs = list(zip(sources, regions, strict=True))
    extents = [
        extent(source.name, source.read(), read_labels(region), request.trim)
        for source, region in work.steps("reading", pairs)
    ]
    to = standard(extents, request.limits)
    rows = list(zip(named.items(), extents, strict=True))
    for (name, source), known in work.steps("writing", rows):
        write_case(folder / name, standardized(source.read(), known, to), to.spacing)
    notes = []
    if labels and not any(regions):
        notes.append("Not every volume has a label map of its name, so all are aligned by the "
                     "middle of what they show.")  # fmt: skip
    return to, notes


def _refuse_same(sources: Sequence[Source]) -> None:
    """Raise UserError where a volume is there twice: it would be real and synthetic, or show that
    two cases are one."""
    seen: dict[str, Source] = {}
    for source in sources:
        first = seen.setdefault(file_sha256(source.path), source)
        if first is not source:
            raise UserError(
                f"is the same volume as {first.path}", "leave one out", path=source.path,
                code="study-same-volume",
            )  # fmt: skip


def _files(drawn: Design) -> Iterable[tuple[str, Source]]:
    """The file of each volume below the study's folder."""
    for kind, cases in (("case", drawn.cases), ("training", drawn.training)):
        for number, case in enumerate(cases, start=1):
            for place, source in enumerate(case):
                letter = _LETTERS[place] if len(case) > 1 else ""
                yield f"{CASES_NAME}/{kind}-{number:03}{letter}.nrrd", source


def _write_study(
    folder: Path,
    drawn: Design,
    request: StudyRequest,
    protocol: Protocol,
    protocol_text: bytes,
    nonce: str,
) -> bytes:
    """Write ``study.json`` and the protocol's copy; returns the key's file."""
    names = {(source.arm, source.path): name for name, source in _files(drawn)}
    files = [
        {"path": n, "bytes": (folder / n).stat().st_size, "sha256": file_sha256(folder / n)}
        for n in names.values()
    ]
    ids = [f"case-{number:03}" for number in range(1, len(drawn.cases) + 1)]

    def entry(case_id: str, case: tuple[Source, ...]) -> dict[str, Any]:
        return {"id": case_id, "files": [names[source.arm, source.path] for source in case]}

    content: dict[str, Any] = {
        "title": request.title or protocol.title,
        "protocol_sha256": hashlib.sha256(protocol_text).hexdigest(),
        "files": files,
        "cases": [entry(*row) for row in zip(ids, drawn.cases, strict=True)],
        "training": [
            {**entry(f"training-{n:03}", case), "feedback": _feedback(case, protocol, request)}
            for n, case in enumerate(drawn.training, start=1)
        ],
        "readers": list(request.readers),
        "pool": [ids[n] for n in drawn.pool],
        "rotating": [[ids[n] for n in share] for share in drawn.rotating],
        "groups": [[ids[n] for n in group] for group in drawn.groups],
        "apart": APART,
        "repeats_percent": request.repeats_percent,
        "seed": request.seed,
        "window": list(WINDOW),
        "margin": request.margin,
    }
    study_id = hashlib.sha256(json_bytes(content)).hexdigest()[:16]
    truths = {case_id: tuple(source.truth() for source in case)
              for case_id, case in zip(ids, drawn.cases, strict=True)}  # fmt: skip
    key = key_bytes(Key(study_id, truths, request.example), nonce)
    head = {"study_version": STUDY_VERSION, "id": study_id}
    tail = {"key_sha256": hashlib.sha256(key).hexdigest()}
    (folder / STUDY_NAME).write_bytes(json_bytes({**head, **content, **tail}))
    (folder / PROTOCOL_NAME).write_bytes(protocol_text)
    for path in (folder / STUDY_NAME, folder / PROTOCOL_NAME):
        set_date(path)
    return key


def _feedback(case: tuple[Source, ...], protocol: Protocol, request: StudyRequest) -> str:
    if request.example:
        return "This is an example for learning: no volume in it is real."
    if len(case) == 1:
        return f"This volume is {case[0].arm}."
    options = protocol.questions[0].options
    return f"The real one is: {options[[s.arm for s in case].index('real')].text}."


def _order_notes(study: Study, tells_pairs: bool) -> list[str]:
    """What cannot be kept apart, or from who reads the study's file, as it should be."""
    group_of = {case: n for n, group in enumerate(study.groups) for case in group}
    least = min(
        distance([group_of.get(case := study.case(p).id, case) for p in order])
        for reader in study.readers
        for order in [order_of(study, reader, 1)]
    )
    notes = []
    if tells_pairs:
        notes.append("There are so few cases that study.json tells which two show one label map.")
    if least >= study.apart:
        return notes
    return [
        *notes,
        f"There are too few cases to keep repeats and volumes of one label map {study.apart} "
        f"presentations apart: they are {least} apart.",
    ]


def _put(folder: Path, output: Path, key: bytes, key_path: Path) -> None:
    """Give the study and its key their names: both, or none.

    The key comes first: one without a study does no harm, a study without its key is lost.
    """
    with writing(key_path), atomic(key_path) as temporary:
        temporary.write_bytes(key)
        temporary.chmod(0o600)
    try:
        if output.is_dir():
            # Only an empty one is let through, and the system removes no other.
            output.rmdir()
        folder.rename(output)
    except BaseException:
        key_path.unlink()
        raise
