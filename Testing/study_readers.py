"""Readers who answer a study as they are told, and those who draw their answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from MedDiffusionLib.studies.answer_lines import Answer
from MedDiffusionLib.studies.answers import AnswerLog
from MedDiffusionLib.studies.key import Key, read_key
from MedDiffusionLib.studies.protocols import Question, read_protocol
from MedDiffusionLib.studies.study import Study, order_of, read_study
from study_factory import sha, write_study

Answering = Callable[[str, Question, str], int | None]
"""The answer to the showing of a case (its presentation) of an arm, or of a choice "both"."""


def answer_all(
    study: Study, key: Key, reader: str, answering: Answering, session: int = 1, **changes: Any
) -> None:
    """All answers of a reader; a case takes 5 seconds and one more for each before it."""
    with AnswerLog(study, reader, session) as log:
        for number, phase in enumerate(study.protocol.phases):
            for position, shown in enumerate(order_of(study, reader, session, number)):
                case = study.case(shown).id
                truths = key.truths[case]
                arm = truths[0].arm if len(truths) == 1 else "both"
                for question in phase.questions:
                    answer = {
                        "study": study.id, "reader": reader, "session": session,
                        "position": position, "presentation": shown, "case": case,
                        "phase": number, "question": question.id,
                        "answer": answering(shown, question, arm), "comment": "",
                        "seconds": 5.0 + position, "slices_seen": 40, "window_changes": 0,
                        "changed": False, "time_utc": "2026-01-02T03:04:05Z",
                    }  # fmt: skip
                    log.add(Answer(**{**answer, **changes}))


def drawn(seed: int, better: float = 0.0) -> Answering:
    """Draws answers; those about real volumes are higher by so many steps on the average."""
    generator = np.random.default_rng(seed)

    def answer(shown: str, question: Question, arm: str) -> int:
        values = sorted(option.value for option in question.options)
        place = generator.normal(len(values) / 2 + (better if arm == "real" else 0.0), 1.2)
        return values[int(np.clip(place, 0, len(values) - 1))]

    return answer


def opened(folder: Path) -> tuple[Study, Key]:
    """A study with the key beside its folder."""
    study = read_study(folder)
    return study, read_key(folder.with_name("KEY"), study)


def with_key(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A study whose key was changed before it was made known."""
    path = folder.with_name("KEY")
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content), "utf-8")
    study = json.loads((folder / "study.json").read_bytes())
    study["key_sha256"] = sha(path.read_bytes())
    (folder / "study.json").write_text(json.dumps(study), "utf-8")
    return folder


def choice_study(folder: Path, cases: int, protocol: str = "2afc") -> Path:
    """A study of choices; the real one is the second of the first case, the third of the second,
    and so on in turn."""
    alternatives = read_protocol(protocol).alternatives
    path = write_study(folder, cases, protocol) / "study.json"
    content = json.loads(path.read_bytes())
    for case in content["cases"]:
        for letter in "bcdefghi"[: alternatives - 1]:
            name = f"cases/{case['id']}{letter}.nrrd"
            (folder / name).write_bytes(name.encode())
            case["files"].append(name)
            entry = {"path": name, "bytes": len(name), "sha256": sha(name.encode())}
            content["files"].append(entry)
    path.write_text(json.dumps(content), "utf-8")

    def with_one_real(key: dict[str, Any]) -> None:
        for n, case in enumerate(key["cases"].values(), start=1):
            (truth,) = case
            case[:] = [{**truth, "arm": "real" if place == n % alternatives else "synthetic"}
                       for place in range(alternatives)]  # fmt: skip

    return with_key(folder, with_one_real)


class Clock:
    """A clock that goes on when it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
