"""A folder for what is not whole yet, beside the place where it will be."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..compute.errors import UserError
from ..compute.locks import folder_lock

_NAME = ".meddiffusion-study-"


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """A folder for what is not whole yet; those that killed processes left there are removed."""
    for stray in parent.glob(f"{_NAME}*"):
        # Who still works holds the folder.
        with suppress(UserError, OSError), folder_lock(stray):
            shutil.rmtree(stray, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_NAME, dir=parent) as name, folder_lock(Path(name)):
        yield Path(name)
