"""One writer to an output folder at a time, and none of what a killed one left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError
from .files import TEMPORARY

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL)
"""What a file system that knows no locks answers."""


@contextlib.contextmanager
def folder_lock(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold an existing folder for writing; no one else may while the block runs.

    With ``shared``, others may hold it so too: processes that write files of different names. Who
    comes to a folder that nobody holds removes the temporary files that a killed process left.
    The system lets go of the folder when the process ends, however it ends. Where a file system
    knows no locks the folder is not held, and nothing removed.

    Raises UserError where another process holds the folder, OSError where it cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_held(folder, shared))
        except BlockingIOError as error:
            raise UserError(
                "is being written by another run of MedDiffusion",
                "wait for its end, or choose another folder",
                path=folder,
                code="output-busy",
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield


if sys.platform == "win32":
    import msvcrt

    @contextlib.contextmanager
    def _held(folder: Path, shared: bool) -> Iterator[None]:
        """Hold the folder by a file in it; Windows shares no locks, so who would share has none."""
        path = folder / ".meddiffusion-lock"
        with contextlib.ExitStack() as stack:
            if not shared:
                stack.callback(path.unlink, missing_ok=True)
                file = stack.enter_context(path.open("ab"))
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                except OSError as error:
                    raise BlockingIOError from error
                remove_temporaries(folder)
            yield

else:
    import fcntl

    @contextlib.contextmanager
    def _held(folder: Path, shared: bool) -> Iterator[None]:
        """Hold the folder by a lock on itself, so that no file of ours is left in it."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not shared:
                    raise
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            else:
                remove_temporaries(folder)
                if shared:
                    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder; raises OSError."""
    for path in folder.iterdir():
        if re.fullmatch(TEMPORARY, path.name):
            path.unlink(missing_ok=True)
