"""The key of a study: which volume is what. A file of the organizer's, never in the study.

Its hash is in the study from the start (commit, then reveal). A nonce of 256 random bits is part of
it, so that nobody can guess the truth and compare hashes.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..compute.errors import UserError
from ..compute.files import json_bytes, read_regular
from ..compute.parsing import parse_json, read_json
from ..compute.schema import Schema, validate
from .study import MOST_BYTES, Study

KEY_VERSION = 1
SCHEMA_PATH = Path(__file__).with_name("key.schema.json")
Arm = Literal["real", "synthetic"]
ARMS: tuple[Arm, Arm] = ("real", "synthetic")


@dataclass(frozen=True)
class Truth:
    """What a volume is: its arm, its source file's name and content, the label map that it shows
    (empty where unknown), and what a model made it by (empty for a real one)."""

    arm: Arm
    source: str
    source_sha256: str
    label_map: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Key:
    """The truth of a study: for each case's id, of each of its volumes in their order.

    ``example``: both arms are synthetic, for learning; the arm that is called real is not.
    """

    study_id: str
    truths: Mapping[str, tuple[Truth, ...]]
    example: bool = False

    def arm(self, case: str) -> Arm:
        """The arm of a case of one volume."""
        (truth,) = self.truths[case]
        return truth.arm

    def chosen_right(self, case: str) -> int:
        """The option value of the real one among a choice's alternatives: 1 is the first."""
        return [truth.arm for truth in self.truths[case]].index("real") + 1


def new_nonce() -> str:
    """256 random bits that nobody can guess, in hexadecimal."""
    return secrets.token_hex(32)


def key_bytes(key: Key, nonce: str) -> bytes:
    """A key's file. The same nonce also decides which volume becomes which case, so that the order
    of the cases tells nothing to who has no key."""
    return json_bytes(
        {
            "key_version": KEY_VERSION,
            "study": key.study_id,
            "nonce": nonce,
            "example": key.example,
            "cases": {case: [asdict(t) for t in truths] for case, truths in key.truths.items()},
        }
    )


def read_key(path: Path, study: Study) -> Key:
    """The key of a study; raises UserError for what is none, or another study's, or changed."""
    try:
        text = read_regular(path, MOST_BYTES)
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", "give the key file", path=path
        ) from error
    try:
        content = parse_json(text)
        version = content.get("key_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > KEY_VERSION:
            raise UserError(
                f"is a key of version {version}, and this program knows {KEY_VERSION}",
                "update MedDiffusion",
                path=path,
                code="newer-version",
            )
        if problem := validate(content, _schema(), path.name):
            raise ValueError(problem)
    except ValueError as error:
        raise UserError(
            f"is no key of a study ({error})", "give the key file", path=path, code="key"
        ) from error
    if content["study"] != study.id:
        raise UserError(
            "is the key of another study", "give this study's", path=path, code="key-of-another"
        )
    if hashlib.sha256(text).hexdigest() != study.key_sha256:
        raise UserError(
            "was changed since the study was made, so it proves nothing",
            "give the key as it was written then",
            path=path,
            code="key-changed",
        )
    truths = {case: tuple(Truth(**t) for t in truths) for case, truths in content["cases"].items()}
    if set(truths) != {case.id for case in study.cases}:
        raise UserError("has not the study's cases", "give the key file", path=path, code="key")
    return Key(content["study"], truths, content["example"])


@cache
def _schema() -> Schema:
    schema: Schema = read_json(SCHEMA_PATH)
    return schema
