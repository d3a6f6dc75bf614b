"""A small study, written as the format says and not by the code that makes studies."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from MedDiffusionLib.studies.answer_lines import Answer
from MedDiffusionLib.studies.key import Key, Truth, key_bytes, new_nonce
from MedDiffusionLib.studies.protocols import protocol_bytes
from MedDiffusionLib.studies.study import Study, order_of


def write_study(
    folder: Path, cases: int = 12, protocol: str | Path = "real-or-synthetic", **changes: Any
) -> Path:
    """A study of so many cases, which are no images, with its key ``KEY`` beside the folder."""
    (folder / "cases").mkdir(parents=True)
    (folder / "answers").mkdir()
    ids = [f"case-{n:03}" for n in range(1, cases + 1)]
    truths = {case: (Truth(("real", "synthetic")[n % 2], f"{n}.nii.gz", "0" * 64),)
              for n, case in enumerate(ids)}  # fmt: skip
    key = key_bytes(Key("0123456789abcdef", truths), new_nonce())
    folder.with_name("KEY").write_bytes(key)
    protocol_text = protocol_bytes(protocol)
    (folder / "protocol.json").write_bytes(protocol_text)
    files = []
    for case in ids:
        text = f"voxels of {case}".encode()
        (folder / "cases" / f"{case}.nrrd").write_bytes(text)
        files.append({"path": f"cases/{case}.nrrd", "bytes": len(text), "sha256": sha(text)})
    content = {
        "study_version": 1,
        "id": "0123456789abcdef",
        "title": "A study",
        "protocol_sha256": sha(protocol_text),
        "key_sha256": sha(key),
        "files": files,
        "cases": [{"id": case, "files": [f"cases/{case}.nrrd"]} for case in ids],
        "training": [],
        "readers": ["R1", "R2"],
        "pool": ids,
        "rotating": [[], []],
        "groups": [],
        "apart": 10,
        "repeats_percent": 20,
        "seed": 3,
        "window": [0, 1000],
        "margin": 0.1,
        **changes,
    }
    (folder / "study.json").write_text(json.dumps(content), "utf-8")
    return folder


def answer_to(study: Study, position: int, value: int | None = 2, **changes: Any) -> Answer:
    """R1's answer to the first question at a position of the first session's first phase."""
    presentation = order_of(study, "R1", 1)[position]
    answer = Answer(
        study=study.id, reader="R1", session=1, position=position, presentation=presentation,
        case=study.case(presentation).id, phase=0, question=study.protocol.questions[0].id,
        answer=value, comment="", seconds=6.5, slices_seen=40, window_changes=0, changed=False,
        time_utc="2026-01-02T03:04:05Z",
    )  # fmt: skip
    return dataclasses.replace(answer, **changes)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
