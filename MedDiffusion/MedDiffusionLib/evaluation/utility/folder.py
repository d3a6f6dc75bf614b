"""An experiment's folder: whose it is, who works where in it, and JSON that is found again."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...compute.errors import Cancelled, UserError
from ...compute.files import TEMPORARY, write_json
from ...compute.locks import folder_lock
from ...compute.parsing import read_json
from ...training.loop.names import PRIVATE_NAME
from ...training.loop.stopping import StopWatch

MARK_NAME = "experiment.json"
"""Says whose folder it is and, once the data were looked at, what the experiment is of."""
FORMAT = 1
_KEY = "meddiffusion_utility"
_NOTHING = rf"{TEMPORARY}|\.meddiffusion-lock|\.DS_Store"
"""Names of files that stand for nothing of the user's."""
_PAUSE = 1.0
"""Seconds until it is looked again whether another process is done."""
_PRIVATE = """\
This folder is not to be passed on: its files hold the names of cases, and models and volumes in it
may hold what patients look like.
"""


def refuse_to_go_on(stop: StopWatch) -> None:
    """Raise Cancelled where it was asked to stop."""
    if stop.reason:
        raise Cancelled


def pause(stop: StopWatch) -> None:
    """Wait a moment for another process."""
    refuse_to_go_on(stop)
    time.sleep(_PAUSE)
    refuse_to_go_on(stop)


@contextlib.contextmanager
def written(folder: Path) -> Iterator[None]:
    """Raise UserError where the folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror or error})",
            "choose a folder in which you may write, with room for the experiment; what is "
            "finished is kept",
            path=folder,
        ) from error


@contextlib.contextmanager
def held(folder: Path, stop: StopWatch) -> Iterator[None]:
    """Hold the experiment's folder, made where there is none, once no other process does.

    Raises UserError for a folder of others.
    """
    if os.path.lexists(folder) and not _is_ours(folder):
        raise UserError(
            "holds something that is no such experiment",
            "choose a new or empty folder",
            path=folder,
            code="output-foreign",
        )
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        while not stack.enter_context(free(folder)):
            pause(stop)
        if not (folder / MARK_NAME).exists():
            write_mark(folder, {})
            (folder / PRIVATE_NAME).write_text(_PRIVATE, "utf-8")
        yield


@contextlib.contextmanager
def free(folder: Path) -> Iterator[bool]:
    """Hold a folder, made where there is none; False where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(folder))
        except UserError as error:
            if error.code != "output-busy":
                raise
            yield False
            return
        yield True


def read_mark(folder: Path) -> dict[str, Any]:
    """What an experiment is of; empty before that is known."""
    content = read_known(folder / MARK_NAME) or {}
    return {name: value for name, value in content.items() if name != _KEY}


def write_mark(folder: Path, content: dict[str, Any]) -> None:
    """Keep what an experiment is of."""
    write_json(folder / MARK_NAME, {_KEY: FORMAT, **content})


def read_known(path: Path) -> dict[str, Any] | None:
    """A JSON object that a finished task left; None where there is none, or a damaged one."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _is_ours(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    # What another process is about to begin has not its mark yet.
    if not [path for path in folder.iterdir() if not re.fullmatch(_NOTHING, path.name)]:
        return True
    content = read_known(folder / MARK_NAME)
    return content is not None and content.get(_KEY) == FORMAT
