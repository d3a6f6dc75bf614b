"""The folder that a training writes to: empty, new, or one of its own; held while it runs.

What makes a folder a training's own are two files that nobody else writes: the fingerprint of its
cases, which is there before anything else, and a checkpoint. A name alone makes none.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..bundles.names import MANIFEST_NAME, SHAPE_MODEL_NAME, WEIGHTS_NAME
from ..compute.errors import UserError
from ..compute.files import TEMPORARY, refuse_overlap
from ..compute.locks import folder_lock
from ..compute.parsing import read_json, shortened
from .data.store import FINGERPRINT_NAME, FOLDER_NAME, CaseStore, is_fingerprint
from .loop.checkpoint import is_checkpoint
from .loop.names import (
    CHECKPOINT_NAME,
    CURVE_NAME,
    DISTILLATION_NAME,
    LOG_NAME,
    MONTAGE_NAME,
    PLAN_NAME,
    PRIVATE_NAME,
    REPRESENTATION_NAME,
    STOP_NAME,
)  # fmt: skip

_WRITTEN = (
    CHECKPOINT_NAME, CURVE_NAME, LOG_NAME, MONTAGE_NAME, PLAN_NAME, PRIVATE_NAME, STOP_NAME,
    MANIFEST_NAME, WEIGHTS_NAME, SHAPE_MODEL_NAME, FOLDER_NAME, f"{FOLDER_NAME}/{FINGERPRINT_NAME}",
    *(f"{folder}/{name}" for folder in (REPRESENTATION_NAME, DISTILLATION_NAME) for name in (
        CHECKPOINT_NAME, CURVE_NAME, LOG_NAME, MONTAGE_NAME, WEIGHTS_NAME,
    )),
)  # fmt: skip
"""All that a training writes, but the cases' voxels in folders named by their digests."""
_OF_THE_SYSTEM = {".DS_Store", "Thumbs.db", "desktop.ini", ".meddiffusion-lock"}
"""Files that come by themselves, and stand for nothing of the user's."""
_CHECK_KEYS = {"findings", "plan", "usable"}
_FAILURE_KEYS = {"problem", "remedy", "path", "code"}
"""What is in a report of ours: of a check, or of a training that failed."""


def check_output(output: Path) -> None:
    """Raise UserError where a folder is neither new nor empty nor a training's own."""
    if not os.path.lexists(output):
        return
    try:
        foreign = [path.name for path in sorted(output.iterdir()) if not _is_nothing(path)]
    except OSError as error:
        raise _unwritable(output, error) from error
    if not foreign or is_own(output):
        return
    if MANIFEST_NAME in foreign:
        raise UserError("holds a model", "choose another output", path=output)
    raise UserError(
        f"holds {shortened(foreign[0])}, which is of no training",
        "choose a new or empty folder for the output",
        path=output,
        code="output-foreign",
    )


def is_own(output: Path) -> bool:
    """Whether a folder holds what only a training or its check writes."""
    return is_fingerprint(output / FOLDER_NAME / FINGERPRINT_NAME) or is_checkpoint(
        output / CHECKPOINT_NAME
    )


def make_output(output: Path) -> None:
    """Make the folder; raises UserError where it cannot be, or nothing can be written in it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise _unwritable(output, error) from error


@contextlib.contextmanager
def held_output(output: Path) -> Iterator[None]:
    """Hold the folder, made where there is none, and make it a training's own.

    Raises UserError where it may not be written (see :func:`check_output`), or another run of
    MedDiffusion holds it.
    """
    check_output(output)
    make_output(output)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(output))
        except OSError as error:
            raise _unwritable(output, error) from error
        # Who held it until now may have written.
        check_output(output)
        store = CaseStore(output)
        store.clear_half_written()
        store.save()
        yield


def refuse_own_inputs(output: Path, read: Iterable[Path], *, resume: bool) -> None:
    """Raise UserError where the run would write over, or into, what it reads.

    A run that goes on leaves its plan as it is, and may be given its own again.
    """
    inputs = list(read)
    names = [name for name in _WRITTEN if not (resume and name == PLAN_NAME)]
    refuse_overlap([output / name for name in names], inputs)
    cases = (output / FOLDER_NAME).resolve()
    for path in inputs:
        if cases in path.resolve().parents:
            raise UserError(
                f"lies in {cases}, where the training keeps its cases",
                "choose another output",
                path=path,
                code="output-is-input",
            )


def check_report(path: Path, output: Path) -> None:
    """Raise UserError where a report may not be written: over anything but an earlier report."""
    if path.resolve() in {(output / name).resolve() for name in _WRITTEN}:
        raise UserError(
            "is a file of the training itself", "choose another name for the report", path=path
        )
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error
    if not os.path.lexists(path):
        return
    try:
        content: Any = read_json(path)
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or not (
        content.keys() >= _CHECK_KEYS or content.keys() == _FAILURE_KEYS
    ):
        raise UserError(
            "exists and is no report of MedDiffusion",
            "choose another name for the report",
            path=path,
            code="report-exists",
        )


def _is_nothing(path: Path) -> bool:
    """Whether what lies in an output is nothing of the user's."""
    if path.name in _OF_THE_SYSTEM or re.fullmatch(TEMPORARY, path.name):
        return True
    # The fingerprint's folder, of a training that was killed just then.
    is_begun = path.name == FOLDER_NAME and path.is_dir() and not path.is_symlink()
    return is_begun and all(re.fullmatch(TEMPORARY, inner.name) for inner in path.iterdir())


def _unwritable(output: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot be written ({error.strerror or error})",
        "choose a folder in which you may write",
        path=output,
    )
