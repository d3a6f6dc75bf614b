"""Files read within bounds, and written whole or not at all; and the folder that is the user's."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import UserError

TEMPORARY = r"\.meddiffusion-[0-9a-f]{16}(\..*)?"
"""What the name of a temporary file is like: no other program's is."""
_LONGEST_SUFFIX = len(".safetensors")
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def user_folder() -> Path:
    """The user's folder: ``MEDDIFFUSION_HOME``, or ``.meddiffusion`` in the home folder."""
    return Path(os.environ.get("MEDDIFFUSION_HOME") or Path.home() / ".meddiffusion")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file (or a link to one) for reading; raises OSError for all else.

    A device has no end, and whoever opens a FIFO may wait for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file of at most so many bytes; raises OSError for all else."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most:,} bytes", str(path))
    return content


def refuse_overlap(written: Iterable[Path], read: Iterable[Path]) -> None:
    """Raise UserError for the first path to be written that is a file to be read.

    Also by another name: through a link, or in other letters where the file system takes them for
    the same. What does not exist overlaps with nothing.
    """
    inputs = {_identity(path) for path in read} - {None}
    for path in written:
        if _identity(path) in inputs:
            raise UserError(
                "is read, and would be written over",
                "choose another name for the output",
                path=path,
                code="output-is-input",
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` (same suffixes) that replaces it when the block succeeds.

    On any exception, Ctrl-C included, the temporary file is removed and ``path`` is untouched.
    Raises OSError where the folder cannot be written.
    """
    # Writers choose the format by it; a long one is none, and the name must not become too long.
    suffixes = "".join(s for s in path.suffixes[-2:] if len(s) <= _LONGEST_SUFFIX)
    temporary = path.with_name(f".meddiffusion-{secrets.token_hex(8)}{suffixes}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            # A power failure must not leave the name without the content.
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON atomically, UTF-8; raises ValueError for NaN and infinite numbers."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic(path) as temporary:
        # A name of a file that is not UTF-8 has such characters; they are kept as escapes.
        temporary.write_text(text, "utf-8", errors="backslashreplace")
