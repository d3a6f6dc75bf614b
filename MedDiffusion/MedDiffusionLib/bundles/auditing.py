"""Writes what an audit found onto a model's card, its manifest."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ..compute.errors import UserError
from ..compute.files import read_regular, write_json
from ..compute.locks import folder_lock
from ..compute.parsing import parse_json
from .manifest import (
    MOST_MANIFEST_BYTES,
    Audit,
    parse_manifest,
    read_manifest,
    unreadable,
)
from .names import MANIFEST_NAME


def write_audit(folder: Path, audit: Audit) -> None:
    """Write an audit into a bundle's manifest, whole or not at all; all else in it stays.

    So does the version that it was written in, since the names of the weights go with it. Raises
    UserError where the folder has no manifest, the audit is about other weights, a training is
    writing the folder, or it cannot be written.
    """
    path = folder / MANIFEST_NAME
    read_manifest(folder)
    try:
        with folder_lock(folder):
            manifest = parse_manifest(read_regular(path, MOST_MANIFEST_BYTES), path)
            if manifest.weights is None or manifest.weights.sha256 != audit.weights_sha256:
                raise UserError(
                    "has other weights than those that were audited",
                    "audit it anew",
                    path=folder,
                    code="other-weights",
                )
            content = parse_json(read_regular(path, MOST_MANIFEST_BYTES))
            content["audit"] = asdict(audit)
            write_json(path, content)
    except OSError as error:
        raise unreadable(path, error) from error
